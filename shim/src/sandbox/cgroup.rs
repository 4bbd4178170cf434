//! The VMM's cgroup: which one, whether one at all, and its end.
//!
//! libcgroups makes and fills it, of version 2 or (for root, without systemd's manager) 1. Where there is none to be had (`--cgroup-manager=disabled`, or
//! an ordinary user whose cgroups are not delegated) the container stays in its caller's, as
//! under crun; the guest enforces the limits in any case.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use libcgroups::common::{CgroupConfig, CgroupManager as _, ControllerOpt, create_cgroup_manager};
use oci_spec::runtime::{LinuxResources, Spec};

use crate::cli::{CgroupManager, Global};
use crate::host::{self, Cgroups};
use crate::state::{CgroupRecord, ContainerId};

const MOUNT_POINT: &str = "/sys/fs/cgroup";

/// What can go wrong with a cgroup.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CgroupError {
    /// The machine has none.
    #[error(
        "{MOUNT_POINT} has no cgroups: mount cgroup v2 there, or use --cgroup-manager=disabled"
    )]
    Absent,
    /// libcgroups asks systemd for cgroups of version 2 alone.
    #[error(
        "{MOUNT_POINT} is cgroup v1, where systemd's manager is not supported: use \
         --cgroup-manager=cgroupfs, or boot with systemd.unified_cgroup_hierarchy=1"
    )]
    SystemdVersion1,
    /// libcgroups refused.
    #[error("{action} the cgroup {}: {reason}", path.display())]
    Library {
        /// What was being done.
        action: &'static str,
        /// Its path.
        path: PathBuf,
        /// The reason: libcgroups' errors hold theirs in their text.
        reason: String,
    },
    /// The own cgroup is unknown.
    #[error("read /proc/self/cgroup")]
    Own(#[source] io::Error),
}

/// Chooses the container's cgroup; `None` for none.
pub(crate) fn choose(
    global: &Global,
    spec: &Spec,
    id: &ContainerId,
) -> Result<Option<CgroupRecord>, CgroupError> {
    if global.cgroup_manager == Some(CgroupManager::Disabled) {
        return Ok(None);
    }
    let systemd = global.systemd_cgroup || global.cgroup_manager == Some(CgroupManager::Systemd);
    let wanted = spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.cgroups_path().clone())
        .filter(|path| !path.as_os_str().is_empty());
    let rootless = host::is_rootless();
    match host::cgroups() {
        Cgroups::V2 => {}
        _ if rootless => return Ok(None),
        Cgroups::V1 if systemd => return Err(CgroupError::SystemdVersion1),
        Cgroups::V1 => {}
        Cgroups::Absent => return Err(CgroupError::Absent),
    }
    let path = match (wanted, systemd) {
        (Some(path), _) => path,
        (None, true) => PathBuf::from(format!(":krun-gpu:{id}")),
        (None, false) if rootless => return Ok(None),
        (None, false) => PathBuf::from(format!("/krun-gpu-{id}")),
    };
    if rootless && !systemd && !can_make(&path) {
        return Ok(None);
    }
    Ok(Some(CgroupRecord { path, systemd }))
}

/// What libcontainer is to be told: without a cgroup of its own a container joins the one that it
/// is in, which changes nothing.
pub(crate) fn config(
    cgroup: Option<&CgroupRecord>,
    id: &ContainerId,
) -> Result<CgroupConfig, CgroupError> {
    let (cgroup_path, systemd_cgroup) = match cgroup {
        Some(cgroup) => (cgroup.path.clone(), cgroup.systemd),
        None => (own()?, false),
    };
    Ok(CgroupConfig {
        cgroup_path,
        systemd_cgroup,
        container_name: id.as_str().to_owned(),
    })
}

/// Puts the process `pid` into a container's cgroup, which is made if it is not there.
pub(crate) fn join(cgroup: &CgroupRecord, id: &ContainerId, pid: u32) -> Result<(), CgroupError> {
    let failed = |reason: String| CgroupError::Library {
        action: "put the GPU's render server into",
        path: cgroup.path.clone(),
        reason,
    };
    let pid = i32::try_from(pid).unwrap_or(-1);
    create_cgroup_manager(config(Some(cgroup), id)?)
        .map_err(|error| failed(error.to_string()))?
        .add_task(libcgroups_nix::unistd::Pid::from_raw(pid))
        .map_err(|error| failed(error.to_string()))
}

/// Gives a container's cgroup new limits.
pub(crate) fn apply(
    cgroup: &CgroupRecord,
    id: &ContainerId,
    resources: &LinuxResources,
) -> Result<(), CgroupError> {
    let failed = |reason: String| CgroupError::Library {
        action: "update",
        path: cgroup.path.clone(),
        reason,
    };
    create_cgroup_manager(config(Some(cgroup), id)?)
        .map_err(|error| failed(error.to_string()))?
        .apply(&ControllerOpt {
            resources,
            disable_oom_killer: false,
            oom_score_adj: None,
            freezer_state: None,
        })
        .map_err(|error| failed(error.to_string()))
}

/// Removes a container's cgroup, with every process in it.
pub(crate) fn remove(cgroup: &CgroupRecord, id: &ContainerId) -> Result<(), CgroupError> {
    let failed = |reason: String| CgroupError::Library {
        action: "remove",
        path: cgroup.path.clone(),
        reason,
    };
    create_cgroup_manager(config(Some(cgroup), id)?)
        .map_err(|error| failed(error.to_string()))?
        .remove()
        .map_err(|error| failed(error.to_string()))
}

/// Makes the cgroup's directories to see whether we may; libcgroups takes those that are there.
fn can_make(path: &Path) -> bool {
    let below = path.strip_prefix("/").unwrap_or(path);
    fs::create_dir_all(Path::new(MOUNT_POINT).join(below)).is_ok()
}

/// The cgroup that this process is in. With cgroup v1 that is one for each controller, which
/// libcgroups finds itself when it gets no path.
fn own() -> Result<PathBuf, CgroupError> {
    if host::cgroups() != Cgroups::V2 {
        return Ok(PathBuf::new());
    }
    let text = fs::read_to_string("/proc/self/cgroup").map_err(CgroupError::Own)?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::"));
    Ok(PathBuf::from(path.unwrap_or("/")))
}
