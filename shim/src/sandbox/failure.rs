//! The failure pipe: how the processes that become a VMM tell `create` what went wrong.
//!
//! libcontainer hands back one string, often without the reason. Its processes, and our own code
//! in them, write into this pipe instead; `create` reads it only when it has failed. A VMM that
//! has booted closes its end.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};
use std::sync::atomic::{AtomicI32, Ordering};

/// The writing end of this process and those that it forks; -1 for none.
static WRITER: AtomicI32 = AtomicI32::new(-1);

/// First byte of a message that explains everything by itself.
const REASON: u8 = b'R';

/// First byte of a message that adds to an error.
const DETAIL: u8 = b'D';

/// The reading end.
#[derive(Debug)]
pub(crate) struct FailurePipe {
    reader: File,
}

/// What was told.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// The whole reason, in words for the user.
    pub(crate) reason: Option<String>,
    /// What libcontainer said first: the place where it failed.
    pub(crate) detail: Option<String>,
}

impl FailurePipe {
    /// Opens the pipe for this process and those that it will fork.
    pub(crate) fn open() -> io::Result<Self> {
        let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
        close();
        WRITER.store(writer.into_raw_fd(), Ordering::SeqCst);
        Ok(Self {
            reader: File::from(reader),
        })
    }

    /// Reads what was told. Every process that could tell more must be gone.
    pub(crate) fn read(mut self) -> Told {
        close();
        let mut bytes = Vec::new();
        // What cannot be read was not told.
        let _ = self.reader.read_to_end(&mut bytes);
        parse(&bytes)
    }
}

fn parse(bytes: &[u8]) -> Told {
    let mut told = Told::default();
    for message in bytes.split(|byte| *byte == 0) {
        let Some((kind, text)) = message.split_first() else {
            continue;
        };
        let text = String::from_utf8_lossy(text).into_owned();
        match *kind {
            REASON => told.reason = told.reason.or(Some(text)),
            DETAIL => told.detail = told.detail.or(Some(text)),
            _ => {}
        }
    }
    told
}

/// Tells the whole reason.
pub(crate) fn tell_reason(text: &str) {
    tell(REASON, text);
}

/// Whether somebody would still read it: `create` lives.
pub(super) fn is_read() -> bool {
    let writer = WRITER.load(Ordering::SeqCst);
    if writer < 0 {
        return false;
    }
    let mut poll = libc::pollfd {
        fd: writer,
        events: 0,
        revents: 0,
    };
    // SAFETY: one pollfd, which lives through the call.
    unsafe { libc::poll(&raw mut poll, 1, 0) };
    poll.revents & libc::POLLERR == 0
}

/// Tells where something failed.
pub(crate) fn tell_detail(text: &str) {
    tell(DETAIL, text);
}

/// Closes this process' writing end.
pub(crate) fn close() {
    let writer = WRITER.swap(-1, Ordering::SeqCst);
    if writer >= 0 {
        // SAFETY: the number came from `into_raw_fd`, and the swap gave it to this call alone.
        drop(unsafe { OwnedFd::from_raw_fd(writer) });
    }
}

fn tell(kind: u8, text: &str) {
    let writer = WRITER.load(Ordering::SeqCst);
    if writer < 0 {
        return;
    }
    let mut message = vec![kind];
    message.extend(text.bytes().filter(|byte| *byte != 0));
    message.push(0);
    // SAFETY: the buffer outlives the call. A full pipe blocks nobody: 64 KiB hold far more than
    // is ever told.
    unsafe { libc::write(writer, message.as_ptr().cast(), message.len()) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_reason_and_the_first_detail_count() {
        let told = parse(b"Dmount /x: no\0Dprepare\0Rno program\0");
        assert_eq!(told.detail.as_deref(), Some("mount /x: no"));
        assert_eq!(told.reason.as_deref(), Some("no program"));
        assert!(parse(b"").reason.is_none());
    }
}
