//! Attached streams: tokens, descriptors, and when they are done.

use std::fs::File;
use std::io::{PipeReader, PipeWriter, Read, Write, pipe};
use std::os::fd::AsFd;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::event::{PollFd, PollFlags, Timespec};

use super::super::packet::{Operation, Shutdown};
use super::super::{Attached, Token, VsockError};
use super::guest::{Guest, SEND, STREAM_PORT as PORT, header};

pub(super) const TOKEN: Token = *b"0123456789abcdef";

pub(super) fn is_done(attached: &Attached, milliseconds: i64) -> bool {
    // SAFETY: the eventfd is open as long as `attached`.
    let fd = unsafe { BorrowedFd::borrow_raw(attached.done.as_raw_fd()) };
    let timeout = Timespec {
        tv_sec: milliseconds / 1000,
        tv_nsec: milliseconds % 1000 * 1_000_000,
    };
    rustix::event::poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&timeout)).unwrap() == 1
}

/// Attaches an output and opens its stream.
fn output(guest: &mut Guest) -> (Attached, PipeReader) {
    let (reader, writer) = pipe().unwrap();
    let attached = guest
        .handle
        .attach(TOKEN, None, Some(writer.into()))
        .unwrap();
    guest.connect(5, PORT);
    guest.data(5, PORT, &TOKEN);
    (attached, reader)
}

/// Attaches an input and opens its stream.
fn input(guest: &mut Guest) -> (Attached, PipeWriter) {
    let (reader, writer) = pipe().unwrap();
    let attached = guest
        .handle
        .attach(TOKEN, Some(reader.into()), None)
        .unwrap();
    guest.connect(5, PORT);
    guest.data(5, PORT, &TOKEN);
    (attached, writer)
}

#[test]
fn an_output_gets_everything_and_is_done() {
    let mut guest = Guest::new();
    let (attached, mut reader) = output(&mut guest);
    guest.data(5, PORT, b"hello ");
    guest.data(5, PORT, b"world");
    assert!(!is_done(&attached, 50));
    guest.shutdown(5, PORT, SEND);
    assert!(is_done(&attached, 5000));
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, "hello world");
    guest.shutdown(5, PORT, Shutdown::BOTH);
    guest.expect(Operation::Reset);
}

#[test]
fn a_token_may_come_in_pieces_and_with_data_behind_it() {
    let mut guest = Guest::new();
    let (mut reader, writer) = pipe().unwrap();
    let _attached = guest
        .handle
        .attach(TOKEN, None, Some(writer.into()))
        .unwrap();
    guest.connect(5, PORT);
    for byte in &TOKEN[..15] {
        guest.data(5, PORT, &[*byte]);
    }
    guest.data(5, PORT, b"fdata");
    let mut bytes = [0; 4];
    reader.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"data");
}

#[test]
fn a_guest_may_come_before_the_attach() {
    let mut guest = Guest::new();
    guest.connect(5, PORT);
    guest.data(5, PORT, &TOKEN);
    guest.data(5, PORT, b"early");
    guest.shutdown(5, PORT, SEND);
    let (mut reader, writer) = pipe().unwrap();
    let attached = guest
        .handle
        .attach(TOKEN, None, Some(writer.into()))
        .unwrap();
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, "early");
    assert!(is_done(&attached, 5000));
}

#[test]
fn streams_that_nobody_attaches_are_refused_in_time_and_number() {
    let mut guest = Guest::new();
    for port in 0..64 {
        guest.connect(port, PORT);
    }
    guest.send(header(Operation::Request, 64, PORT), &[]);
    assert_eq!(guest.expect(Operation::Reset).0.dst_port.get(), 64);
    guest.data(0, PORT, &[7; 16]);
    for port in 0..64 {
        assert_eq!(guest.expect(Operation::Reset).0.dst_port.get(), port);
    }
    guest.connect(0, PORT);
}

#[test]
fn a_token_is_good_for_one_attach_and_one_connection() {
    let mut guest = Guest::new();
    let (_attached, _reader) = output(&mut guest);
    assert!(matches!(
        guest.handle.attach(TOKEN, None, None),
        Err(VsockError::TokenTaken)
    ));
    guest.connect(6, PORT);
    guest.data(6, PORT, &TOKEN);
    assert_eq!(guest.expect(Operation::Reset).0.dst_port.get(), 6);
}

#[test]
fn an_input_ends_with_a_half_close() {
    let mut guest = Guest::new();
    let (attached, mut writer) = input(&mut guest);
    writer.write_all(b"typed").unwrap();
    assert_eq!(guest.expect(Operation::Data).1, b"typed");
    drop(writer);
    let (packet, _) = guest.expect(Operation::Shutdown);
    assert_eq!(Shutdown::from_flags(packet.flags.get()), SEND);
    assert!(!is_done(&attached, 50));
    guest.shutdown(5, PORT, Shutdown::BOTH);
    guest.expect(Operation::Reset);
    assert!(is_done(&attached, 5000));
}

