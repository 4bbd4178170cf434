//! What a well-behaved driver asks for.

use std::io::{Seek, SeekFrom, Write};

use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_F_BLK_SIZE, VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_RO,
    VIRTIO_BLK_F_WRITE_ZEROES, VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_GET_ID,
    VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_WRITE_ZEROES,
};
use vm_memory::{Bytes, GuestAddress};

use super::guest::{ANSWER, Guest, MESSAGE, SECTORS, header, range};
use crate::devices::block::{Block, BlockError, DiskConfig};
use crate::devices::driver_queue::{NEXT, WRITE};
use crate::virtio::device::VirtioDevice;

#[test]
fn sectors_are_read_and_written() {
    let mut guest = Guest::new();
    let (status, data) = guest.ask(VIRTIO_BLK_T_IN, 3, &[], 1024);
    assert_eq!(
        (status, data),
        (0, [[3_u8; 512], [4; 512]].concat().to_vec())
    );
    let (status, data) = guest.ask(VIRTIO_BLK_T_OUT, SECTORS - 1, &[0xaa; 512], 0);
    assert_eq!((status, data.len()), (0, 0));
    assert_eq!(guest.sector(SECTORS - 1), [0xaa; 512]);
    assert_eq!(guest.sector(SECTORS - 2), [62; 512]);
    assert_eq!(guest.ask(VIRTIO_BLK_T_FLUSH, 0, &[], 0).0, 0);
    assert_eq!(
        guest.ask(VIRTIO_BLK_T_GET_ID, 0, &[], 20),
        (0, b"a-disk\0\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec())
    );
}

#[test]
fn data_may_lie_in_pieces() {
    let mut guest = Guest::new();
    // The header in two, the data in three with the status in the last.
    guest
        .memory
        .write_slice(&header(VIRTIO_BLK_T_IN, 7), GuestAddress(MESSAGE))
        .unwrap();
    guest.queue.descriptor(0, MESSAGE, 5, NEXT, 1);
    guest.queue.descriptor(1, MESSAGE + 5, 11, NEXT, 2);
    guest.queue.descriptor(2, ANSWER, 100, NEXT | WRITE, 3);
    guest
        .queue
        .descriptor(3, ANSWER + 4096, 900, NEXT | WRITE, 4);
    guest.queue.descriptor(4, ANSWER + 8192, 25, WRITE, 0);
    assert_eq!(guest.submit(0), 1025);
    let byte = |at| guest.memory.read_obj::<u8>(GuestAddress(at)).unwrap();
    assert_eq!((byte(ANSWER), byte(ANSWER + 4096 + 411)), (7, 7));
    assert_eq!(
        (byte(ANSWER + 4096 + 412), byte(ANSWER + 8192 + 23)),
        (8, 8)
    );
    assert_eq!(byte(ANSWER + 8192 + 24), 0);
}

#[test]
fn sectors_are_set_to_zero_and_given_back() {
    let mut guest = Guest::new();
    for (kind, sector, flags) in [
        (VIRTIO_BLK_T_WRITE_ZEROES, 8, 0),
        (VIRTIO_BLK_T_WRITE_ZEROES, 16, 1),
        (VIRTIO_BLK_T_DISCARD, 24, 0),
    ] {
        let (status, _) = guest.ask(kind, 0, &range(sector, 4, flags), 0);
        // A file system without holes, as a test's may be, discards nothing.
        if kind != VIRTIO_BLK_T_DISCARD || status == 0 {
            assert_eq!(status, 0);
            assert_eq!(guest.sector(sector), [0; 512]);
            assert_eq!(guest.sector(sector + 3), [0; 512]);
        }
        let next = u8::try_from(sector + 4).unwrap();
        assert_eq!(guest.sector(sector + 4), [next; 512]);
    }
    let flag = guest.ask(VIRTIO_BLK_T_DISCARD, 0, &range(40, 1, 1), 0);
    assert_eq!(flag.0, 2, "discard knows no flags");
}

#[test]
fn what_is_open_for_reading_is_read_only() {
    let mut guest = Guest::with(false);
    let features = guest.block.features();
    assert_ne!(features & 1 << VIRTIO_BLK_F_RO, 0);
    let writing = 1 << VIRTIO_BLK_F_DISCARD | 1 << VIRTIO_BLK_F_WRITE_ZEROES;
    assert_eq!(features & writing, 0);
    assert_eq!(guest.ask(VIRTIO_BLK_T_IN, 1, &[], 512).1, [1; 512]);
    for (kind, body) in [
        (VIRTIO_BLK_T_OUT, vec![9; 512]),
        (VIRTIO_BLK_T_DISCARD, range(1, 1, 0).to_vec()),
        (VIRTIO_BLK_T_WRITE_ZEROES, range(1, 1, 0).to_vec()),
    ] {
        assert_eq!(guest.ask(kind, 1, &body, 0).0, 1);
    }
    assert_eq!(guest.sector(1), [1; 512]);
    let writable = Guest::new().block.features();
    assert_eq!(writable & 1 << VIRTIO_BLK_F_RO, 0);
    let always = 1 << VIRTIO_BLK_F_FLUSH | 1 << VIRTIO_BLK_F_BLK_SIZE;
    assert_eq!(writable & (always | writing), always | writing);
}

#[test]
fn a_driver_may_reset_and_start_again() {
    let mut guest = Guest::new();
    guest.ask(VIRTIO_BLK_T_IN, 0, &[], 512);
    guest.block.reset();
    guest.block.reset();
    guest.queue = crate::devices::driver_queue::DriverQueue::new(&guest.memory, 0x8000, 128);
    // This driver cannot flush.
    guest.activate(0);
    assert_eq!(guest.ask(VIRTIO_BLK_T_OUT, 2, &[5; 512], 0).0, 0);
    assert_eq!(guest.sector(2), [5; 512]);
}

#[test]
fn the_last_bytes_of_a_file_are_no_sector() {
    let mut file = tempfile::tempfile().unwrap();
    file.seek(SeekFrom::Start(1000)).unwrap();
    file.write_all(b"x").unwrap();
    let config = |serial: &str| DiskConfig {
        file: file.try_clone().unwrap(),
        serial: serial.to_owned(),
    };
    let mut capacity = [0; 8];
    Block::new(config("s"))
        .unwrap()
        .read_config(0, &mut capacity);
    assert_eq!(u64::from_le_bytes(capacity), 1);
    for serial in ["", "a b", "123456789012345678901", "\u{e4}"] {
        assert!(matches!(
            Block::new(config(serial)),
            Err(BlockError::Serial(_))
        ));
    }
}
