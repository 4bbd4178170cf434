//! What the host's drivers answered last, so that not every container's start waits for them: a
//! driver takes as long to load as a small VM to boot.
//!
//! An answer counts while nothing has changed that it could depend on: the Vulkan loader's
//! variables and manifests, the libraries that are installed, the kernel's GPUs and who may open
//! their nodes. `krun-gpu check` always asks anew. The file is in memory, outside of the
//! directory of containers, and its loss costs nothing but time.

use std::env;
use std::fs;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::HostGpu;
use crate::host;

/// Where an ordinary installation has manifests of drivers and of layers.
const MANIFESTS: [&str; 8] = [
    "/etc/vulkan/icd.d",
    "/etc/xdg/vulkan/icd.d",
    "/usr/share/vulkan/icd.d",
    "/usr/local/share/vulkan/icd.d",
    "/usr/local/etc/vulkan/icd.d",
    "/etc/vulkan/implicit_layer.d",
    "/usr/share/vulkan/implicit_layer.d",
    "/usr/local/share/vulkan/implicit_layer.d",
];

/// Files that change when libraries come and go, and NVIDIA's kernel driver with its version.
const FILES: [&str; 3] = ["/etc/ld.so.cache", "/dev/dxg", "/sys/module/nvidia/version"];

/// Directories whose entries are GPUs.
const GPUS: [&str; 3] = ["/dev/dri", "/sys/class/drm", "/proc/driver/nvidia/gpus"];

/// Variables that the loader or a driver reads, by their beginnings.
const VARIABLES: [&str; 6] = ["VK_", "XDG_", "HOME", "LD_", "MESA_", "__"];

/// A file with an answer, and the circumstances of now.
#[derive(Debug)]
pub(crate) struct Kept {
    path: PathBuf,
    circumstances: Vec<String>,
}

/// The file's content.
#[derive(Debug, Deserialize, Serialize)]
struct Answer {
    circumstances: Vec<String>,
    devices: Vec<HostGpu>,
}

impl Kept {
    /// The caller's file; none for a user without a directory of the session's.
    pub(super) fn of_caller() -> Option<Self> {
        let directory = if host::is_rootless() {
            env::var_os("XDG_RUNTIME_DIR").filter(|name| !name.is_empty())?
        } else {
            "/run".into()
        };
        Some(Self {
            path: Path::new(&directory).join("krun-gpu.gpus.json"),
            circumstances: circumstances(),
        })
    }

    /// The devices of an answer that still counts.
    pub(super) fn devices(&self) -> Option<Vec<HostGpu>> {
        let answer: Answer = serde_json::from_slice(&fs::read(&self.path).ok()?).ok()?;
        let counts = answer.circumstances == self.circumstances && !answer.devices.is_empty();
        counts.then_some(answer.devices)
    }

    /// Keeps an answer that names devices.
    pub(super) fn keep(self, devices: &[HostGpu]) {
        if devices.is_empty() {
            return;
        }
        let answer = Answer {
            circumstances: self.circumstances,
            devices: devices.to_vec(),
        };
        // Another process may do the same now: each writes a file of its own and puts it there.
        let new = self
            .path
            .with_extension(format!("{}.new", std::process::id()));
        let written = serde_json::to_vec(&answer)
            .map_err(std::io::Error::from)
            .and_then(|text| {
                let mut options = fs::OpenOptions::new();
                let mut file = options
                    .write(true)
                    .create_new(true)
                    .mode(0o600)
                    .open(&new)?;
                std::io::Write::write_all(&mut file, &text)?;
                fs::rename(&new, &self.path)
            });
        if let Err(error) = written {
            tracing::debug!(%error, path = %self.path.display(), "keep what the drivers answered");
            let _ = fs::remove_file(&new);
        }
    }
}

/// Everything that an answer may depend on, a line each.
fn circumstances() -> Vec<String> {
    let mut lines: Vec<String> = env::vars_os()
        .map(|(name, value)| format!("{}={}", name.to_string_lossy(), value.to_string_lossy()))
        .filter(|line| VARIABLES.iter().any(|start| line.starts_with(start)))
        .collect();
    lines.sort();
    let groups = nix::unistd::getgroups().unwrap_or_default();
    lines.push(format!("groups {groups:?}"));
    for directory in MANIFESTS.iter().chain(&GPUS) {
        lines.extend(entries(Path::new(directory)));
    }
    let named = env::var("VK_DRIVER_FILES").unwrap_or_default();
    let named = named.split(':').filter(|path| !path.is_empty());
    for path in FILES.into_iter().chain(named) {
        lines.push(describe(Path::new(path)));
    }
    let nodes = ["/dev/nvidiactl", "/dev/nvidia0", "/dev/nvidia1"];
    lines.extend(nodes.map(|path| describe(Path::new(path))));
    lines
}

/// The entries of a directory, described, in an order that does not change.
fn entries(directory: &Path) -> Vec<String> {
    let mut lines: Vec<String> = fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| describe(&entry.path()))
        .collect();
    lines.sort();
    lines
}

/// What tells a file, or a node, from another one at its place.
fn describe(path: &Path) -> String {
    let name = path.display();
    let Ok(found) = fs::metadata(path) else {
        return format!("{name} -");
    };
    // Times and numbers of sysfs and procfs are of the moment.
    if path.starts_with("/sys") || path.starts_with("/proc") {
        let text = fs::read_to_string(path).unwrap_or_default();
        return format!("{name} {}", text.trim());
    }
    format!(
        "{name} {:x}:{} {:o} {}:{} {:x} {} {}.{}",
        found.dev(),
        found.ino(),
        found.mode(),
        found.uid(),
        found.gid(),
        found.rdev(),
        found.size(),
        found.mtime(),
        found.mtime_nsec()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::probe::DeviceKind;

    fn kept(directory: &Path, circumstance: &str) -> Kept {
        Kept {
            path: directory.join("gpus.json"),
            circumstances: vec![circumstance.to_owned()],
        }
    }

    #[test]
    fn an_answer_counts_in_the_same_circumstances_only() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        let device = HostGpu {
            name: "a GPU".to_owned(),
            kind: DeviceKind::Discrete,
            driver: "a driver".to_owned(),
            api: "1.3.0".to_owned(),
        };
        assert_eq!(kept(directory, "a").devices(), None);
        kept(directory, "a").keep(&[]);
        assert_eq!(fs::read_dir(directory).unwrap().count(), 0);
        kept(directory, "a").keep(std::slice::from_ref(&device));
        assert_eq!(fs::read_dir(directory).unwrap().count(), 1);
        assert_eq!(kept(directory, "a").devices(), Some(vec![device]));
        assert_eq!(kept(directory, "b").devices(), None);
        fs::write(directory.join("gpus.json"), "{").unwrap();
        assert_eq!(kept(directory, "a").devices(), None);
    }

    #[test]
    fn a_file_that_is_replaced_is_another_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("icd.json");
        fs::write(&path, "1").unwrap();
        let first = entries(directory.path());
        assert_eq!(first, entries(directory.path()));
        fs::write(directory.path().join("new"), "1").unwrap();
        fs::rename(directory.path().join("new"), &path).unwrap();
        assert_ne!(first, entries(directory.path()));
        fs::remove_file(&path).unwrap();
        assert!(entries(directory.path()).is_empty());
        assert!(describe(&path).ends_with(" -"));
    }

    #[test]
    fn circumstances_stay_while_nothing_changes() {
        assert_eq!(circumstances(), circumstances());
    }
}