#[test]
fn an_input_without_output_takes_no_data() {
    let mut guest = Guest::new();
    let (_attached, _writer) = input(&mut guest);
    guest.data(5, PORT, b"unwanted");
    let (packet, _) = guest.expect(Operation::Shutdown);
    let told = Shutdown::from_flags(packet.flags.get());
    assert!(told.receive && !told.send);
}

#[test]
fn an_output_without_reader_is_told_to_the_guest() {
    let mut guest = Guest::new();
    let (attached, reader) = output(&mut guest);
    drop(reader);
    guest.data(5, PORT, b"into the void");
    let (packet, _) = guest.expect(Operation::Shutdown);
    let told = Shutdown::from_flags(packet.flags.get());
    assert!(told.receive && !told.send);
    assert!(is_done(&attached, 5000));
    // What was under way is dropped.
    guest.data(5, PORT, b"more");
    guest.expect_nothing();
}

#[test]
fn a_reset_by_the_guest_loses_nothing_that_it_sent() {
    let mut guest = Guest::new();
    let (attached, mut reader) = output(&mut guest);
    let data = vec![1; 60_000];
    for _ in 0..4 {
        guest.data(5, PORT, &data);
    }
    guest.send(header(Operation::Reset, 5, PORT), &[]);
    assert!(!is_done(&attached, 100));
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes.len(), 240_000);
    assert!(is_done(&attached, 5000));
}

#[test]
fn a_guest_that_ended_is_read_to_its_end() {
    let mut guest = Guest::new();
    let (attached, mut reader) = output(&mut guest);
    for _ in 0..4 {
        guest.data(5, PORT, &[1; 60_000]);
    }
    guest.handle.guest_ended().unwrap();
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes.len(), 240_000);
    assert!(is_done(&attached, 5000));
}

#[test]
fn release_forgets_an_attach_and_closes_a_stream() {
    let mut guest = Guest::new();
    let (mut reader, writer) = pipe().unwrap();
    let attached = guest
        .handle
        .attach(TOKEN, None, Some(writer.into()))
        .unwrap();
    guest.handle.release(TOKEN).unwrap();
    assert!(is_done(&attached, 0));
    assert_eq!(reader.read(&mut [0]).unwrap(), 0);

    let (attached, mut reader) = output(&mut guest);
    guest.data(5, PORT, b"x");
    reader.read_exact(&mut [0]).unwrap();
    guest.handle.release(TOKEN).unwrap();
    assert!(is_done(&attached, 0));
    guest.expect(Operation::Reset);
    guest.handle.release(TOKEN).unwrap();
}

#[test]
fn descriptors_that_others_hold_are_left_alone_and_no_longer_watched() {
    let mut guest = Guest::new();
    let (mut reader, writer) = pipe().unwrap();
    let held = writer.as_fd().try_clone_to_owned().unwrap();
    let attached = guest
        .handle
        .attach(TOKEN, None, Some(writer.into()))
        .unwrap();
    guest.connect(5, PORT);
    guest.data(5, PORT, &TOKEN);
    guest.data(5, PORT, b"x");
    guest.shutdown(5, PORT, Shutdown::BOTH);
    guest.expect(Operation::Reset);
    assert!(is_done(&attached, 5000));
    assert!(
        !rustix::fs::fcntl_getfl(&held)
            .unwrap()
            .contains(rustix::fs::OFlags::NONBLOCK)
    );
    File::from(held).write_all(b"y").unwrap();
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, "xy");
}

#[test]
fn files_are_streams_too() {
    let mut guest = Guest::new();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"from a file").unwrap();
    std::io::Seek::rewind(&mut file).unwrap();
    let copy = tempfile::NamedTempFile::new().unwrap();
    let output = copy.reopen().unwrap();
    let attached = guest
        .handle
        .attach(TOKEN, Some(file.into()), Some(output.into()))
        .unwrap();
    guest.connect(5, PORT);
    guest.data(5, PORT, &TOKEN);
    assert_eq!(guest.expect(Operation::Data).1, b"from a file");
    guest.expect(Operation::Shutdown);
    guest.data(5, PORT, b"to a file");
    guest.shutdown(5, PORT, Shutdown::BOTH);
    guest.expect(Operation::Reset);
    assert!(is_done(&attached, 5000));
    assert_eq!(std::fs::read(copy.path()).unwrap(), b"to a file");
}
