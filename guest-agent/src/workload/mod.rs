//! The workload's surroundings: what `Prepare` asks for, built by the workload's own first
//! process in its new namespaces.
//!
//! Called by `session/init` in the child. Implements the runtime specification's config.md
//! (mounts, hostname) and config-linux.md (devices, sysctl, masked and read-only paths) for the
//! guest's half. Paths come from the user's configuration and from the image; every one is
//! resolved inside the container's root.

pub(crate) mod cgroup;
mod copy_up;
mod devices;
mod disks;
mod gpu;
mod guest_mount;
pub(crate) mod hooks;
mod host_mount;
mod masks;
mod mounts;
pub(crate) mod path;
mod root;
pub(crate) mod sysctl;
pub(crate) mod validate;

use std::path::PathBuf;

use krun_gpu_protocol::{GpuDriver, Workload};
use rustix::fs::{CWD, Mode, OFlags, open};
use rustix::io::Errno;
use rustix::thread::{UnshareFlags, unshare_unsafe};

use crate::process::terminal;
use mounts::Mounted;

/// What the agent has mounted for itself.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// Where the exported tree is mounted: root of everything the container sees of the host.
    pub view: PathBuf,
    /// The agent's cgroup2 mount.
    pub cgroups: PathBuf,
    /// The agent's mounts that the workload's namespace must not keep, innermost first.
    pub own_mounts: Vec<PathBuf>,
    /// The bundled Vulkan driver and its manifest; there only in the initramfs for a GPU.
    pub driver: PathBuf,
    /// Where sysfs lists the nodes of the guest's GPUs.
    pub drm: PathBuf,
    /// Where sysfs lists the guest's disks.
    pub block: PathBuf,
}

/// What can go wrong while the surroundings are built.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BuildError {
    /// A system call that concerns no single field.
    #[error("{doing}")]
    System {
        /// What the agent was doing.
        doing: &'static str,
        /// Why it failed.
        #[source]
        source: Errno,
    },
    /// The root file system.
    #[error(transparent)]
    Root(#[from] root::RootError),
    /// A mount.
    #[error(transparent)]
    Mount(#[from] mounts::MountError),
    /// A device node.
    #[error(transparent)]
    Device(#[from] devices::DeviceError),
    /// A disk.
    #[error(transparent)]
    Disk(#[from] disks::DiskError),
    /// The GPU.
    #[error(transparent)]
    Gpu(#[from] gpu::GpuError),
    /// A masked or read-only path.
    #[error(transparent)]
    Mask(#[from] masks::MaskError),
    /// A kernel parameter.
    #[error(transparent)]
    Sysctl(#[from] sysctl::SysctlError),
    /// The host or domain name.
    #[error("set {field} to `{value}`")]
    Name {
        /// The field of the specification.
        field: &'static str,
        /// Its value.
        value: String,
        /// Why it failed.
        #[source]
        source: Errno,
    },
    /// The workload's terminal.
    #[error(transparent)]
    Terminal(#[from] terminal::TerminalError),
}

/// Builds everything in the calling process, which must be the first of its pid, mount, ipc and
/// uts namespaces and be in the workload's cgroup. Returns with `/` the container's root.
pub(crate) fn build(
    workload: &Workload,
    surroundings: &Surroundings,
    terminal: Option<krun_gpu_protocol::TerminalSize>,
) -> Result<Option<terminal::Terminal>, BuildError> {
    let system = |doing| move |source| BuildError::System { doing, source };
    // SAFETY: a new cgroup namespace changes nothing that memory safety rests on.
    unsafe { unshare_unsafe(UnshareFlags::NEWCGROUP) }
        .map_err(system("make the workload's cgroup namespace"))?;
    if let Some(name) = &workload.hostname {
        rustix::system::sethostname(name.as_bytes()).map_err(|source| BuildError::Name {
            field: "hostname",
            value: name.clone(),
            source,
        })?;
    }
    if let Some(name) = &workload.domainname {
        rustix::system::setdomainname(name.as_bytes()).map_err(|source| BuildError::Name {
            field: "domainname",
            value: name.clone(),
            source,
        })?;
    }
    sysctl::apply(&workload.sysctl)?;

    let null = open("/dev/null", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .map_err(system("open the guest's /dev/null"))?;
    let gpu = workload.gpu.as_ref().map(|gpu| {
        let bundled = gpu.driver == GpuDriver::Bundled;
        gpu::Outside::find(gpu, bundled, surroundings)
    });
    let gpu = gpu.transpose()?;
    let disks = disks::nodes(&workload.disks, &surroundings.block)?;
    let outside = root::enter(surroundings)?;
    let root = rustix::fs::openat(
        CWD,
        "/",
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(system("open the container's root"))?;
    let mut mounted = Mounted::new(&root, &outside.view);
    mounted.all(&workload.mounts)?;
    devices::create(&root, &workload.mounts, &workload.devices)?;
    devices::create_listed(&root, &disks)?;
    if let Some(gpu) = gpu {
        devices::create_listed(&root, &gpu.nodes)?;
        gpu.show(&root, &mounted)?;
    }
    let terminal = terminal
        .map(|size| -> Result<_, BuildError> {
            let terminal = terminal::Terminal::open(size)?;
            mounted.console(&terminal)?;
            Ok(terminal)
        })
        .transpose()?;
    path::create_working_directory(&root, &workload.process.cwd);
    mounted.finish()?;
    masks::read_only(&root, &workload.readonly_paths)?;
    masks::hide(&root, &null, &workload.masked_paths)?;
    outside.detach(surroundings)?;
    root::seal(&root, workload.root_readonly, workload.root_propagation)?;
    Ok(terminal)
}
