//! The host's configuration: `/etc/krun-gpu/config.toml`, all of it optional.
//!
//! VM policy comes from here and from the annotations that it allows, never from an image.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::split;

/// Where it is.
pub(crate) const PATH: &str = "/etc/krun-gpu/config.toml";

/// What is wrong with it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// It cannot be read.
    #[error("read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// It is no TOML, has an unknown key, or a value of the wrong type.
    #[error("{}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// The key and the reason.
        #[source]
        source: Box<toml::de::Error>,
    },
}

/// The file's keys.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// The guest's kernel: an ELF vmlinux with a PVH note.
    pub(crate) kernel: Option<PathBuf>,
    /// The guest's initramfs, for a VM without a GPU.
    pub(crate) initramfs: Option<PathBuf>,
    /// vCPUs of a container without limits of its own.
    pub(crate) cpus: Option<u8>,
    /// Guest memory of a container without a limit of its own, in MiB.
    pub(crate) memory_mib: Option<u64>,
    /// The annotations that count; others of ours are refused.
    pub(crate) allowed_annotations: Vec<String>,
    /// Whether config.json's `vm` section counts.
    pub(crate) allow_vm_section: bool,
    /// Whether the host's kernel moves a VM's frames, where /dev/vhost-net opens.
    pub(crate) vhost_net: bool,
    /// The section `[gpu]`.
    pub(crate) gpu: GpuPolicy,
}

/// The keys of `[gpu]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct GpuPolicy {
    /// The guest's initramfs, for a VM with a GPU.
    pub(crate) initramfs: Option<PathBuf>,
    /// virglrenderer's `virgl_render_server`, where it is in no distribution's place.
    pub(crate) render_server: Option<PathBuf>,
    /// Manifests of the Vulkan drivers that serve containers (`VK_DRIVER_FILES`); empty for all
    /// that the host's Vulkan loader finds.
    pub(crate) driver_files: Vec<PathBuf>,
    /// More files and directories that those drivers read; the render server reads no others
    /// than a distribution's own.
    pub(crate) read_paths: Vec<PathBuf>,
    /// The window through which a guest sees host memory, in MiB, a power of two.
    pub(crate) window_mib: Option<u64>,
    /// Host memory that a guest's GPU may hold, in MiB.
    pub(crate) memory_mib: Option<u64>,
    /// Whether a container may ask for OpenGL by `io.krun-gpu.virgl`. What it draws is decoded in
    /// the VMM's own process, where Vulkan's commands never are.
    pub(crate) virgl: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            kernel: None,
            initramfs: None,
            cpus: None,
            memory_mib: None,
            allowed_annotations: split::ANNOTATIONS
                .into_iter()
                .chain(split::KRUN_ANNOTATIONS)
                .map(str::to_owned)
                .collect(),
            allow_vm_section: false,
            vhost_net: true,
            gpu: GpuPolicy::default(),
        }
    }
}

impl Config {
    /// Reads the configuration; an absent file is an empty one.
    pub(crate) fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(source) => {
                return Err(ConfigError::Read {
                    path: path.to_owned(),
                    source,
                });
            }
        };
        toml::from_str(&text).map_err(|source| ConfigError::Parse {
            path: path.to_owned(),
            source: Box::new(source),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_is_named() {
        let error = toml::from_str::<Config>("kernle = \"/x\"").unwrap_err();
        assert!(error.to_string().contains("kernle"), "{error}");
        let config: Config = toml::from_str("cpus = 3").unwrap();
        assert_eq!(config.cpus, Some(3));
        assert!(!config.allowed_annotations.is_empty());
    }
}
