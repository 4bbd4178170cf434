//! The client's end of the control socket.

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use krun_gpu_protocol::frame::{self, FrameError};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

use super::{Reply, Request, SOCKET};

/// What can go wrong between a client and the monitor.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ControlError {
    /// The socket.
    #[error("{action} {}", path.display())]
    Socket {
        /// What was being done.
        action: &'static str,
        /// The socket's path.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// The exchange.
    #[error("talk to the container's monitor")]
    Talk(#[source] FrameError),
    /// The exchange.
    #[error("talk to the container's monitor")]
    Io(#[source] io::Error),
    /// The monitor is gone.
    #[error("the container ended")]
    Ended,
}

/// A connection to a monitor.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: UnixStream,
}

impl Connection {
    /// Connects to the monitor of the container in this state directory.
    pub(crate) fn open(directory: &Path) -> Result<Self, ControlError> {
        let path = directory.join(SOCKET);
        let connect = || {
            let directory = File::open(directory)?;
            UnixStream::connect(short(&directory))
        };
        match connect() {
            Ok(stream) => Ok(Self { stream }),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                Err(ControlError::Ended)
            }
            Err(source) => Err(ControlError::Socket {
                action: "connect to",
                path,
                source,
            }),
        }
    }

    /// Sends a request with descriptors.
    pub(crate) fn send(
        &self,
        request: &Request,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), ControlError> {
        let mut bytes = Vec::new();
        frame::write(&mut bytes, request).map_err(ControlError::Talk)?;
        // The descriptors go with the first bytes, the rest follows.
        let numbers: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&numbers)];
        let rights: &[ControlMessage<'_>] = if numbers.is_empty() { &[] } else { &rights };
        let sent = sendmsg::<()>(
            self.stream.as_raw_fd(),
            &[IoSlice::new(&bytes)],
            rights,
            MsgFlags::MSG_NOSIGNAL,
            None,
        )
        .map_err(|error| ControlError::Io(error.into()))?;
        let rest = bytes.get(sent..).unwrap_or_default();
        io::Write::write_all(&mut &self.stream, rest).map_err(ControlError::Io)
    }

    /// Waits for the next answer.
    pub(crate) fn receive(&self) -> Result<Reply, ControlError> {
        match frame::read(&self.stream) {
            Ok(Some(reply)) => Ok(reply),
            Ok(None) => Err(ControlError::Ended),
            Err(FrameError::Io(error)) if error.kind() == io::ErrorKind::ConnectionReset => {
                Err(ControlError::Ended)
            }
            Err(error) => Err(ControlError::Talk(error)),
        }
    }
}

impl From<OwnedFd> for Connection {
    /// A connection that somebody else has opened.
    fn from(descriptor: OwnedFd) -> Self {
        Self {
            stream: descriptor.into(),
        }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// Makes the socket of a new container.
pub(crate) fn listen(directory: &Path) -> Result<UnixListener, ControlError> {
    let bind = || UnixListener::bind(short(&File::open(directory)?));
    bind().map_err(|source| ControlError::Socket {
        action: "make",
        path: directory.join(SOCKET),
        source,
    })
}

/// A path to the socket that fits into an address (107 bytes), however long the directory's is.
fn short(directory: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/{SOCKET}", directory.as_raw_fd()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Channel;

    #[test]
    fn requests_bring_descriptors_through_a_long_path() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("x".repeat(200));
        std::fs::create_dir(&directory).unwrap();
        let listener = listen(&directory).unwrap();
        let connection = Connection::open(&directory).unwrap();
        let null = File::open("/dev/null").unwrap();
        let descriptors = [null.as_fd(), null.as_fd()];
        connection.send(&Request::Pause, &descriptors).unwrap();
        let mut channel = Channel::new(listener.accept().unwrap().0).unwrap();
        channel.fill().unwrap();
        assert!(matches!(channel.next().unwrap(), Some(Request::Pause)));
        assert_eq!(channel.take_descriptors().len(), 2);
        channel.send(&Reply::Ended(7)).unwrap();
        assert!(matches!(connection.receive().unwrap(), Reply::Ended(7)));
        drop((channel, listener));
        assert!(matches!(connection.receive(), Err(ControlError::Ended)));
        assert!(matches!(
            Connection::open(&directory),
            Err(ControlError::Ended)
        ));
    }
}
