//! A session's standard streams: pipes or a terminal in the guest, each relayed over a
//! connection of its own to the host.
//!
//! Owned by a session. Real pipes, so that a process can open /dev/stdout again.

mod copy;
mod pipe;
mod stream;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use krun_gpu_protocol::{Process, STREAM_PORT, Stdio as Wanted, StreamToken, TerminalSize};
use rustix::event::PollFd;
use rustix::fs::{Gid, Mode, OFlags, Uid, fchown, open};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer};

use crate::transport::Transport;
use pipe::Direction;
use stream::{Channel, Stream};

/// What can go wrong with the streams of a session.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StdioError {
    /// A pipe or /dev/null.
    #[error("make the session's {stream}")]
    Make {
        /// Which one.
        stream: &'static str,
        /// Why it failed.
        #[source]
        source: Errno,
    },
    /// The connection to the host.
    #[error("connect the session's {stream} to the host")]
    Connect {
        /// Which one.
        stream: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

/// The ends that the process gets.
#[derive(Debug)]
pub(crate) struct ProcessEnds {
    /// To read from.
    pub(crate) stdin: OwnedFd,
    /// To write to.
    pub(crate) stdout: OwnedFd,
    /// To write to.
    pub(crate) stderr: OwnedFd,
}

/// The agent's hold on a terminal. A process may close all that it has of it and live on (`cat`
/// does for a moment at its end, a daemon for good): with no slave open the master would read as
/// ended, and letting go of it would kill the process with SIGHUP. So the agent has one open.
#[derive(Debug)]
struct HeldTerminal {
    master: OwnedFd,
    _slave: OwnedFd,
}

/// The agent's side.
#[derive(Debug, Default)]
pub(crate) struct Stdio {
    waiting: Vec<(StreamToken, Channel)>,
    terminal_token: Option<StreamToken>,
    terminal: Option<HeldTerminal>,
    streams: Vec<Stream>,
}

impl Stdio {
    /// Makes what `process` asks for, owned by its user.
    pub(crate) fn new(process: &Process) -> Result<(Self, ProcessEnds), StdioError> {
        let mut stdio = Self::default();
        let (stdin, stdout, stderr) = match &process.stdio {
            Wanted::Pipes {
                stdin,
                stdout,
                stderr,
            } => (*stdin, *stdout, *stderr),
            Wanted::Terminal { stream, .. } => {
                stdio.terminal_token = Some(*stream);
                (None, None, None)
            }
        };
        let mut end = |stream, token: Option<StreamToken>, to_guest| {
            stdio
                .end(token, to_guest, process.user.uid)
                .map_err(|source| StdioError::Make { stream, source })
        };
        let ends = ProcessEnds {
            stdin: end("stdin", stdin, true)?,
            stdout: end("stdout", stdout, false)?,
            stderr: end("stderr", stderr, false)?,
        };
        Ok((stdio, ends))
    }

    /// The process' end of one stream; the agent's end is kept until it is connected.
    fn end(
        &mut self,
        token: Option<StreamToken>,
        to_guest: bool,
        uid: u32,
    ) -> Result<OwnedFd, Errno> {
        let Some(token) = token else {
            return open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
        };
        let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
        fchown(&read, Some(Uid::from_raw(uid)), None::<Gid>)?;
        let (agent, process, direction) = if to_guest {
            (write, read, Direction::ToGuest)
        } else {
            (read, write, Direction::ToHost)
        };
        self.waiting.push((token, Channel::pipe(agent, direction)));
        Ok(process)
    }

    /// The size of the terminal that `process` asks for.
    pub(crate) fn terminal_size(process: &Process) -> Option<TerminalSize> {
        match &process.stdio {
            Wanted::Terminal { size, .. } => Some(*size),
            Wanted::Pipes { .. } => None,
        }
    }

    /// Takes the terminal's master that the child sent.
    pub(crate) fn set_terminal(&mut self, master: OwnedFd) -> Result<(), StdioError> {
        let failed = |source| StdioError::Make {
            stream: "terminal",
            source,
        };
        if let Some(token) = self.terminal_token.take() {
            let copy = rustix::io::fcntl_dupfd_cloexec(&master, 0).map_err(failed)?;
            let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
            let slave = ioctl_tiocgptpeer(&master, flags).map_err(failed)?;
            self.waiting.push((token, Channel::terminal(copy)));
            self.terminal = Some(HeldTerminal {
                master,
                _slave: slave,
            });
        }
        Ok(())
    }

    /// The terminal's master.
    pub(crate) fn terminal(&self) -> Option<BorrowedFd<'_>> {
        self.terminal.as_ref().map(|held| held.master.as_fd())
    }

    /// Connects what is not connected yet.
    pub(crate) fn connect(&mut self, transport: &Transport) -> Result<(), StdioError> {
        for (token, channel) in self.waiting.drain(..) {
            let socket = transport
                .begin(STREAM_PORT)
                .map_err(|source| StdioError::Connect {
                    stream: channel.name(),
                    source,
                })?;
            self.streams.push(Stream::new(socket, token, channel));
        }
        Ok(())
    }

    /// Adds what the streams wait for.
    pub(crate) fn poll<'a>(&'a self, descriptors: &mut Vec<PollFd<'a>>) {
        for stream in &self.streams {
            stream.poll(descriptors);
        }
    }

    /// Moves what can be moved.
    pub(crate) fn pump(&mut self) {
        for stream in &mut self.streams {
            stream.pump();
        }
        self.streams.retain(|stream| !stream.is_closed());
        if self.streams.is_empty() && self.waiting.is_empty() {
            // A terminal hangs up with its stream: the host's did.
            self.terminal = None;
        }
    }

    /// The process has ended: input is of no use, output ends with what is there.
    pub(crate) fn process_ended(&mut self) {
        self.waiting.clear();
        for stream in &mut self.streams {
            stream.process_ended();
        }
        self.pump();
    }

    /// Everything was written out.
    pub(crate) fn is_closed(&self) -> bool {
        self.streams.is_empty()
    }
}
