//! What gets installed, built from the checkout inside the tree: the binaries, the guest's kernel,
//! its Vulkan driver and its initramfs.

mod binaries;
mod initramfs;
mod kernel;
mod layout;
mod mesa;
mod oldest_libc;
mod target;

use std::{
    io,
    path::{Path, PathBuf},
};

pub(crate) use binaries::cargo;
pub(crate) use layout::{Layout, Prefix};

use crate::{
    cache::{Cache, CacheError},
    host::{HostError, Sources},
    process::{self, ProcessError},
    progress,
    tree::{Namespace, NamespaceError, Tree},
};

/// Why the build failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BuildError {
    /// The cache.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The crates' sources could not be fetched.
    #[error(transparent)]
    Host(#[from] HostError),
    /// A program failed.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The tree could not be given the network.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// The runtime would not start where it is promised to.
    #[error(
        "the runtime wants a newer glibc than {oldest}: {}; see shim/build.rs",
        newer.join(", ")
    )]
    NewerLibc {
        oldest: &'static str,
        newer: Vec<String>,
    },
    /// A file of the result could not be read or written.
    #[error("{action} {path}")]
    File {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// A file does not fit the archive's format.
    #[error("{name} of {size} bytes is too large for a cpio archive")]
    TooLarge { name: String, size: usize },
}

/// Everything that is built, by path on the host.
#[derive(Clone, Debug)]
pub(crate) struct Products {
    /// The runtime.
    pub(crate) runtime: PathBuf,
    /// The integration tests and benchmarks.
    pub(crate) tests: PathBuf,
    /// The Vulkan program that the tests run in containers.
    pub(crate) compute: PathBuf,
    /// The GPU's device as a server for Vulkan programs without a guest.
    pub(crate) vtest: PathBuf,
    /// The same, to be loaded into the program that it serves.
    pub(crate) vtest_inside: PathBuf,
    /// The guest's Vulkan driver.
    pub(crate) driver: PathBuf,
    /// The guest's kernel.
    pub(crate) kernel: PathBuf,
    /// The guest's initramfs.
    pub(crate) initramfs: PathBuf,
    /// The same with the Vulkan driver, for a VM with a GPU.
    pub(crate) initramfs_gpu: PathBuf,
}

/// Where things are built from and to.
#[derive(Debug)]
pub(crate) struct Builder<'a> {
    /// The cache.
    pub(crate) cache: &'a Cache,
    /// The checkout and the toolchain.
    pub(crate) sources: &'a Sources,
    /// The tree.
    pub(crate) tree: &'a Tree,
    /// The tree, entered.
    pub(crate) namespace: &'a Namespace,
}

impl Builder<'_> {
    /// Brings everything up to date.
    pub(crate) fn build(&self) -> Result<Products, BuildError> {
        let kernel = kernel::build(self)?;
        let driver = mesa::build(self)?;
        self.sources.fetch(self.cache)?;
        binaries::build(self)?;
        let products = self.products(kernel, driver.library());
        oldest_libc::check(self, &products.runtime)?;
        let agent = binaries::agent(self);
        initramfs::write(&agent, &[], &products.initramfs)?;
        initramfs::write(&agent, &driver.files(), &products.initramfs_gpu)?;
        progress::step("initramfs", "written");
        Ok(products)
    }

    /// Where an earlier build left everything, as far as there was one.
    pub(crate) fn last(&self) -> Result<Products, BuildError> {
        let driver = mesa::Driver::last(self)?.library();
        Ok(self.products(kernel::path(self)?, driver))
    }

    fn products(&self, kernel: PathBuf, driver: PathBuf) -> Products {
        let release = self.target().join("release");
        Products {
            runtime: release.join("krun-gpu"),
            tests: release.join("krun-gpu-tests"),
            compute: release.join("krun-gpu-compute"),
            vtest: release.join("examples/vtest"),
            vtest_inside: release.join("examples/libvtest_inside.so"),
            driver,
            kernel,
            initramfs: self.target().join("initramfs.cpio"),
            initramfs_gpu: self.target().join("initramfs-gpu.cpio"),
        }
    }

    /// Runs the script `build` of `recipe`, a folder of the checkout, in the tree; it leaves its
    /// result in `output`.
    fn run_recipe(
        &self,
        recipe: &Path,
        title: &str,
        log: &str,
        output: &Path,
    ) -> Result<(), BuildError> {
        progress::step(title, "building (minutes)");
        let script = recipe.join("build");
        let mut command = self
            .namespace
            .command(&script.to_string_lossy())
            .arg(output)
            .finish();
        Ok(process::run_logged(&mut command, &self.cache.log(log))?)
    }

    /// Cargo's target folder, the same path on the host and in the tree.
    fn target(&self) -> PathBuf {
        let name = format!("target-{}", self.tree.name());
        self.cache.directory().join(name)
    }
}

fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BuildError {
    move |source| BuildError::File {
        action,
        path: path.to_owned(),
        source,
    }
}
