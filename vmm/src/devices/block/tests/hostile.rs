//! A guest that breaks the rules gets an error, or no answer, and nothing beyond its disk.

use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_GET_ID, VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT,
    VIRTIO_BLK_T_SECURE_ERASE, VIRTIO_BLK_T_WRITE_ZEROES, VIRTIO_BLK_T_ZONE_APPEND,
};
use vm_memory::{Bytes, GuestAddress};

use super::guest::{ANSWER, Guest, MEMORY, MESSAGE, SECTORS, header, range};
use crate::devices::block::request::fuzz;
use crate::devices::driver_queue::{NEXT, WRITE};
use crate::virtio::device::VirtioDevice;

const FAILED: u8 = 1;
const UNSUPPORTED: u8 = 2;

impl Guest {
    fn assert_alive(&mut self) {
        let (status, data) = self.ask(VIRTIO_BLK_T_IN, 9, &[], 512);
        assert_eq!((status, data), (0, vec![9; 512]));
    }
}

#[test]
fn nothing_beyond_the_disk_is_read_or_written() {
    let mut guest = Guest::new();
    for sector in [
        SECTORS,
        SECTORS - 1,
        u64::MAX,
        u64::MAX - 1,
        u64::MAX / 512,
        u64::MAX / 512 + 1,
        1 << 55,
    ] {
        assert_eq!(
            guest.ask(VIRTIO_BLK_T_IN, sector, &[], 1024),
            (FAILED, vec![])
        );
        assert_eq!(
            guest.ask(VIRTIO_BLK_T_OUT, sector, &[0xee; 1024], 0).0,
            FAILED
        );
        for kind in [VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES] {
            assert_eq!(guest.ask(kind, 0, &range(sector, 2, 0), 0).0, FAILED);
        }
    }
    assert_eq!(guest.file.metadata().unwrap().len(), SECTORS * 512);
    assert_eq!(guest.sector(SECTORS - 1), [63; 512]);
    guest.assert_alive();
}

#[test]
fn lengths_that_are_no_sectors_are_refused() {
    let mut guest = Guest::new();
    for room in [0, 1, 511, 513] {
        assert_eq!(guest.ask(VIRTIO_BLK_T_IN, 0, &[], room).0, FAILED, "{room}");
    }
    for length in [0, 1, 511, 513] {
        let body = vec![0xee; length];
        assert_eq!(guest.ask(VIRTIO_BLK_T_OUT, 0, &body, 0).0, FAILED);
    }
    for (sectors, flags) in [(0, 0), (u32::MAX, 0), (1 << 23, 0)] {
        for kind in [VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES] {
            let body = range(0, sectors, flags);
            assert_eq!(guest.ask(kind, 0, &body, 0).0, FAILED);
        }
    }
    let two = [range(0, 1, 0), range(2, 1, 0)].concat();
    assert_eq!(guest.ask(VIRTIO_BLK_T_DISCARD, 0, &two, 0).0, FAILED);
    assert_eq!(guest.ask(VIRTIO_BLK_T_DISCARD, 0, &[0; 15], 0).0, FAILED);
    // An id's room may be any: what is beyond the id's own length stays as it is.
    assert_eq!(
        guest.ask(VIRTIO_BLK_T_GET_ID, 0, &[], 3),
        (0, b"a-d".into())
    );
    assert_eq!(guest.ask(VIRTIO_BLK_T_GET_ID, 0, &[], 4000).0, 0);
    assert_eq!(guest.sector(0), [0; 512]);
    guest.assert_alive();
}

#[test]
fn requests_that_there_are_not_are_unsupported() {
    let mut guest = Guest::new();
    let kinds = [
        2,
        VIRTIO_BLK_T_SECURE_ERASE,
        VIRTIO_BLK_T_ZONE_APPEND,
        u32::MAX,
    ];
    for kind in kinds {
        assert_eq!(guest.ask(kind, 0, &[0; 512], 512).0, UNSUPPORTED, "{kind}");
    }
    let flags = guest.ask(VIRTIO_BLK_T_WRITE_ZEROES, 0, &range(0, 1, 2), 0);
    assert_eq!(flags.0, UNSUPPORTED);
    guest.assert_alive();
}

