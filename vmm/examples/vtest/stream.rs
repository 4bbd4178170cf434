//! vtest's frames: a length, a command's number, and words; descriptors go along with one byte.

use std::io::{self, IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use super::device::words;

/// The only command whose length counts bytes: it carries the client's name.
pub(super) const CREATE_RENDERER: u32 = 8;
/// No command of a well-behaved client is longer.
const LONGEST: usize = 64 << 20;

/// A client's socket.
#[derive(Debug)]
pub(super) struct Stream(UnixStream);

impl Stream {
    pub(super) fn new(socket: UnixStream) -> Self {
        Self(socket)
    }

    /// The next command: its number and its words.
    pub(super) fn command(&mut self) -> io::Result<(u32, Vec<u32>)> {
        let mut header = [0; 8];
        self.0.read_exact(&mut header)?;
        let header = numbers(&header);
        let (length, kind) = (
            header.first().copied().unwrap_or(0),
            header.get(1).copied().unwrap_or(0),
        );
        let unit = if kind == CREATE_RENDERER { 1 } else { 4 };
        let length = usize::try_from(length).map_err(io::Error::other)? * unit;
        if length > LONGEST {
            return Err(io::Error::other("a command is too long"));
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body)?;
        Ok((kind, numbers(&body)))
    }

    /// Answers a command.
    pub(super) fn answer(&mut self, kind: u32, body: &[u32]) -> io::Result<()> {
        let length = u32::try_from(body.len()).map_err(io::Error::other)?;
        self.0.write_all(&words(&[length, kind]))?;
        self.0.write_all(&words(body))
    }

    /// Sends a descriptor.
    pub(super) fn descriptor(&mut self, descriptor: BorrowedFd<'_>) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut buffer = SendAncillaryBuffer::new(&mut space);
        let descriptors = [descriptor];
        if !buffer.push(SendAncillaryMessage::ScmRights(&descriptors)) {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        sendmsg(
            &self.0,
            &[IoSlice::new(&[0])],
            &mut buffer,
            SendFlags::empty(),
        )?;
        Ok(())
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn numbers(bytes: &[u8]) -> Vec<u32> {
    let (words, _) = bytes.as_chunks();
    words.iter().copied().map(u32::from_le_bytes).collect()
}
