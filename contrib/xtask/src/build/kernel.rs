//! The guest's kernel: `guest-image/kernel/build` run inside the tree, its result cached by that
//! folder's files and the version of Debian's kernel source.

use std::path::{Path, PathBuf};

use super::{BuildError, Builder};
use crate::cache::Inputs;

const TITLE: &str = "guest kernel";
const NAME: &str = "kernel";
const IMAGE: &str = "vmlinux";

/// The vmlinux, out of the cache or newly built.
pub(super) fn build(builder: &Builder<'_>) -> Result<PathBuf, BuildError> {
    let recipe = builder.sources.checkout.join("guest-image/kernel");
    let hash = hash(builder, &recipe)?;
    let entry = builder.cache.entry(TITLE, NAME, &hash, |output| {
        builder.run_recipe(&recipe, TITLE, NAME, output)
    })?;
    Ok(entry.join(IMAGE))
}

/// Where the vmlinux is, if it was built.
pub(super) fn path(builder: &Builder<'_>) -> Result<PathBuf, BuildError> {
    let recipe = builder.sources.checkout.join("guest-image/kernel");
    let hash = hash(builder, &recipe)?;
    Ok(builder.cache.path(NAME, &hash).join(IMAGE))
}

fn hash(builder: &Builder<'_>, recipe: &Path) -> Result<String, BuildError> {
    // The package's list of checksums stands for the source's version.
    let source = Path::new("var/lib/dpkg/info/linux-source-6.12.md5sums");
    let inputs = Inputs::default().path(recipe)?;
    Ok(inputs.path(&builder.tree.path().join(source))?.hash())
}
