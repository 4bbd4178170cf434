//! What the host mounted at a destination: a copy of that part of the exported tree.
//!
//! Called by `mounts`. The copy is taken from a view in which nothing of the guest's is mounted,
//! so it is found below a tmpfs of the guest, too.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};

use super::mounts::MountError;
use super::path::{self, Kind};

/// A detached copy of the mount at `exported_at` of the exported tree, and what it is.
pub(crate) fn copy(
    view: BorrowedFd<'_>,
    exported_at: &str,
    recursive: bool,
) -> Result<(OwnedFd, Kind), MountError> {
    let failed = |source| MountError::Export {
        destination: exported_at.into(),
        source,
    };
    let path = Path::new(exported_at);
    // Opened as a directory, a submount of the host appears; its files are mounts of their own
    // on the host alone.
    let (source, kind) = match path::resolve(view, path, OFlags::PATH | OFlags::DIRECTORY) {
        Err(Errno::NOTDIR) => (
            path::resolve(view, path, OFlags::PATH).map_err(failed)?,
            Kind::File,
        ),
        directory => (directory.map_err(failed)?, Kind::Directory),
    };
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    let tree = open_tree(&source, "", flags).map_err(failed)?;
    Ok((tree, kind))
}
