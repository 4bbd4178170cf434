//! The messages themselves: requests of the host, replies and events of the guest.

use serde::{Deserialize, Serialize};

use crate::{Interface, Limits, Process, TerminalSize, Workload};

/// What the host asks, with an id that the answer repeats.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Request {
    /// The host's number for this request.
    pub id: u64,
    /// What is asked.
    pub body: RequestBody,
}

/// The host's requests.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub enum RequestBody {
    /// Build the workload's surroundings (mounts, devices, cgroup, host name). Once, at `create`.
    Prepare(Box<Workload>),
    /// Set these interfaces up, whose NICs are plugged in, and run the prepared workload's
    /// process. Once, at `start`.
    Start {
        /// The container's interfaces but loopback.
        interfaces: Vec<Interface>,
    },
    /// Run another process in the workload's namespaces.
    Exec {
        /// The host's number for the session, never 0 and never used twice.
        session: u64,
        /// What to run.
        process: Box<Process>,
    },
    /// Send a signal to a session's process.
    Signal {
        /// The session; 0 is the workload.
        session: u64,
        /// The signal's number.
        signal: i32,
        /// Every process of the container instead (only with session 0).
        all: bool,
    },
    /// Give a session's terminal a new size.
    Resize {
        /// The session; 0 is the workload.
        session: u64,
        /// Its new size.
        size: TerminalSize,
    },
    /// End a session whose host process is gone: kill its process group.
    EndSession {
        /// The session, never 0.
        session: u64,
    },
    /// Give the workload's cgroup new limits; those that are `None` stay as they are.
    Limit(Box<Limits>),
    /// What the guest uses, for `events --stats` and the benchmarks.
    Statistics,
    /// The workload's processes, for `ps`.
    Processes,
    /// Set another interface up, whose NIC is plugged in. After `Start`.
    AddInterface(Box<Interface>),
    /// Take an interface away. Its NIC is unplugged when this is answered, however.
    RemoveInterface {
        /// The number of its NIC among the VM's virtio devices.
        device: u32,
    },
}

/// What the guest says.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub enum GuestMessage {
    /// The first message: the agent runs.
    Hello {
        /// The guest's [`crate::VERSION`].
        version: u16,
        /// The guest kernel's release.
        release: String,
        /// The guest's CLOCK_MONOTONIC at the agent's first instruction, in microseconds.
        uptime_us: u64,
    },
    /// The answer to the request with this id.
    Reply {
        /// The request's id.
        id: u64,
        /// How it went.
        result: Result<Reply, AgentError>,
    },
    /// Something happened.
    Event(Event),
}

/// A request's good outcome.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub enum Reply {
    /// Done, with nothing to say.
    Done,
    /// A process runs.
    Started {
        /// Its pid as the workload's own pid namespace numbers it.
        pid: i32,
    },
    /// The answer to [`RequestBody::Statistics`].
    Statistics(Statistics),
    /// The answer to [`RequestBody::Processes`], sorted by pid.
    Processes(Vec<ProcessInfo>),
}

/// What the guest uses.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Statistics {
    /// Memory in use in the guest as a whole, in bytes (total less available).
    pub memory_used: u64,
    /// Memory of the guest as a whole, in bytes.
    pub memory_total: u64,
    /// Memory charged to the workload's cgroup, in bytes.
    pub workload_memory: u64,
    /// CPU time of the workload's cgroup, in microseconds.
    pub workload_cpu_us: u64,
    /// Processes of the workload.
    pub workload_pids: u64,
}

/// One process of the workload.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ProcessInfo {
    /// Its number in the container's pid namespace.
    pub pid: i32,
    /// Its parent's.
    pub parent: i32,
    /// The user that it runs as, in the container.
    pub uid: u32,
    /// CPU time so far, in milliseconds.
    pub cpu_ms: u64,
    /// Its command line, or its name in brackets if it has none.
    pub command: String,
}

/// What happens unasked.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub enum Event {
    /// A session's process ended and its streams were written out and closed. For the workload
    /// this is the agent's last message.
    Exited {
        /// The session; 0 is the workload.
        session: u64,
        /// The exit status, or 128 plus the number of the signal that ended it.
        status: u8,
        /// The guest's OOM killer ended a process of the workload's cgroup during this session.
        oom_killed: bool,
    },
    /// The guest's OOM killer ended a process of the workload.
    OutOfMemory,
}

/// A request's bad outcome, in words for the user.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, thiserror::Error)]
#[error("{message}")]
pub struct AgentError {
    /// What kind of failure it was: the host turns it into an exit status.
    pub kind: ErrorKind,
    /// What the agent was doing, with which values, and the reason.
    pub message: String,
    /// The guest's errno, or 0.
    pub errno: i32,
}

/// What kind of failure a request met.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum ErrorKind {
    /// The program is not there: exit status 127.
    NotFound,
    /// The program is there and cannot be executed: exit status 126.
    NotExecutable,
    /// The session is not there (any more).
    NoSession,
    /// The request does not fit the agent's state or asks for what the guest does not have.
    Refused,
    /// Anything else.
    Failed,
}
