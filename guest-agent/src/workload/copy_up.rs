//! Podman's `tmpcopyup`: what the image has at a tmpfs's destination is copied into it.
//!
//! Called by `mounts` before the tmpfs is attached. The image may hold anything; links are
//! copied as links and never followed.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags,
    chmodat, chownat, fchmod, fgetxattr, flistxattr, fsetxattr, mkdirat, mknodat, openat,
    readlinkat, statat, symlinkat, utimensat,
};
use rustix::io::Errno;

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CopyError {
    /// The source directory cannot be read.
    #[error("read the directory")]
    Directory(#[from] Errno),
    /// One entry.
    #[error("copy `{name}`")]
    Entry {
        /// Its name.
        name: String,
        /// Why it failed.
        #[source]
        source: Errno,
    },
    /// The content of a file.
    #[error("copy the content of `{name}`")]
    Content {
        /// Its name.
        name: String,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
}

/// Copies what is in the directory `from` into the directory `to`.
pub(crate) fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<(), CopyError> {
    for entry in Dir::read_from(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            one(from, to, name)?;
        }
    }
    Ok(())
}

fn one(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr) -> Result<(), CopyError> {
    let failed = |source| CopyError::Entry {
        name: name.to_string_lossy().into_owned(),
        source,
    };
    let status = statat(from, name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
    let open = |parent, flags| {
        openat(
            parent,
            name,
            flags | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::RUSR | Mode::WUSR,
        )
    };
    match FileType::from_raw_mode(status.st_mode) {
        FileType::Directory => {
            mkdirat(to, name, Mode::RWXU).map_err(failed)?;
            let source = open(from, OFlags::RDONLY | OFlags::DIRECTORY).map_err(failed)?;
            let target = open(to, OFlags::RDONLY | OFlags::DIRECTORY).map_err(failed)?;
            copy(source.as_fd(), target.as_fd())?;
            attributes(&source, &target, &status).map_err(failed)?;
        }
        FileType::RegularFile => {
            let source = open(from, OFlags::RDONLY).map_err(failed)?;
            let target =
                open(to, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL).map_err(failed)?;
            let (mut source, mut target) =
                (std::fs::File::from(source), std::fs::File::from(target));
            std::io::copy(&mut source, &mut target).map_err(|source| CopyError::Content {
                name: name.to_string_lossy().into_owned(),
                source,
            })?;
            attributes(&source, &target, &status).map_err(failed)?;
        }
        FileType::Symlink => {
            let link = readlinkat(from, name, Vec::new()).map_err(failed)?;
            symlinkat(link, to, name).map_err(failed)?;
            own(to, name, &status).map_err(failed)?;
        }
        kind => {
            let mode = Mode::from_raw_mode(status.st_mode);
            mknodat(to, name, kind, mode, status.st_rdev).map_err(failed)?;
            own(to, name, &status).map_err(failed)?;
            chmodat(to, name, mode, AtFlags::empty()).map_err(failed)?;
        }
    }
    utimensat(to, name, &times(&status), AtFlags::SYMLINK_NOFOLLOW).map_err(failed)
}

fn own(parent: BorrowedFd<'_>, name: &CStr, status: &Stat) -> Result<(), Errno> {
    chownat(
        parent,
        name,
        Some(Uid::from_raw(status.st_uid)),
        Some(Gid::from_raw(status.st_gid)),
        AtFlags::SYMLINK_NOFOLLOW,
    )
}

/// Owner, mode and extended attributes, in this order: a new owner clears set-user-id bits.
fn attributes(source: &impl AsFd, target: &impl AsFd, status: &Stat) -> Result<(), Errno> {
    rustix::fs::fchown(
        target,
        Some(Uid::from_raw(status.st_uid)),
        Some(Gid::from_raw(status.st_gid)),
    )?;
    fchmod(target, Mode::from_raw_mode(status.st_mode))?;
    copy_xattrs(source, target)
}

fn copy_xattrs(source: &impl AsFd, target: &impl AsFd) -> Result<(), Errno> {
    let mut names = vec![0_u8; 65536];
    let length = match flistxattr(source, &mut names) {
        Err(Errno::OPNOTSUPP) => return Ok(()),
        length => length?,
    };
    let mut value = vec![0_u8; 65536];
    for name in names
        .get(..length)
        .unwrap_or_default()
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
    {
        let length = fgetxattr(source, name, &mut value)?;
        let content = value.get(..length).unwrap_or_default();
        match fsetxattr(target, name, content, XattrFlags::empty()) {
            // tmpfs keeps no user-defined attribute of other systems, which crun skips, too.
            Ok(()) | Err(Errno::OPNOTSUPP) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn times(status: &Stat) -> Timestamps {
    let time = |seconds: i64, nanoseconds: u64| Timespec {
        tv_sec: seconds,
        tv_nsec: i64::try_from(nanoseconds).unwrap_or_default(),
    };
    Timestamps {
        last_access: time(status.st_atime, status.st_atime_nsec),
        last_modification: time(status.st_mtime, status.st_mtime_nsec),
    }
}
