//! The channel between the agent and a child that has not become its program yet.
//!
//! Used by `session/` on both ends. A pair of packet sockets, closed by execve(2): its end tells
//! the agent that the program runs.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use krun_gpu_protocol::{AgentError, frame};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::{Deserialize, Serialize};

/// Longest message: error texts are cut to fit.
const MAX_MESSAGE: usize = 16 << 10;

/// What is said on the channel.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) enum Message {
    /// Child: the surroundings are built.
    Prepared,
    /// Child: here is the terminal's master.
    Terminal,
    /// Child: about to execute the program, with this pid of its own namespace.
    Executing {
        /// The pid.
        pid: i32,
    },
    /// Child: it went wrong, and the process ends.
    Failed(AgentError),
    /// Agent: run the program.
    Start,
}

/// What was received.
#[derive(Debug)]
pub(crate) enum Received {
    /// A message, and the descriptor that came with it.
    Message(Message, Option<OwnedFd>),
    /// Nothing now.
    Nothing,
    /// The other side is gone.
    End,
}

/// One end.
#[derive(Debug)]
pub(crate) struct Channel(OwnedFd);

impl Channel {
    /// A pair: the agent's end and the child's.
    pub(crate) fn pair() -> Result<(Self, Self), Errno> {
        let (agent, child) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        Ok((Self(agent), Self(child)))
    }

    /// The end that is this descriptor.
    pub(super) fn from_descriptor(descriptor: OwnedFd) -> Self {
        Self(descriptor)
    }

    /// Sends `message`, with a descriptor if there is one.
    pub(crate) fn send(
        &self,
        message: &Message,
        descriptor: Option<BorrowedFd<'_>>,
    ) -> Result<(), Errno> {
        let mut bytes = Vec::new();
        frame::write(&mut bytes, message).map_err(|_| Errno::MSGSIZE)?;
        if bytes.len() > MAX_MESSAGE {
            return Err(Errno::MSGSIZE);
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let descriptors = descriptor.as_slice();
        if !descriptors.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(descriptors));
        }
        sendmsg(
            &self.0,
            &[IoSlice::new(&bytes)],
            &mut control,
            SendFlags::NOSIGNAL,
        )
        .map(drop)
    }

    /// Receives one message; waits for it only if `wait`.
    pub(crate) fn receive(&self, wait: bool) -> Result<Received, Errno> {
        let mut bytes = vec![0; MAX_MESSAGE];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = if wait {
            RecvFlags::CMSG_CLOEXEC
        } else {
            RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT
        };
        let received = loop {
            match recvmsg(
                &self.0,
                &mut [IoSliceMut::new(&mut bytes)],
                &mut control,
                flags,
            ) {
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(Received::Nothing),
                Err(Errno::CONNRESET) => return Ok(Received::End),
                received => break received?,
            }
        };
        if received.bytes == 0 {
            return Ok(Received::End);
        }
        let mut descriptor = None;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(mut descriptors) = message {
                descriptor = descriptors.next();
            }
        }
        let message = frame::read(bytes.get(..received.bytes).unwrap_or_default())
            .ok()
            .flatten()
            .ok_or(Errno::BADMSG)?;
        Ok(Received::Message(message, descriptor))
    }

    /// Reports a failure; a very long text is cut.
    pub(crate) fn fail(&self, mut error: AgentError) {
        const LONGEST: usize = MAX_MESSAGE / 2;
        if error.message.len() > LONGEST {
            error.message = error.message.chars().take(LONGEST / 4).collect();
        }
        // The agent is PID 1: while this process runs, it is there.
        let _ = self.send(&Message::Failed(error), None);
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
