//! A stream socket in the place of a tap: frames with their length in front, in network byte
//! order, as QEMU's stream sockets and passt speak.
//!
//! Nothing but whole frames goes over it: no checksum or segmentation is left to the other end.
//! What a guest sends is cut to what the other end takes; a full socket holds the guest's queue
//! up, as a slow link does. The other end is a process that serves the guest: it is believed no
//! more than the guest is, and a length that makes no sense cuts the link.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::OFlags;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use vm_memory::VolatileSlice;

use super::header::HEADER_LENGTH;
use super::wire::Wire;

/// Bytes of a length.
const PREFIX: usize = size_of::<u32>();

/// The longest frame that passt takes; it ends the link at a longer one.
const LONGEST: usize = 65_534;

/// The longest MTU of such a link.
pub(super) const LONGEST_MTU: u16 = 65_520;

/// Bytes read at once.
const ROOM: usize = 256 << 10;

/// The link.
#[derive(Debug)]
pub(super) struct FrameStream {
    socket: OwnedFd,
    ends: RefCell<Ends>,
}

#[derive(Debug)]
struct Ends {
    /// What came; frames from `start` to `end`.
    arrived: Vec<u8>,
    start: usize,
    end: usize,
    /// The rest of a frame that did not fit into the socket.
    unsent: Vec<u8>,
}

impl FrameStream {
    /// Takes over a connected socket.
    pub(super) fn new(socket: OwnedFd) -> io::Result<Self> {
        let flags = rustix::fs::fcntl_getfl(&socket)?;
        rustix::fs::fcntl_setfl(&socket, flags | OFlags::NONBLOCK)?;
        Ok(Self {
            socket,
            ends: RefCell::new(Ends {
                arrived: vec![0; ROOM],
                start: 0,
                end: 0,
                unsent: Vec::new(),
            }),
        })
    }
}

impl Ends {
    /// The next whole frame that is here.
    fn frame(&self) -> io::Result<Option<&[u8]>> {
        let here = self.arrived.get(self.start..self.end).unwrap_or_default();
        let Some((length, rest)) = here.split_first_chunk::<PREFIX>() else {
            return Ok(None);
        };
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        // One that cannot be here as a whole would never come.
        if length > ROOM - PREFIX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(rest.get(..length))
    }

    /// Reads more behind what is here.
    fn fill(&mut self, socket: &OwnedFd) -> io::Result<()> {
        self.arrived.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        let room = self.arrived.get_mut(self.end..).unwrap_or_default();
        match recv(socket, room, RecvFlags::DONTWAIT)? {
            (0, _) => Err(io::ErrorKind::UnexpectedEof.into()),
            (length, _) => {
                self.end += length;
                Ok(())
            }
        }
    }

    /// Sends what is left of the last frame.
    fn flush(&mut self, socket: &OwnedFd) -> io::Result<()> {
        while !self.unsent.is_empty() {
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            let sent = send(socket, &self.unsent, flags)?;
            self.unsent.drain(..sent);
        }
        Ok(())
    }
}

