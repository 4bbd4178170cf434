//! One stream: a connection to the host that starts with its token, and the pipe or terminal
//! behind it.
//!
//! Owned by `Stdio`. Nothing here blocks; a side that fails ends the stream, so that the process
//! sees end of file or SIGPIPE as it would from a pipe of the host's.

use std::os::fd::{AsFd, OwnedFd};

use krun_gpu_protocol::StreamToken;
use rustix::event::{PollFd, PollFlags};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::{Errno, write};
use rustix::net::sockopt::socket_error;
use rustix::net::{Shutdown, shutdown};

use super::copy::Copy;
use super::pipe::{Direction, Pipe, Progress};

/// The guest's side of a stream.
#[derive(Debug)]
pub(super) enum Channel {
    /// A pipe, one way.
    Pipe { pipe: Pipe, waits: Progress },
    /// A terminal's master, both ways.
    Terminal {
        master: OwnedFd,
        to_host: (Copy, Progress),
        to_guest: (Copy, Progress),
    },
}

impl Channel {
    /// The agent's end of a pipe.
    pub(super) fn pipe(end: OwnedFd, direction: Direction) -> Self {
        Self::Pipe {
            pipe: Pipe { end, direction },
            waits: Progress::Source,
        }
    }

    /// A terminal's master.
    pub(super) fn terminal(master: OwnedFd) -> Self {
        Self::Terminal {
            master,
            to_host: (Copy::new(), Progress::Source),
            to_guest: (Copy::new(), Progress::Source),
        }
    }

    /// For messages.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Pipe { pipe, .. } => match pipe.direction {
                Direction::ToGuest => "standard input",
                Direction::ToHost => "standard output or error",
            },
            Self::Terminal { .. } => "terminal",
        }
    }
}

/// How far the connection is.
#[derive(Debug)]
enum State {
    /// This much of the token was sent.
    Connecting(StreamToken, usize),
    Open,
    Closed,
}

/// One stream.
#[derive(Debug)]
pub(super) struct Stream {
    socket: Option<OwnedFd>,
    channel: Option<Channel>,
    state: State,
    process_ended: bool,
}

impl Stream {
    /// A stream over a connection that is being made.
    pub(super) fn new(socket: OwnedFd, token: StreamToken, channel: Channel) -> Self {
        if let Channel::Terminal { master, .. } = &channel {
            // The flag is the open file's; only the agent has this one open.
            if let Ok(flags) = fcntl_getfl(master) {
                let _ = fcntl_setfl(master, flags | OFlags::NONBLOCK);
            }
        }
        Self {
            socket: Some(socket),
            channel: Some(channel),
            state: State::Connecting(token, 0),
            process_ended: false,
        }
    }

    /// Everything was written out and the connection is closed.
    pub(super) fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    /// The process has ended: input ends, output ends once its pipe is empty.
    pub(super) fn process_ended(&mut self) {
        self.process_ended = true;
    }

    /// Adds what this stream waits for. A side that is not waited for is still watched for its
    /// end, unless its end is what the other side has yet to be told.
    pub(super) fn poll<'a>(&'a self, descriptors: &mut Vec<PollFd<'a>>) {
        let (Some(socket), Some(channel)) = (&self.socket, &self.channel) else {
            return;
        };
        let mut add = |descriptor: &'a OwnedFd, flags| {
            descriptors.push(PollFd::new(descriptor, flags));
        };
        if matches!(self.state, State::Connecting(..)) {
            add(socket, PollFlags::OUT);
            return;
        }
        match channel {
            Channel::Pipe { pipe, waits } => {
                let (source, sink) = match pipe.direction {
                    Direction::ToGuest => (socket, &pipe.end),
                    Direction::ToHost => (&pipe.end, socket),
                };
                if *waits == Progress::Sink {
                    add(sink, PollFlags::OUT);
                } else {
                    add(source, PollFlags::IN);
                    add(sink, PollFlags::empty());
                }
            }
            Channel::Terminal {
                master,
                to_host: (_, out),
                to_guest: (_, input),
            } => {
                let events = |read: &Progress, write: &Progress| {
                    let mut flags = PollFlags::empty();
                    if matches!(read, Progress::Source | Progress::More) {
                        flags |= PollFlags::IN;
                    }
                    if *write == Progress::Sink {
                        flags |= PollFlags::OUT;
                    }
                    flags
                };
                add(socket, events(input, out));
                let flags = events(out, input);
                // A hung-up master would be reported again and again while the host is slow.
                if !flags.is_empty() {
                    add(master, flags);
                }
            }
        }
    }

    /// Moves what can be moved.
    pub(super) fn pump(&mut self) {
        if let State::Connecting(..) = self.state
            && !self.introduce()
        {
            return;
        }
        if !matches!(self.state, State::Open) {
            return;
        }
        let (Some(socket), Some(channel)) = (&self.socket, &mut self.channel) else {
            return;
        };
        let over = match channel {
            Channel::Pipe { pipe, waits } => {
                *waits = pipe.pump(socket.as_fd());
                match pipe.direction {
                    Direction::ToGuest => *waits == Progress::End || self.process_ended,
                    Direction::ToHost => {
                        *waits == Progress::End
                            || (self.process_ended && *waits == Progress::Source)
                    }
                }
            }
            Channel::Terminal {
                master,
                to_host: (out, out_waits),
                to_guest: (input, input_waits),
            } => {
                if *input_waits != Progress::End && !self.process_ended {
                    *input_waits = input.pump(socket.as_fd(), master.as_fd());
                }
                *out_waits = out.pump(master.as_fd(), socket.as_fd());
                *out_waits == Progress::End
                    || (self.process_ended && *out_waits == Progress::Source)
            }
        };
        if over {
            self.close();
        }
    }

    /// Sends the token once the connection stands. True when the stream is open.
    fn introduce(&mut self) -> bool {
        let State::Connecting(token, sent) = &mut self.state else {
            return false;
        };
        let Some(socket) = &self.socket else {
            return false;
        };
        if !matches!(socket_error(socket), Ok(Ok(()))) {
            self.close();
            return false;
        }
        while let Some(rest @ [_, ..]) = token.0.get(*sent..) {
            match write(socket, rest) {
                Ok(written) => *sent += written,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN | Errno::NOTCONN | Errno::INPROGRESS) => return false,
                Err(_) => {
                    self.close();
                    return false;
                }
            }
        }
        self.state = State::Open;
        true
    }

    fn close(&mut self) {
        self.state = State::Closed;
        self.channel = None;
        if let Some(socket) = self.socket.take() {
            // The host may be gone already, which is as good as told.
            let _ = shutdown(&socket, Shutdown::Both);
        }
    }
}
