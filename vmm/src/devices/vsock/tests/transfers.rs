//! Much data, and flow control.

use std::io::{Read, Write, pipe};
use std::thread;
use std::time::Duration;

use super::super::Token;
use super::super::packet::{Header, Operation, Shutdown};
use super::guest::{BUFFER, Guest, SEND, STREAM_PORT as PORT, header};

const TOKEN: Token = [9; 16];
const TOTAL: usize = 32 << 20;

/// A byte that depends on its place.
fn pattern(index: usize) -> u8 {
    u8::try_from((index ^ (index >> 8) ^ (index >> 16)) & 0xff).unwrap()
}

#[test]
fn a_large_output_comes_through_whole_and_within_its_credit() {
    let mut guest = Guest::new();
    let (mut reader, writer) = pipe().unwrap();
    let _attached = guest
        .handle
        .attach(TOKEN, None, Some(writer.into()))
        .unwrap();
    guest.connect(5, PORT);
    guest.data(5, PORT, &TOKEN);
    let consumer = thread::spawn(move || {
        let (mut buffer, mut total) = (vec![0; 8192], 0);
        loop {
            let length = reader.read(&mut buffer).unwrap();
            if length == 0 {
                return total;
            }
            for (offset, byte) in buffer[..length].iter().enumerate() {
                assert_eq!(*byte, pattern(total + offset), "at {}", total + offset);
            }
            total += length;
        }
    });
    let data: Vec<u8> = (0..TOTAL).map(pattern).collect();
    let (mut sent, mut credited, mut updates) = (0, 0, 0);
    while sent < TOTAL {
        let room = (256 << 10) - (sent + TOKEN.len() - credited);
        let length = room.min(64 << 10).min(TOTAL - sent);
        if length > 0 {
            guest.data(5, PORT, &data[sent..sent + length]);
            sent += length;
        } else {
            let (update, _) = guest.expect(Operation::CreditUpdate);
            credited = update.fwd_cnt.get() as usize;
            updates += 1;
        }
    }
    guest.shutdown(5, PORT, SEND);
    assert_eq!(consumer.join().unwrap(), TOTAL);
    assert!(updates <= TOTAL / (128 << 10) + 1, "{updates}");
}

#[test]
fn a_large_input_comes_through_whole_and_within_the_guests_credit() {
    let mut guest = Guest::new();
    let (reader, mut writer) = pipe().unwrap();
    let _attached = guest
        .handle
        .attach(TOKEN, Some(reader.into()), None)
        .unwrap();
    guest.connect(5, PORT);
    guest.data(5, PORT, &TOKEN);
    let producer = thread::spawn(move || {
        let data: Vec<u8> = (0..TOTAL).map(pattern).collect();
        writer.write_all(&data).unwrap();
    });
    let (mut total, mut told) = (0, 0);
    loop {
        let (packet, data) = guest.next();
        match Operation::from_number(packet.op.get()) {
            Some(Operation::Shutdown) => break,
            Some(Operation::Data) => {}
            other => panic!("{other:?}"),
        }
        for (offset, byte) in data.iter().enumerate() {
            assert_eq!(*byte, pattern(total + offset), "at {}", total + offset);
        }
        total += data.len();
        assert!(total - told <= BUFFER as usize);
        if total - told > BUFFER as usize / 2 {
            told = total;
            let update = Header {
                fwd_cnt: u32::try_from(total).unwrap().into(),
                ..header(Operation::CreditUpdate, 5, PORT)
            };
            guest.send(update, &[]);
        }
    }
    producer.join().unwrap();
    assert_eq!(total, TOTAL);
    // It rings when it sends, not for the buffers that it gives back.
    assert!(guest.receive.rings < 1000, "{}", guest.receive.rings);
}

