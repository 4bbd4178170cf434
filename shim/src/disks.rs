//! The host's block devices behind a VM's disks, opened in the host's view before anything of the
//! container's is there.
//!
//! Called by `create`. A disk that the container may write is opened for us alone (O_EXCL): two
//! kernels that write one file system destroy it. Messages here must not hold the words from which
//! Podman derives statuses 126 and 127, as in [`crate::install`].

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use krun_gpu_vmm::devices::block::DiskConfig;

use crate::split::Disk;

/// Why a disk cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DiskError {
    /// No node of that number.
    #[error("{field}: device {path}: the host has no node of block device {major}:{minor} in /dev")]
    NoNode {
        /// The field that asks.
        field: String,
        /// The path in the container.
        path: String,
        /// Its major number.
        major: u32,
        /// Its minor number.
        minor: u32,
    },
    /// Somebody has it.
    #[error(
        "{field}: device {path}: {} is busy: it is mounted on the host, or in use by another \
         program or container (`:r` asks for a disk that is only read)",
        node.display()
    )]
    Busy {
        /// The field that asks.
        field: String,
        /// The path in the container.
        path: String,
        /// The host's node.
        node: PathBuf,
    },
    /// It is not for us.
    #[error("{field}: device {path}: {} may not be opened by user {uid}", node.display())]
    Forbidden {
        /// The field that asks.
        field: String,
        /// The path in the container.
        path: String,
        /// The host's node.
        node: PathBuf,
        /// Our user id.
        uid: u32,
    },
    /// It does not open.
    #[error("{field}: device {path}: open {}", node.display())]
    Open {
        /// The field that asks.
        field: String,
        /// The path in the container.
        path: String,
        /// The host's node.
        node: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
}

/// Opens all of them.
pub(crate) fn open(disks: &[Disk]) -> Result<Vec<DiskConfig>, DiskError> {
    disks.iter().map(open_one).collect()
}

fn open_one(disk: &Disk) -> Result<DiskConfig, DiskError> {
    let (field, path) = (disk.field.clone(), disk.path.clone());
    let sysfs = PathBuf::from(format!("/sys/dev/block/{}:{}", disk.major, disk.minor));
    let Some(node) = find(disk, &sysfs) else {
        return Err(DiskError::NoNode {
            field,
            path,
            major: disk.major,
            minor: disk.minor,
        });
    };
    let mut options = OpenOptions::new();
    options.read(true);
    // Of a device that the host has made read-only an open for writing may succeed all the same.
    if !disk.read_only && !is_read_only(&sysfs) {
        options.write(true).custom_flags(libc::O_EXCL);
    }
    let opened = options.open(&node).and_then(|file| {
        let same = is(disk, &file.metadata()?);
        same.then_some(file)
            .ok_or_else(|| io::Error::other("it is another device by now"))
    });
    let file: File = opened.map_err(|source| match source.raw_os_error() {
        Some(libc::EBUSY) => DiskError::Busy { field, path, node },
        Some(libc::EACCES | libc::EPERM) => DiskError::Forbidden {
            field,
            path,
            node,
            uid: nix::unistd::geteuid().as_raw(),
        },
        _ => DiskError::Open {
            field,
            path,
            node,
            source,
        },
    })?;
    Ok(DiskConfig {
        file,
        serial: disk.serial.clone(),
    })
}

/// The host's node: by the name that its kernel gives the device, or at the container's path.
fn find(disk: &Disk, sysfs: &Path) -> Option<PathBuf> {
    let uevent = fs::read_to_string(sysfs.join("uevent")).unwrap_or_default();
    let name = uevent
        .lines()
        .find_map(|line| line.strip_prefix("DEVNAME="));
    name.map(|name| Path::new("/dev").join(name))
        .into_iter()
        .chain([PathBuf::from(&disk.path)])
        .find(|node| fs::metadata(node).is_ok_and(|found| is(disk, &found)))
}

fn is(disk: &Disk, found: &fs::Metadata) -> bool {
    let number = (libc::major(found.rdev()), libc::minor(found.rdev()));
    found.file_type().is_block_device() && number == (disk.major, disk.minor)
}

fn is_read_only(sysfs: &Path) -> bool {
    fs::read_to_string(sysfs.join("ro")).is_ok_and(|text| text.trim() == "1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_without_a_node_is_named() {
        let disk = Disk {
            field: "linux.devices[3]".to_owned(),
            path: "/dev/xvdz".to_owned(),
            major: 4095,
            minor: 77,
            read_only: true,
            serial: "s".to_owned(),
        };
        let error = open(&[disk]).unwrap_err().to_string();
        for word in ["linux.devices[3]", "/dev/xvdz", "4095:77"] {
            assert!(error.contains(word), "{error}");
        }
    }
}
