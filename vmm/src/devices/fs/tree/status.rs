//! What the host says of a file: its attributes, and which file on which mount it is.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd};

use fuse_backend_rs::api::filesystem::Entry;
use libc::{stat64, statvfs64};
use rustix::fs::{AtFlags, FileType, Statx, StatxFlags, statx};
use rustix::io::{Errno, Result};
use rustix::path::Arg;
use rustix::time::{ClockId, clock_gettime};

use super::inode::InodeId;

/// The attributes of a file and its mount.
pub(super) struct Status(Statx);

/// Changes when the contents of a file or a directory do: its size, and when its inode last
/// changed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Version {
    size: u64,
    changed: (i64, u32),
}

/// The clock of a file system may tick this rarely: longer than a timer tick, and short enough.
const TICK: i128 = 20_000_000;

impl Version {
    /// Whether a change from now on gives another version. One in the same tick of the file
    /// system's clock as the last would not.
    pub(super) fn is_settled(&self) -> bool {
        let now = clock_gettime(ClockId::RealtimeCoarse);
        let since = |(seconds, nanoseconds): (i64, i64)| {
            i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds)
        };
        let (seconds, nanoseconds) = self.changed;
        since((now.tv_sec, now.tv_nsec)) - since((seconds, nanoseconds.into())) > TICK
    }
}

impl Status {
    /// Of an open file. Any descriptor will do.
    pub(super) fn of(file: impl AsFd) -> Result<Self> {
        Self::get(file, c"", AtFlags::EMPTY_PATH)
    }

    /// Of the entry of a directory. A symbolic link is not followed.
    pub(super) fn beneath(directory: impl AsFd, name: impl Arg) -> Result<Self> {
        Self::get(
            directory,
            name,
            AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT,
        )
    }

    fn get(directory: impl AsFd, name: impl Arg, flags: AtFlags) -> Result<Self> {
        let wanted = StatxFlags::BASIC_STATS | StatxFlags::MNT_ID;
        let status = statx(directory, name, flags, wanted)?;
        // Kernels since 5.8 tell the mount, and without it submounts could not be told apart.
        if status.stx_mask & StatxFlags::MNT_ID.bits() == 0 {
            return Err(Errno::NOSYS);
        }
        Ok(Self(status))
    }

    pub(super) fn id(&self) -> InodeId {
        InodeId {
            device: libc::makedev(self.0.stx_dev_major, self.0.stx_dev_minor),
            number: self.0.stx_ino,
            mount: self.0.stx_mnt_id,
        }
    }

    pub(super) fn file_type(&self) -> FileType {
        FileType::from_raw_mode(self.0.stx_mode.into())
    }

    /// Whether the mode gives rights to whoever runs the file.
    pub(super) fn is_set_id(&self) -> bool {
        u32::from(self.0.stx_mode) & (libc::S_ISUID | libc::S_ISGID) != 0
    }

    pub(super) fn size(&self) -> u64 {
        self.0.stx_size
    }

    pub(super) fn version(&self) -> Version {
        let changed = (self.0.stx_ctime.tv_sec, self.0.stx_ctime.tv_nsec);
        Version {
            size: self.0.stx_size,
            changed,
        }
    }

    /// In the form that the FUSE server takes.
    pub(super) fn attributes(&self) -> stat64 {
        let from = &self.0;
        let mut to = Entry::default().attr;
        to.st_dev = libc::makedev(from.stx_dev_major, from.stx_dev_minor);
        to.st_ino = from.stx_ino;
        to.st_mode = from.stx_mode.into();
        to.st_nlink = from.stx_nlink.into();
        to.st_uid = from.stx_uid;
        to.st_gid = from.stx_gid;
        to.st_rdev = libc::makedev(from.stx_rdev_major, from.stx_rdev_minor);
        to.st_size = from.stx_size.cast_signed();
        to.st_blksize = from.stx_blksize.into();
        to.st_blocks = from.stx_blocks.cast_signed();
        to.st_atime = from.stx_atime.tv_sec;
        to.st_atime_nsec = from.stx_atime.tv_nsec.into();
        to.st_mtime = from.stx_mtime.tv_sec;
        to.st_mtime_nsec = from.stx_mtime.tv_nsec.into();
        to.st_ctime = from.stx_ctime.tv_sec;
        to.st_ctime_nsec = from.stx_ctime.tv_nsec.into();
        to
    }
}

/// The size and the usage of the file system that a file is on.
pub(super) fn file_system(file: impl AsFd) -> Result<statvfs64> {
    let mut status = MaybeUninit::<statvfs64>::zeroed();
    // SAFETY: the descriptor is borrowed for the call, and the call writes at most one
    // `statvfs64` to where the pointer says.
    let result = unsafe { libc::fstatvfs64(file.as_fd().as_raw_fd(), status.as_mut_ptr()) };
    if result != 0 {
        return Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO));
    }
    // SAFETY: all zeros is a valid `statvfs64`, and the call above filled it in.
    Ok(unsafe { status.assume_init() })
}
