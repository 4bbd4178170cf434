//! The agent protocol: what the host's monitor (shim/) and the guest's PID 1 (guest-agent/) say
//! to each other over virtio-vsock.
//!
//! One control connection, opened by the guest to [`CONTROL_PORT`] of [`HOST_CID`], carries
//! [`frame`]s. The guest speaks first, with [`GuestMessage::Hello`]. The host then sends
//! [`Request`]s, each with an id of its choice; each is answered by one [`GuestMessage::Reply`]
//! with that id, in any order. [`Event`]s come unasked.
//!
//! Every stdio channel of a session is a connection of its own, opened by the guest to
//! [`STREAM_PORT`]. Its first 16 bytes are the [`StreamToken`] that the request named; what
//! follows is the channel's bytes, in one direction for pipes and both for a terminal. End of
//! file is a half-close. Tokens are the host's random numbers: no path and no descriptor number
//! crosses the boundary.
//!
//! The host trusts nothing that it reads here: frames are bounded before they are decoded, and a
//! guest that breaks the protocol loses its VM.

pub mod frame;
mod gpu;
mod message;
mod network;
mod process;
mod workload;

pub use gpu::{Gpu, GpuAccess, GpuDriver};
pub use message::{
    AgentError, ErrorKind, Event, GuestMessage, ProcessInfo, Reply, Request, RequestBody,
    Statistics,
};
pub use network::{Address, Interface, Neighbour, Route};
pub use process::{
    Capabilities, IoPriority, Process, Rlimit, Scheduler, Seccomp, Stdio, StreamToken,
    TerminalSize, User,
};
pub use workload::{
    Device, DeviceKind, Disk, Hook, Limits, Mount, MountFlags, MountSource, Propagation, Workload,
};

/// Version of this protocol. Host and guest are built together; a difference is an installation
/// error, reported and never negotiated.
pub const VERSION: u16 = 6;

/// The host's context id, as virtio 1.2 section 5.10.4 has it.
pub const HOST_CID: u32 = 2;

/// The guest's context id. Every VM has its own muxer, so all guests use the same one.
pub const GUEST_CID: u32 = 3;

/// Port of the host for the control connection.
pub const CONTROL_PORT: u32 = 1024;

/// Port of the host for stdio streams.
pub const STREAM_PORT: u32 = 1025;

/// Tag of the virtio-fs device that holds the container's root file system.
pub const ROOT_TAG: &str = "krun-root";

/// The session id of the workload itself; `exec` sessions have others.
pub const WORKLOAD_SESSION: u64 = 0;
