//! The GPU in the container: its nodes in /dev/dri, and the bundled Vulkan driver.
//!
//! Called by `workload::build`. The nodes carry the guest's own numbers, whatever they are on the
//! host. The driver is a copy of the initramfs's mount, read-only. A process that has lost its
//! environment finds it by a manifest in /etc/vulkan/icd.d, over which a tmpfs with the same
//! content is mounted: nothing of either is written into the container's root file system.

use std::fs;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use krun_gpu_protocol::{Device, DeviceKind, Gpu, GpuAccess, MountFlags};
use rustix::fs::{CWD, Mode, OFlags, fchmod, openat};
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};

use super::Surroundings;
use super::copy_up::{self, CopyError};
use super::devices::numbers;
use super::mounts::{MountError, Mounted};
use super::path;
use crate::driver::{MANIFEST, SHOWN_AT};

/// Where manifests are that the machine's administrator adds.
const MANIFESTS: &str = "/etc/vulkan/icd.d";

/// What can go wrong with the GPU.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GpuError {
    /// The guest's kernel has no such node.
    #[error("find the guest's GPU by `{}`", path.display())]
    Absent {
        /// The file that holds the node's numbers.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The driver's directory is not there.
    #[error("copy the mount of the Vulkan driver in `{}`", path.display())]
    Driver {
        /// Where it should be.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: Errno,
    },
    /// The manifest cannot be copied.
    #[error("put the Vulkan driver's manifest into `{MANIFESTS}`")]
    Manifest(#[source] io::Error),
    /// What the image has beside it cannot be copied.
    #[error("keep what is in `{MANIFESTS}`")]
    Beside(#[source] CopyError),
    /// A mount.
    #[error(transparent)]
    Mount(#[from] MountError),
}

/// What of the GPU lies outside the container's root.
#[derive(Debug)]
pub(super) struct Outside {
    /// The nodes to make.
    pub(super) nodes: Vec<Device>,
    driver: Option<OwnedFd>,
}

impl Outside {
    /// Finds it all, with the guest's root still `/`. `bundled` asks for the driver.
    pub(super) fn find(
        gpu: &Gpu,
        bundled: bool,
        surroundings: &Surroundings,
    ) -> Result<Self, GpuError> {
        let wanted = [("card0", gpu.card), ("renderD128", gpu.render)];
        let mut nodes = Vec::new();
        for (name, access) in wanted {
            if let Some(access) = access {
                nodes.push(node(name, access, &surroundings.drm)?);
            }
        }
        let driver = bundled.then(|| {
            let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
            let path = &surroundings.driver;
            open_tree(CWD, path, flags).map_err(|source| GpuError::Driver {
                path: path.clone(),
                source,
            })
        });
        Ok(Self {
            nodes,
            driver: driver.transpose()?,
        })
    }

    /// Mounts the driver and its manifest.
    pub(super) fn show(self, root: &impl AsFd, mounted: &Mounted<'_>) -> Result<(), GpuError> {
        let Some(driver) = self.driver else {
            return Ok(());
        };
        let manifest = openat(
            &driver,
            MANIFEST,
            OFlags::RDONLY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map_err(|error| GpuError::Manifest(error.into()))?;
        let flags = MountFlags::READ_ONLY | MountFlags::NO_SUID | MountFlags::NO_DEV;
        mounted.put(driver, SHOWN_AT, flags)?;
        show_manifest(manifest, root.as_fd(), mounted)
    }
}

fn node(name: &str, access: GpuAccess, drm: &Path) -> Result<Device, GpuError> {
    let path = drm.join(name).join("dev");
    let absent = |source| GpuError::Absent {
        path: path.clone(),
        source,
    };
    let text = fs::read_to_string(&path).map_err(absent)?;
    let (major, minor) = numbers(&text).ok_or_else(|| absent(io::ErrorKind::InvalidData.into()))?;
    Ok(Device {
        path: format!("/dev/dri/{name}"),
        kind: DeviceKind::Character,
        major,
        minor,
        mode: access.mode,
        uid: access.uid,
        gid: access.gid,
    })
}

/// Shows `manifest` among the administrator's. The host makes the directory appear where the
/// image has none; an image with something else at this path does without.
fn show_manifest(
    manifest: OwnedFd,
    root: BorrowedFd<'_>,
    mounted: &Mounted<'_>,
) -> Result<(), GpuError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let below = match path::resolve(root, Path::new(MANIFESTS), flags) {
        Ok(below) => below,
        Err(error) => {
            let error = io::Error::from(error);
            eprintln!("krun-gpu-agent: no Vulkan manifest in `{MANIFESTS}`: {error}");
            return Ok(());
        }
    };
    let tree = mounted.memory(MANIFESTS)?;
    copy_up::copy(below.as_fd(), tree.as_fd()).map_err(GpuError::Beside)?;
    let copy = || -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW;
        let target = openat(&tree, MANIFEST, flags | OFlags::CLOEXEC, Mode::from(0o644))?;
        fchmod(&target, Mode::from(0o644))?;
        let mut target = fs::File::from(target);
        io::copy(&mut fs::File::from(manifest), &mut target)?;
        target.flush()
    };
    copy().map_err(GpuError::Manifest)?;
    let flags = MountFlags::NO_SUID | MountFlags::NO_DEV | MountFlags::NO_EXEC;
    Ok(mounted.put(tree, MANIFESTS, flags)?)
}
