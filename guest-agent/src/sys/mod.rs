//! The system calls that `rustix` has no safe form of. All of the agent's `unsafe` is here.
//!
//! Called by the rest of the agent. Every function checks or types its arguments, so that its
//! callers need no `unsafe` of their own.

pub(crate) mod attributes;
pub(crate) mod clone;
pub(crate) mod exec;
pub(crate) mod network;
pub(crate) mod scheduling;
pub(crate) mod seccomp;
pub(crate) mod signal;
pub(crate) mod vsock;

use rustix::io::Errno;

/// The result of a system call made through `libc::syscall`.
fn checked(result: libc::c_long) -> Result<libc::c_long, Errno> {
    if result < 0 { Err(last()) } else { Ok(result) }
}

/// The calling thread's errno.
fn last() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL)
}
