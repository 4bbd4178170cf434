//! The host's end of a connection: an input that goes to the guest, an output that comes from it.
//!
//! Descriptors are registered once, edge-triggered, and what epoll says is remembered in `ready`
//! until a call finds the opposite. A descriptor leaves epoll before it is closed: its open file
//! may live on in another process, and epoll watches files, not descriptors.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use rustix::net::Shutdown;
use vm_memory::VolatileSlice;
use vmm_sys_util::eventfd::EventFd;

use crate::sys::stream::{Direction, Stream, StreamError};

use super::relay;

/// Signals its eventfd when it is dropped: as the last thing that a stream's end does.
#[derive(Debug)]
pub(super) struct Done(pub(super) EventFd);

impl Drop for Done {
    fn drop(&mut self) {
        // It fails only when the counter is at its limit, and then it is readable.
        let _ = self.0.write(1);
    }
}

/// Both directions' descriptors, before there is a connection to join them to.
#[derive(Debug)]
pub(super) struct Endpoint {
    /// What goes to the guest.
    pub(super) input: Option<Stream>,
    /// What comes from the guest; closed before `done`.
    pub(super) output: Option<Stream>,
    /// Ours alone: a socket whose other end shall see the end of `output`.
    pub(super) own: bool,
    /// Told when `output` is closed.
    pub(super) done: Option<Done>,
}

impl Endpoint {
    /// An end on descriptors that others may share.
    pub(super) fn shared(
        input: Option<OwnedFd>,
        output: Option<OwnedFd>,
        done: Done,
    ) -> Result<Self, EndpointError> {
        let input = input
            .map(|fd| Stream::new(fd, Direction::Read))
            .transpose()?;
        let mut done = Some(done);
        let output = match output.map(|fd| Stream::new(fd, Direction::Write)) {
            None => None,
            Some(Err(StreamError::NeedsThread { descriptor })) => {
                let socket = relay::start(descriptor, done.take()).map_err(EndpointError::Relay)?;
                Some(Stream::new(socket.into(), Direction::Write)?)
            }
            Some(stream) => Some(stream?),
        };
        Ok(Self {
            input,
            output,
            own: false,
            done,
        })
    }

    /// An end on a new pair of sockets, and the other socket.
    pub(super) fn pair() -> Result<(Self, UnixStream), EndpointError> {
        let (ours, theirs) = UnixStream::pair().map_err(EndpointError::Pair)?;
        let output = ours.try_clone().map_err(EndpointError::Pair)?;
        let end = Self {
            input: Some(Stream::new(ours.into(), Direction::Read)?),
            output: Some(Stream::new(output.into(), Direction::Write)?),
            own: true,
            done: None,
        };
        Ok((end, theirs))
    }
}

/// Why there is no end on the host.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// A descriptor is no stream.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// The thread for a descriptor that may wait could not be started.
    #[error("start a thread that writes a terminal")]
    Relay(#[source] io::Error),
    /// There is no pair of sockets to be had.
    #[error("make a pair of sockets")]
    Pair(#[source] io::Error),
    /// epoll does not take a descriptor.
    #[error("watch descriptor {descriptor}")]
    Watch {
        /// Its number.
        descriptor: i32,
        /// The reason.
        #[source]
        source: io::Error,
    },
}

/// A stream under epoll's eyes.
#[derive(Debug)]
struct Watched {
    stream: Stream,
    registry: Arc<Registry>,
    /// Which half of the socket it is, if it is one of ours: the other half has a descriptor of
    /// the same socket, so that closing this one alone says nothing to the other end.
    half: Option<Shutdown>,
}

impl Watched {
    fn new(
        stream: Stream,
        half: Option<Shutdown>,
        registry: &Arc<Registry>,
        token: Token,
        interest: Interest,
    ) -> Result<Self, EndpointError> {
        let descriptor = stream.as_fd().as_raw_fd();
        if stream.is_pollable() {
            registry
                .register(&mut SourceFd(&descriptor), token, interest)
                .map_err(|source| EndpointError::Watch { descriptor, source })?;
        }
        Ok(Self {
            stream,
            registry: Arc::clone(registry),
            half,
        })
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if self.stream.is_pollable() {
            let descriptor = self.stream.as_fd().as_raw_fd();
            // It is registered, so this cannot fail.
            let _ = self.registry.deregister(&mut SourceFd(&descriptor));
        }
        if let Some(half) = self.half
            && let Err(error) = rustix::net::shutdown(self.stream.as_fd(), half)
        {
            tracing::debug!(%error, "shut half of a vsock stream's socket down");
        }
    }
}

/// A connected input.
#[derive(Debug)]
pub(super) struct Input {
    watched: Watched,
    /// There may be something to read.
    pub(super) ready: bool,
}

impl Input {
    /// Watches `stream`, with `token`; `own` as in [`Endpoint`].
    pub(super) fn new(
        stream: Stream,
        own: bool,
        registry: &Arc<Registry>,
        token: Token,
    ) -> Result<Self, EndpointError> {
        let half = own.then_some(Shutdown::Read);
        Ok(Self {
            watched: Watched::new(stream, half, registry, token, Interest::READABLE)?,
            ready: true,
        })
    }

    /// Reads into guest memory. `None` when there is nothing now, `Some(0)` at the end.
    pub(super) fn read(&mut self, target: &[VolatileSlice<'_>]) -> Option<usize> {
        loop {
            match self.watched.stream.read(target) {
                Ok(length) => return Some(length),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.ready = false;
                    return None;
                }
                // A terminal that hung up, a connection that was reset: no more will come.
                Err(error) => {
                    tracing::debug!(%error, "the input of a vsock stream failed");
                    return Some(0);
                }
            }
        }
    }
}

/// A connected output.
#[derive(Debug)]
pub(super) struct Output {
    watched: Watched,
    /// It may take something.
    pub(super) ready: bool,
}

impl Output {
    /// Watches `stream`, with `token`; `own` as in [`Endpoint`].
    pub(super) fn new(
        stream: Stream,
        own: bool,
        registry: &Arc<Registry>,
        token: Token,
    ) -> Result<Self, EndpointError> {
        let half = own.then_some(Shutdown::Write);
        Ok(Self {
            watched: Watched::new(stream, half, registry, token, Interest::WRITABLE)?,
            ready: true,
        })
    }

    /// Whether nobody will ever read this again, now that epoll has seen it hang up. A shared
    /// FIFO may find another reader, so its end is only what a write says.
    pub(super) fn ends_at_hangup(&self) -> bool {
        self.watched.half.is_some()
    }

    /// Writes as much of `source` as the output takes now and returns how much that was.
    /// An error is the output's end.
    pub(super) fn write(&mut self, source: &[VolatileSlice<'_>]) -> io::Result<usize> {
        while self.ready {
            match self.watched.stream.write(source) {
                Ok(length) => return Ok(length),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.ready = false,
                Err(error) => return Err(error),
            }
        }
        Ok(0)
    }
}
