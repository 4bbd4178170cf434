//! Listeners, half-closes, limits.

use std::io::{Read, Write};
use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, Timespec};

use super::super::VsockError;
use super::super::packet::{Operation, Shutdown};
use super::guest::{Guest, RECEIVE_ONLY, SEND, header};
use crate::virtio::VirtioDevice;

#[test]
fn a_listener_gets_a_socket_that_carries_both_ways() {
    let mut guest = Guest::new();
    let listener = guest.handle.listen(7).unwrap();
    guest.connect(100, 7);
    let mut fds = [PollFd::from_borrowed_fd(listener.as_fd(), PollFlags::IN)];
    let second = Timespec {
        tv_sec: 5,
        tv_nsec: 0,
    };
    assert_eq!(rustix::event::poll(&mut fds, Some(&second)).unwrap(), 1);
    let mut stream = listener.accept().unwrap();
    guest.data(100, 7, b"ping");
    let mut bytes = [0; 4];
    stream.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"ping");
    stream.write_all(b"pong!").unwrap();
    let (packet, data) = guest.expect(Operation::Data);
    assert_eq!(data, b"pong!");
    assert_eq!(packet.fwd_cnt.get(), 4);
}

#[test]
fn each_direction_ends_on_its_own() {
    let mut guest = Guest::new();
    let listener = guest.handle.listen(7).unwrap();
    guest.connect(100, 7);
    let mut stream = listener.accept().unwrap();

    guest.data(100, 7, b"last words");
    guest.shutdown(100, 7, SEND);
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, b"last words");

    stream.write_all(b"still here").unwrap();
    assert_eq!(guest.expect(Operation::Data).1, b"still here");
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let (packet, _) = guest.expect(Operation::Shutdown);
    assert_eq!(Shutdown::from_flags(packet.flags.get()), SEND);

    guest.shutdown(100, 7, Shutdown::BOTH);
    guest.expect(Operation::Reset);
    // The port is free again.
    guest.connect(100, 7);
}

#[test]
fn a_close_by_the_host_ends_both_directions() {
    let mut guest = Guest::new();
    let listener = guest.handle.listen(7).unwrap();
    guest.connect(100, 7);
    drop(listener.accept().unwrap());
    let mut flags = Shutdown::default();
    while flags != Shutdown::BOTH {
        let (packet, _) = guest.expect(Operation::Shutdown);
        flags = Shutdown::from_flags(packet.flags.get());
    }
    guest.send(header(Operation::Reset, 100, 7), &[]);
    guest.expect_nothing();
}

#[test]
fn a_guest_that_does_not_receive_gets_nothing() {
    let mut guest = Guest::new();
    let listener = guest.handle.listen(7).unwrap();
    guest.connect(100, 7);
    let mut stream = listener.accept().unwrap();
    guest.shutdown(100, 7, RECEIVE_ONLY);
    guest.data(100, 7, b"x");
    stream.read_exact(&mut [0]).unwrap();
    assert_eq!(
        stream.write(b"unheard").unwrap_err().kind(),
        std::io::ErrorKind::BrokenPipe
    );
    guest.expect_nothing();
}

#[test]
fn ports_without_a_listener_refuse() {
    let mut guest = Guest::new();
    for port in [0, 7, u32::MAX] {
        guest.send(header(Operation::Request, 100, port), &[]);
        let (packet, _) = guest.expect(Operation::Reset);
        assert_eq!(packet.dst_port.get(), 100);
        assert_eq!(packet.src_port.get(), port);
    }
    let listener = guest.handle.listen(7).unwrap();
    assert!(matches!(
        guest.handle.listen(7),
        Err(VsockError::PortTaken { port: 7 })
    ));
    guest.connect(0, 7);
    guest.send(header(Operation::Reset, 0, 7), &[]);
    listener.accept().unwrap();
    drop(listener);
    guest.send(header(Operation::Request, 101, 7), &[]);
    guest.expect(Operation::Reset);
    guest.handle.listen(7).unwrap();
}

#[test]
fn a_full_backlog_refuses_and_an_emptied_one_accepts() {
    let mut guest = Guest::new();
    let listener = guest.handle.listen(7).unwrap();
    for port in 0..16 {
        guest.connect(port, 7);
    }
    for port in 16..10_000 {
        guest.send(header(Operation::Request, port, 7), &[]);
        guest.expect(Operation::Reset);
    }
    drop(listener.accept().unwrap());
    guest.send(header(Operation::Request, 20_000, 7), &[]);
    loop {
        // The dropped connection's end comes before or after.
        match guest.next().0.op.get() {
            2 => break,
            4 => {}
            op => panic!("{op}"),
        }
    }
}

#[test]
fn ten_thousand_connections_one_after_the_other() {
    let mut guest = Guest::new();
    let listener = guest.handle.listen(7).unwrap();
    for port in 0..10_000 {
        guest.connect(port, 7);
        let mut stream = listener.accept().unwrap();
        guest.data(port, 7, b"hello");
        guest.shutdown(port, 7, Shutdown::BOTH);
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, b"hello");
        guest.expect(Operation::Reset);
    }
}

#[test]
fn a_reset_of_the_device_ends_the_connections_and_it_works_again() {
    let mut guest = Guest::new();
    let listener = guest.handle.listen(7).unwrap();
    guest.connect(100, 7);
    let mut stream = listener.accept().unwrap();
    guest.device.reset();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    guest.device.reset();

    let mut again = Guest::new();
    std::mem::swap(&mut again.device, &mut guest.device);
    std::mem::swap(&mut again.handle, &mut guest.handle);
    // Another driver's queues on the same device.
    guest.device.reset();
    again.device.reset();
    again.activate();
    again.connect(100, 7);
    listener.accept().unwrap();
}

#[test]
fn calls_fail_once_the_device_is_gone() {
    let guest = Guest::new();
    let listener = guest.handle.listen(7).unwrap();
    let handle = guest.handle.clone();
    drop(guest);
    assert!(matches!(handle.listen(8), Err(VsockError::Stopped)));
    assert_eq!(
        listener.accept().unwrap_err().kind(),
        std::io::ErrorKind::BrokenPipe
    );
}

#[test]
fn the_configuration_space_is_the_context_id() {
    let guest = Guest::new();
    let mut bytes = [9; 12];
    guest.device.read_config(0, &mut bytes);
    assert_eq!(bytes, [3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let mut bytes = [9; 2];
    guest.device.read_config(u64::MAX, &mut bytes);
    assert_eq!(bytes, [0, 0]);
}
