//! A terminal: one stream, both ways.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::OFlags;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};

use super::super::packet::{Operation, Shutdown};
use super::guest::{Guest, STREAM_PORT as PORT};
use super::streams::{TOKEN, is_done};

/// A raw terminal: its master, and its other side opened with these flags too.
fn terminal(flags: OpenptFlags) -> (File, OwnedFd) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    unlockpt(&master).unwrap();
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | flags;
    let peer = ioctl_tiocgptpeer(&master, flags).unwrap();
    let mut attributes = tcgetattr(&peer).unwrap();
    attributes.make_raw();
    tcsetattr(&peer, OptionalActions::Now, &attributes).unwrap();
    (master.into(), peer)
}

fn carries_both_ways(flags: OpenptFlags) {
    let mut guest = Guest::new();
    let (mut master, peer) = terminal(flags);
    let before = rustix::fs::fcntl_getfl(&peer).unwrap();
    let held = peer.as_fd().try_clone_to_owned().unwrap();
    let input = peer.try_clone().unwrap();
    let attached = guest.handle.attach(TOKEN, Some(input), Some(peer)).unwrap();
    guest.connect(5, PORT);
    guest.data(5, PORT, &TOKEN);

    master.write_all(b"keys").unwrap();
    let mut typed = Vec::new();
    while typed.len() < 4 {
        typed.extend(guest.expect(Operation::Data).1);
    }
    assert_eq!(typed, b"keys");

    // More than a terminal takes at once.
    let screen = vec![b'x'; 60_000];
    guest.data(5, PORT, &screen);
    let mut shown = vec![0; screen.len()];
    master.read_exact(&mut shown).unwrap();
    assert!(shown == screen);

    guest.data(5, PORT, b"bye");
    guest.shutdown(5, PORT, Shutdown::BOTH);
    guest.expect(Operation::Reset);
    assert!(is_done(&attached, 5000));
    assert_eq!(rustix::fs::fcntl_getfl(&held).unwrap(), before);
    let mut shown = [0; 3];
    master.read_exact(&mut shown).unwrap();
    assert_eq!(&shown, b"bye");
}

#[test]
fn a_terminal_of_our_own_carries_both_ways() {
    // TIOCGPTPEER takes every flag of open(2).
    carries_both_ways(OpenptFlags::from_bits_retain(OFlags::NONBLOCK.bits()));
}

#[test]
fn a_terminal_that_is_shared_carries_both_ways() {
    carries_both_ways(OpenptFlags::empty());
}

#[test]
fn a_hangup_ends_the_input() {
    let mut guest = Guest::new();
    let (master, peer) = terminal(OpenptFlags::empty());
    let input = peer.try_clone().unwrap();
    let _attached = guest.handle.attach(TOKEN, Some(input), Some(peer)).unwrap();
    guest.connect(5, PORT);
    guest.data(5, PORT, &TOKEN);
    drop(master);
    let (packet, _) = guest.expect(Operation::Shutdown);
    assert!(Shutdown::from_flags(packet.flags.get()).send);
}
