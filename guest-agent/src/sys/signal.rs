//! Signals: the agent takes them as a descriptor, sends them by pidfd, and gives children a
//! clean state.
//!
//! Called by `reaper`, `session/` and `process/`.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::Errno;

use super::{checked, last};

/// Blocks every signal and returns a descriptor that is readable when SIGCHLD is pending.
/// A signal to PID 1 from within the guest must never end it.
pub(crate) fn block_all() -> Result<OwnedFd, Errno> {
    // SAFETY: the sets are initialised by sigfillset and sigemptyset before they are used; the
    // descriptor is new.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut set);
        if libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut()) < 0 {
            return Err(last());
        }
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGCHLD);
        match libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) {
            -1 => Err(last()),
            descriptor => Ok(OwnedFd::from_raw_fd(descriptor)),
        }
    }
}

/// Gives every signal its default disposition and unblocks all.
pub(crate) fn reset() -> Result<(), Errno> {
    for signal in 1..=libc::SIGRTMAX() {
        // SAFETY: SIG_DFL is always valid. KILL, STOP and the C library's own signals answer
        // EINVAL, and are at their default anyway.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    // SAFETY: the set is initialised by sigemptyset.
    let result = unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut())
    };
    if result < 0 { Err(last()) } else { Ok(()) }
}

/// Sends `signal` (a plain number: real-time signals are as good as any) to a process.
pub(crate) fn send(pidfd: BorrowedFd<'_>, signal: i32) -> Result<(), Errno> {
    // SAFETY: a null siginfo is allowed; the rest are integers.
    checked(unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    })
    .map(drop)
}

/// Sends `signal` to a process, or with a negative number to a process group.
pub(crate) fn send_to_pid(pid: i32, signal: i32) -> Result<(), Errno> {
    // SAFETY: plain integers.
    if unsafe { libc::kill(pid, signal) } < 0 {
        Err(last())
    } else {
        Ok(())
    }
}
