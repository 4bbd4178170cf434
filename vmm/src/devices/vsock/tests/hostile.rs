//! What a guest must not get away with.

use std::io::Read;

use zerocopy::IntoBytes;

use super::super::packet::{Header, Operation};
use super::guest::{BUFFER, Guest, MEMORY, header};
use crate::devices::driver_queue::{NEXT, WRITE};

/// A connection still works.
fn works(guest: &mut Guest) {
    let listener = guest.handle.listen(99).unwrap();
    guest.connect(12345, 99);
    guest.data(12345, 99, b"alive");
    let mut bytes = [0; 5];
    listener.accept().unwrap().read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"alive");
}

#[test]
fn packets_of_no_connection_are_reset_and_resets_are_not() {
    let mut guest = Guest::new();
    for op in [0, 2, 4, 5, 6, 7, 8, u16::MAX] {
        let packet = Header {
            op: op.into(),
            ..header(Operation::Data, 1, 2)
        };
        guest.send(packet, &[]);
        guest.expect(Operation::Reset);
    }
    guest.send(header(Operation::Reset, 1, 2), &[]);
    guest.expect_nothing();
}

#[test]
fn foreign_context_ids_and_types_open_nothing() {
    let mut guest = Guest::new();
    let _listener = guest.handle.listen(7).unwrap();
    let foreign = Header {
        src_cid: 4.into(),
        ..header(Operation::Request, 1, 7)
    };
    guest.send(foreign, &[]);
    guest.expect_nothing();
    let elsewhere = Header {
        dst_cid: 1.into(),
        ..header(Operation::Request, 1, 7)
    };
    guest.send(elsewhere, &[]);
    assert_eq!(guest.expect(Operation::Reset).0.src_cid.get(), 1);
    let seqpacket = Header {
        kind: 2.into(),
        ..header(Operation::Request, 1, 7)
    };
    guest.send(seqpacket, &[]);
    let (packet, _) = guest.expect(Operation::Reset);
    assert_eq!(packet.kind.get(), 2);
}

#[test]
fn a_connection_that_breaks_the_rules_is_reset() {
    let bad = [
        // It was answered already.
        header(Operation::Request, 1, 7),
        // The host asked for nothing.
        header(Operation::Response, 1, 7),
        // There is no such operation.
        Header {
            op: 0.into(),
            ..header(Operation::Data, 1, 7)
        },
        Header {
            op: 8.into(),
            ..header(Operation::Data, 1, 7)
        },
        // It has taken more than was sent.
        Header {
            fwd_cnt: 1.into(),
            ..header(Operation::CreditUpdate, 1, 7)
        },
        // Its data is not there.
        Header {
            len: 1.into(),
            ..header(Operation::Data, 1, 7)
        },
        Header {
            len: u32::MAX.into(),
            ..header(Operation::Data, 1, 7)
        },
    ];
    let mut guest = Guest::new();
    let listener = guest.handle.listen(7).unwrap();
    for packet in bad {
        guest.connect(1, 7);
        guest.send(packet, &[]);
        let (reset, _) = guest.expect(Operation::Reset);
        assert_eq!(reset.dst_port.get(), 1, "{packet:?}");
        let mut stream = listener.accept().unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    }
    works(&mut guest);
}

#[test]
fn data_before_the_response_is_refused() {
    let mut guest = Guest::starved();
    let _listener = guest.handle.listen(7).unwrap();
    guest.send(header(Operation::Request, 1, 7), &[]);
    guest.data(1, 7, b"hasty");
    // Wait until both were taken in: the descriptors come back.
    let mut slots: Vec<u16> = (0..64).map(|_| guest.slot()).collect();
    slots.sort_unstable();
    slots.dedup();
    assert_eq!(slots.len(), 64);
    guest.offer(0);
    guest.expect(Operation::Reset);
}

#[test]
fn data_after_a_half_close_is_refused() {
    let mut guest = Guest::new();
    let _listener = guest.handle.listen(7).unwrap();
    guest.connect(1, 7);
    guest.shutdown(1, 7, super::guest::SEND);
    guest.data(1, 7, b"afterthought");
    guest.expect(Operation::Reset);
}

/// Sends one chain of these descriptors: address, length, flags.
fn chain(guest: &mut Guest, descriptors: &[(u64, u32, u16)]) {
    let head = guest.slot();
    for (index, (address, length, flags)) in (0..).zip(descriptors) {
        let at = head + index;
        guest
            .transmit
            .descriptor(at, *address, *length, *flags, at + 1);
    }
    guest.transmit.publish(head);
}

