//! The workload's Vulkan driver: whose Venus driver it is, and how the Vulkan loader finds it.
//!
//! Called by `control` at `Prepare`, which keeps the answer for later `exec` sessions. The image
//! is searched through the exported tree, with its links resolved inside it. What it holds
//! decides between two drivers of the guest's and nothing else.

mod manifest;

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use krun_gpu_protocol::GpuDriver;
use rustix::fs::{Dir, Mode, OFlags, open};
use rustix::io::Errno;

use crate::workload::path;
use manifest::Manifest;

/// Where the container sees the bundled driver. The guest makes `/dev` itself, so nothing is
/// written into the image for it.
pub(crate) const SHOWN_AT: &str = "/dev/krun-gpu/vulkan";

/// The bundled driver's manifest, in that directory.
pub(crate) const MANIFEST: &str = "krun_gpu_icd.json";

/// Where the Vulkan loader looks, the directories of users left out.
const LOADER_DIRECTORIES: [&str; 4] = [
    "/etc/xdg/vulkan/icd.d",
    "/etc/vulkan/icd.d",
    "/usr/local/share/vulkan/icd.d",
    "/usr/share/vulkan/icd.d",
];

/// The loader's variables for "these manifests and no others"; those before 1.3.207 know the
/// second one only.
const VARIABLES: [&str; 2] = ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"];

/// A longer manifest is read up to here.
const MANIFEST_LIMIT: u64 = 64 << 10;

/// What can go wrong with the choice.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DriverError {
    /// The initramfs is not the one with the driver.
    #[error("read the bundled driver's manifest `{}`", path.display())]
    Bundle {
        /// Where it should be.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The bundled manifest cannot be read as one.
    #[error("`{}` is no manifest of a Venus driver", path.display())]
    Manifest {
        /// Where it is.
        path: PathBuf,
    },
    /// The exported tree cannot be opened.
    #[error("search the image for a Venus driver")]
    Image(#[source] Errno),
    /// The image's driver was asked for.
    #[error("the image has no Venus driver (a manifest that names libvulkan_virtio.so)")]
    NotInImage,
}

/// A driver for the workload.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Driver {
    /// The bundled one.
    Bundled,
    /// The image's; the path of its manifest in the container.
    Image(String),
}

impl Driver {
    /// The driver that `wanted` means for the image at `view`, with the bundled one at `bundle`.
    pub(crate) fn choose(
        wanted: GpuDriver,
        view: &Path,
        bundle: &Path,
    ) -> Result<Option<Self>, DriverError> {
        Ok(Some(match wanted {
            GpuDriver::None => return Ok(None),
            GpuDriver::Bundled => {
                bundled(bundle)?;
                Self::Bundled
            }
            GpuDriver::Image => {
                Self::Image(newest_of_image(view)?.ok_or(DriverError::NotInImage)?.1)
            }
            GpuDriver::Newest => {
                let ours = bundled(bundle)?;
                match newest_of_image(view)? {
                    Some((theirs, path)) if theirs > ours => Self::Image(path),
                    _ => Self::Bundled,
                }
            }
        }))
    }

    /// Adds the loader's variables to `environment`, unless it says where drivers are.
    pub(crate) fn announce(&self, environment: &mut Vec<String>) {
        let is_loaders = |variable: &String| {
            let name = variable.split('=').next().unwrap_or_default();
            VARIABLES.contains(&name)
        };
        if environment.iter().any(is_loaders) {
            return;
        }
        let manifest = match self {
            Self::Bundled => format!("{SHOWN_AT}/{MANIFEST}"),
            Self::Image(path) => path.clone(),
        };
        environment.extend(VARIABLES.map(|name| format!("{name}={manifest}")));
    }
}

/// The Vulkan version of the bundled driver.
fn bundled(bundle: &Path) -> Result<manifest::Version, DriverError> {
    let path = bundle.join(MANIFEST);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(source) => return Err(DriverError::Bundle { path, source }),
    };
    match Manifest::parse(&text) {
        Some(manifest) if manifest.is_venus() => Ok(manifest.version),
        _ => Err(DriverError::Manifest { path }),
    }
}

/// The newest Venus driver of the image, with its manifest's path in the container.
fn newest_of_image(view: &Path) -> Result<Option<(manifest::Version, String)>, DriverError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = open(view, flags, Mode::empty()).map_err(DriverError::Image)?;
    let mut newest = None;
    for directory in LOADER_DIRECTORIES {
        for (name, manifest) in manifests(root.as_fd(), directory) {
            let found = Some((manifest.version, format!("{directory}/{name}")));
            newest = newest.max(found);
        }
    }
    Ok(newest)
}

/// The Venus manifests in `directory` of the image, with their names. What cannot be read the
/// Vulkan loader could not read either.
fn manifests(root: BorrowedFd<'_>, directory: &str) -> Vec<(String, Manifest)> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let Ok(opened) = path::resolve(root, Path::new(directory), flags) else {
        return Vec::new();
    };
    let Ok(entries) = Dir::new(opened) else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| {
            let name = entry.ok()?.file_name().to_str().ok()?.to_owned();
            let text = read(root, &Path::new(directory).join(&name))?;
            let manifest = Manifest::parse(&text)?;
            let usable = name.ends_with(".json") && manifest.is_venus();
            (usable && has_library(root, &manifest)).then_some((name, manifest))
        })
        .collect()
}

/// A name without a slash is the dynamic linker's to find; a path must be there.
fn has_library(root: BorrowedFd<'_>, manifest: &Manifest) -> bool {
    !manifest.library.starts_with('/')
        || path::resolve(root, Path::new(&manifest.library), OFlags::PATH).is_ok()
}

fn read(root: BorrowedFd<'_>, path: &Path) -> Option<String> {
    // Not blocking: the image may have put a FIFO there.
    let file: OwnedFd = path::resolve(root, path, OFlags::RDONLY | OFlags::NONBLOCK).ok()?;
    let mut text = String::new();
    let mut file = File::from(file).take(MANIFEST_LIMIT);
    file.read_to_string(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests;
