//! How libcontainer's container process becomes a VMM, step by step.
//!
//! It runs in the container's namespaces, in its cgroup, with its root file system as `/`.

use std::convert::Infallible;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use krun_gpu_protocol::{GUEST_CID, Propagation, ROOT_TAG, STREAM_PORT, Workload};
use krun_gpu_vmm::devices::block::DiskConfig;
use krun_gpu_vmm::devices::fs::FsConfig;
use krun_gpu_vmm::devices::vsock::VsockConfig;
use krun_gpu_vmm::{BuildError, MicroVm, VmConfig};

use super::{failure, graft, id_map, privileges, program, tree};
use crate::descriptors;
use crate::gpu::HostSide;
use crate::install::Parts;
use crate::monitor::{self, MonitorError, Reports, StandardStreams};
use crate::network::MOST_INTERFACES;
use crate::split::Machine;
use crate::terminal::{Terminal, TerminalError};
use crate::trace;

/// Everything that a VMM needs, opened in the host's view.
#[derive(Debug)]
pub(super) struct Plan {
    /// KVM, kernel, initramfs.
    pub(super) parts: Parts,
    /// The VM's disks.
    pub(super) disks: Vec<DiskConfig>,
    /// What serves the VM's GPU, if it has one.
    pub(super) gpu: Option<HostSide>,
    /// The workload's terminal, if it has one.
    pub(super) terminal: Option<Terminal>,
    /// The VM's size.
    pub(super) machine: Machine,
    /// What the guest is to prepare.
    pub(super) workload: Workload,
    /// Propagation of the host's mounts.
    pub(super) propagation: Vec<(PathBuf, Propagation, bool)>,
    /// Mounts that go over those that the host has made.
    pub(super) id_mapped: Vec<id_map::Waiting>,
    /// Where procfs is mounted for the VMM.
    pub(super) proc_mounts: Vec<PathBuf>,
    /// The control socket.
    pub(super) control: UnixListener,
    /// Where to write what the caller should find.
    pub(super) reports: Reports,
    /// `/dev/null`.
    pub(super) null: File,
}

/// Why there is no VMM.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VmmError {
    /// `create` was killed.
    #[error("the process that creates the container is gone")]
    Orphan,
    /// The workload's program.
    #[error(transparent)]
    Program(#[from] program::ProgramError),
    /// The exported tree.
    #[error(transparent)]
    Tree(#[from] tree::TreeError),
    /// Id-mapped mounts.
    #[error(transparent)]
    IdMap(#[from] id_map::IdMapError),
    /// Mount points of the guest's.
    #[error(transparent)]
    Graft(#[from] graft::GraftError),
    /// Privileges and signals.
    #[error(transparent)]
    Privileges(#[from] privileges::PrivilegesError),
    /// The standard streams.
    #[error("take over the standard streams")]
    Streams(#[source] io::Error),
    /// The terminal.
    #[error(transparent)]
    Terminal(#[from] TerminalError),
    /// The VM.
    #[error("build the VM")]
    Build(#[from] BuildError),
    /// The boot.
    #[error(transparent)]
    Monitor(#[from] MonitorError),
}

/// Carries out `plan`. On return the guest has prepared the workload and the monitor runs.
pub(super) fn become_vmm(mut plan: Plan) -> Result<JoinHandle<Infallible>, VmmError> {
    privileges::take_name();
    privileges::die_with_parent(true);
    if !failure::is_read() {
        return Err(VmmError::Orphan);
    }
    privileges::block_signals()?;
    privileges::shrink();
    // The guest's kernel applies its processes' masks.
    nix::sys::stat::umask(nix::sys::stat::Mode::empty());
    id_map::place(&plan.id_mapped)?;
    if plan.workload.hostname.is_none() {
        plan.workload.hostname = host_name();
    }
    program::check(Path::new("/"), &plan.workload)?;
    tree::set_propagation(&plan.propagation)?;
    let grafts = graft::make(&plan.workload)?;
    let root = tree::export(&plan.proc_mounts)?;
    let follows = |(_, propagation, _): &(_, Propagation, _)| {
        matches!(propagation, Propagation::Shared | Propagation::Slave)
    };
    if plan.propagation.iter().any(follows) {
        tree::attach(&root)?;
    }
    privileges::drop_mount_rights()?;
    trace::mark("sandbox_ready");
    let streams = match plan.terminal {
        Some(terminal) => {
            terminal.take()?;
            StandardStreams::Terminal(terminal)
        }
        None => StandardStreams::take().map_err(VmmError::Streams)?,
    };
    let (gpu, lifeline) = plan.gpu.map(|gpu| (gpu.device, gpu.lifeline)).unzip();
    let config = VmConfig {
        kvm: plan.parts.kvm.into(),
        kernel: plan.parts.kernel,
        initramfs: plan.parts.initramfs,
        vcpus: plan.machine.vcpus,
        memory: plan.machine.memory,
        cmdline: plan.machine.parameters.join(" "),
        vsock: VsockConfig {
            guest_cid: GUEST_CID,
            stream_port: STREAM_PORT,
        },
        root: Some(FsConfig {
            grafts,
            ..FsConfig::new(
                ROOT_TAG,
                format!("/proc/self/fd/{}", root.as_raw_fd()),
                usize::from(plan.machine.vcpus),
            )
        }),
        nested: plan.machine.nested,
        gpu,
        disks: plan.disks,
        nic_slots: MOST_INTERFACES,
    };
    let vm = MicroVm::build(config)?;
    privileges::drop_root_rights()?;
    descriptors::silence_standard(&plan.null).map_err(VmmError::Streams)?;
    let monitor = monitor::boot(
        vm,
        plan.workload,
        streams,
        plan.control,
        plan.reports,
        lifeline,
    )?;
    let monitor = monitor.spawn()?;
    // From here on `create` may end: libcontainer tells it that we are ready.
    privileges::die_with_parent(false);
    Ok(monitor)
}

/// The name of this process' UTS namespace: the host's, another container's, or a copy of it.
fn host_name() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    Some(name.trim_end().to_owned()).filter(|name| !name.is_empty())
}
