//! LOOKUP: from a directory and a name to an inode, and the ENTRY that the guest gets for it.

use std::ffi::CStr;
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;

use fuse_backend_rs::abi::fuse_abi::ATTR_SUBMOUNT;
use fuse_backend_rs::api::filesystem::Entry;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::{Errno, Result};

use super::inode::Inode;
use super::status::Status;
use super::{Tree, names};

impl Tree {
    pub(super) fn look_up(&self, parent: u64, name: &CStr) -> Result<Entry> {
        let name = names::component(name)?;
        let parent = self.inodes.get(parent)?;
        self.look_up_in(&parent, name)
    }

    /// The entry `name` of `parent`, with one more reference of the guest's. The name is checked.
    pub(super) fn look_up_in(&self, parent: &Inode, name: &CStr) -> Result<Entry> {
        // A known inode is pinned by its descriptor, so its id cannot be anyone else's.
        let status = match Status::beneath(parent, name) {
            Err(Errno::NOENT) => {
                let graft = self.grafts.find(&parent.id, name).ok_or(Errno::NOENT)?;
                return self.adopt(parent, graft);
            }
            status => status?,
        };
        if let Some(inode) = self.inodes.acquire(&status.id()) {
            return Ok(self.entry(parent, &inode, &status));
        }
        let path = openat2(
            parent,
            name,
            OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS,
        )?;
        let status = Status::of(&path)?;
        let inode = self.inodes.insert(path, &status)?;
        Ok(self.entry(parent, &inode, &status))
    }

    /// The inode of an open file in `parent`, with one more reference of the guest's.
    pub(super) fn adopt(&self, parent: &Inode, file: impl AsFd) -> Result<Entry> {
        let path = self.reopen(file, OFlags::PATH)?;
        let status = Status::of(&path)?;
        let inode = self.inodes.insert(path.into(), &status)?;
        Ok(self.entry(parent, &inode, &status))
    }

    fn entry(&self, parent: &Inode, inode: &Inode, status: &Status) -> Entry {
        let is_submount = inode.file_type == FileType::Directory
            && inode.id.mount != parent.id.mount
            && self.submounts.load(Ordering::Relaxed);
        inode.tell(status);
        Entry {
            inode: inode.node,
            generation: 0,
            attr: status.attributes(),
            attr_flags: if is_submount { ATTR_SUBMOUNT } else { 0 },
            attr_timeout: self.timeout,
            entry_timeout: self.timeout,
        }
    }
}
