//! The guest's Vulkan driver: `guest-image/mesa/build` run inside the tree, with the network, its
//! result cached by that folder's files. They pin the sources and the compiler; the tree has the
//! tools alone.

use std::path::{Path, PathBuf};

use super::{BuildError, Builder};
use crate::cache::Inputs;

const TITLE: &str = "guest driver";
const NAME: &str = "mesa";
const LIBRARY: &str = "libvulkan_virtio.so";

/// The driver and its manifest.
#[derive(Clone, Debug)]
pub(super) struct Driver(PathBuf);

impl Driver {
    /// Where the cache has it, if it was built.
    pub(super) fn last(builder: &Builder<'_>) -> Result<Self, BuildError> {
        let hash = hash(&recipe(builder))?;
        Ok(Self(builder.cache.path(NAME, &hash)))
    }

    /// The driver itself.
    pub(super) fn library(&self) -> PathBuf {
        self.0.join(LIBRARY)
    }

    /// Name in the initramfs and path on the host of each file.
    pub(super) fn files(&self) -> [(&'static str, PathBuf); 2] {
        [LIBRARY, "krun_gpu_icd.json"].map(|name| (name, self.0.join(name)))
    }
}

/// The driver, out of the cache or newly built.
pub(super) fn build(builder: &Builder<'_>) -> Result<Driver, BuildError> {
    let recipe = recipe(builder);
    let hash = hash(&recipe)?;
    let entry = builder.cache.entry(TITLE, NAME, &hash, |output| {
        builder.namespace.show_network()?;
        builder.run_recipe(&recipe, TITLE, NAME, output)
    })?;
    Ok(Driver(entry))
}

fn hash(recipe: &Path) -> Result<String, BuildError> {
    Ok(Inputs::default().path(recipe)?.hash())
}

fn recipe(builder: &Builder<'_>) -> PathBuf {
    builder.sources.checkout.join("guest-image/mesa")
}
