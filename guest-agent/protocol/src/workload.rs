//! The surroundings half: what the guest builds around the workload before it runs.

use serde::{Deserialize, Serialize};

use crate::{Gpu, Process};

/// Everything that `Prepare` needs. Paths are absolute paths in the container.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Workload {
    /// Host name of the workload's UTS namespace.
    pub hostname: Option<String>,
    /// NIS domain name of it.
    pub domainname: Option<String>,
    /// The root file system is read-only (the host enforces it; the guest shows it).
    pub root_readonly: bool,
    /// Propagation of the root mount.
    pub root_propagation: Option<Propagation>,
    /// The mounts, in the specification's order.
    pub mounts: Vec<Mount>,
    /// Nodes of /dev beyond the standard ones.
    pub devices: Vec<Device>,
    /// Nodes for the VM's disks.
    pub disks: Vec<Disk>,
    /// The GPU, when one was asked for.
    pub gpu: Option<Gpu>,
    /// Paths hidden from the workload.
    pub masked_paths: Vec<String>,
    /// Paths that the workload may not write.
    pub readonly_paths: Vec<String>,
    /// `/proc/sys` values by dotted name.
    pub sysctl: Vec<(String, String)>,
    /// Limits for the guest's cgroup of the workload.
    pub limits: Limits,
    /// startContainer hooks, run in the container just before the process.
    pub start_container_hooks: Vec<Hook>,
    /// OCI state as JSON, for the hooks' standard input.
    pub state: String,
    /// The process.
    pub process: Process,
    /// The host's CLOCK_REALTIME in nanoseconds, should the guest have no clock of its own.
    pub realtime_ns: u64,
}

/// One mount.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Mount {
    /// Where it is mounted.
    pub destination: String,
    /// What is mounted.
    pub source: MountSource,
    /// Its flags.
    pub flags: MountFlags,
    /// Propagation, with `true` for the recursive form.
    pub propagation: Option<(Propagation, bool)>,
}

/// What a mount shows.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub enum MountSource {
    /// What the host has mounted in the exported tree.
    Host {
        /// Where in it: the mount's destination, but for what the host cannot mount there.
        exported_at: String,
    },
    /// A file system of the guest's kernel.
    Guest {
        /// Its type, such as `proc`, `tmpfs`, `cgroup2`.
        kind: String,
        /// The source as `/proc/mounts` shows it.
        source: String,
        /// Its own options, joined by commas.
        data: String,
        /// tmpfs only: copy what the destination holds into it first (Podman's `tmpcopyup`).
        copy_up: bool,
    },
}

bitflags::bitflags! {
    /// Mount flags, with the numbers of Linux's `MS_*`.
    #[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
    pub struct MountFlags: u64 {
        /// `ro`
        const READ_ONLY = 1;
        /// `nosuid`
        const NO_SUID = 2;
        /// `nodev`
        const NO_DEV = 4;
        /// `noexec`
        const NO_EXEC = 8;
        /// `sync`
        const SYNCHRONOUS = 16;
        /// `dirsync`
        const DIR_SYNC = 128;
        /// `nosymfollow`
        const NO_SYMLINK_FOLLOW = 256;
        /// `noatime`
        const NO_ATIME = 1024;
        /// `nodiratime`
        const NO_DIR_ATIME = 2048;
        /// `rbind`: the flags hold for what is mounted below as well (`rro` and the like)
        const RECURSIVE = 16384;
        /// `relatime`
        const RELATIME = 1 << 21;
        /// `strictatime`
        const STRICT_ATIME = 1 << 24;
        /// `lazytime`
        const LAZYTIME = 1 << 25;
    }
}

/// Mount propagation.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Propagation {
    /// `private`
    Private,
    /// `shared`
    Shared,
    /// `slave`
    Slave,
    /// `unbindable`
    Unbindable,
}

/// A device node.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Device {
    /// Where it is.
    pub path: String,
    /// Its kind.
    pub kind: DeviceKind,
    /// Major number in the guest.
    pub major: u32,
    /// Minor number in the guest.
    pub minor: u32,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// A node for a disk of the VM's. The guest knows its number.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Disk {
    /// What the disk calls itself, in /sys/block.
    pub serial: String,
    /// Where the node is.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// A device node's kind.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum DeviceKind {
    /// A character device.
    Character,
    /// A block device.
    Block,
    /// A FIFO.
    Fifo,
}

/// The guest cgroup's limits (cgroup v2 files); `None` leaves the file alone.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Limits {
    /// `memory.max`, in bytes.
    pub memory_max: Option<u64>,
    /// `memory.low`, in bytes.
    pub memory_low: Option<u64>,
    /// `memory.swap.max`, in bytes.
    pub memory_swap_max: Option<u64>,
    /// `cpu.max`: quota (`None` for `max`) and period, in microseconds.
    pub cpu_max: Option<(Option<u64>, u64)>,
    /// `cpu.weight`.
    pub cpu_weight: Option<u64>,
    /// `pids.max`; `Some(None)` is `max`.
    pub pids_max: Option<Option<u64>>,
    /// `linux.resources.unified`: file name to value, applied last.
    pub unified: Vec<(String, String)>,
}

/// A hook of the specification.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Hook {
    /// Absolute path in the container.
    pub path: String,
    /// The command line with argument 0; empty for the path alone.
    pub args: Vec<String>,
    /// `NAME=value`; `None` inherits the process' environment.
    pub env: Option<Vec<String>>,
    /// Seconds until it is killed.
    pub timeout: Option<u32>,
}
