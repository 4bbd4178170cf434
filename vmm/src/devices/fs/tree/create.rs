//! CREATE, MKDIR, MKNOD and SYMLINK: new entries, owned by whoever asks for them.
//!
//! The umask comes with the request, and the host applies it (FUSE_DONT_MASK), because it does
//! not count in a directory with a default access control list.

use std::ffi::CStr;
use std::fs::File;

use fuse_backend_rs::abi::fuse_abi::CreateIn;
use fuse_backend_rs::api::filesystem::{Context, Entry};
use rustix::fs::{FileType, Mode, OFlags, mkdirat, mknodat, openat, symlinkat};
use rustix::io::{Errno, Result};

use super::open::host_flags;
use super::{Tree, identity, names};

impl Tree {
    /// The new file's entry and a handle on it.
    pub(super) fn create_file(
        &self,
        context: &Context,
        parent: u64,
        name: &CStr,
        request: CreateIn,
    ) -> Result<(Entry, u64)> {
        let name = names::component(name)?;
        let parent = self.inodes.get(parent)?;
        let flags = host_flags(request.flags);
        let made = identity::making(context, request.umask, || {
            let how = flags | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            openat(&*parent, name, how, permissions(request.mode)).map(File::from)
        });
        let exclusive = request.flags & OFlags::EXCL.bits() != 0;
        let (entry, file) = match made {
            Ok(file) => (self.adopt(&parent, &file)?, Ok(file)),
            Err(Errno::EXIST) if !exclusive => {
                let entry = self.look_up_in(&parent, name)?;
                (entry, self.open_found(context, entry.inode, flags))
            }
            Err(error) => return Err(error),
        };
        let handle = file.and_then(|file| self.handles.insert(entry.inode, file));
        if handle.is_err() {
            // The guest does not get the entry, so it cannot give its reference back.
            self.inodes.forget([(entry.inode, 1)]);
        }
        Ok((entry, handle?))
    }

    /// Opens a file that came to be while the guest asked to create it. The guest has not checked
    /// that its process may, so the host does.
    fn open_found(&self, context: &Context, node: u64, flags: OFlags) -> Result<File> {
        let inode = self.regular(node)?;
        if context.uid == 0 {
            return self.reopen(&*inode, flags);
        }
        identity::making(context, 0, || {
            identity::without(identity::FILE_ACCESS, || self.reopen(&*inode, flags))
        })
    }

    pub(super) fn make_directory(
        &self,
        context: &Context,
        parent: u64,
        name: &CStr,
        mode: u32,
        mask: u32,
    ) -> Result<Entry> {
        let name = names::component(name)?;
        let parent = self.inodes.get(parent)?;
        identity::making(context, mask, || mkdirat(&*parent, name, permissions(mode)))?;
        self.look_up_in(&parent, name)
    }

    /// Makes a regular file, a pipe, a socket or the whiteout of an overlay (character device
    /// 0:0). Other device nodes are refused: a node in a volume would be the host's device for
    /// whoever opens it there, and the guest has its own /dev.
    pub(super) fn make_node(
        &self,
        context: &Context,
        parent: u64,
        name: &CStr,
        (mode, device): (u32, u32),
        mask: u32,
    ) -> Result<Entry> {
        let name = names::component(name)?;
        let parent = self.inodes.get(parent)?;
        let file_type = match (FileType::from_raw_mode(mode), device) {
            (kind @ (FileType::RegularFile | FileType::Fifo | FileType::Socket), _) => kind,
            (FileType::CharacterDevice, 0) => FileType::CharacterDevice,
            (FileType::CharacterDevice | FileType::BlockDevice, _) => return Err(Errno::PERM),
            _ => return Err(Errno::INVAL),
        };
        identity::making(context, mask, || {
            mknodat(&*parent, name, file_type, permissions(mode), 0)
        })?;
        self.look_up_in(&parent, name)
    }

    pub(super) fn make_symlink(
        &self,
        context: &Context,
        target: &CStr,
        parent: u64,
        name: &CStr,
    ) -> Result<Entry> {
        let name = names::component(name)?;
        let parent = self.inodes.get(parent)?;
        identity::making(context, 0, || symlinkat(target, &*parent, name))?;
        self.look_up_in(&parent, name)
    }
}

/// The permissions in a mode, with the set-id and sticky bits.
pub(super) fn permissions(mode: u32) -> Mode {
    Mode::from_raw_mode(mode & 0o7777)
}
