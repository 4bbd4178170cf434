//! Detached mounts: open_tree(2), mount_setattr(2) and move_mount(2), which the C library's crates
//! do not wrap.
//!
//! Called by `tree` for the exported tree and by `id_map` for mounts that wait for their place.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// A detached copy of the mount at `path`, with those below it if `recursive`.
pub(super) fn copy(path: &CStr, recursive: bool) -> io::Result<OwnedFd> {
    let mut flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= libc::AT_RECURSIVE.unsigned_abs();
    }
    // SAFETY: the path lives through the call.
    let result =
        unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) };
    match i32::try_from(result) {
        // SAFETY: the kernel just gave us this descriptor.
        Ok(descriptor) if descriptor >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(descriptor) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Changes the top mount of `tree`, and those below it if `recursive`.
pub(super) fn change(
    tree: &OwnedFd,
    attributes: &libc::mount_attr,
    recursive: bool,
) -> io::Result<()> {
    let mut flags = libc::AT_EMPTY_PATH;
    if recursive {
        flags |= libc::AT_RECURSIVE;
    }
    // SAFETY: the path and the attributes live through the call, the descriptor is open.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(attributes),
            size_of::<libc::mount_attr>(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Mounts `tree` at `place`; `flags` are added to those of move_mount(2).
pub(super) fn attach(tree: &OwnedFd, place: &CStr, flags: u32) -> io::Result<()> {
    // SAFETY: the paths are C strings that live through the call, the descriptor is open.
    let moved = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            place.as_ptr(),
            libc::MOVE_MOUNT_F_EMPTY_PATH | flags,
        )
    };
    if moved < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
