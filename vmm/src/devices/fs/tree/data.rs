//! READ, WRITE, FALLOCATE, LSEEK and FSYNC: the contents of open files.
//!
//! Contents go between the host's page cache and guest memory in one system call, with nothing
//! in between. The guest may change that memory while the call runs; nobody here looks at it.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use fuse_backend_rs::api::filesystem::{ZeroCopyReader, ZeroCopyWriter};
use fuse_backend_rs::file_buf::FileVolatileSlice;
use fuse_backend_rs::file_traits::FileReadWriteVolatile;
use rustix::fs::{FallocateFlags, OFlags, SeekFrom, fallocate, fdatasync, fsync, seek};
use rustix::io::{Errno, Result};
use rustix::thread::CapabilitySet;

use super::status::Status;
use super::{Tree, identity};

/// Which bytes of which open file a request is about.
pub(super) struct Span {
    pub(super) node: u64,
    pub(super) handle: u64,
    pub(super) offset: u64,
    pub(super) length: u64,
}

/// How a WRITE is to be done.
pub(super) struct WriteMode {
    /// The flags of the guest's open file, as they are now.
    pub(super) flags: u32,
    /// It comes from the guest's page cache, so `flags` does not count.
    pub(super) from_cache: bool,
    /// The set-id bits go, because the writing process may not keep them.
    pub(super) kill_set_id: bool,
}

impl Tree {
    pub(super) fn read_data(&self, to: &mut dyn ZeroCopyWriter, span: &Span) -> io::Result<usize> {
        let handle = self.handles.get(span.handle, span.node)?;
        let length = usize::try_from(span.length).map_err(|_| Errno::INVAL)?;
        to.write_from(
            &mut Contents {
                file: &handle.file,
                append: false,
            },
            length,
            span.offset,
        )
    }

    pub(super) fn write_data(
        &self,
        from: &mut dyn ZeroCopyReader,
        span: &Span,
        mode: &WriteMode,
    ) -> io::Result<usize> {
        let handle = self.handles.get(span.handle, span.node)?;
        let length = usize::try_from(span.length).map_err(|_| Errno::INVAL)?;
        let append = !mode.from_cache && mode.flags & OFlags::APPEND.bits() != 0;
        let mut contents = Contents {
            file: &handle.file,
            append,
        };
        let mut write = || from.read_to(&mut contents, length, span.offset);
        let written = if mode.kill_set_id && Status::of(&handle.file)?.is_set_id() {
            identity::without(CapabilitySet::FSETID, || Ok(write()))??
        } else {
            write()?
        };
        if let Ok(inode) = self.inodes.get(span.node) {
            inode.reached(span.offset.saturating_add(written as u64));
        }
        Ok(written)
    }

    pub(super) fn allocate(&self, span: &Span, mode: u32, by_root: bool) -> Result<()> {
        let handle = self.handles.get(span.handle, span.node)?;
        let mode = FallocateFlags::from_bits(mode).ok_or(Errno::OPNOTSUPP)?;
        let allocate = || fallocate(&handle.file, mode, span.offset, span.length);
        if !by_root && Status::of(&handle.file)?.is_set_id() {
            return identity::without(CapabilitySet::FSETID, allocate);
        }
        allocate()
    }

    /// Finds data or holes; the guest's kernel does every other kind of seeking by itself.
    pub(super) fn find(&self, node: u64, handle: u64, offset: u64, whence: u32) -> Result<u64> {
        const DATA: u32 = libc::SEEK_DATA.cast_unsigned();
        const HOLE: u32 = libc::SEEK_HOLE.cast_unsigned();
        let to = match whence {
            DATA => SeekFrom::Data(offset),
            HOLE => SeekFrom::Hole(offset),
            _ => return Err(Errno::INVAL),
        };
        let handle = self.handles.get(handle, node)?;
        let _position = handle.position();
        seek(&handle.file, to)
    }

    pub(super) fn sync(&self, node: u64, handle: u64, only_data: bool) -> Result<()> {
        let handle = self.handles.get(handle, node)?;
        if only_data {
            fdatasync(&handle.file)
        } else {
            fsync(&handle.file)
        }
    }
}

/// An open file, as the other end of a copy from or to guest memory.
struct Contents<'a> {
    file: &'a File,
    /// Write at the end, wherever that is by now, and not at the offset.
    append: bool,
}

impl Contents<'_> {
    /// Reads into (`preadv`) or writes from (`pwritev2`) the buffers.
    fn transfer(
        &self,
        buffers: &[FileVolatileSlice<'_>],
        offset: u64,
        call: impl FnOnce(i32, &[libc::iovec], libc::c_int, i64) -> isize,
    ) -> io::Result<usize> {
        let vectors: Vec<libc::iovec> = buffers
            .iter()
            .map(|buffer| libc::iovec {
                iov_base: buffer.as_ptr().cast(),
                iov_len: buffer.len(),
            })
            .collect();
        let count = libc::c_int::try_from(vectors.len()).map_err(|_| Errno::INVAL)?;
        let offset = i64::try_from(offset).map_err(|_| Errno::INVAL)?;
        let moved = call(self.file.as_raw_fd(), &vectors, count, offset);
        usize::try_from(moved).map_err(|_| io::Error::last_os_error())
    }
}

impl FileReadWriteVolatile for Contents<'_> {
    fn read_volatile(&mut self, _: FileVolatileSlice) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn write_volatile(&mut self, _: FileVolatileSlice) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn read_at_volatile(&mut self, to: FileVolatileSlice, offset: u64) -> io::Result<usize> {
        self.read_vectored_at_volatile(&[to], offset)
    }

    fn write_at_volatile(&mut self, from: FileVolatileSlice, offset: u64) -> io::Result<usize> {
        self.write_vectored_at_volatile(&[from], offset)
    }

    fn read_vectored_at_volatile(
        &mut self,
        to: &[FileVolatileSlice],
        offset: u64,
    ) -> io::Result<usize> {
        self.transfer(to, offset, |file, vectors, count, offset| {
            // SAFETY: each vector is a volatile slice, which is mapped memory of its length that
            // anyone may write to, and the slices are borrowed for the call.
            unsafe { libc::preadv64(file, vectors.as_ptr(), count, offset) }
        })
    }

    fn write_vectored_at_volatile(
        &mut self,
        from: &[FileVolatileSlice],
        offset: u64,
    ) -> io::Result<usize> {
        let flags = if self.append { libc::RWF_APPEND } else { 0 };
        self.transfer(from, offset, |file, vectors, count, offset| {
            // SAFETY: as above; the kernel only reads the memory.
            unsafe { libc::pwritev2(file, vectors.as_ptr(), count, offset, flags) }
        })
    }
}
