//! The requests that the FUSE server hands on, one method each; the work is done elsewhere.
//!
//! Not here, so the guest does them by itself or without: FLUSH (writes are on the host when they
//! return, so closing has nothing to report), ACCESS (`default_permissions`), locks (the guest's
//! kernel keeps them), IOCTL, BMAP, POLL, and mapping into a window (DAX).

use std::ffi::CStr;
use std::io::Result;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fuse_backend_rs::abi::fuse_abi::{CreateIn, WRITE_KILL_PRIV};
use fuse_backend_rs::api::filesystem::{
    Context, DirEntry, Entry, FileSystem, FsOptions, GetxattrReply, ListxattrReply, OpenOptions,
    SetattrValid, ZeroCopyReader, ZeroCopyWriter,
};
use libc::{stat64, statvfs64};
use rustix::fs::AtFlags;

use super::Tree;
use super::data::{Span, WriteMode};
use super::directory::Page;
use super::status::{Status, file_system};

type Handle = Option<u64>;

impl Tree {
    /// What is asked of the guest's kernel.
    fn options() -> FsOptions {
        // Throughput: several requests in flight, of up to 1 MiB, and listings with attributes.
        FsOptions::ASYNC_READ
            | FsOptions::ASYNC_DIO
            | FsOptions::BIG_WRITES
            | FsOptions::MAX_PAGES
            | FsOptions::PARALLEL_DIROPS
            | FsOptions::DO_READDIRPLUS
            | FsOptions::READDIRPLUS_AUTO
            // Pages and symbolic links are kept until their file is seen to have changed.
            | FsOptions::AUTO_INVAL_DATA
            | FsOptions::CACHE_SYMLINKS
            | FsOptions::ATOMIC_O_TRUNC
            // Permissions: lists are checked by the guest, umask and set-id bits by the host.
            | FsOptions::POSIX_ACL
            | FsOptions::DONT_MASK
            | FsOptions::HANDLE_KILLPRIV_V2
            | FsOptions::SUBMOUNTS
    }
}

impl FileSystem for Tree {
    type Inode = u64;
    type Handle = u64;

    fn init(&self, capable: FsOptions) -> Result<FsOptions> {
        self.clear();
        self.submounts
            .store(capable.contains(FsOptions::SUBMOUNTS), Ordering::Relaxed);
        Ok(Self::options())
    }

    fn destroy(&self) {
        self.clear();
    }

    fn lookup(&self, _: &Context, parent: u64, name: &CStr) -> Result<Entry> {
        Ok(self.look_up(parent, name)?)
    }

    fn forget(&self, _: &Context, node: u64, count: u64) {
        self.inodes.forget([(node, count)]);
    }

    fn batch_forget(&self, _: &Context, requests: Vec<(u64, u64)>) {
        self.inodes.forget(requests);
    }

    fn getattr(&self, _: &Context, node: u64, _: Handle) -> Result<(stat64, Duration)> {
        let inode = self.inodes.get(node)?;
        let status = Status::of(&*inode)?;
        inode.tell(&status);
        Ok((status.attributes(), self.timeout))
    }

    fn setattr(
        &self,
        _: &Context,
        node: u64,
        wanted: stat64,
        handle: Handle,
        valid: SetattrValid,
    ) -> Result<(stat64, Duration)> {
        Ok((
            self.set_attributes(node, &wanted, handle, valid)?,
            self.timeout,
        ))
    }

    fn readlink(&self, _: &Context, node: u64) -> Result<Vec<u8>> {
        Ok(self.link_target(node)?)
    }

    fn symlink(&self, by: &Context, target: &CStr, parent: u64, name: &CStr) -> Result<Entry> {
        Ok(self.make_symlink(by, target, parent, name)?)
    }

    fn mknod(
        &self,
        by: &Context,
        parent: u64,
        name: &CStr,
        mode: u32,
        device: u32,
        mask: u32,
    ) -> Result<Entry> {
        Ok(self.make_node(by, parent, name, (mode, device), mask)?)
    }

    fn mkdir(&self, by: &Context, parent: u64, name: &CStr, mode: u32, mask: u32) -> Result<Entry> {
        Ok(self.make_directory(by, parent, name, mode, mask)?)
    }

    fn unlink(&self, _: &Context, parent: u64, name: &CStr) -> Result<()> {
        Ok(self.remove_entry(parent, name, AtFlags::empty())?)
    }

    fn rmdir(&self, _: &Context, parent: u64, name: &CStr) -> Result<()> {
        Ok(self.remove_entry(parent, name, AtFlags::REMOVEDIR)?)
    }

    fn rename(
        &self,
        _: &Context,
        from: u64,
        old: &CStr,
        to: u64,
        new: &CStr,
        flags: u32,
    ) -> Result<()> {
        Ok(self.rename_entry((from, old), (to, new), flags)?)
    }

