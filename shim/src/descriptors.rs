//! The descriptors that a caller leaves open in us, and the ones that we keep.
//!
//! A VMM lives as long as its container. Whatever conmon, Podman or a shell left open in `create`
//! would live as long, and they wait for the end of some of it. So everything beyond the three
//! standard streams is closed before anything of our own is opened.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

/// Closes every descriptor from 3 on.
pub(crate) fn close_inherited() {
    // SAFETY: called first thing in main, when this process owns no descriptor object
    // above standard error; closing unused numbers is no error.
    unsafe {
        libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0);
    }
}

/// A new close-on-exec descriptor for the standard stream `number` (0, 1 or 2).
pub(crate) fn duplicate_standard(number: i32) -> io::Result<OwnedFd> {
    // SAFETY: the standard streams are never closed here, only pointed elsewhere.
    unsafe { BorrowedFd::borrow_raw(number) }.try_clone_to_owned()
}

/// Points the three standard streams at `null`.
pub(crate) fn silence_standard(null: &File) -> io::Result<()> {
    for number in 0..3 {
        // SAFETY: plain system call on open descriptors; the target number stays open.
        if unsafe { libc::dup2(null.as_raw_fd(), number) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}
