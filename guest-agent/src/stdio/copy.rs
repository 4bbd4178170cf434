//! Moves bytes between a terminal's master and a socket, one direction, through a buffer:
//! splice(2) needs a pipe.
//!
//! Called by `stream`.

use std::os::fd::BorrowedFd;

use rustix::io::{Errno, read, write};

use super::pipe::{Progress, ROUNDS, blocked};

/// One direction's bytes on their way.
#[derive(Debug)]
pub(super) struct Copy {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Copy {
    /// An empty buffer of 16 KiB.
    pub(super) fn new() -> Self {
        Self {
            buffer: vec![0; 16 << 10].into_boxed_slice(),
            start: 0,
            end: 0,
        }
    }

    /// Moves what can be moved from `source` to `sink` now.
    pub(super) fn pump(&mut self, source: BorrowedFd<'_>, sink: BorrowedFd<'_>) -> Progress {
        for _ in 0..ROUNDS {
            while let Some(bytes @ [_, ..]) = self.buffer.get(self.start..self.end) {
                match write(sink, bytes) {
                    Ok(written) => self.start += written,
                    Err(Errno::INTR) => {}
                    Err(Errno::AGAIN) => return Progress::Sink,
                    Err(_) => return Progress::End,
                }
            }
            (self.start, self.end) = (0, 0);
            match read(source, &mut *self.buffer) {
                Ok(0) => return Progress::End,
                Ok(length) => self.end = length,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return blocked(sink),
                // A master answers EIO once its terminal was hung up.
                Err(_) => return Progress::End,
            }
        }
        Progress::More
    }
}
