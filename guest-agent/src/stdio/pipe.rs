//! Moves bytes between a pipe and a socket with splice(2).
//!
//! Called by `stream`.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::pipe::{SpliceFlags, splice};

/// At most this much at once, and this often before other streams have their turn.
const CHUNK: usize = 256 << 10;
pub(super) const ROUNDS: usize = 16;

/// Which way the bytes go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Direction {
    /// From the host's socket into the pipe.
    ToGuest,
    /// From the pipe to the host's socket.
    ToHost,
}

/// What a relay waits for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Progress {
    /// Bytes to read.
    Source,
    /// Room to write.
    Sink,
    /// Its turn: there is more.
    More,
    /// Nothing: the source has ended, or the sink is gone.
    End,
}

/// The agent's end of a process' pipe.
#[derive(Debug)]
pub(super) struct Pipe {
    pub(super) end: OwnedFd,
    pub(super) direction: Direction,
}

impl Pipe {
    /// Moves what can be moved between the pipe and `socket` now.
    pub(super) fn pump(&self, socket: BorrowedFd<'_>) -> Progress {
        let (source, sink) = match self.direction {
            Direction::ToGuest => (socket, self.end.as_fd()),
            Direction::ToHost => (self.end.as_fd(), socket),
        };
        for _ in 0..ROUNDS {
            match splice(source, None, sink, None, CHUNK, SpliceFlags::NONBLOCK) {
                Ok(0) => return Progress::End,
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return blocked(sink),
                // EPIPE, ECONNRESET and the like: one side is gone.
                Err(_) => return Progress::End,
            }
        }
        Progress::More
    }
}

/// What keeps bytes from moving when neither side has failed: found by looking at the sink.
pub(super) fn blocked(sink: BorrowedFd<'_>) -> Progress {
    let now = Timespec::default();
    let mut descriptors = [PollFd::from_borrowed_fd(sink, PollFlags::OUT)];
    if poll(&mut descriptors, Some(&now)).is_err() {
        return Progress::Sink;
    }
    let found = descriptors[0].revents();
    if found.intersects(PollFlags::ERR | PollFlags::HUP) {
        Progress::End
    } else if found.contains(PollFlags::OUT) {
        Progress::Source
    } else {
        Progress::Sink
    }
}
