//! Several pairs of queues, and the commands by which a driver says how many it uses.

use std::sync::atomic::Ordering;

use rustix::net::{RecvFlags, SendFlags, recv, send};
use virtio_bindings::virtio_net::{VIRTIO_NET_F_CTRL_VQ, VIRTIO_NET_F_MQ};

use super::guest::{FRAMES, Guest, MAC, wait};
use crate::devices::driver_queue::{NEXT, WRITE};
use crate::virtio::VirtioDevice;

const OK: Option<u8> = Some(0);
const ERROR: Option<u8> = Some(1);

fn pairs(count: u16) -> [u8; 4] {
    let [low, high] = count.to_le_bytes();
    [4, 0, low, high]
}

/// Which of the pairs beside the first get frames.
fn enabled(guest: &Guest) -> Vec<bool> {
    let flags = guest.others.iter().map(|other| &other.enabled);
    flags.map(|flag| flag.load(Ordering::SeqCst)).collect()
}

#[test]
fn one_pair_has_no_control_queue() {
    let guest = Guest::new(&[]);
    assert_eq!(guest.device.queue_sizes(), [256, 256]);
    let several = 1 << VIRTIO_NET_F_MQ | 1 << VIRTIO_NET_F_CTRL_VQ;
    assert_eq!(guest.device.features() & several, 0);
}

#[test]
fn a_vcpu_has_a_pair_up_to_four() {
    let pairs = [0, 1, 2, 4, 5, 254].map(crate::devices::net::pairs);
    assert_eq!(pairs, [1, 1, 2, 4, 4, 4]);
}

#[test]
fn the_driver_says_how_many_pairs_get_frames() {
    let mut guest = Guest::with_pairs(3, &[]);
    assert_eq!(guest.device.queue_sizes().len(), 7);
    let mut config = [0; 12];
    guest.device.read_config(0, &mut config);
    assert_eq!((&config[..6], config[8], config[9]), (&MAC[..], 3, 0));
    assert_eq!(enabled(&guest), [false, false]);
    for (count, flags) in [
        (3, [true, true]),
        (2, [true, false]),
        (2, [true, false]),
        (1, [false, false]),
        (3, [true, true]),
    ] {
        assert_eq!(guest.command(&pairs(count), 1), OK);
        assert_eq!(enabled(&guest), flags);
    }
    assert_eq!(guest.slot.refused_commands(), 0);
    // Another driver begins with one.
    guest.device.reset();
    guest.control.restart();
    guest.receive.restart();
    guest.transmit.restart();
    for other in &mut guest.others {
        other.receive.restart();
        other.transmit.restart();
    }
    guest.activate();
    assert_eq!(enabled(&guest), [false, false]);
    guest.works();
}

#[test]
fn every_pair_moves_frames_both_ways() {
    let mut guest = Guest::with_pairs(2, &[]);
    assert_eq!(guest.command(&pairs(2), 1), OK);
    guest.works();
    let other = &mut guest.others[0];
    other.transmit.descriptor(0, FRAMES, 72, 0, 0);
    other.transmit.publish(0);
    assert_eq!(wait(|| other.transmit.used()), (0, 0));
    let mut bytes = [0; 100];
    let length = wait(|| recv(&other.host, &mut bytes[..], RecvFlags::DONTWAIT).ok());
    assert_eq!(length.0, 72);
    for slot in 0..50 {
        let address = FRAMES + 0x1000 + 0x800 * u64::from(slot);
        other.receive.descriptor(slot, address, 1536, WRITE, 0);
        other.receive.publish(slot);
    }
    send(&other.host, &bytes[..72], SendFlags::empty()).unwrap();
    assert_eq!(wait(|| other.receive.used()), (0, 72));
    wait(|| (guest.slot.statistics()?.sent == 2).then_some(()));
}

#[test]
fn commands_that_are_none_are_refused_and_counted() {
    let mut guest = Guest::with_pairs(2, &[]);
    let refused: [&[u8]; 11] = [
        &pairs(0),
        &pairs(3),
        &pairs(0xffff),
        &[4, 0, 2],
        &[4, 0],
        &[4],
        &[4, 0, 2, 0, 0],
        &[4, 1, 2, 0],
        &[0, 0, 1, 0],
        &[5, 0, 2, 0],
        &[0xff, 0xff, 2, 0],
    ];
    for command in refused {
        assert_eq!(guest.command(command, 1), ERROR, "{command:?}");
    }
    assert_eq!(guest.slot.refused_commands(), 11);
    assert_eq!(enabled(&guest), [false]);
    // No room for an answer; more than it needs.
    assert_eq!(guest.command(&[4, 1, 2, 0], 0), None);
    assert_eq!(guest.command(&pairs(2), 9), OK);
    // An answer before the command, and descriptors outside of memory.
    for (address, flags) in [(FRAMES, WRITE | NEXT), (u64::MAX, NEXT), (u64::MAX, 0)] {
        guest.control.descriptor(0, address, 4, flags, 1);
        guest.control.descriptor(1, FRAMES, 4, 0, 0);
        guest.control.publish(0);
        assert_eq!(wait(|| guest.control.used()), (0, 0));
    }
    assert_eq!(guest.slot.refused_commands(), 15);
    assert_eq!(guest.command(&pairs(1), 1), OK);
    guest.works();
}

#[test]
fn pairs_that_the_driver_left_out_are_not_enabled() {
    let mut guest = Guest::with_pairs(3, &[]);
    guest.device.reset();
    guest.control.restart();
    let queues = vec![
        Some(guest.receive.active()),
        Some(guest.transmit.active()),
        Some(guest.others[0].receive.active()),
        None,
        Some(guest.others[1].receive.active()),
        Some(guest.others[1].transmit.active()),
        Some(guest.control.active()),
    ];
    guest.activate_with(queues);
    assert_eq!(guest.command(&pairs(2), 1), ERROR);
    assert_eq!(guest.command(&pairs(1), 1), OK);
    guest.works();
}

#[test]
fn a_driver_that_knows_one_pair_has_one() {
    let mut guest = Guest::with_pairs(2, &[VIRTIO_NET_F_MQ]);
    guest.device.reset();
    guest.control.restart();
    // Its control queue comes after the first pair.
    let queues = vec![
        Some(guest.receive.active()),
        Some(guest.transmit.active()),
        Some(guest.control.active()),
        None,
        None,
    ];
    guest.activate_with(queues);
    assert_eq!(guest.command(&pairs(2), 1), ERROR);
    assert_eq!(guest.command(&pairs(1), 1), OK);
    guest.works();
}

#[test]
fn a_command_to_a_nic_that_was_taken_out_is_refused() {
    let mut guest = Guest::with_pairs(2, &[]);
    guest.slot.unplug();
    assert_eq!(guest.command(&pairs(2), 1), ERROR);
    guest.device.reset();
}