#[test]
fn buffers_outside_memory_and_of_the_wrong_direction_get_no_answer() {
    let mut guest = Guest::new();
    let message = header(VIRTIO_BLK_T_IN, 0);
    guest
        .memory
        .write_slice(&message, GuestAddress(MESSAGE))
        .unwrap();
    let chains: [&[(u64, u32, u16)]; 7] = [
        // No room, a room of nothing, data and status outside memory.
        &[(MESSAGE, 16, 0)],
        &[(MESSAGE, 16, 0), (ANSWER, 0, WRITE)],
        &[(MESSAGE, 16, 0), (MEMORY - 512, 513, WRITE)],
        &[(MESSAGE, 16, 0), (u64::MAX - 511, 513, WRITE)],
        &[(MESSAGE, 16, 0), (ANSWER, u32::MAX, WRITE)],
        // The header outside, and behind the room.
        &[(MEMORY, 16, 0), (ANSWER, 513, WRITE)],
        &[(ANSWER, 513, WRITE), (MESSAGE, 16, 0)],
    ];
    for chain in chains {
        for (index, (address, length, flags)) in (0u16..).zip(chain) {
            let last = usize::from(index) + 1 == chain.len();
            let flags = if last { *flags } else { flags | NEXT };
            guest
                .queue
                .descriptor(index, *address, *length, flags, index + 1);
        }
        assert_eq!(guest.submit(0), 0, "{chain:?}");
    }
    // A header that is too short has room for its status.
    guest.queue.descriptor(0, MESSAGE, 15, NEXT, 1);
    guest.queue.descriptor(1, ANSWER, 1, WRITE, 0);
    assert_eq!(guest.submit(0), 1);
    assert_eq!(
        guest.memory.read_obj::<u8>(GuestAddress(ANSWER)).unwrap(),
        FAILED
    );
    guest.assert_alive();
}

#[test]
fn more_pieces_than_there_may_be_are_refused() {
    let mut guest = Guest::new();
    guest
        .memory
        .write_slice(&header(VIRTIO_BLK_T_IN, 0), GuestAddress(MESSAGE))
        .unwrap();
    guest.queue.descriptor(0, MESSAGE, 16, NEXT, 1);
    for index in 1..100 {
        guest
            .queue
            .descriptor(index, ANSWER, 512, NEXT | WRITE, index + 1);
    }
    guest.queue.descriptor(100, ANSWER, 1, WRITE, 0);
    assert_eq!(guest.submit(0), 0);
    // A loop ends where the queue's size is reached.
    guest.queue.descriptor(1, ANSWER, 512, NEXT | WRITE, 1);
    assert_eq!(guest.submit(0), 0);
    guest.assert_alive();
}

#[test]
fn data_that_is_the_request_itself_harms_the_guest_alone() {
    let mut guest = Guest::new();
    guest
        .memory
        .write_slice(&header(VIRTIO_BLK_T_IN, 5), GuestAddress(MESSAGE))
        .unwrap();
    guest.queue.descriptor(0, MESSAGE, 16, NEXT, 1);
    guest.queue.descriptor(1, MESSAGE, 513, WRITE, 0);
    assert_eq!(guest.submit(0), 513);
    // The ring itself, too: the device has what it needs of it.
    guest
        .memory
        .write_slice(&header(VIRTIO_BLK_T_IN, 5), GuestAddress(MESSAGE))
        .unwrap();
    guest.queue.descriptor(1, 0x1000, 513, WRITE, 0);
    guest.submit(0);
    guest.assert_alive();
}

#[test]
fn a_broken_ring_waits_for_the_reset() {
    let mut guest = Guest::new();
    guest.queue.set_avail_index(1000);
    guest.queue.ring();
    std::thread::sleep(std::time::Duration::from_millis(50));
    guest.block.reset();
    guest.queue = crate::devices::driver_queue::DriverQueue::new(&guest.memory, 0x8000, 128);
    guest.activate(0);
    guest.assert_alive();
}

#[test]
fn any_bytes_parse_to_requests_on_the_disk() {
    let mut state = 0x9e37_79b9_u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state
    };
    let kinds = [0, 1, 4, 8, 11, 13];
    for round in 0..20_000 {
        let mut bytes = vec![u8::try_from(next() % 6).unwrap()];
        let kind = kinds[round % kinds.len()];
        let sector = match next() % 3 {
            0 => u64::from(next() % 1100),
            1 => u64::from(next()) << 32 | u64::from(next()),
            _ => u64::MAX - u64::from(next() % 4),
        };
        bytes.extend(header(kind, sector));
        bytes.extend(range(sector, next() % 1200, next() % 3));
        let length = usize::try_from(next() % 40).unwrap();
        match next() % 4 {
            0 => bytes.truncate(length),
            1 => bytes.resize(1 + 16 + 512 * (length % 4), 0),
            _ => {}
        }
        fuzz::request(&bytes);
    }
}
