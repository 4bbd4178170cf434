//! Another kernel for the test VM than the tree's: Debian bookworm's, whose cgroup v1 has a memory
//! controller. Called by `cargo xtask vm --cgroup1` and `cargo xtask test conformance`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::VmError;
use crate::{
    build::Builder,
    cache::{CacheError, Inputs},
    host, process, progress,
    tree::ARCHIVE,
};

const TITLE: &str = "kernel with cgroup v1";
const NAME: &str = "kernel-cgroup1";

/// A kernel to boot instead of the tree's.
#[derive(Clone, Debug)]
pub(crate) struct Kernel {
    /// Its image, as a path in the namespace.
    pub(super) image: PathBuf,
    /// What mounts the VM's root and goes on with `/srv/init`.
    pub(super) initramfs: PathBuf,
    /// What the VM is to see in /usr/lib/modules.
    pub(super) modules: PathBuf,
    /// More options; `testvm.cgroup1` mounts cgroup v1.
    pub(super) options: &'static str,
}

impl Kernel {
    /// Bookworm's, out of the cache or new, in a VM with cgroup v1. Its virtio-fs is a module, so
    /// an initramfs mounts the root.
    pub(crate) fn with_cgroup1(builder: &Builder<'_>) -> Result<Self, VmError> {
        let script = builder.sources.checkout.join("tests/vm/initramfs");
        let download = |target: &Path| {
            let mut command = Command::new("mmdebstrap");
            command
                .args(["--mode=root", "--variant=extract", "--components=main"])
                .args(["--include=linux-image-cloud-amd64", "bookworm"])
                .arg(target)
                .arg(ARCHIVE);
            command
        };
        let hash = Inputs::default()
            .bytes(process::name(&download(Path::new(""))))
            .path(&script)?
            .hash();
        let entry = builder.cache.entry(TITLE, NAME, &hash, |path| {
            host::require_mmdebstrap(builder.cache)?;
            progress::step(TITLE, "downloading");
            let packages = path.join("packages");
            let log = builder.cache.log(NAME);
            process::run_logged(&mut download(&packages), &log)?;
            let mut command = builder
                .namespace
                .command(&script.to_string_lossy())
                .arg(&packages)
                .arg(path)
                .finish();
            process::run_logged(&mut command, &log)?;
            fs::remove_dir_all(&packages).map_err(|source| {
                VmError::from(CacheError::File {
                    action: "remove",
                    path: packages.clone(),
                    source,
                })
            })
        })?;
        Ok(Self {
            image: entry.join("vmlinuz"),
            initramfs: entry.join("initramfs.cpio"),
            modules: entry.join("modules"),
            options: "testvm.cgroup1",
        })
    }
}
