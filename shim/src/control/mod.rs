//! The control socket: how other calls of `krun-gpu` reach the monitor of a running container.
//!
//! `control.sock` in the state directory takes stream connections. A client sends one
//! [`Request`] as a frame of the agent protocol's form, with descriptors for an `exec`; the
//! monitor answers with [`Reply`] frames. The connection of an `exec` lives as long as its
//! session: closing it ends the session. Only the container's owner can reach the socket.

mod channel;
mod client;

use krun_gpu_protocol::{
    AgentError, Interface, Limits, Process, ProcessInfo, Statistics, TerminalSize,
};
use serde::{Deserialize, Serialize};

use crate::network::LinkKind;

pub(crate) use channel::Channel;
pub(crate) use client::{Connection, ControlError, listen};

/// The socket's name in the state directory.
pub(crate) const SOCKET: &str = "control.sock";

/// Sends `request` to the monitor of the container in this state directory; its answer.
pub(crate) fn ask(directory: &std::path::Path, request: &Request) -> Result<Reply, ControlError> {
    let connection = Connection::open(directory)?;
    connection.send(request, &[])?;
    connection.receive()
}

/// What a client asks.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) enum Request {
    /// Run the workload (`start`) with these network interfaces; the frame carries what leads
    /// to them.
    Start {
        /// The interfaces; their devices are the monitor's to choose.
        interfaces: Vec<Interface>,
        /// What the descriptors are.
        links: LinkKind,
        /// What the container's standard error should say first: what it shares with nobody.
        notices: Vec<String>,
        /// Whether the container's standard error should say why it did not start: the caller's,
        /// which says so itself, is another one.
        tell: bool,
    },
    /// Run another process (`exec`). The frame carries one descriptor for each of its streams:
    /// standard input, output and error, or a terminal to read from and to write to.
    Exec(Box<Process>),
    /// Send a signal to the session of this connection.
    Signal(i32),
    /// Give the terminal of this connection's session a new size.
    Resize(TerminalSize),
    /// Hang the terminal of this connection's session up.
    HangUp,
    /// Stop the VM's processors (`pause`).
    Pause,
    /// Let them run again (`resume`).
    Resume,
    /// Give the workload's cgroup in the guest new limits (`update`).
    Limit(Box<Limits>),
    /// What the guest uses (`events`); the answer is [`Reply::Statistics`].
    Statistics,
    /// The container's processes in the guest (`ps`); the answer is [`Reply::Processes`].
    Processes,
    /// Send a signal to every process of the container (`kill --all`).
    SignalAll(i32),
    /// Give the guest another network interface (`network::watcher`); the frame carries what leads
    /// to it.
    Plug {
        /// The interface; its device is the monitor's to choose.
        interface: Box<Interface>,
        /// What the descriptors are.
        kind: LinkKind,
    },
    /// Take the network interface of this name from the guest; its tap is gone with the answer.
    Unplug(String),
    /// Say this on the container's standard error.
    Notice(String),
}

/// What the monitor answers.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) enum Reply {
    /// The process runs, or the signal was sent.
    Done,
    /// What the guest uses.
    Statistics(Statistics),
    /// The container's processes.
    Processes(Vec<ProcessInfo>),
    /// It could not be done.
    Failed(AgentError),
    /// The session's process ended with this status, and its output was written.
    Ended(u8),
}
