//! What a disk holds: an open file, its size and block size when the device was made, and what
//! requests do to it.
//!
//! Called by the device's worker with requests that lie inside the disk. Buffered, so the host's
//! programs that read the same device see what the guest wrote.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::FileExt;

use rustix::fs::{FallocateFlags, OFlags, fallocate, fcntl_getfl, ioctl_blksszget};
use rustix::io::Errno;

use super::BlockError;
use super::config::SECTOR;
use super::request::{Request, RequestError};
use crate::sys;

/// Zeroes in one write, where the host cannot make them by itself.
static ZEROES: [u8; 64 << 10] = [0; 64 << 10];

/// A disk.
#[derive(Debug)]
pub(super) struct Disk {
    file: File,
    sectors: u64,
    block_size: u32,
    read_only: bool,
}

impl Disk {
    pub(super) fn new(mut file: File) -> Result<Self, BlockError> {
        let examine = |action| move |source| BlockError::Examine { action, source };
        let flags = fcntl_getfl(&file)
            .map_err(|error| examine("ask for the access mode")(error.into()))?
            & OFlags::ACCMODE;
        if flags == OFlags::WRONLY {
            return Err(BlockError::NotReadable);
        }
        let size = file
            .seek(SeekFrom::End(0))
            .map_err(examine("find the size"))?;
        let block_size = match ioctl_blksszget(&file) {
            Ok(size) => size,
            // A regular file has no blocks of its own.
            Err(Errno::NOTTY) => 512,
            Err(error) => return Err(examine("ask for the block size")(error.into())),
        };
        Ok(Self {
            file,
            sectors: size / SECTOR,
            block_size,
            read_only: flags == OFlags::RDONLY,
        })
    }

    pub(super) fn sectors(&self) -> u64 {
        self.sectors
    }

    pub(super) fn block_size(&self) -> u32 {
        self.block_size
    }

    pub(super) fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// Carries out a request. With `sync` what it writes is on the disk afterwards.
    pub(super) fn execute(
        &self,
        request: &Request<'_>,
        serial: &str,
        sync: bool,
    ) -> Result<(), RequestError> {
        if request.writes() && self.read_only {
            return Err(RequestError::ReadOnly);
        }
        match *request {
            Request::Read { offset, ref data } => {
                sys::file::read_at(&self.file, data.pieces(), offset)?;
            }
            Request::Write { offset, ref data } => {
                sys::file::write_at(&self.file, data.pieces(), offset)?;
            }
            Request::Flush => self.file.sync_data()?,
            Request::Id { ref data } => {
                let mut id = serial.as_bytes().to_vec();
                id.resize(data.len(), 0);
                data.copy_from(&id)?;
            }
            Request::Discard { offset, length } => self.punch(offset, length)?,
            Request::WriteZeroes {
                offset,
                length,
                unmap,
            } => self.zero(offset, length, unmap)?,
        }
        if sync && request.writes() {
            self.file.sync_data()?;
        }
        Ok(())
    }

    fn punch(&self, offset: u64, length: u64) -> Result<(), RequestError> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match fallocate(&self.file, flags, offset, length) {
            Err(Errno::OPNOTSUPP) => Err(RequestError::Unsupported),
            other => other.map_err(|error| RequestError::Io(error.into())),
        }
    }

    fn zero(&self, offset: u64, length: u64, unmap: bool) -> io::Result<()> {
        let how = match unmap {
            true => FallocateFlags::PUNCH_HOLE,
            false => FallocateFlags::ZERO_RANGE,
        };
        match fallocate(&self.file, how | FallocateFlags::KEEP_SIZE, offset, length) {
            Err(Errno::OPNOTSUPP) => {}
            other => return other.map_err(io::Error::from),
        }
        let end = offset.saturating_add(length);
        let mut place = offset;
        while place < end {
            let left = usize::try_from(end - place).unwrap_or(usize::MAX);
            let (now, _) = ZEROES.split_at(left.min(ZEROES.len()));
            self.file.write_all_at(now, place)?;
            place = place.saturating_add(now.len() as u64);
        }
        Ok(())
    }
}
