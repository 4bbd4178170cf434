//! What a guest must not get away with.

use super::guest::{FRAMES, Guest, MEMORY, SIZE, wait};
use crate::devices::driver_queue::{NEXT, WRITE};

fn dropped(guest: &Guest) -> u64 {
    guest.slot.statistics().unwrap().sent_dropped
}

#[test]
fn headers_that_lie_never_reach_the_host() {
    let mut guest = Guest::new(&[]);
    // Flags, GSO type, header length, GSO size, checksum start and offset, number of buffers.
    let headers: [[u8; 12]; 6] = [
        [1, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0],
        [1, 0, 0, 0, 0, 0, 50, 0, 9, 0, 0, 0],
        [0, 1, 54, 0, 0xa8, 5, 0, 0, 0, 0, 0, 0],
        [1, 1, 54, 0, 0, 0, 34, 0, 16, 0, 0, 0],
        [1, 1, 0xff, 0xff, 0xa8, 5, 34, 0, 16, 0, 0, 0],
        [1, 3, 42, 0, 0xa8, 5, 34, 0, 6, 0, 0, 0],
    ];
    for header in headers {
        guest.send(&header, &[1; 60]);
    }
    guest.send(&[0; 12], &[1; 13]);
    guest.send(&[0; 12], &[]);
    guest.send(&[0; 12], &[1; 1523]);
    guest.send(&[0; 11], &[]);
    guest.host_receives_nothing();
    wait(|| (dropped(&guest) == 10).then_some(()));
    guest.works();
}

#[test]
fn chains_that_are_no_frames_are_dropped() {
    let mut guest = Guest::new(&[]);
    let end = MEMORY as u64;
    let chains: [&[(u64, u32, u16)]; 9] = [
        &[(FRAMES, 0, 0)],
        &[(FRAMES, 11, 0)],
        &[(FRAMES, 72, WRITE)],
        &[(FRAMES, 12, 0), (FRAMES, 60, WRITE)],
        &[(end, 72, 0)],
        &[(end - 71, 72, 0)],
        &[(u64::MAX - 10, 72, 0)],
        &[(FRAMES, u32::MAX, 0)],
        &[(FRAMES, 12, 0), (end - 16, 60, 0)],
    ];
    for chain in chains {
        guest.chain(chain);
        guest.sent();
    }
    // A chain that leads to itself.
    guest.transmit.descriptor(0, FRAMES, 1, NEXT, 0);
    guest.transmit.publish(0);
    guest.sent();
    guest.host_receives_nothing();
    guest.works();
}

#[test]
fn useless_receive_buffers_are_given_back() {
    let mut guest = Guest::new(&[]);
    let end = MEMORY as u64;
    for (slot, (address, length, flags)) in (0..).zip([
        (FRAMES, 1536, 0),
        (FRAMES, 11, WRITE),
        (end, 1536, WRITE),
        (end - 1535, 1536, WRITE),
        (u64::MAX, u32::MAX, WRITE),
        (FRAMES, u32::MAX, WRITE),
    ]) {
        guest
            .receive
            .descriptor(slot, address, length, flags, slot + 1);
        guest.receive.publish(slot);
    }
    for slot in 0..6 {
        assert_eq!(guest.received(), (slot, 0));
    }
    for slot in 6..60 {
        guest.offer(slot, 1536);
    }
    guest.host_sends(&[0; 72]);
    assert_eq!(guest.received(), (6, 72));
}

#[test]
fn a_frame_larger_than_the_link_takes_is_counted() {
    let mut guest = Guest::new(&[]);
    for slot in 0..50 {
        guest.offer(slot, 1536);
    }
    guest.host_sends(&vec![0; 100_000]);
    guest.host_sends(&[0; 72]);
    assert_eq!(guest.received(), (0, 72));
    wait(|| (guest.slot.statistics()?.received_dropped == 1).then_some(()));
}

#[test]
fn a_ring_index_out_of_range_stops_the_queue_only() {
    let mut guest = Guest::new(&[]);
    for slot in 0..60 {
        guest.offer(slot, 1536);
    }
    let index = guest.transmit.avail.wrapping_add(1000);
    guest.transmit.set_avail_index(index);
    guest.transmit.ring();
    guest.host_sends(&[0; 72]);
    assert_eq!(guest.received(), (0, 72));
    guest.host_receives_nothing();
    let index = guest.receive.avail.wrapping_add(SIZE + 1);
    guest.receive.set_avail_index(index);
    guest.receive.ring();
    // The thread still answers.
    crate::virtio::VirtioDevice::reset(&mut guest.device);
}
