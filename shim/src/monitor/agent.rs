//! The host's end of the control connection: requests to the agent, and what it says.
//!
//! A guest that breaks the protocol loses its VM: every error here ends it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use krun_gpu_protocol::frame::FrameError;
use krun_gpu_protocol::{GuestMessage, Request, RequestBody};

use crate::control::Channel;

/// What is wrong with the agent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AgentFault {
    /// The connection failed.
    #[error("the connection to the guest's agent failed")]
    Io(#[from] io::Error),
    /// What came is no message, or none could be sent.
    #[error("the guest's agent broke the protocol")]
    Frame(#[from] FrameError),
    /// The connection was closed.
    #[error("the guest's agent closed its connection")]
    Closed,
    /// A message at the wrong time.
    #[error("the guest's agent broke the protocol: unexpected {0}")]
    Unexpected(&'static str),
    /// Another version.
    #[error(
        "the guest's agent speaks version {theirs} of the protocol and krun-gpu version {ours}: \
         they were not installed together"
    )]
    Version {
        /// The agent's.
        theirs: u16,
        /// Ours.
        ours: u16,
    },
    /// No answer in time.
    #[error("the guest did not answer within {seconds} seconds while {waiting_for}")]
    Silent {
        /// How long was waited.
        seconds: u64,
        /// What for.
        waiting_for: &'static str,
    },
}

/// The connection.
#[derive(Debug)]
pub(super) struct Agent {
    channel: Channel,
    last_id: u64,
    open: bool,
}

impl Agent {
    pub(super) fn new(stream: std::os::unix::net::UnixStream) -> io::Result<Self> {
        Ok(Self {
            channel: Channel::new(stream)?,
            last_id: 0,
            open: true,
        })
    }

    /// Sends a request; its id.
    pub(super) fn send(&mut self, body: RequestBody) -> Result<u64, AgentFault> {
        self.last_id += 1;
        let id = self.last_id;
        self.channel.send(&Request { id, body })?;
        Ok(id)
    }

    /// Takes in what has arrived.
    pub(super) fn fill(&mut self) -> Result<(), AgentFault> {
        if !self.channel.fill()? {
            self.open = false;
        }
        Ok(())
    }

    /// The next whole message. An error once the connection is closed and all was read.
    pub(super) fn next(&mut self) -> Result<Option<GuestMessage>, AgentFault> {
        match self.channel.next()? {
            None if !self.open => Err(AgentFault::Closed),
            message => Ok(message),
        }
    }
}

impl AsFd for Agent {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }
}
