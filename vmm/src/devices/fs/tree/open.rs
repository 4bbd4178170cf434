//! OPEN and OPENDIR: handles on regular files and directories.

use fuse_backend_rs::abi::fuse_abi::FOPEN_IN_KILL_SUIDGID;
use fuse_backend_rs::api::filesystem::OpenOptions;
use rustix::fs::{FileType, OFlags};
use rustix::io::{Errno, Result};
use rustix::thread::CapabilitySet;

use super::inode::Inode;
use super::status::Status;
use super::{Tree, identity};

/// What of the guest's flags the host's descriptor gets. `O_APPEND` comes with each write, and
/// `O_DIRECT` is about the guest's page cache: its buffers need not suit the host's device.
const KEPT: OFlags = OFlags::ACCMODE
    .union(OFlags::TRUNC)
    .union(OFlags::SYNC)
    .union(OFlags::DSYNC)
    .union(OFlags::NOATIME);

/// The flags for a descriptor of the host's, from those of the guest's open.
pub(super) fn host_flags(flags: u32) -> OFlags {
    OFlags::from_bits_retain(flags) & KEPT
}

impl Tree {
    pub(super) fn open_file(
        &self,
        node: u64,
        flags: u32,
        fuse_flags: u32,
    ) -> Result<(u64, OpenOptions)> {
        let inode = self.regular(node)?;
        let file = if fuse_flags & FOPEN_IN_KILL_SUIDGID != 0 {
            identity::without(CapabilitySet::FSETID, || {
                self.reopen(&*inode, host_flags(flags))
            })?
        } else {
            self.reopen(&*inode, host_flags(flags))?
        };
        // Close-to-open consistency: the guest keeps its pages only if nothing changed the file
        // since it last opened it, and goes by its size of now. Linux looks a file up again when
        // it is told ESTALE.
        let status = Status::of(&file)?;
        if host_flags(flags).contains(OFlags::TRUNC) {
            inode.tell(&status);
        } else if inode.is_stale(status.size()) {
            return Err(Errno::STALE);
        }
        let mut options = OpenOptions::empty();
        options.set(OpenOptions::KEEP_CACHE, inode.is_cached(status.version()));
        Ok((self.handles.insert(node, file)?, options))
    }

    pub(super) fn open_directory(&self, node: u64) -> Result<(u64, OpenOptions)> {
        let inode = self.inodes.get(node)?;
        if inode.file_type != FileType::Directory {
            return Err(Errno::NOTDIR);
        }
        let directory = self.reopen(&*inode, OFlags::RDONLY | OFlags::DIRECTORY)?;
        // The guest may list it again by itself, under the same condition.
        let mut options = OpenOptions::CACHE_DIR;
        options.set(
            OpenOptions::KEEP_CACHE,
            inode.is_cached(Status::of(&directory)?.version()),
        );
        Ok((self.handles.insert(node, directory)?, options))
    }

    /// The inode of a regular file; nothing else is opened on the host.
    pub(super) fn regular(&self, node: u64) -> Result<std::sync::Arc<Inode>> {
        let inode = self.inodes.get(node)?;
        match inode.file_type {
            FileType::RegularFile => Ok(inode),
            FileType::Directory => Err(Errno::ISDIR),
            _ => Err(Errno::ACCESS),
        }
    }
}
