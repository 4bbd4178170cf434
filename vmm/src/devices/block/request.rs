//! One request (virtio 1.2, section 5.2.6): from a descriptor chain to what is to be done, and the
//! status for the guest.
//!
//! Header, data and status byte are the guest's, in pieces as it likes. What is parsed lies inside
//! the disk and is no longer than the configuration space allows; data is never copied, so that it
//! may change while it is read or written harms the guest alone.

use std::io;

use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK, VIRTIO_BLK_S_UNSUPP, VIRTIO_BLK_T_DISCARD,
    VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_GET_ID, VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT,
    VIRTIO_BLK_T_WRITE_ZEROES, VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP,
};
use virtio_queue::DescriptorChain;
use vm_memory::GuestMemoryMmap;
use zerocopy::byteorder::little_endian::{U32, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::SERIAL_LENGTH;
use super::config::{LONGEST_DATA, MOST_DISCARDED, MOST_ZEROED, SECTOR};
use crate::devices::buffers::{BufferError, Buffers};

/// `struct virtio_blk_outhdr`.
#[derive(FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned)]
#[repr(C)]
struct Header {
    kind: U32,
    reserved: U32,
    sector: U64,
}

/// `struct virtio_blk_discard_write_zeroes`.
#[derive(FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned)]
#[repr(C)]
struct Range {
    sector: U64,
    sectors: U32,
    flags: U32,
}

/// What a guest wants; offsets and lengths in bytes.
#[derive(Debug)]
pub(super) enum Request<'m> {
    Read {
        offset: u64,
        data: Buffers<'m>,
    },
    Write {
        offset: u64,
        data: Buffers<'m>,
    },
    Flush,
    Id {
        data: Buffers<'m>,
    },
    Discard {
        offset: u64,
        length: u64,
    },
    WriteZeroes {
        offset: u64,
        length: u64,
        unmap: bool,
    },
}

