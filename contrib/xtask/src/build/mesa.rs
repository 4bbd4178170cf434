//! The guest's Vulkan driver: `guest-image/mesa/build` run inside the tree, with the network, its
//! result cached by that folder's files. They pin the sources and the compiler; the tree has the
//! tools alone.

use std::path::PathBuf;

use super::{BuildError, Builder};
use crate::cache::Inputs;

const TITLE: &str = "guest driver";
const NAME: &str = "mesa";

/// The driver and its manifest.
#[derive(Clone, Debug)]
pub(super) struct Driver(PathBuf);

impl Driver {
    /// Name in the initramfs and path on the host of each file.
    pub(super) fn files(&self) -> [(&'static str, PathBuf); 2] {
        ["libvulkan_virtio.so", "krun_gpu_icd.json"].map(|name| (name, self.0.join(name)))
    }
}

/// The driver, out of the cache or newly built.
pub(super) fn build(builder: &Builder<'_>) -> Result<Driver, BuildError> {
    let recipe = recipe(builder);
    let hash = Inputs::default().path(&recipe)?.hash();
    let entry = builder.cache.entry(TITLE, NAME, &hash, |output| {
        builder.namespace.show_network()?;
        builder.run_recipe(&recipe, TITLE, NAME, output)
    })?;
    Ok(Driver(entry))
}

fn recipe(builder: &Builder<'_>) -> PathBuf {
    builder.sources.checkout.join("guest-image/mesa")
}
