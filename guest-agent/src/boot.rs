//! From the kernel's hand-over to a connected agent: the hello, then the agent's own mounts.
//!
//! Called by `main`. The hello needs nothing mounted, so it goes first.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use krun_gpu_protocol::frame::{self, FrameError};
use krun_gpu_protocol::{CONTROL_PORT, GuestMessage, ROOT_TAG, VERSION};
use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, fsconfig_create,
    fsconfig_set_string, fsmount, fsopen, move_mount,
};
use rustix::time::{ClockId, clock_gettime};

use crate::sys::network;
use crate::transport::Transport;
use crate::workload::{Surroundings, cgroup};

/// What can go wrong before the agent's loop runs.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// The host does not answer.
    #[error("connect to port {port} of the host")]
    Connect {
        /// The port.
        port: u32,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The first message was not sent.
    #[error("send the hello")]
    Hello(#[source] FrameError),
    /// A mount of the agent's own.
    #[error("mount {kind} to `{}`", path.display())]
    Mount {
        /// The file system's type.
        kind: &'static str,
        /// Where.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// Controllers for the workload's cgroup.
    #[error("enable the guest's cgroup controllers")]
    Controllers(#[source] io::Error),
    /// The loopback interface.
    #[error("bring the loopback interface up")]
    Loopback(#[source] Errno),
    /// The agent's protection against the OOM killer.
    #[error("set the agent's oom_score_adj")]
    OomScore(#[source] io::Error),
}

/// CLOCK_MONOTONIC in microseconds.
pub fn uptime_us() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let microseconds = now.tv_sec * 1_000_000 + now.tv_nsec / 1000;
    u64::try_from(microseconds).unwrap_or_default()
}

/// Connects the control stream and says hello.
pub fn hello(transport: &Transport, uptime_us: u64) -> Result<OwnedFd, BootError> {
    let control = transport
        .connect(CONTROL_PORT)
        .map_err(|source| BootError::Connect {
            port: CONTROL_PORT,
            source,
        })?;
    let control = fs::File::from(control);
    let hello = GuestMessage::Hello {
        version: VERSION,
        release: rustix::system::uname()
            .release()
            .to_string_lossy()
            .into_owned(),
        uptime_us,
    };
    frame::write(&control, &hello).map_err(BootError::Hello)?;
    Ok(control.into())
}

/// Mounts what the agent and the workload need, and prepares the guest's kernel.
pub fn surroundings() -> Result<Surroundings, BootError> {
    mount("devtmpfs", "devtmpfs", "/dev")?;
    mount("proc", "proc", "/proc")?;
    mount("sysfs", "sysfs", "/sys")?;
    mount("cgroup2", "cgroup2", "/sys/fs/cgroup")?;
    mount("virtiofs", ROOT_TAG, "/view")?;
    fs::write("/proc/self/oom_score_adj", "-1000").map_err(BootError::OomScore)?;
    cgroup::delegate(Path::new("/sys/fs/cgroup")).map_err(BootError::Controllers)?;
    network::loopback_up().map_err(BootError::Loopback)?;
    Ok(Surroundings {
        view: "/view".into(),
        cgroups: "/sys/fs/cgroup".into(),
        // In reverse order of their making; cgroup2 goes with sysfs.
        own_mounts: ["/view", "/sys", "/proc", "/dev"].map(PathBuf::from).into(),
        driver: "/vulkan".into(),
        drm: "/sys/class/drm".into(),
        block: "/sys/block".into(),
    })
}

/// Ends the VM. Returns only on failure.
pub fn reboot() -> Errno {
    rustix::fs::sync();
    match rustix::system::reboot(rustix::system::RebootCommand::Restart) {
        Ok(()) => Errno::INVAL,
        Err(error) => error,
    }
}

fn mount(kind: &'static str, source: &str, path: &'static str) -> Result<(), BootError> {
    let make = || -> io::Result<()> {
        match fs::create_dir(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_set_string(&context, "source", source)?;
        fsconfig_create(&context)?;
        let tree = fsmount(
            &context,
            FsMountFlags::FSMOUNT_CLOEXEC,
            MountAttrFlags::empty(),
        )?;
        move_mount(
            &tree,
            "",
            CWD,
            path,
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
        )?;
        Ok(())
    };
    make().map_err(|source| BootError::Mount {
        kind,
        path: path.into(),
        source,
    })
}
