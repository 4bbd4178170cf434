//! Interfaces that come and go.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

use crate::connection::NetlinkError;
use crate::link::{self, Link};

/// `RTMGRP_LINK`: what happens to interfaces.
const LINKS: u32 = 1;

/// What happened to an interface.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum LinkEvent {
    /// It is new, or something about it is.
    Changed(Link),
    /// It is gone.
    Removed(Link),
}

/// Hears of the interfaces of the network namespace in which it was opened.
#[derive(Debug)]
pub struct LinkWatch {
    socket: Socket,
}

impl LinkWatch {
    /// Listens from now on.
    pub fn open() -> Result<Self, NetlinkError> {
        let open = || {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind(&SocketAddr::new(0, LINKS))?;
            socket.set_non_blocking(true)?;
            Ok(socket)
        };
        Ok(Self {
            socket: open().map_err(NetlinkError::Open)?,
        })
    }

    /// What has happened since. An error when some of it was lost.
    pub fn events(&self) -> io::Result<Vec<LinkEvent>> {
        let mut events = Vec::new();
        loop {
            let bytes = match self.socket.recv_from_full() {
                Ok((bytes, _)) => bytes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(events),
                Err(error) => return Err(error),
            };
            let mut rest = bytes.as_slice();
            // A message that is none we know ends its datagram.
            while let Ok(message) = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest) {
                let length = usize::try_from(message.header.length).unwrap_or(usize::MAX);
                rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
                match message.payload {
                    NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(message)) => {
                        events.push(LinkEvent::Changed(link::read(&message)));
                    }
                    NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(message)) => {
                        events.push(LinkEvent::Removed(link::read(&message)));
                    }
                    _ => {}
                }
                if rest.is_empty() {
                    break;
                }
            }
        }
    }

    /// Readable when something has happened.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        // SAFETY: the socket is owned by `self`, so it is open as long as the borrow lives.
        unsafe { BorrowedFd::borrow_raw(self.socket.as_raw_fd()) }
    }
}
