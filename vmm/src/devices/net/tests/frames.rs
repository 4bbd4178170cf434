//! What an honest guest sends and receives.

use virtio_bindings::virtio_net::{
    VIRTIO_NET_F_GUEST_TSO4, VIRTIO_NET_F_GUEST_TSO6, VIRTIO_NET_F_GUEST_USO4,
    VIRTIO_NET_F_GUEST_USO6, VIRTIO_NET_F_MRG_RXBUF,
};

use super::guest::{FRAMES as FRAMES_AT, Guest, MAC, MTU, SIZE, wait};
use crate::virtio::VirtioDevice;

const NO_SEGMENTS: [u32; 4] = [
    VIRTIO_NET_F_GUEST_TSO4,
    VIRTIO_NET_F_GUEST_TSO6,
    VIRTIO_NET_F_GUEST_USO4,
    VIRTIO_NET_F_GUEST_USO6,
];

/// A frame whose bytes tell their place.
fn frame(length: usize) -> Vec<u8> {
    (0..length)
        .map(|index| u8::try_from(index % 251).unwrap())
        .collect()
}

#[test]
fn the_configuration_names_address_and_mtu() {
    let guest = Guest::new(&[]);
    let mut config = [0xff; 14];
    guest.device.read_config(0, &mut config);
    assert_eq!(config[..6], MAC);
    assert_eq!(config[10..12], MTU.to_le_bytes());
    assert_eq!(config[12..], [0, 0]);
    guest.device.read_config(u64::MAX, &mut config);
    assert_eq!(config, [0; 14]);
    assert_eq!(guest.accepted.lock().unwrap().unwrap() & 1 << 32, 0);
    assert_ne!(
        guest.accepted.lock().unwrap().unwrap() & 1 << VIRTIO_NET_F_GUEST_TSO4,
        0
    );
}

#[test]
fn a_frame_that_is_sent_arrives_as_it_was() {
    let mut guest = Guest::new(&[]);
    let frame = frame(1514);
    guest.send(&[0; 12], &frame);
    assert_eq!(guest.host_receives(), [[0; 12].as_slice(), &frame].concat());
    // Counted when the pass is over.
    wait(|| (guest.slot.statistics()?.sent == 1).then_some(()));
}

#[test]
fn a_large_frame_fills_many_buffers_and_small_ones_one_each() {
    let mut guest = Guest::new(&[]);
    for slot in 0..200 {
        guest.offer(slot, 1536);
    }
    let mut next = 0;
    for length in [60, 65_000, 1514, 14, 20_000, 1524] {
        let frame = frame(length);
        guest.host_sends(&[[0; 12].as_slice(), &frame].concat());
        let count = (length + 12).div_ceil(1536);
        let mut bytes = Vec::new();
        for _ in 0..count {
            let (slot, used) = guest.received();
            assert_eq!(slot, next);
            bytes.extend(guest.buffer(slot, used as usize));
            next += 1;
        }
        let buffers = u16::from_le_bytes([bytes[10], bytes[11]]);
        assert_eq!(usize::from(buffers), count);
        assert_eq!(bytes[12..], frame);
    }
    // Counted when the pass is over.
    wait(|| (guest.slot.statistics()?.received == 6).then_some(()));
}

#[test]
fn frames_wait_until_the_guest_offers_buffers() {
    let mut guest = Guest::new(&NO_SEGMENTS);
    for length in [100, 200, 300] {
        guest.host_sends(&[[0; 12].as_slice(), &frame(length)].concat());
    }
    assert_eq!(guest.receive.used(), None);
    for (slot, length) in (0..).zip([100, 200, 300]) {
        guest.offer(slot, 1536);
        assert_eq!(guest.received(), (slot, 12 + length));
    }
}

#[test]
fn without_merging_a_frame_has_one_buffer() {
    let without = [NO_SEGMENTS.as_slice(), &[VIRTIO_NET_F_MRG_RXBUF]].concat();
    let mut guest = Guest::new(&without);
    // Too short for a frame of this MTU: it comes back empty.
    guest.offer(0, 1000);
    for slot in 1..4 {
        guest.offer(slot, 1600);
    }
    let frame = frame(1514);
    guest.host_sends(&[[0; 12].as_slice(), &frame].concat());
    assert_eq!(guest.received(), (0, 0));
    assert_eq!(guest.received(), (1, 1526));
    let bytes = guest.buffer(1, 1526);
    assert_eq!(bytes[10..12], [1, 0]);
    assert_eq!(bytes[12..], frame);
}

