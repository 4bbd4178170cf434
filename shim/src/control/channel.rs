//! One end of a connection that carries frames, read without blocking: the monitor has one for
//! each client and one for the agent.
//!
//! What the agent sends is the guest's: a frame's length is held against the protocol's limit
//! before more than that is kept.

use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use krun_gpu_protocol::frame::{self, FrameError, MAX_FRAME};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use serde::{Serialize, de::DeserializeOwned};

/// How long a message may take to be sent before the other side counts as dead.
const SEND_LIMIT: Duration = Duration::from_secs(10);

/// Descriptors that come with one message at most: for `start`, eight taps with four pairs of queues
/// each, and as many vhost-nets.
const DESCRIPTORS: usize = 64;

/// A stream of frames.
#[derive(Debug)]
pub(crate) struct Channel {
    stream: UnixStream,
    /// Bytes that are not a whole frame yet.
    buffer: Vec<u8>,
    /// Descriptors that came along, oldest first.
    descriptors: Vec<OwnedFd>,
}

impl Channel {
    /// Takes over `stream`, which stays in blocking mode for sending.
    pub(crate) fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(false)?;
        stream.set_write_timeout(Some(SEND_LIMIT))?;
        Ok(Self {
            stream,
            buffer: Vec::new(),
            descriptors: Vec::new(),
        })
    }

    /// Sends one message.
    pub(crate) fn send<T: Serialize>(&self, message: &T) -> Result<(), FrameError> {
        frame::write(&self.stream, message)
    }

    /// Takes in what has arrived. `false` when the other side closed.
    pub(crate) fn fill(&mut self) -> io::Result<bool> {
        let mut bytes = [0; 16 << 10];
        let mut space = nix::cmsg_space!([std::os::fd::RawFd; DESCRIPTORS]);
        let mut slices = [IoSliceMut::new(&mut bytes)];
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
        let received = recvmsg::<()>(
            self.stream.as_raw_fd(),
            &mut slices,
            Some(&mut space),
            flags,
        );
        let message = match received {
            Ok(message) => message,
            Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR) => return Ok(true),
            // It closed without reading all that was sent to it.
            Err(nix::errno::Errno::ECONNRESET) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        if let Ok(messages) = message.cmsgs() {
            for message in messages {
                if let ControlMessageOwned::ScmRights(numbers) = message {
                    self.descriptors.extend(numbers.into_iter().map(|number| {
                        // SAFETY: the kernel just gave us this descriptor.
                        unsafe { OwnedFd::from_raw_fd(number) }
                    }));
                }
            }
        }
        let count = message.bytes;
        self.buffer
            .extend_from_slice(bytes.get(..count).unwrap_or_default());
        Ok(count > 0)
    }

    /// The next message, if all of it has arrived.
    pub(crate) fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, FrameError> {
        let Some((header, rest)) = self.buffer.split_first_chunk::<4>() else {
            return Ok(None);
        };
        let length = u32::from_le_bytes(*header);
        let size = length as usize;
        if length > MAX_FRAME {
            return Err(FrameError::TooLong { length: size });
        }
        let Some(body) = rest.get(..size) else {
            return Ok(None);
        };
        let message = frame::decode(body)?;
        self.buffer.drain(..size + 4);
        Ok(Some(message))
    }

    /// The descriptors that have come.
    pub(crate) fn take_descriptors(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.descriptors)
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::control::{Reply, Request};

    #[test]
    fn frames_come_in_pieces() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut channel = Channel::new(ours).unwrap();
        let mut bytes = Vec::new();
        frame::write(&mut bytes, &Request::Signal(15)).unwrap();
        for byte in &bytes {
            assert!(channel.next::<Request>().unwrap().is_none());
            theirs.write_all(&[*byte]).unwrap();
            assert!(channel.fill().unwrap());
        }
        let request = channel.next::<Request>().unwrap();
        assert!(matches!(request, Some(Request::Signal(15))));
        channel.send(&Reply::Done).unwrap();
        drop(theirs);
        assert!(!channel.fill().unwrap());
    }

    #[test]
    fn a_long_frame_is_an_error_at_its_header() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut channel = Channel::new(ours).unwrap();
        theirs.write_all(&u32::MAX.to_le_bytes()).unwrap();
        channel.fill().unwrap();
        assert!(matches!(
            channel.next::<Request>(),
            Err(FrameError::TooLong { .. })
        ));
    }
}
