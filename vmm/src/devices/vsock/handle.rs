//! What the host's side of the program sees of the muxer: the host monitor in shim/ calls it,
//! from any thread, before the guest runs as well as after.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, Sender, SyncSender, sync_channel};
use std::sync::{Arc, Weak};

use mio::Waker;
use rustix::event::{EventfdFlags, eventfd};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::VsockError;
use super::endpoint::{Done, Endpoint};
use super::worker::Command;

/// Connections that wait for [`VsockListener::accept`]; further ones are refused.
const BACKLOG: usize = 16;

/// The random number that names a stream; it is the stream's first 16 bytes.
pub type Token = [u8; 16];

/// The host's hold on a guest's vsock. Cheap to clone; calls fail with
/// [`VsockError::Stopped`] once the device is gone.
#[derive(Clone, Debug)]
pub struct VsockHandle {
    commands: Sender<Command>,
    waker: Arc<Waker>,
    stream_port: u32,
}

impl VsockHandle {
    pub(super) fn new(commands: Sender<Command>, waker: Arc<Waker>, stream_port: u32) -> Self {
        Self {
            commands,
            waker,
            stream_port,
        }
    }

    /// The port whose connections begin with a token.
    pub fn stream_port(&self) -> u32 {
        self.stream_port
    }

    /// Takes the guest's connections to `port` from now on; dropping the listener refuses them
    /// again. Fails when the port is taken.
    pub fn listen(&self, port: u32) -> Result<VsockListener, VsockError> {
        if port == self.stream_port {
            return Err(VsockError::PortTaken { port });
        }
        let pending = eventfd(0, EventfdFlags::SEMAPHORE | EventfdFlags::CLOEXEC)
            .map_err(|error| VsockError::Event(error.into()))?;
        let pending = Arc::new(pending);
        let (sender, connections) = sync_channel(BACKLOG);
        let acceptor = Acceptor {
            connections: sender,
            pending: Arc::downgrade(&pending),
        };
        self.call(|reply| Command::Listen {
            port,
            acceptor,
            reply,
        })??;
        Ok(VsockListener {
            connections,
            pending,
        })
    }

    /// Joins the guest's connection to [`Self::stream_port`] that begins with `token` to these
    /// descriptors, whether it is there already or comes later (a guest that is early is kept
    /// waiting for 10 seconds). Bytes from `input` go to the guest, and its end becomes a
    /// half-close; bytes from the guest go to `output`. Without `input` nothing goes to the guest;
    /// without `output` the guest is told that nothing is received.
    ///
    /// The descriptors may be shared with other processes, and their O_NONBLOCK is left alone; a
    /// terminal to write to is best opened with O_NONBLOCK, for it gets a thread of its own else.
    pub fn attach(
        &self,
        token: Token,
        input: Option<OwnedFd>,
        output: Option<OwnedFd>,
    ) -> Result<Attached, VsockError> {
        let done = EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK).map_err(VsockError::Event)?;
        let signal = Done(done.try_clone().map_err(VsockError::Event)?);
        let endpoint =
            Endpoint::shared(input, output, signal).map_err(|source| VsockError::Endpoint {
                source: Box::new(source),
            })?;
        self.call(|reply| Command::Attach {
            token,
            endpoint,
            reply,
        })??;
        Ok(Attached { done })
    }

    /// Forgets an [`Self::attach`]: its descriptors are closed, its connection, should there be
    /// one, is reset, and what was not yet written is lost. An unknown token is no error.
    pub fn release(&self, token: Token) -> Result<(), VsockError> {
        self.call(|reply| Command::Release { token, reply })
    }

    /// The guest has stopped for good. What it has sent is still taken in; then every connection
    /// is over, and [`Attached::done`] follows as soon as its output has taken everything.
    pub fn guest_ended(&self) -> Result<(), VsockError> {
        self.call(|reply| Command::GuestEnded { reply })
    }

    /// Sends the command that `command` makes and waits for its answer.
    pub(super) fn call<T>(
        &self,
        command: impl FnOnce(SyncSender<T>) -> Command,
    ) -> Result<T, VsockError> {
        let (reply, answer) = sync_channel(1);
        self.commands
            .send(command(reply))
            .map_err(|_| VsockError::Stopped)?;
        self.waker.wake().map_err(VsockError::Wake)?;
        answer.recv().map_err(|_| VsockError::Stopped)
    }
}

/// An attached stream.
#[derive(Debug)]
pub struct Attached {
    /// Becomes readable when everything from the guest was written to the output, or the output
    /// failed, and the output is closed. Without an output: when the connection is over.
    pub done: EventFd,
}

/// The guest's connections to one port. Its descriptor is readable while there is one to accept.
#[derive(Debug)]
pub struct VsockListener {
    connections: Receiver<UnixStream>,
    pending: Arc<OwnedFd>,
}

impl VsockListener {
    /// Waits for the next connection. Its other end is the muxer's: bytes written go to the
    /// guest, and shutting down or closing it ends the guest's connection likewise. Fails with
    /// `BrokenPipe` once the device is gone.
    pub fn accept(&self) -> io::Result<UnixStream> {
        let stream = self
            .connections
            .recv()
            .map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        // The count follows the connection at once.
        let mut count = [0; 8];
        rustix::io::retry_on_intr(|| rustix::io::read(&*self.pending, &mut count))?;
        Ok(stream)
    }
}

impl AsFd for VsockListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pending.as_fd()
    }
}

/// The muxer's side of a [`VsockListener`].
#[derive(Debug)]
pub(super) struct Acceptor {
    connections: SyncSender<UnixStream>,
    pending: Weak<OwnedFd>,
}

impl Acceptor {
    /// Whether the listener still exists.
    pub(super) fn is_open(&self) -> bool {
        self.pending.strong_count() > 0
    }

    /// Hands a connection over, unless the backlog is full or the listener gone.
    pub(super) fn hand_over(&self, stream: UnixStream) -> bool {
        let Some(pending) = self.pending.upgrade() else {
            return false;
        };
        self.connections.try_send(stream).is_ok() && signal(&pending)
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        // Whoever polls the listener finds out, from accept, that there will be no more.
        if let Some(pending) = self.pending.upgrade() {
            signal(&pending);
        }
    }
}

fn signal(event: &OwnedFd) -> bool {
    rustix::io::write(event, &1_u64.to_ne_bytes()).is_ok()
}
