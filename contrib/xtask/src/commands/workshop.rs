//! What every sub-command works with: the cache, the checkout, the tree entered, the builds.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::{
    build::{BuildError, Builder, Layout, Prefix, Products},
    cache::{Cache, CacheError},
    conformance::{ExpectedError, SuiteError},
    host::{self, HostError, Sources},
    images::{Image, ImageError},
    process::ProcessError,
    tree::{Namespace, NamespaceError, Tree, TreeError},
    vm::{Status, Streams, Vm, VmError, VmOptions},
};

/// The program of the integration tests and benchmarks, where [`Workshop::stage`] puts it.
pub(crate) const TESTS: &str = "/usr/local/libexec/krun-gpu/krun-gpu-tests";

/// Why a sub-command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    /// The cache.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The folder in which test VMs claim their tests.
    #[error("make a folder for the VMs' claims")]
    Claims(#[source] io::Error),
    /// This machine.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The Debian tree.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The mount namespace.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// A build.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// A program.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// A container image.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The conformance suite.
    #[error(transparent)]
    Suite(#[from] SuiteError),
    /// What is expected of it.
    #[error(transparent)]
    Expected(#[from] ExpectedError),
    /// The test VM.
    #[error(transparent)]
    Vm(#[from] VmError),
    /// A file of the stage.
    #[error("stage {path}")]
    Stage {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// `krun-gpu check` said something else than JSON.
    #[error("read the output of krun-gpu check --json")]
    Check(#[source] serde_json::Error),
    /// `krun-gpu check` left something out.
    #[error("krun-gpu check --json has no item named {0}")]
    CheckWithout(&'static str),
}

/// Everything set up.
#[derive(Debug)]
pub(crate) struct Workshop {
    pub(crate) cache: Cache,
    pub(crate) sources: Sources,
    pub(crate) namespace: Namespace,
    tree: Tree,
}

impl Workshop {
    /// Sets up what is missing. To be called before any thread is started.
    pub(crate) fn open() -> Result<Self, CommandError> {
        host::require_root()?;
        let sources = Sources::find()?;
        let cache = Cache::open()?;
        let tree = Tree::open(&cache)?;
        let namespace = Namespace::enter(&tree, &cache, &sources)?;
        Ok(Self {
            cache,
            sources,
            tree,
            namespace,
        })
    }

    /// Builds, in the tree.
    pub(crate) fn builder(&self) -> Builder<'_> {
        Builder {
            cache: &self.cache,
            sources: &self.sources,
            tree: &self.tree,
            namespace: &self.namespace,
        }
    }

    /// Lays `products` out as the VM's /usr/local. The folder is a part of the namespace: it
    /// goes when xtask does.
    pub(crate) fn stage(&self, products: &Products) -> Result<PathBuf, CommandError> {
        self.lay_out(products, |layout| layout)
    }

    /// The same with what earlier builds left, be it nothing.
    pub(crate) fn stage_last(&self) -> Result<PathBuf, CommandError> {
        self.lay_out(&self.builder().last()?, Layout::only_existing)
    }

    fn lay_out(
        &self,
        products: &Products,
        select: impl FnOnce(Layout) -> Layout,
    ) -> Result<PathBuf, CommandError> {
        let stage = Path::new("/run/stage");
        let prefix = self.namespace.directory(stage)?;
        let roots = Prefix {
            etc: prefix.join("etc"),
            prefix,
        };
        let layout = Layout::new(products, &self.sources.checkout, &roots);
        select(layout.with_tests(products, &roots)).install()?;
        Ok(stage.to_owned())
    }

    /// Shows `images` in the stage, where the tests look for them.
    pub(crate) fn stage_images(
        &self,
        stage: &Path,
        images: impl IntoIterator<Item = &'static Image>,
    ) -> Result<(), CommandError> {
        for image in images {
            let folder = image.make(&self.builder())?;
            let inside = stage.join("share/krun-gpu-tests").join(image.name);
            self.namespace.show(&folder, &inside)?;
        }
        Ok(())
    }

    /// Runs the test VM with `stage` installed.
    pub(crate) fn vm(
        &self,
        stage: &Path,
        options: VmOptions,
        streams: Streams,
    ) -> Result<Status, CommandError> {
        let checkout = &self.sources.checkout;
        let vm = Vm::new(
            &self.cache,
            &self.tree,
            &self.namespace,
            checkout,
            stage,
            options,
        )?;
        Ok(vm.run(streams)?)
    }
}
