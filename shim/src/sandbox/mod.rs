//! Builds the sandbox of a container around its VMM, with libcontainer.
//!
//! `create` and `run` call [`build`]. Whatever fails, nothing is left: no process, no cgroup; the
//! caller removes the state directory.

pub(crate) mod cgroup;
mod detached;
mod executor;
pub(crate) mod failure;
mod graft;
mod id_map;
mod privileges;
mod program;
mod quota;
mod tree;
mod user_namespace;
mod vmm;

use std::fs;
use std::io;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use krun_gpu_vmm::devices::block::DiskConfig;
use libcontainer::container::{Container, ContainerStatus};
use libcontainer::notify_socket::NotifyListener;
use libcontainer::process::args::{ContainerArgs, ContainerType};
use libcontainer::process::container_main_process::{ProcessError, container_main_process};
use libcontainer::syscall::syscall::SyscallType;
use libcontainer::user_ns::UserNamespaceConfig;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use oci_spec::runtime::{LinuxResources, Spec};

use self::cgroup::CgroupError;
use self::executor::VmExecutor;
use self::failure::FailurePipe;
use self::vmm::Plan;
use crate::gpu::HostSide;
use crate::install::Parts;
use crate::monitor::Reports;
use crate::report;
use crate::split::Split;
use crate::state::Record;
use crate::terminal::Terminal;

/// Why there is no sandbox.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SandboxError {
    /// The container's process said why.
    #[error("{0}")]
    Said(String),
    /// libcontainer failed.
    #[error("build the sandbox: {0}")]
    Container(String),
    /// Something that libcontainer needs.
    #[error("{action}")]
    Prepare {
        /// What was being done.
        action: &'static str,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// The cgroup.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// An id-mapped mount.
    #[error(transparent)]
    IdMap(#[from] id_map::IdMapError),
}

/// What `build` is given besides the split.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    /// The state directory.
    pub(crate) directory: &'a Path,
    /// The record as it is so far.
    pub(crate) record: &'a Record,
    /// KVM, kernel, initramfs.
    pub(crate) parts: Parts,
    /// The VM's disks.
    pub(crate) disks: Vec<DiskConfig>,
    /// What serves the VM's GPU, if it has one.
    pub(crate) gpu: Option<HostSide>,
    /// The workload's terminal, if it has one.
    pub(crate) terminal: Option<Terminal>,
    /// The control socket.
    pub(crate) control: UnixListener,
    /// Where the monitor writes what the caller should find.
    pub(crate) reports: Reports,
    /// Change the root without pivot_root (`--no-pivot`).
    pub(crate) no_pivot: bool,
}

/// Builds the sandbox and boots the VM in it; the VMM's pid.
pub(crate) fn build(request: Request<'_>, split: Split) -> Result<i32, SandboxError> {
    let prepare = |action| move |source| SandboxError::Prepare { action, source };
    let record = request.record;
    let mut host = split.host;
    if record.cgroup.is_none() {
        forget_resources(&mut host);
    }
    let quota = quota::take(&mut host);
    let user_namespace =
        user_namespace::provide(&mut host).map_err(prepare("make the user namespace"))?;
    let null = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")
        .map_err(prepare("open /dev/null"))?;
    let plan = Plan {
        parts: request.parts,
        disks: request.disks,
        gpu: request.gpu,
        terminal: request.terminal,
        machine: split.machine,
        workload: split.workload,
        propagation: split.propagation,
        id_mapped: id_map::open(&split.id_mapped)?,
        proc_mounts: proc_mounts(&host),
        control: request.control,
        reports: request.reports,
        null,
    };
    let container = container(&request.directory.join("."), record)?;
    let arguments = ContainerArgs {
        container_type: ContainerType::InitContainer,
        syscall: SyscallType::default(),
        rootfs: record.rootfs.clone(),
        console_socket: None,
        notify_listener: NotifyListener::new(&request.directory.join("notify.sock"))
            .map_err(|error| SandboxError::Container(report::chain(&error)))?,
        preserve_fds: 0,
        container: Some(container),
        user_ns_config: UserNamespaceConfig::new(&host)
            .map_err(|error| SandboxError::Container(report::chain(&error)))?,
        cgroup_config: cgroup::config(record.cgroup.as_ref(), &record.id)?,
        detached: true,
        executor: Box::new(VmExecutor::new(plan)),
        no_pivot: request.no_pivot,
        stdin: None,
        stdout: None,
        stderr: None,
        as_sibling: false,
        pid_file: None,
        spec: Rc::new(host),
    };
    let pipe = FailurePipe::open().map_err(prepare("open a pipe"))?;
    // The namespaces that are joined may be another's: nobody there shall look into us.
    // SAFETY: plain system call.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0) };
    let result = container_main_process(&arguments);
    drop(user_namespace);
    match result {
        Ok(pid) => quota::put(quota, record)
            .map(|()| pid.as_raw())
            .map_err(|error| {
                undo(record);
                error.into()
            }),
        Err(error) => {
            undo(record);
            Err(explain(pipe, &error))
        }
    }
}

/// Takes away the processes and the cgroup of a container that did not come to be.
fn undo(record: &Record) {
    kill_children();
    if let Some(cgroup) = &record.cgroup
        && let Err(error) = cgroup::remove(cgroup, &record.id)
    {
        tracing::warn!("{}", report::chain(&error));
    }
}

fn explain(pipe: FailurePipe, error: &ProcessError) -> SandboxError {
    let told = pipe.read();
    if let Some(reason) = told.reason {
        return SandboxError::Said(reason);
    }
    let text = report::chain(error);
    SandboxError::Container(match told.detail {
        Some(detail) if !text.contains(&detail) => format!("{text}: {detail}"),
        _ => text,
    })
}

/// libcontainer's view of the container, from which it writes the state for hooks.
fn container(directory: &Path, record: &Record) -> Result<Container, SandboxError> {
    let mut container = Container::new(
        record.id.as_str(),
        ContainerStatus::Created,
        None,
        &record.bundle,
        directory,
    )
    .map_err(|error| SandboxError::Container(report::chain(&error)))?;
    container.set_annotations(Some(record.annotations.clone()));
    Ok(container)
}

/// Without a cgroup of its own a container has no host limits; the caller's are not ours to set.
fn forget_resources(host: &mut Spec) {
    if let Some(linux) = host.linux_mut() {
        linux.set_resources(None::<LinuxResources>);
    }
}

fn proc_mounts(host: &Spec) -> Vec<PathBuf> {
    let mounts = host.mounts().iter().flatten();
    let mut paths: Vec<PathBuf> = mounts
        .filter(|mount| mount.typ().as_deref() == Some("proc"))
        .map(|mount| mount.destination().clone())
        .collect();
    paths.dedup();
    paths
}

/// Kills and reaps what libcontainer forked: a process that waits for an answer of ours would
/// wait for good.
fn kill_children() {
    let thread = nix::unistd::gettid();
    let path = format!("/proc/self/task/{thread}/children");
    loop {
        let children = fs::read_to_string(&path).unwrap_or_default();
        let pids: Vec<Pid> = children
            .split_whitespace()
            .filter_map(|pid| pid.parse().ok().map(Pid::from_raw))
            .collect();
        if pids.is_empty() {
            return;
        }
        for pid in pids {
            // A child that is gone already is what we want.
            let _ = kill(pid, Signal::SIGKILL);
            let _ = waitpid(pid, None);
        }
    }
}