#[test]
fn chains_that_are_no_packets_are_dropped() {
    let mut guest = Guest::new();
    let request = header(Operation::Request, 1, 2);
    let at = 0x8000;
    guest.write(at, request.as_bytes());
    let end = MEMORY as u64;
    chain(&mut guest, &[(at, 0, 0)]);
    chain(&mut guest, &[(at, 43, 0)]);
    chain(&mut guest, &[(at, 44, WRITE)]);
    chain(&mut guest, &[(at, 22, NEXT), (at, 22, WRITE)]);
    chain(&mut guest, &[(end, 44, 0)]);
    chain(&mut guest, &[(end - 43, 44, 0)]);
    chain(&mut guest, &[(u64::MAX - 10, 44, 0)]);
    chain(&mut guest, &[(at, u32::MAX, 0)]);
    // A chain that leads to itself.
    let head = guest.slot();
    guest.transmit.descriptor(head, at, 1, NEXT, head);
    guest.transmit.publish(head);
    guest.expect_nothing();
    // A header in two pieces is none the worse for it.
    chain(&mut guest, &[(at, 20, NEXT), (at + 20, 24, 0)]);
    guest.expect(Operation::Reset);
    works(&mut guest);
}

#[test]
fn cve_2019_18960_a_length_beyond_its_descriptor() {
    let mut guest = Guest::new();
    let listener = guest.handle.listen(7).unwrap();
    guest.connect(1, 7);
    let packet = Header {
        len: BUFFER.into(),
        ..header(Operation::Data, 1, 7)
    };
    let at = 0x8000;
    guest.write(at, packet.as_bytes());
    // The data would begin inside memory and end far outside.
    let end = MEMORY as u64;
    chain(&mut guest, &[(at, 44, NEXT), (end - 16, 16, 0)]);
    guest.expect(Operation::Reset);
    let mut bytes = Vec::new();
    listener.accept().unwrap().read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, b"");
}

#[test]
fn useless_receive_buffers_are_given_back() {
    let mut guest = Guest::starved();
    for (slot, (address, length, flags)) in (0..).zip([
        (0x8000, 44, 0),
        (0x8000, 43, WRITE),
        (MEMORY as u64, 4096, WRITE),
        (u64::MAX, u32::MAX, WRITE),
    ]) {
        guest
            .receive
            .descriptor(slot, address, length, flags, slot + 1);
        guest.receive.publish(slot);
    }
    guest.send(header(Operation::Request, 1, 2), &[]);
    for slot in 0..4 {
        let used = loop {
            if let Some(used) = guest.receive.used() {
                break used;
            }
            std::thread::yield_now();
        };
        assert_eq!(used, (slot, 0));
    }
    guest.offer(9);
    guest.expect(Operation::Reset);
}

#[test]
fn a_flood_of_refusals_waits_for_the_guest_to_take_them() {
    let mut guest = Guest::starved();
    let mut sent = 0;
    for port in 0..192 {
        guest.send(header(Operation::Request, port, 2), &[]);
        sent += 1;
    }
    for slot in 0..100 {
        guest.offer(slot);
    }
    for port in 0..sent {
        assert_eq!(guest.expect(Operation::Reset).0.dst_port.get(), port);
    }
    works(&mut guest);
}

#[test]
fn a_ring_index_out_of_range_stops_the_queue_only() {
    let mut guest = Guest::new();
    let listener = guest.handle.listen(7).unwrap();
    let index = guest.transmit.avail.wrapping_add(1000);
    guest.transmit.set_avail_index(index);
    guest.transmit.ring();
    guest.expect_nothing();
    // The thread still answers.
    drop(listener);
    guest.handle.listen(8).unwrap();
}

#[test]
fn random_packets_do_no_harm() {
    let mut guest = Guest::new();
    let _listener = guest.handle.listen(7).unwrap();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for _ in 0..20_000 {
        let low = |value: u64, limit: u64| u32::try_from(value % limit).unwrap();
        let length = low(random(), 200);
        let lie = random() % 8 == 0;
        let packet = Header {
            src_port: low(random(), 4).into(),
            dst_port: (7 + low(random(), 2) * 1018).into(),
            op: u16::try_from(random() % 9).unwrap().into(),
            flags: low(random(), 5).into(),
            len: if lie { low(random(), 400) } else { length }.into(),
            fwd_cnt: if lie { low(random(), 3) } else { 0 }.into(),
            buf_alloc: low(random(), 100_000).into(),
            ..header(Operation::Data, 0, 0)
        };
        guest.send(packet, &vec![1; length as usize]);
        while guest.next_within(std::time::Duration::ZERO).is_some() {}
    }
    while guest
        .next_within(std::time::Duration::from_millis(200))
        .is_some()
    {}
    works(&mut guest);
}
