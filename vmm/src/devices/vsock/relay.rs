//! A thread for an output that may wait although it is ready: a terminal that somebody else
//! opened, and so shares. One byte of room makes it writable, and a longer write then waits for
//! whoever looks at the terminal.
//!
//! The muxer writes a socket; the thread copies from there. It ends at the socket's end or at the
//! terminal's, closes the terminal and says that it is done. A terminal opened with O_NONBLOCK
//! needs no such thread.

use std::fs::File;
use std::io;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use crate::sys::thread;

use super::endpoint::Done;

/// Starts the thread and returns the socket that it copies from.
pub(super) fn start(output: OwnedFd, done: Option<Done>) -> io::Result<UnixStream> {
    let (ours, mut theirs) = UnixStream::pair()?;
    let mut output = File::from(output);
    thread::spawn("vsock-tty", move || {
        if let Err(error) = io::copy(&mut theirs, &mut output) {
            tracing::debug!(%error, "the terminal of a vsock stream failed");
        }
        // The muxer's next write fails, and the guest hears of it.
        let _ = theirs.shutdown(Shutdown::Both);
        drop(output);
        drop(done);
    })?;
    Ok(ours)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use vmm_sys_util::eventfd::EventFd;

    #[test]
    fn everything_is_written_before_it_is_done() {
        let (mut reader, writer) = io::pipe().unwrap();
        let event = EventFd::new(0).unwrap();
        let done = Done(event.try_clone().unwrap());
        let mut socket = start(writer.into(), Some(done)).unwrap();
        socket.write_all(&[1; 50_000]).unwrap();
        drop(socket);
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes.len(), 50_000);
        assert_eq!(event.read().unwrap(), 1);
    }
}