#[test]
fn an_output_that_blocks_holds_a_buffer_full_and_no_more() {
    let mut guest = Guest::new();
    let (mut reader, writer) = pipe().unwrap();
    let _attached = guest
        .handle
        .attach(TOKEN, None, Some(writer.into()))
        .unwrap();
    guest.connect(5, PORT);
    guest.data(5, PORT, &TOKEN);
    // The pipe takes 64 KiB, the buffer 256.
    for _ in 0..5 {
        guest.data(5, PORT, &[1; 64 << 10]);
    }
    guest.expect_nothing();
    // Another connection is not held up.
    let listener = guest.handle.listen(7).unwrap();
    guest.connect(6, 7);
    guest.data(6, 7, b"!");
    listener.accept().unwrap().read_exact(&mut [0]).unwrap();
    guest.expect(Operation::Shutdown);

    reader.read_exact(&mut vec![0; 320 << 10]).unwrap();
    let credit = loop {
        let (packet, _) = guest.next();
        if packet.dst_port.get() == 5 {
            assert_eq!(packet.op.get(), 6);
            break packet.fwd_cnt.get();
        }
    };
    assert!(credit >= 128 << 10);

    // Beyond the credit the connection is lost.
    for _ in 0..6 {
        guest.data(5, PORT, &[1; 64 << 10]);
    }
    while guest.next().0.op.get() != 3 {}
}

#[test]
fn nothing_is_sent_without_credit() {
    let mut guest = Guest::new();
    let (reader, mut writer) = pipe().unwrap();
    let _attached = guest
        .handle
        .attach(TOKEN, Some(reader.into()), None)
        .unwrap();
    let request = Header {
        buf_alloc: 10.into(),
        ..header(Operation::Request, 5, PORT)
    };
    guest.send(request, &[]);
    guest.expect(Operation::Response);
    let small = Header {
        len: 16.into(),
        buf_alloc: 10.into(),
        ..header(Operation::Data, 5, PORT)
    };
    guest.send(small, &TOKEN);
    writer.write_all(b"0123456789abcdef").unwrap();
    assert_eq!(guest.expect(Operation::Data).1, b"0123456789");
    guest.expect_nothing();
    let update = Header {
        buf_alloc: 3.into(),
        fwd_cnt: 10.into(),
        ..header(Operation::CreditUpdate, 5, PORT)
    };
    guest.send(update, &[]);
    assert_eq!(guest.expect(Operation::Data).1, b"abc");
    // The end of the input comes when all of it was sent.
    drop(writer);
    guest.expect_nothing();
    let update = Header {
        buf_alloc: 3.into(),
        fwd_cnt: 13.into(),
        ..header(Operation::CreditUpdate, 5, PORT)
    };
    guest.send(update, &[]);
    assert_eq!(guest.expect(Operation::Data).1, b"def");
    let update = Header {
        fwd_cnt: 16.into(),
        ..header(Operation::CreditUpdate, 5, PORT)
    };
    guest.send(update, &[]);
    guest.expect(Operation::Shutdown);
}

#[test]
fn input_waits_for_buffers_and_goes_on_when_there_are_some() {
    let mut guest = Guest::starved();
    let (reader, mut writer) = pipe().unwrap();
    let _attached = guest
        .handle
        .attach(TOKEN, Some(reader.into()), None)
        .unwrap();
    guest.send(header(Operation::Request, 5, PORT), &[]);
    thread::sleep(Duration::from_millis(50));
    guest.offer(0);
    guest.expect(Operation::Response);
    guest.data(5, PORT, &TOKEN);
    let data: Vec<u8> = (0..40_000).map(pattern).collect();
    writer.write_all(&data).unwrap();
    drop(writer);
    let mut bytes = Vec::new();
    loop {
        // The one buffer is offered again and again.
        let (packet, data) = guest.next();
        if packet.op.get() == 4 {
            break;
        }
        assert!(data.len() <= 4096 - 44);
        bytes.extend(data);
    }
    assert_eq!(bytes, data);
    guest.shutdown(5, PORT, Shutdown::BOTH);
    guest.expect(Operation::Reset);
}
