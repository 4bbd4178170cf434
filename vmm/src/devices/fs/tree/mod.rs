//! The exported tree: what a FUSE request does on the host.
//!
//! `file_system` is the entry, one method for each request; the other modules do the work. The
//! workers call it, several at a time. Its rules:
//!
//! - A file is reached from the descriptor of its inode or from that of its directory and one
//!   checked name; nothing is opened by path, and nothing is opened again by name.
//! - Only regular files and directories are ever opened. Everything else is handled by the
//!   guest's kernel; here it is an inode with attributes.
//! - Whether the guest's processes may do something is the guest's kernel's decision
//!   (`default_permissions`). What the guest as a whole may do is the host kernel's: the mounts
//!   of this process and their flags, and its capabilities.
//!
//! fuse-backend-rs has such a tree, `PassthroughFs`, and does not fit: it reaches extended
//! attributes by the path `/proc/self/fd/N`, and `/proc` is the guest's to replace here; it looks
//! `..` up; it cannot tell two mounts of one file system apart; it checks modes as the user
//! without supplementary groups; it keeps an entry for every inode that ever was.

mod budget;
mod create;
mod data;
mod directory;
mod file_system;
mod graft;
mod handle;
mod identity;
mod inode;
mod links;
mod lookup;
mod names;
mod open;
mod setattr;
mod status;
mod xattr;

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use rustix::fs::{CWD, Mode, OFlags, PROC_SUPER_MAGIC, fstatfs, openat};
use rustix::io::{Errno, Result};
use rustix::path::DecInt;

use self::budget::Budget;
use self::graft::Grafts;
use self::handle::Handles;
use self::inode::Inodes;
use self::status::Status;
use super::{FsConfig, FsError};

/// A directory of the host and everything beneath it, mounts included.
#[derive(Debug)]
pub(super) struct Tree {
    inodes: Inodes,
    handles: Handles,
    grafts: Grafts,
    /// `/proc/self/fd`: an entry of it is a descriptor as a path, for the system calls that take
    /// nothing else. Opened once, so it works when this process's `/proc` is gone.
    descriptors: OwnedFd,
    timeout: Duration,
    /// Whether the guest's kernel mounts submounts by itself.
    submounts: AtomicBool,
}

impl Tree {
    /// Opens the directory. `/proc` must be there, and may go away afterwards. The limit on open
    /// files is looked at now.
    pub(super) fn new(config: &FsConfig) -> std::result::Result<Self, FsError> {
        let directory = &config.directory;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let descriptors =
            openat(CWD, c"/proc/self/fd", flags, Mode::empty()).map_err(FsError::proc)?;
        if fstatfs(&descriptors).map_err(FsError::proc)?.f_type != PROC_SUPER_MAGIC {
            return Err(FsError::NotProc);
        }
        let open = |source: Errno| FsError::Directory {
            directory: directory.clone(),
            source: source.into(),
        };
        let root = openat(CWD, directory, flags, Mode::empty()).map_err(open)?;
        let status = Status::of(&root).map_err(open)?;
        let grafts =
            Grafts::new(root.as_fd(), &config.grafts).map_err(|source| FsError::Graft {
                directory: directory.clone(),
                grafts: config.grafts.clone(),
                source: source.into(),
            })?;
        let budget = Budget::of_process();
        Ok(Self {
            inodes: Inodes::new(root, &status, budget.clone()),
            handles: Handles::new(budget),
            grafts,
            descriptors,
            timeout: config.timeout,
            submounts: AtomicBool::new(false),
        })
    }

    /// Prepares the calling thread to serve requests.
    pub(super) fn enter(&self) -> Result<()> {
        identity::enter(&self.descriptors)
    }

    /// Forgets what the guest knew of the tree and closes what it had open.
    pub(super) fn clear(&self) {
        self.handles.clear();
        self.inodes.clear();
    }

    /// Opens the file that `path` names once more, in another way.
    fn reopen(&self, path: impl AsFd, flags: OFlags) -> Result<File> {
        let name = DecInt::from_fd(path);
        openat(
            &self.descriptors,
            name,
            flags | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map(File::from)
    }
}
