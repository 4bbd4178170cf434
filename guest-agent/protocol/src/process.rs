//! The process half of the OCI specification: what runs, as whom, with which limits.

use serde::{Deserialize, Serialize};

/// One process: the workload's, or an `exec` session's. Values are resolved on the host (names
/// to numbers, seccomp to BPF); the agent applies them and decides nothing.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Process {
    /// The command line; never empty. `args[0]` without a slash is looked up in `PATH` of `env`.
    pub args: Vec<String>,
    /// `NAME=value`, in order.
    pub env: Vec<String>,
    /// Absolute path in the container.
    pub cwd: String,
    /// The user and groups.
    pub user: User,
    /// The five capability sets; `None` leaves the agent's full sets.
    pub capabilities: Option<Capabilities>,
    /// Resource limits.
    pub rlimits: Vec<Rlimit>,
    /// Set no_new_privs.
    pub no_new_privileges: bool,
    /// Value for `/proc/self/oom_score_adj`.
    pub oom_score_adj: Option<i32>,
    /// Filter to load as the last step before execve.
    pub seccomp: Option<Seccomp>,
    /// ioprio_set(2) value.
    pub io_priority: Option<IoPriority>,
    /// sched_setattr(2) values.
    pub scheduler: Option<Scheduler>,
    /// personality(2) value.
    pub personality: Option<u64>,
    /// Where the standard streams go.
    pub stdio: Stdio,
}

/// The random number that binds a stream connection to a request.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
pub struct StreamToken(pub [u8; 16]);

/// Where a process' standard streams go.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub enum Stdio {
    /// Three pipes in the guest, each relayed over a stream of its own. A missing one is
    /// `/dev/null`.
    Pipes {
        /// Host to guest.
        stdin: Option<StreamToken>,
        /// Guest to host.
        stdout: Option<StreamToken>,
        /// Guest to host.
        stderr: Option<StreamToken>,
    },
    /// A new pseudo terminal in the guest, its master relayed over one stream both ways.
    Terminal {
        /// Both directions.
        stream: StreamToken,
        /// The first size.
        size: TerminalSize,
    },
}

/// A terminal's size in characters.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct TerminalSize {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
}

/// `process.user`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct User {
    /// User id in the container.
    pub uid: u32,
    /// Group id in the container.
    pub gid: u32,
    /// Supplementary group ids.
    pub additional_gids: Vec<u32>,
    /// File mode creation mask.
    pub umask: Option<u32>,
}

/// `process.capabilities`: each set as a mask with bit N for capability number N.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Capabilities {
    /// The bounding set.
    pub bounding: u64,
    /// The effective set.
    pub effective: u64,
    /// The inheritable set.
    pub inheritable: u64,
    /// The permitted set.
    pub permitted: u64,
    /// The ambient set.
    pub ambient: u64,
}

/// `process.rlimits[]`.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Rlimit {
    /// `RLIMIT_*` number of Linux.
    pub resource: u32,
    /// Soft limit; `u64::MAX` is none.
    pub soft: u64,
    /// Hard limit; `u64::MAX` is none.
    pub hard: u64,
}

/// `linux.seccomp`, compiled on the host.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Seccomp {
    /// The BPF program: 8 bytes an instruction (`struct sock_filter`), little-endian.
    pub program: Vec<u8>,
    /// `SECCOMP_FILTER_FLAG_*`.
    pub flags: u64,
}

/// `process.ioPriority`.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct IoPriority {
    /// `IOPRIO_CLASS_*` number.
    pub class: u16,
    /// Priority within the class.
    pub priority: u16,
}

/// `process.scheduler`, as sched_setattr(2) takes it.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Scheduler {
    /// `SCHED_*` number.
    pub policy: u32,
    /// `SCHED_FLAG_*`.
    pub flags: u64,
    /// Nice value.
    pub nice: i32,
    /// Static priority.
    pub priority: u32,
    /// Deadline policy: runtime, deadline and period in nanoseconds.
    pub deadline: [u64; 3],
}
