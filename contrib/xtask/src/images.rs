//! Container images for the tests and the demo, made here since the test VM has no network.

use std::{path::PathBuf, process::Command};

use crate::{
    cache::{Cache, CacheError, Inputs},
    host::{self, HostError},
    process::{self, ProcessError},
    progress,
};

const TITLE: &str = "Debian image";
const ARCHIVE: &str = "debian.tar";
const ARGUMENTS: [&str; 5] = [
    "--mode=root",
    "--variant=essential",
    "--components=main",
    "--format=tar",
    "trixie",
];

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ImageError {
    /// The cache.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The host's packages.
    #[error(transparent)]
    Host(#[from] HostError),
    /// mmdebstrap.
    #[error(transparent)]
    Process(#[from] ProcessError),
}

/// A small Debian trixie, as the tar archive that `podman import` takes.
pub(crate) fn debian(cache: &Cache) -> Result<PathBuf, ImageError> {
    let hash = Inputs::default().bytes(ARGUMENTS.join(" ")).hash();
    let entry = cache.entry(TITLE, "debian-image", &hash, |path| {
        host::require_mmdebstrap(cache)?;
        progress::step(TITLE, "making it with mmdebstrap");
        let mut command = Command::new("mmdebstrap");
        command
            .args(ARGUMENTS)
            .arg(path.join(ARCHIVE))
            .arg(crate::tree::ARCHIVE);
        process::run_logged(&mut command, &cache.log("debian-image")).map_err(ImageError::from)
    })?;
    Ok(entry.join(ARCHIVE))
}
