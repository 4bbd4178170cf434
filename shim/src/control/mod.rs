//! The control socket: how other calls of `krun-gpu` reach the monitor of a running container.
//!
//! `control.sock` in the state directory takes stream connections. A client sends one
//! [`Request`] as a frame of the agent protocol's form, with descriptors for an `exec`; the
//! monitor answers with [`Reply`] frames. The connection of an `exec` lives as long as its
//! session: closing it ends the session. Only the container's owner can reach the socket.

mod channel;
mod client;

use krun_gpu_protocol::{AgentError, Process, TerminalSize};
use serde::{Deserialize, Serialize};

pub(crate) use channel::Channel;
pub(crate) use client::{Connection, ControlError, listen};

/// The socket's name in the state directory.
pub(crate) const SOCKET: &str = "control.sock";

/// What a client asks.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) enum Request {
    /// Run the workload (`start`).
    Start,
    /// Run another process (`exec`). The frame carries one descriptor for each of its streams:
    /// standard input, output and error, or a terminal to read from and to write to.
    Exec(Box<Process>),
    /// Send a signal to the session of this connection.
    Signal(i32),
    /// Give the terminal of this connection's session a new size.
    Resize(TerminalSize),
    /// Hang the terminal of this connection's session up.
    HangUp,
    /// Send a signal to every process of the container (`kill --all`).
    SignalAll(i32),
}

/// What the monitor answers.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) enum Reply {
    /// The process runs, or the signal was sent.
    Done,
    /// It could not be done.
    Failed(AgentError),
    /// The session's process ended with this status, and its output was written.
    Ended(u8),
}
