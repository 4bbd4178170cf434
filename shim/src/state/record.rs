//! What is known of a container between two calls of `krun-gpu`: `state.json`.
//!
//! The public part has the keys of the OCI state (runtime-spec, runtime.md, "State"); the rest is
//! what `start`, `delete` and `exec` need and config.json may no longer say.

use std::collections::HashMap;
use std::path::PathBuf;

use krun_gpu_vmm::devices::net;
use oci_spec::runtime::Hook;
use serde::{Deserialize, Serialize};

use super::id::ContainerId;
use super::process::ProcessIdentity;
use crate::gpu::GpuRecord;
use crate::network::{NetworkRecord, Ports};

/// Version of the specification that our states follow.
pub(crate) const OCI_VERSION: &str = "1.2.0";

/// Where a container is in its life.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    /// `create` is at work, or died at it.
    Creating,
    /// The VM runs, the workload waits for `start`.
    Created,
    /// The workload runs.
    Running,
    /// The VM's processors are stopped.
    Paused,
    /// The VMM is gone.
    Stopped,
}

impl Status {
    /// The specification's word.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }
}

/// `state.json`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    /// Version of the specification.
    pub(crate) oci_version: String,
    /// The container's id.
    pub(crate) id: ContainerId,
    /// As of the last change; [`super::Container::status`] is what holds now.
    pub(crate) status: Status,
    /// The VMM.
    pub(crate) process: Option<ProcessIdentity>,
    /// The bundle's absolute path.
    pub(crate) bundle: PathBuf,
    /// The root file system's absolute path.
    pub(crate) rootfs: PathBuf,
    /// When it was created, UTC.
    pub(crate) created: String,
    /// The VM's size.
    pub(crate) machine: MachineRecord,
    /// The user who created it.
    pub(crate) owner: u32,
    /// config.json's annotations.
    pub(crate) annotations: HashMap<String, String>,
    /// The cgroup that `create` made, for `delete`.
    pub(crate) cgroup: Option<CgroupRecord>,
    /// The container's GPU.
    pub(crate) gpu: Option<GpuRecord>,
    /// The network namespace of config.json, if it names one.
    pub(crate) network: Option<PathBuf>,
    /// It holds a pod's namespaces and does nothing else.
    pub(crate) placeholder: bool,
    /// What `start` did there, for `delete`.
    pub(crate) joined: Option<NetworkRecord>,
    /// The ports that lead into the VM from a network that it shares.
    pub(crate) ports: Option<Ports>,
    /// The passt that is its network there.
    pub(crate) passt: Option<ProcessIdentity>,
    /// What its standard error is told when it starts.
    pub(crate) notices: Vec<String>,
    /// The process that follows what an engine changes in its network.
    pub(crate) watcher: Option<ProcessIdentity>,
    /// Hooks still to run.
    pub(crate) poststart: Vec<Hook>,
    /// Hooks still to run.
    pub(crate) poststop: Vec<Hook>,
}

/// A VM's size, which is that of its boot.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(crate) struct MachineRecord {
    /// vCPUs.
    pub(crate) vcpus: u8,
    /// Guest memory in bytes.
    pub(crate) memory: u64,
}

/// A cgroup as libcgroups names it.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CgroupRecord {
    /// Path below the mount point, or `slice:prefix:name`.
    pub(crate) path: PathBuf,
    /// systemd made it.
    pub(crate) systemd: bool,
}

/// The OCI state as hooks and the workload's startContainer hooks read it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OciState<'a> {
    pub(crate) oci_version: &'a str,
    pub(crate) id: &'a str,
    pub(crate) status: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pid: Option<i32>,
    pub(crate) bundle: &'a std::path::Path,
    #[serde(skip_serializing_if = "HashMap::is_empty")]
    pub(crate) annotations: &'a HashMap<String, String>,
}

impl Record {
    /// Pairs of queues that each NIC of its VM can have.
    pub(crate) fn pairs(&self) -> u8 {
        net::pairs(self.machine.vcpus)
    }

    /// The OCI state as JSON, with `status` and `pid` as given.
    pub(crate) fn oci_state(&self, status: Status, pid: Option<i32>) -> String {
        let state = OciState {
            oci_version: &self.oci_version,
            id: self.id.as_str(),
            status: status.as_str(),
            pid,
            bundle: &self.bundle,
            annotations: &self.annotations,
        };
        // Strings and numbers alone: nothing here can fail to become JSON, except a path that is
        // not UTF-8, which no config.json can name.
        serde_json::to_string(&state).unwrap_or_default()
    }
}
