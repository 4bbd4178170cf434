//! clone3(2): a new process of the agent's, in new namespaces and a cgroup from its first
//! instruction.
//!
//! Called by `session/` for the workload and for `exec` sessions.

use std::convert::Infallible;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::io::Errno;
use rustix::process::Pid;

use super::checked;

/// Namespaces of the workload that are made with its first process. The cgroup namespace is not
/// among them: clone3 would root it at the agent's cgroup.
pub(crate) const WORKLOAD_NAMESPACES: libc::c_int =
    libc::CLONE_NEWPID | libc::CLONE_NEWNS | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;

/// `CLONE_INTO_CGROUP` of linux/sched.h, which does not fit the type that libc gives it.
const CLONE_INTO_CGROUP: u64 = 1 << 33;

/// A child process.
#[derive(Debug)]
pub(crate) struct Child {
    /// Its pid in the agent's pid namespace.
    pub(crate) pid: Pid,
    /// A descriptor of it, which never names another process.
    pub(crate) pidfd: OwnedFd,
}

/// Runs `body` in a new process that is in `cgroup` and in the namespaces of `flags`
/// (`CLONE_NEW*`).
pub(crate) fn spawn(
    flags: libc::c_int,
    cgroup: BorrowedFd<'_>,
    body: impl FnOnce() -> Infallible,
) -> Result<Child, Errno> {
    let mut pidfd: RawFd = -1;
    let widen = |value: libc::c_int| u64::from(value.unsigned_abs());
    // SAFETY: all zeros are valid for this structure of integers.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = widen(flags) | widen(libc::CLONE_PIDFD) | CLONE_INTO_CGROUP;
    arguments.pidfd = (&raw mut pidfd).addr() as u64;
    arguments.exit_signal = widen(libc::SIGCHLD);
    arguments.cgroup = widen(cgroup.as_raw_fd());
    // SAFETY: without CLONE_VM this is a fork: the child runs on a copy of this stack. The agent
    // has one thread, so no lock of the C library is held by another one in the child's copy.
    let pid = checked(unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw mut arguments,
            size_of::<libc::clone_args>(),
        )
    })?;
    if pid == 0 {
        body();
    }
    // SAFETY: the kernel stored a new descriptor there that nobody else knows.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    let pid = i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .ok_or(Errno::SRCH)?;
    Ok(Child { pid, pidfd })
}
