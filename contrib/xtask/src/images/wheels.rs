//! The Python packages of tests/python/requirements.txt, each pinned by its hash, installed by the
//! tree's pip into a folder of the cache.

use std::path::PathBuf;

use super::ImageError;
use crate::{build::Builder, cache::Inputs, process, progress};

const TITLE: &str = "Python wheels";
const NAME: &str = "wheels";

/// pip's, but for the places. It compiles the modules: Python under emulation takes a minute to.
const ARGUMENTS: [&str; 10] = [
    "-m",
    "pip",
    "install",
    "--quiet",
    "--no-cache-dir",
    "--root-user-action=ignore",
    "--no-deps",
    "--compile",
    "--only-binary=:all:",
    "--require-hashes",
];

/// The folder `dist-packages` that holds them, out of the cache or new.
pub(super) fn make(builder: &Builder<'_>) -> Result<PathBuf, ImageError> {
    let checkout = &builder.sources.checkout;
    let requirements = checkout.join("tests/python/requirements.txt");
    let inputs = Inputs::default().bytes(ARGUMENTS.join(" "));
    let hash = inputs.path(&requirements)?.hash();
    let folder = "dist-packages";
    let entry = builder.cache.entry(TITLE, NAME, &hash, |path| {
        progress::step(TITLE, "downloading");
        builder.namespace.show_network()?;
        let mut command = builder
            .namespace
            .command("python3")
            .args(ARGUMENTS)
            .arg("--requirement")
            .arg(&requirements)
            .arg("--target")
            .arg(path.join(folder))
            .finish();
        process::run_logged(&mut command, &builder.cache.log(NAME)).map_err(ImageError::from)
    })?;
    Ok(entry.join(folder))
}