impl Wire for FrameStream {
    fn read(&self, target: &[VolatileSlice<'_>]) -> io::Result<usize> {
        let mut ends = self.ends.borrow_mut();
        while ends.frame()?.is_none() {
            ends.fill(&self.socket)?;
        }
        let frame = ends.frame()?.unwrap_or_default();
        let length = frame.len();
        scatter(target, 0, &[0; HEADER_LENGTH]);
        scatter(target, HEADER_LENGTH, frame);
        ends.start += PREFIX + length;
        Ok(HEADER_LENGTH + length)
    }

    fn write(&self, _: &[u8], frame: &[VolatileSlice<'_>]) -> io::Result<usize> {
        let mut ends = self.ends.borrow_mut();
        ends.flush(&self.socket)?;
        let length: usize = frame.iter().map(VolatileSlice::len).sum();
        if length > LONGEST {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let prefix = u32::try_from(length).unwrap_or(0).to_be_bytes();
        let mut bytes = std::mem::take(&mut ends.unsent);
        bytes.extend(prefix);
        for slice in frame {
            let at = bytes.len();
            bytes.resize(at + slice.len(), 0);
            slice.copy_to(bytes.get_mut(at..).unwrap_or_default());
        }
        ends.unsent = bytes;
        match ends.flush(&self.socket) {
            // The rest follows: the frame is as good as sent.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(length),
            result => result.map(|()| length),
        }
    }

    fn holds_up(&self) -> bool {
        true
    }

    fn flush(&self) -> io::Result<()> {
        self.ends.borrow_mut().flush(&self.socket)
    }

    fn accept(&self, _: u64) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for FrameStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Copies `bytes` into `target`, which may divide them, `skip` bytes behind its start.
fn scatter(target: &[VolatileSlice<'_>], mut skip: usize, mut bytes: &[u8]) {
    for slice in target {
        let before = skip.min(slice.len());
        skip -= before;
        let Ok(slice) = slice.offset(before) else {
            continue;
        };
        let (now, later) = bytes.split_at(slice.len().min(bytes.len()));
        slice.copy_from(now);
        bytes = later;
    }
}

#[cfg(test)]
mod tests {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    use super::*;

    fn pair() -> (FrameStream, OwnedFd) {
        let flags = SocketFlags::CLOEXEC;
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap();
        (FrameStream::new(ours).unwrap(), theirs)
    }

    fn read(wire: &FrameStream) -> io::Result<Vec<u8>> {
        // Pieces that divide the header and the frame.
        let (mut one, mut two) = (vec![9; 7], vec![9; 1 << 17]);
        let target = [
            VolatileSlice::from(one.as_mut_slice()),
            VolatileSlice::from(two.as_mut_slice()),
        ];
        let length = wire.read(&target)?;
        Ok([one, two].concat()[..length].to_vec())
    }

    fn put(socket: &OwnedFd, bytes: &[u8]) {
        assert_eq!(
            send(socket, bytes, SendFlags::empty()).unwrap(),
            bytes.len()
        );
    }

    #[test]
    fn frames_come_whole_however_their_bytes_come() {
        let (wire, other) = pair();
        let frame: Vec<u8> = (0..60).collect();
        let bytes = [60_u32.to_be_bytes().as_slice(), &frame].concat();
        for cut in [1, 4, 5, 63] {
            put(&other, &bytes[..cut]);
            let error = read(&wire).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{cut}");
            put(&other, &[&bytes[cut..], &bytes].concat());
            for _ in 0..2 {
                assert_eq!(read(&wire).unwrap(), [[0; 12].as_slice(), &frame].concat());
            }
        }
        drop(other);
        let error = read(&wire).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_length_that_makes_no_sense_cuts_the_link() {
        let (wire, other) = pair();
        put(&other, &u32::MAX.to_be_bytes());
        let error = read(&wire).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn a_full_socket_holds_up_and_loses_nothing() {
        let (wire, other) = pair();
        let mut sent = 0_u32;
        loop {
            let mut frame = vec![u8::try_from(sent % 251).unwrap(); 60_000];
            let slices = [VolatileSlice::from(frame.as_mut_slice())];
            match wire.write(&[], &slices) {
                Ok(_) => sent += 1,
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                    break;
                }
            }
        }
        assert!(sent > 0);
        let mut bytes = vec![0; 60_004 * sent as usize];
        let mut length = 0;
        while length < bytes.len() {
            length += recv(&other, &mut bytes[length..], RecvFlags::empty())
                .unwrap()
                .0;
            let _ = wire.flush();
        }
        for (number, chunk) in bytes.chunks(60_004).enumerate() {
            assert_eq!(chunk[..4], 60_000_u32.to_be_bytes());
            assert!(
                chunk[4..]
                    .iter()
                    .all(|byte| usize::from(*byte) == number % 251)
            );
        }
    }

    #[test]
    fn a_giant_is_dropped_and_the_link_lives() {
        let (wire, other) = pair();
        let mut frame = vec![0; 65_535];
        let slices = [VolatileSlice::from(frame.as_mut_slice())];
        assert!(wire.write(&[], &slices).is_err());
        let slices = [slices[0].subslice(0, 14).unwrap()];
        assert_eq!(wire.write(&[], &slices).unwrap(), 14);
        let mut bytes = [0; 32];
        assert_eq!(
            recv(&other, &mut bytes[..], RecvFlags::empty()).unwrap().0,
            18
        );
    }
}