    fn link(&self, _: &Context, node: u64, parent: u64, name: &CStr) -> Result<Entry> {
        Ok(self.make_link(node, parent, name)?)
    }

    fn open(
        &self,
        _: &Context,
        node: u64,
        flags: u32,
        fuse_flags: u32,
    ) -> Result<(Handle, OpenOptions, Option<u32>)> {
        let (handle, options) = self.open_file(node, flags, fuse_flags)?;
        Ok((Some(handle), options, None))
    }

    fn create(
        &self,
        by: &Context,
        parent: u64,
        name: &CStr,
        request: CreateIn,
    ) -> Result<(Entry, Handle, OpenOptions, Option<u32>)> {
        let (entry, handle) = self.create_file(by, parent, name, request)?;
        Ok((entry, Some(handle), OpenOptions::empty(), None))
    }

    fn read(
        &self,
        _: &Context,
        node: u64,
        handle: u64,
        to: &mut dyn ZeroCopyWriter,
        size: u32,
        offset: u64,
        _: Option<u64>,
        _: u32,
    ) -> Result<usize> {
        self.read_data(
            to,
            &Span {
                node,
                handle,
                offset,
                length: size.into(),
            },
        )
    }

    fn write(
        &self,
        _: &Context,
        node: u64,
        handle: u64,
        from: &mut dyn ZeroCopyReader,
        size: u32,
        offset: u64,
        _: Option<u64>,
        from_cache: bool,
        flags: u32,
        fuse_flags: u32,
    ) -> Result<usize> {
        let span = Span {
            node,
            handle,
            offset,
            length: size.into(),
        };
        let kill_set_id = fuse_flags & WRITE_KILL_PRIV != 0;
        self.write_data(
            from,
            &span,
            &WriteMode {
                flags,
                from_cache,
                kill_set_id,
            },
        )
    }

    fn fsync(&self, _: &Context, node: u64, only_data: bool, handle: u64) -> Result<()> {
        Ok(self.sync(node, handle, only_data)?)
    }

    fn fallocate(
        &self,
        by: &Context,
        node: u64,
        handle: u64,
        mode: u32,
        offset: u64,
        length: u64,
    ) -> Result<()> {
        Ok(self.allocate(
            &Span {
                node,
                handle,
                offset,
                length,
            },
            mode,
            by.uid == 0,
        )?)
    }

    fn lseek(&self, _: &Context, node: u64, handle: u64, offset: u64, whence: u32) -> Result<u64> {
        Ok(self.find(node, handle, offset, whence)?)
    }

    fn release(
        &self,
        _: &Context,
        node: u64,
        _: u32,
        handle: u64,
        _: bool,
        _: bool,
        _: Option<u64>,
    ) -> Result<()> {
        Ok(self.handles.remove(handle, node)?)
    }

    fn statfs(&self, _: &Context, node: u64) -> Result<statvfs64> {
        Ok(file_system(&*self.inodes.get(node)?)?)
    }

    fn setxattr(
        &self,
        by: &Context,
        node: u64,
        name: &CStr,
        value: &[u8],
        flags: u32,
    ) -> Result<()> {
        Ok(self.set_attribute(by, node, name, value, flags)?)
    }

    fn getxattr(&self, _: &Context, node: u64, name: &CStr, size: u32) -> Result<GetxattrReply> {
        Ok(self.attribute(node, name, size)?)
    }

    fn listxattr(&self, _: &Context, node: u64, size: u32) -> Result<ListxattrReply> {
        Ok(self.attributes(node, size)?)
    }

    fn removexattr(&self, _: &Context, node: u64, name: &CStr) -> Result<()> {
        Ok(self.remove_attribute(node, name)?)
    }

    fn opendir(&self, _: &Context, node: u64, _: u32) -> Result<(Handle, OpenOptions)> {
        let (handle, options) = self.open_directory(node)?;
        Ok((Some(handle), options))
    }

    fn readdir(
        &self,
        _: &Context,
        node: u64,
        handle: u64,
        size: u32,
        offset: u64,
        add: &mut dyn FnMut(DirEntry) -> Result<usize>,
    ) -> Result<()> {
        self.list(
            &Page {
                node,
                handle,
                offset,
                size,
            },
            add,
        )
    }

    fn readdirplus(
        &self,
        _: &Context,
        node: u64,
        handle: u64,
        size: u32,
        offset: u64,
        add: &mut dyn FnMut(DirEntry, Entry) -> Result<usize>,
    ) -> Result<()> {
        self.list_with_attributes(
            &Page {
                node,
                handle,
                offset,
                size,
            },
            add,
        )
    }

    fn fsyncdir(&self, _: &Context, node: u64, only_data: bool, handle: u64) -> Result<()> {
        Ok(self.sync(node, handle, only_data)?)
    }

    fn releasedir(&self, _: &Context, node: u64, _: u32, handle: u64) -> Result<()> {
        Ok(self.handles.remove(handle, node)?)
    }
}