/// Why a request is not carried out.
#[derive(Debug, thiserror::Error)]
pub(super) enum RequestError {
    #[error(transparent)]
    Buffer(#[from] BufferError),
    #[error("the request has {length} bytes of data, which is none, no sector's or too many")]
    Length { length: usize },
    #[error("{length} bytes at sector {sector} are not on the disk, or too many")]
    Outside { sector: u64, length: u64 },
    #[error("the disk is read-only")]
    ReadOnly,
    #[error("no such request, or none that the disk can do")]
    Unsupported,
    #[error("the host's file")]
    Io(#[from] io::Error),
}

impl RequestError {
    fn status(&self) -> u32 {
        match self {
            Self::Unsupported => VIRTIO_BLK_S_UNSUPP,
            _ => VIRTIO_BLK_S_IOERR,
        }
    }
}

impl<'m> Request<'m> {
    /// Whether it changes the disk.
    pub(super) fn writes(&self) -> bool {
        match self {
            Self::Write { .. } | Self::Discard { .. } | Self::WriteZeroes { .. } => true,
            Self::Read { .. } | Self::Flush | Self::Id { .. } => false,
        }
    }

    /// Reads a request to a disk of so many sectors: `message` without its status byte's `room`.
    fn parse(message: Buffers<'m>, room: Buffers<'m>, sectors: u64) -> Result<Self, RequestError> {
        let (header, body) = message.split_at(size_of::<Header>())?;
        let Header { kind, sector, .. } = copied(&header);
        match kind.get() {
            VIRTIO_BLK_T_IN => Ok(Self::Read {
                offset: place(sector.get(), data_length(&room)?, sectors)?,
                data: room,
            }),
            VIRTIO_BLK_T_OUT => Ok(Self::Write {
                offset: place(sector.get(), data_length(&body)?, sectors)?,
                data: body,
            }),
            VIRTIO_BLK_T_FLUSH => Ok(Self::Flush),
            VIRTIO_BLK_T_GET_ID => Ok(Self::Id {
                data: match room.len() {
                    0..=SERIAL_LENGTH => room,
                    _ => room.split_at(SERIAL_LENGTH)?.0,
                },
            }),
            VIRTIO_BLK_T_DISCARD => {
                let (offset, length, flags) = range(&body, MOST_DISCARDED, sectors)?;
                match flags {
                    0 => Ok(Self::Discard { offset, length }),
                    _ => Err(RequestError::Unsupported),
                }
            }
            VIRTIO_BLK_T_WRITE_ZEROES => {
                let (offset, length, flags) = range(&body, MOST_ZEROED, sectors)?;
                match flags {
                    0 | VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP => Ok(Self::WriteZeroes {
                        offset,
                        length,
                        unmap: flags != 0,
                    }),
                    _ => Err(RequestError::Unsupported),
                }
            }
            _ => Err(RequestError::Unsupported),
        }
    }
}

/// Serves the request in `chain` with `execute`, and returns how many bytes were written into it.
pub(super) fn serve(
    memory: &GuestMemoryMmap,
    chain: &DescriptorChain<&GuestMemoryMmap>,
    sectors: u64,
    execute: impl FnOnce(&Request<'_>) -> Result<(), RequestError>,
) -> u32 {
    let parts = Buffers::both(memory, chain.clone()).and_then(|(message, room)| {
        let data = room.len().checked_sub(1).ok_or(BufferError::Length)?;
        let (data, status) = room.split_at(data)?;
        Ok((message, data, status))
    });
    let (message, data, status) = match parts {
        Ok(parts) => parts,
        Err(error) => {
            tracing::debug!(%error, "virtio-blk: a request without room for its status");
            return 0;
        }
    };
    let length = data.len();
    let result = Request::parse(message, data, sectors).and_then(|request| execute(&request));
    let (code, written) = match &result {
        Ok(()) => (VIRTIO_BLK_S_OK, length.saturating_add(1)),
        Err(error) => {
            match error {
                RequestError::Io(source) => tracing::warn!(%source, "virtio-blk: {error}"),
                _ => tracing::debug!(%error, "virtio-blk: refused a request"),
            }
            // The status counts only behind data that was written.
            (error.status(), usize::from(length == 0))
        }
    };
    match status.copy_from(&[u8::try_from(code).unwrap_or(1)]) {
        Ok(()) => u32::try_from(written).unwrap_or(0),
        Err(_) => 0,
    }
}

/// The structure at the beginning of `buffers`, which are as long at least.
fn copied<T: FromZeros + FromBytes + IntoBytes>(buffers: &Buffers<'_>) -> T {
    let mut value = T::new_zeroed();
    buffers.copy_to(0, value.as_mut_bytes());
    value
}

/// How many bytes are read or written: whole sectors.
fn data_length(data: &Buffers<'_>) -> Result<u64, RequestError> {
    let length = data.len() as u64;
    match length > 0 && length <= LONGEST_DATA && length.is_multiple_of(SECTOR) {
        true => Ok(length),
        false => Err(RequestError::Length { length: data.len() }),
    }
}

/// Where `sector` is, if `length` bytes from there on are on the disk.
fn place(sector: u64, length: u64, sectors: u64) -> Result<u64, RequestError> {
    let inside = sector
        .checked_add(length.div_ceil(SECTOR))
        .is_some_and(|end| end <= sectors);
    sector
        .checked_mul(SECTOR)
        .filter(|_| inside)
        .ok_or(RequestError::Outside { sector, length })
}

/// Offset, length and flags of the one range that a request may name.
fn range(body: &Buffers<'_>, most: u32, sectors: u64) -> Result<(u64, u64, u32), RequestError> {
    if body.len() != size_of::<Range>() {
        return Err(RequestError::Length { length: body.len() });
    }
    let range: Range = copied(body);
    let (sector, length) = (range.sector.get(), u64::from(range.sectors.get()) * SECTOR);
    if !(1..=most).contains(&range.sectors.get()) {
        return Err(RequestError::Outside { sector, length });
    }
    let offset = place(sector, length, sectors)?;
    Ok((offset, length, range.flags.get()))
}

/// For fuzzing: what is parsed lies inside the disk.
#[cfg(any(test, fuzzing))]
#[cfg_attr(
    not(fuzzing),
    allow(unreachable_pub, reason = "only the fuzzer is outside")
)]
pub mod fuzz {
    use vm_memory::VolatileSlice;

    use super::{Buffers, Request, SECTOR};

    /// Parses a request whose first byte says how much room it has, in halves of a sector.
    pub fn request(data: &[u8]) {
        const SECTORS: u64 = 1000;
        let Some((room, message)) = data.split_first() else {
            return;
        };
        let mut message = message.to_vec();
        let mut room = vec![0_u8; usize::from(*room) * 256];
        let buffers = |bytes| {
            let mut buffers = Buffers::default();
            buffers.push(VolatileSlice::from(bytes));
            buffers
        };
        let parsed = Request::parse(
            buffers(message.as_mut_slice()),
            buffers(room.as_mut_slice()),
            SECTORS,
        );
        let (offset, length) = match parsed {
            Ok(Request::Read { offset, data } | Request::Write { offset, data }) => {
                (offset, data.len() as u64)
            }
            Ok(
                Request::Discard { offset, length } | Request::WriteZeroes { offset, length, .. },
            ) => (offset, length),
            Ok(Request::Id { data }) => return assert!(data.len() <= 20),
            Ok(Request::Flush) | Err(_) => return,
        };
        assert!(length > 0 && offset + length <= SECTORS * SECTOR);
    }
}
