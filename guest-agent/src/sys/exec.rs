//! execve(2), and what has to be put right in a process just before or after its birth.
//!
//! Called by `process/` and `session/`.

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::io::Errno;

use super::{checked, last};

/// Replaces this process by `path`. Returns only on failure.
pub(crate) fn execve(path: &CStr, arguments: &[CString], environment: &[CString]) -> Errno {
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        strings
            .iter()
            .map(|string| string.as_ptr())
            .chain([std::ptr::null()])
            .collect()
    };
    let arguments = pointers(arguments);
    let environment = pointers(environment);
    // SAFETY: both vectors end in a null pointer, and the strings outlive the call.
    unsafe { libc::execve(path.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    last()
}

/// Closes every descriptor from `first` on. The caller must be a new child that owns none of
/// them any more.
pub(crate) fn close_from(first: RawFd) -> Result<(), Errno> {
    // SAFETY: called in a fresh child that never returns to the code that owned the descriptors.
    checked(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) }).map(drop)
}

/// Ends this process at once, running no destructor: they would close descriptors that
/// [`close_from`] closed already.
pub(crate) fn exit(status: i32) -> ! {
    // SAFETY: _exit has no preconditions.
    unsafe { libc::_exit(status) }
}

/// A copy of `descriptor` with this number, closed by execve(2). What had the number is closed.
pub(crate) fn duplicate_to(descriptor: BorrowedFd<'_>, number: RawFd) -> Result<OwnedFd, Errno> {
    // SAFETY: plain integers.
    let result = unsafe { libc::dup3(descriptor.as_raw_fd(), number, libc::O_CLOEXEC) };
    if result < 0 {
        return Err(last());
    }
    // SAFETY: dup3 has just made it; the caller, a fresh child, knows no other owner of it.
    Ok(unsafe { OwnedFd::from_raw_fd(result) })
}
