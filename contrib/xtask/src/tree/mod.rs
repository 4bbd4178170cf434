//! The Debian trixie tree: made once with mmdebstrap, never written again. It is the root file
//! system of the test VM, and, with a few folders of the host shown in it, where the kernel and
//! our binaries are built and where QEMU runs, so the host needs none of that.

mod command;
mod namespace;

use std::{
    io,
    path::{Path, PathBuf},
    process::Command,
};

pub(crate) use command::TreeCommand;
pub(crate) use namespace::{Namespace, NamespaceError};

use crate::{
    cache::{Cache, CacheError, Inputs},
    host::{self, HostError},
    process::{self, ProcessError},
    progress,
};

/// What the tree holds, and what for.
const PACKAGES: &str = include_str!("packages.txt");

/// Where Debian comes from.
pub(crate) const ARCHIVE: &str = "http://deb.debian.org/debian";

/// Why there is no tree.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TreeError {
    /// The cache.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The host's packages.
    #[error(transparent)]
    Host(#[from] HostError),
    /// mmdebstrap.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The tree's kernel cannot be found.
    #[error("find the kernel in {path}")]
    Kernel {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// A complete tree.
#[derive(Clone, Debug)]
pub(crate) struct Tree {
    path: PathBuf,
}

impl Tree {
    /// The tree out of the cache, or a new one.
    pub(crate) fn open(cache: &Cache) -> Result<Self, TreeError> {
        let packages = packages(PACKAGES);
        let recipe = |target: &Path| {
            let mut command = Command::new("mmdebstrap");
            command
                .args(["--mode=root", "--variant=apt", "--components=main"])
                .arg(format!("--include={packages}"))
                .arg("trixie")
                .arg(target)
                .arg(ARCHIVE);
            command
        };
        let hash = Inputs::default()
            .bytes(process::name(&recipe(Path::new(""))))
            .hash();
        let path = cache.entry("Debian tree", "trixie", &hash, |path| {
            host::require_mmdebstrap(cache)?;
            progress::step("Debian tree", "making it with mmdebstrap");
            process::run_logged(&mut recipe(path), &cache.log("mmdebstrap"))
                .map_err(TreeError::from)
        })?;
        Ok(Self { path })
    }

    /// Its root on the host.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A short name that changes with the tree's content.
    pub(crate) fn name(&self) -> String {
        self.path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default()
    }

    /// The kernel of the test VM, as a path in the tree.
    pub(crate) fn kernel(&self) -> Result<PathBuf, TreeError> {
        let link = self.path.join("vmlinuz");
        let target = link
            .read_link()
            .map_err(|source| TreeError::Kernel { path: link, source })?;
        Ok(Path::new("/").join(target))
    }
}

/// The package names of `list`, which may hold comments, joined by commas.
fn packages(list: &str) -> String {
    let lines = list
        .lines()
        .map(|line| line.split('#').next().unwrap_or(line));
    let names: Vec<_> = lines.flat_map(str::split_whitespace).collect();
    names.join(",")
}

#[cfg(test)]
mod tests {
    #[test]
    fn comments_are_no_packages() {
        let list = "# why\npodman crun # two\n\nkmod\n";
        assert_eq!(super::packages(list), "podman,crun,kmod");
    }
}
