//! The configuration space (virtio 1.2, section 5.2.4): what the guest reads of a disk, and the
//! limits that its requests keep to.

use zerocopy::byteorder::little_endian::{U16, U32, U64};
use zerocopy::{Immutable, IntoBytes, Unaligned};

/// Bytes of a sector, whatever the disk's blocks are.
pub(super) const SECTOR: u64 = 512;

/// Pieces of a request's data: `buffers` takes a few more, for what lies across memory's hole.
const MOST_SEGMENTS: u32 = 60;

/// Bytes of such a piece.
const LONGEST_SEGMENT: u32 = 512 << 10;

/// The longest request for data in bytes: what the limits above come to.
pub(super) const LONGEST_DATA: u64 = MOST_SEGMENTS as u64 * LONGEST_SEGMENT as u64;

/// Sectors that one request may discard: the host's kernel sends that on as it is.
pub(super) const MOST_DISCARDED: u32 = 1 << 22;

/// Sectors that one request may set to zero: the worker may have to write them.
pub(super) const MOST_ZEROED: u32 = 1 << 16;

/// `struct virtio_blk_config`, up to what this device has.
#[derive(Debug, Immutable, IntoBytes, Unaligned)]
#[repr(C)]
pub(super) struct Space {
    capacity: U64,
    size_max: U32,
    seg_max: U32,
    geometry: [u8; 4],
    blk_size: U32,
    topology: [u8; 8],
    writeback: u8,
    unused: u8,
    num_queues: U16,
    max_discard_sectors: U32,
    max_discard_seg: U32,
    discard_sector_alignment: U32,
    max_write_zeroes_sectors: U32,
    max_write_zeroes_seg: U32,
    write_zeroes_may_unmap: u8,
    unused_end: [u8; 3],
}

impl Space {
    /// For a disk of so many sectors, with blocks of `block_size` bytes.
    pub(super) fn new(sectors: u64, block_size: u32) -> Self {
        Self {
            capacity: sectors.into(),
            size_max: LONGEST_SEGMENT.into(),
            seg_max: MOST_SEGMENTS.into(),
            geometry: [0; 4],
            blk_size: block_size.into(),
            topology: [0; 8],
            writeback: 0,
            unused: 0,
            num_queues: 1.into(),
            max_discard_sectors: MOST_DISCARDED.into(),
            max_discard_seg: 1.into(),
            discard_sector_alignment: (block_size / 512).into(),
            max_write_zeroes_sectors: MOST_ZEROED.into(),
            max_write_zeroes_seg: 1.into(),
            write_zeroes_may_unmap: 1,
            unused_end: [0; 3],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use virtio_bindings::virtio_blk::virtio_blk_config;

    #[test]
    fn fields_are_where_linux_has_them() {
        let space = Space::new(0x1122_3344_5566_7788, 4096);
        let bytes = space.as_bytes();
        assert_eq!(bytes[..8], 0x1122_3344_5566_7788_u64.to_le_bytes());
        let field = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        assert_eq!(field(std::mem::offset_of!(virtio_blk_config, seg_max)), 60);
        assert_eq!(
            field(std::mem::offset_of!(virtio_blk_config, blk_size)),
            4096
        );
        assert_eq!(
            field(std::mem::offset_of!(
                virtio_blk_config,
                discard_sector_alignment
            )),
            8
        );
        let unmap = std::mem::offset_of!(virtio_blk_config, write_zeroes_may_unmap);
        assert_eq!(bytes[unmap], 1);
    }
}