#[test]
fn many_frames_both_ways_wrap_the_rings() {
    let mut guest = Guest::new(&NO_SEGMENTS);
    for slot in 0..SIZE {
        guest.offer(slot, 2048);
    }
    for round in 0..1000_u32 {
        let frame = frame(60 + round as usize);
        guest.send(&[0; 12], &frame);
        let echoed = guest.host_receives();
        guest.host_sends(&echoed);
        let (slot, length) = guest.received();
        assert_eq!(length, 12 + 60 + round);
        assert_eq!(guest.buffer(slot, length as usize)[12..], frame);
        guest.offer(slot, 2048);
    }
    wait(|| {
        let statistics = guest.slot.statistics()?;
        ((statistics.sent, statistics.received) == (1000, 1000)).then_some(())
    });
}

#[test]
fn a_slot_that_was_emptied_takes_another_nic() {
    let mut guest = Guest::new(&[]);
    for _ in 0..3 {
        guest.works();
        guest.exchange();
    }
    guest.works();
    // A driver that holds on to a NIC that is gone.
    guest.slot.unplug();
    assert!(guest.slot.is_empty());
    guest.slot.unplug();
    guest.device.reset();
}

#[test]
fn a_driver_that_comes_back_after_a_reset_goes_on() {
    let mut guest = Guest::new(&[]);
    guest.works();
    guest.device.reset();
    guest.device.reset();
    let memory = guest.memory.clone();
    guest.receive = crate::devices::driver_queue::DriverQueue::new(&memory, 0x3_0000, SIZE);
    guest.transmit = crate::devices::driver_queue::DriverQueue::new(&memory, 0x4_0000, SIZE);
    guest.activate();
    guest.works();
}

#[test]
fn a_wire_that_is_cut_costs_frames_alone() {
    let mut guest = Guest::new(&NO_SEGMENTS);
    guest.offer(0, 1536);
    guest.works();
    // A read of a broken tap fails; a socket whose peer is gone says so when it is written to.
    rustix::net::shutdown(&guest.host, rustix::net::Shutdown::Both).unwrap();
    guest.send(&[0; 12], &[0; 60]);
    wait(|| (guest.slot.statistics()?.sent_dropped == 1).then_some(()));
}

/// A driver that sleeps until it is interrupted, and rings only when it is asked to, is never
/// forgotten.
#[test]
fn a_flood_both_ways_never_stalls() {
    const FRAMES: usize = 70_000;
    let mut guest = Guest::new(&NO_SEGMENTS);
    for slot in 0..SIZE {
        guest.offer(slot, 1536);
    }
    let host = guest.host.try_clone().unwrap();
    let echo = std::thread::spawn(move || {
        let mut bytes = [0; 4096];
        let flags = rustix::net::RecvFlags::empty();
        while let Ok((length, _)) = rustix::net::recv(&host, bytes.as_mut_slice(), flags)
            && length > 0
        {
            // The guest's side may be full, as a tap's queue may.
            let _ = rustix::net::send(&host, &bytes[..length], rustix::net::SendFlags::DONTWAIT);
        }
    });
    let frame = FRAMES_AT;
    let mut free: Vec<u16> = (0..SIZE / 2).collect();
    let (mut sent, mut returned) = (0, 0);
    while returned < FRAMES {
        let mut idle = true;
        while let Some(slot) = (sent < FRAMES).then(|| free.pop()).flatten() {
            guest.transmit.descriptor(2 * slot, frame, 1000, 0, 0);
            guest.transmit.publish(2 * slot);
            sent += 1;
            idle = false;
        }
        while let Some((head, _)) = guest.transmit.used() {
            free.push(head / 2);
            returned += 1;
            idle = false;
        }
        while let Some((slot, _)) = guest.receive.used() {
            guest.offer(slot, 1536);
            idle = false;
        }
        assert!(
            !idle || guest.interrupted(),
            "stalled after {returned} frames"
        );
    }
    rustix::net::shutdown(&guest.host, rustix::net::Shutdown::Both).unwrap();
    echo.join().unwrap();
    assert!(guest.slot.statistics().unwrap().received > 0);
}
