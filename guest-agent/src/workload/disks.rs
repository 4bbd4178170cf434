//! Nodes for the VM's disks: they carry the guest's own numbers, whatever they are on the host.
//!
//! Called by `workload::build` while sysfs is still in view. A disk is found by its serial, which
//! the host gave it: the order in which the guest's kernel found the disks says nothing.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use krun_gpu_protocol::{Device, DeviceKind, Disk};

use super::devices::numbers;

/// What can go wrong with a disk.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DiskError {
    /// sysfs does not say.
    #[error("look for the guest's disks in `{}`", path.display())]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The guest's kernel has no such disk.
    #[error("device `{path}`: the guest has no disk `{serial}`")]
    Absent {
        /// Where the node should be.
        path: String,
        /// The disk's serial.
        serial: String,
    },
}

/// The nodes of `disks`, whose numbers sysfs lists in `block`.
pub(super) fn nodes(disks: &[Disk], block: &Path) -> Result<Vec<Device>, DiskError> {
    if disks.is_empty() {
        return Ok(Vec::new());
    }
    let found = present(block)?;
    let node = |disk: &Disk| {
        let present = found.iter().find(|(serial, _)| *serial == disk.serial);
        let (_, (major, minor)) = present.ok_or_else(|| DiskError::Absent {
            path: disk.path.clone(),
            serial: disk.serial.clone(),
        })?;
        Ok(Device {
            path: disk.path.clone(),
            kind: DeviceKind::Block,
            major: *major,
            minor: *minor,
            mode: disk.mode,
            uid: disk.uid,
            gid: disk.gid,
        })
    };
    disks.iter().map(node).collect()
}

/// A disk's serial and its numbers.
type Present = (String, (u32, u32));

/// Every disk that has a serial.
fn present(block: &Path) -> Result<Vec<Present>, DiskError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| DiskError::Read { path, source }
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(block).map_err(failed(block))? {
        let folder = entry.map_err(failed(block))?.path();
        let path = folder.join("serial");
        let serial = match fs::read_to_string(&path) {
            // A loop device, or another of the kernel's own.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            read => read.map_err(failed(&path))?,
        };
        let path = folder.join("dev");
        let text = fs::read_to_string(&path).map_err(failed(&path))?;
        let numbers =
            numbers(&text).ok_or_else(|| failed(&path)(io::ErrorKind::InvalidData.into()))?;
        found.push((serial.trim_end().to_owned(), numbers));
    }
    Ok(found)
}
