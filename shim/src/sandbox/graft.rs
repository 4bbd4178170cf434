//! Mount points that the guest needs and the image may not have.
//!
//! The agent shows the Vulkan driver's manifest in /etc/vulkan/icd.d. Making that directory would
//! write into the container's root file system; so an empty one waits in the small tmpfs that
//! stands for the guest's /dev, and the VM's file system shows it where the image has none.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use krun_gpu_protocol::{GpuDriver, Workload};
use krun_gpu_vmm::devices::fs::Graft;

/// Where the directories wait, in the stand-in: the guest mounts its own /dev over it.
const BASE: &str = "/dev/.krun-gpu";

/// Where the agent mounts the manifest.
const MANIFESTS: &str = "/etc/vulkan/icd.d";

/// A directory could not be made.
#[derive(Debug, thiserror::Error)]
#[error("make the mount point {}", path.display())]
pub(crate) struct GraftError {
    /// Which.
    path: PathBuf,
    /// The reason.
    #[source]
    source: io::Error,
}

/// Makes what `workload` needs, in the container's root file system as it is before the export.
pub(super) fn make(workload: &Workload) -> Result<Vec<Graft>, GraftError> {
    let is_needed = workload
        .gpu
        .as_ref()
        .is_some_and(|gpu| matches!(gpu.driver, GpuDriver::Newest | GpuDriver::Bundled));
    if !is_needed {
        return Ok(Vec::new());
    }
    let path = Path::new(BASE).join(MANIFESTS.trim_start_matches('/'));
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(&path)
        .map_err(|source| GraftError { path, source })?;
    Ok(vec![Graft {
        base: BASE.into(),
        path: MANIFESTS.into(),
    }])
}
