//! LINK, UNLINK, RMDIR, RENAME and READLINK: names of files that exist.

use std::ffi::CStr;

use fuse_backend_rs::api::filesystem::Entry;
use rustix::buffer::spare_capacity;
use rustix::fs::{AtFlags, RenameFlags, linkat, readlinkat_raw, renameat_with, unlinkat};
use rustix::io::{Errno, Result};
use rustix::path::DecInt;

use super::{Tree, names};

/// The longest target of a symbolic link, in bytes.
const TARGET_MAX: usize = 4096;

impl Tree {
    pub(super) fn make_link(&self, node: u64, parent: u64, name: &CStr) -> Result<Entry> {
        let name = names::component(name)?;
        let inode = self.inodes.get(node)?;
        let parent = self.inodes.get(parent)?;
        // By way of /proc: AT_EMPTY_PATH wants CAP_DAC_READ_SEARCH in the first user namespace.
        let file = DecInt::from_fd(&*inode);
        linkat(
            &self.descriptors,
            file,
            &*parent,
            name,
            AtFlags::SYMLINK_FOLLOW,
        )?;
        self.look_up_in(&parent, name)
    }

    pub(super) fn remove_entry(&self, parent: u64, name: &CStr, flags: AtFlags) -> Result<()> {
        let name = names::component(name)?;
        unlinkat(&*self.inodes.get(parent)?, name, flags)
    }

    pub(super) fn rename_entry(
        &self,
        (from, old): (u64, &CStr),
        (to, new): (u64, &CStr),
        flags: u32,
    ) -> Result<()> {
        let (old, new) = (names::component(old)?, names::component(new)?);
        let (from, to) = (self.inodes.get(from)?, self.inodes.get(to)?);
        let flags = RenameFlags::from_bits(flags).ok_or(Errno::INVAL)?;
        renameat_with(&*from, old, &*to, new, flags)
    }

    pub(super) fn link_target(&self, node: u64) -> Result<Vec<u8>> {
        let inode = self.inodes.get(node)?;
        let mut target = Vec::with_capacity(TARGET_MAX);
        readlinkat_raw(&*inode, c"", spare_capacity(&mut target))?;
        Ok(target)
    }
}
