//! mount_setattr(2): a mount's flags and propagation, set by descriptor.
//!
//! Called by `workload/` for detached trees before they are attached, and for mounts that turn
//! read-only at the end.

use std::os::fd::{AsRawFd, BorrowedFd};

use krun_gpu_protocol::{MountFlags, Propagation};
use rustix::io::Errno;

use super::checked;

/// `struct mount_attr` of linux/mount.h.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Attributes {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

impl Attributes {
    /// What `flags` says about a mount; file system flags such as `sync` are not among them.
    pub(crate) fn from_flags(flags: MountFlags) -> Self {
        const PLAIN: [(MountFlags, u64); 6] = [
            (MountFlags::READ_ONLY, libc::MOUNT_ATTR_RDONLY),
            (MountFlags::NO_SUID, libc::MOUNT_ATTR_NOSUID),
            (MountFlags::NO_DEV, libc::MOUNT_ATTR_NODEV),
            (MountFlags::NO_EXEC, libc::MOUNT_ATTR_NOEXEC),
            (MountFlags::NO_DIR_ATIME, libc::MOUNT_ATTR_NODIRATIME),
            (MountFlags::NO_SYMLINK_FOLLOW, libc::MOUNT_ATTR_NOSYMFOLLOW),
        ];
        let mut attributes = Self::default();
        for (flag, bit) in PLAIN {
            if flags.contains(flag) {
                attributes.set |= bit;
            }
        }
        let atime = if flags.contains(MountFlags::STRICT_ATIME) {
            Some(libc::MOUNT_ATTR_STRICTATIME)
        } else if flags.contains(MountFlags::NO_ATIME) {
            Some(libc::MOUNT_ATTR_NOATIME)
        } else if flags.contains(MountFlags::RELATIME) {
            Some(libc::MOUNT_ATTR_RELATIME)
        } else {
            None
        };
        if let Some(atime) = atime {
            attributes.set |= atime;
            attributes.clear |= libc::MOUNT_ATTR__ATIME;
        }
        attributes
    }

    /// Read-only, and nothing else changed.
    pub(crate) fn read_only() -> Self {
        Self::from_flags(MountFlags::READ_ONLY)
    }

    /// The same with a propagation to set.
    pub(crate) fn with_propagation(mut self, propagation: Propagation) -> Self {
        self.propagation = match propagation {
            Propagation::Private => libc::MS_PRIVATE,
            Propagation::Shared => libc::MS_SHARED,
            Propagation::Slave => libc::MS_SLAVE,
            Propagation::Unbindable => libc::MS_UNBINDABLE,
        };
        self
    }

    /// Applies them to the mount that `mount` is the root of; `recursive` means every mount
    /// below it, too.
    pub(crate) fn apply(&self, mount: BorrowedFd<'_>, recursive: bool) -> Result<(), Errno> {
        if *self == Self::default() {
            return Ok(());
        }
        let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
        // SAFETY: the path is a NUL-terminated literal, and the structure is passed with its own
        // size and only read by the kernel.
        checked(unsafe {
            libc::syscall(
                libc::SYS_mount_setattr,
                mount.as_raw_fd(),
                c"".as_ptr(),
                flags,
                std::ptr::from_ref(self),
                size_of::<Self>(),
            )
        })
        .map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strictatime_is_set_within_the_atime_field() {
        let attributes = Attributes::from_flags(MountFlags::NO_SUID | MountFlags::STRICT_ATIME);
        assert_eq!(
            attributes.set,
            libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_STRICTATIME
        );
        assert_eq!(attributes.clear, libc::MOUNT_ATTR__ATIME);
    }

    #[test]
    fn relatime_clears_what_a_copied_mount_had() {
        let attributes = Attributes::from_flags(MountFlags::RELATIME);
        assert_eq!(attributes.set, 0);
        assert_eq!(attributes.clear, libc::MOUNT_ATTR__ATIME);
    }
}
