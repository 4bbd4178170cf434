//! A private mount namespace in which the tree can be entered. Its root is a tmpfs that shows the
//! tree's folders read-only and a few of the host's folders at their own names. Nobody else sees
//! these mounts, and they are gone when the last process of xtask is.

use std::{
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use rustix::{
    mount::{
        MountFlags, MountPropagationFlags, mount, mount_bind, mount_bind_recursive, mount_change,
        mount_remount,
    },
    thread::{UnshareFlags, unshare_unsafe},
};

use super::{Tree, TreeCommand};
use crate::{cache::Cache, host::Sources};

/// Folders of the tree that are shown; all others are empty in the namespace.
const SHOWN: [&str; 4] = ["boot", "etc", "usr", "var"];

/// Why the namespace could not be built.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NamespaceError {
    /// No namespace of our own.
    #[error("unshare the mount namespace")]
    Unshare(#[source] io::Error),
    /// A mount, or the making of its mount point, failed.
    #[error("{action} {path}")]
    Path {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// The namespace: xtask itself is in it, with the tree's root at a folder of the cache.
#[derive(Debug)]
pub(crate) struct Namespace {
    root: PathBuf,
    tree: PathBuf,
}

impl Namespace {
    /// Moves xtask into a new namespace and builds the root in it.
    pub(crate) fn enter(
        tree: &Tree,
        cache: &Cache,
        sources: &Sources,
    ) -> Result<Self, NamespaceError> {
        // SAFETY: only the mount namespace changes; no descriptor table is split.
        unsafe { unshare_unsafe(UnshareFlags::NEWNS) }
            .map_err(|error| NamespaceError::Unshare(error.into()))?;
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        mount_change("/", private).map_err(at("make private", Path::new("/")))?;
        let namespace = Self {
            root: cache.directory().join("root"),
            tree: tree.path().to_owned(),
        };
        make_directory(&namespace.root)?;
        tmpfs(&namespace.root)?;
        namespace.show_tree()?;
        for host in ["/proc", "/sys", "/dev"] {
            namespace.show(Path::new(host), Path::new(host))?;
        }
        for path in [&sources.checkout, &sources.sysroot, cache.directory()] {
            namespace.show(path, path)?;
        }
        namespace.show_cargo_home(&sources.cargo_home)?;
        Ok(namespace)
    }

    /// The crates' sources and cargo's configuration; not the rest: cargo would prefer rustup's
    /// proxies in `bin` to the toolchain's own tools.
    fn show_cargo_home(&self, cargo_home: &Path) -> Result<(), NamespaceError> {
        self.directory(cargo_home)?;
        for name in ["registry", "git"] {
            let path = cargo_home.join(name);
            if path.is_dir() {
                self.show(&path, &path)?;
            }
        }
        let configuration = cargo_home.join("config.toml");
        if configuration.is_file() {
            let inside = self.outside(&configuration);
            fs::copy(&configuration, &inside).map_err(io_at("copy", &configuration))?;
        }
        Ok(())
    }

    fn show_tree(&self) -> Result<(), NamespaceError> {
        let entries = fs::read_dir(&self.tree).map_err(io_at("read", &self.tree))?;
        for entry in entries {
            let entry = entry.map_err(io_at("read", &self.tree))?;
            let inside = self.root.join(entry.file_name());
            let path = entry.path();
            if let Ok(target) = path.read_link() {
                symlink(target, &inside).map_err(io_at("create", &inside))?;
                continue;
            }
            make_directory(&inside)?;
            // So that /tmp is everybody's.
            let permissions = entry
                .metadata()
                .map_err(io_at("read", &path))?
                .permissions();
            fs::set_permissions(&inside, permissions).map_err(io_at("set the mode of", &inside))?;
            if SHOWN.iter().any(|name| entry.file_name() == *name) {
                bind_read_only(&path, &inside)?;
            }
        }
        tmpfs(&self.root.join("var/tmp"))
    }

    /// Shows the host's folder `host`, with what is mounted in it, at `inside`.
    pub(crate) fn show(&self, host: &Path, inside: &Path) -> Result<(), NamespaceError> {
        let target = self.outside(inside);
        make_directory(&target)?;
        mount_bind_recursive(host, &target).map_err(at("mount", &target))
    }

    /// Shows the bare tree, read-only, at `inside`.
    pub(crate) fn show_bare_tree(&self, inside: &Path) -> Result<(), NamespaceError> {
        let target = self.outside(inside);
        make_directory(&target)?;
        bind_read_only(&self.tree, &target)
    }

    /// Lets programs in the namespace reach the network as the host does: with its resolver, its
    /// names and the authorities that it trusts.
    pub(crate) fn show_network(&self) -> Result<(), NamespaceError> {
        const FILES: [&str; 3] = [
            "/etc/resolv.conf",
            "/etc/hosts",
            "/etc/ssl/certs/ca-certificates.crt",
        ];
        for path in FILES.map(Path::new) {
            let target = self.outside(path);
            if path.is_file() && target.is_file() {
                mount_bind(path, &target).map_err(at("mount", &target))?;
            }
        }
        Ok(())
    }

    /// Makes an empty folder that lives as long as the namespace.
    pub(crate) fn directory(&self, inside: &Path) -> Result<PathBuf, NamespaceError> {
        let path = self.outside(inside);
        make_directory(&path)?;
        Ok(path)
    }

    /// The path by which xtask itself reaches `inside`.
    pub(crate) fn outside(&self, inside: &Path) -> PathBuf {
        self.root.join(inside.strip_prefix("/").unwrap_or(inside))
    }

    /// `program`, to be run in the namespace's root.
    pub(crate) fn command(&self, program: &str) -> TreeCommand {
        TreeCommand::new(&self.root, program)
    }
}

fn make_directory(path: &Path) -> Result<(), NamespaceError> {
    fs::create_dir_all(path).map_err(io_at("create", path))
}

fn tmpfs(path: &Path) -> Result<(), NamespaceError> {
    mount("tmpfs", path, "tmpfs", MountFlags::empty(), c"mode=0755").map_err(at("mount", path))
}

fn bind_read_only(source: &Path, target: &Path) -> Result<(), NamespaceError> {
    mount_bind(source, target).map_err(at("mount", target))?;
    let flags = MountFlags::BIND | MountFlags::RDONLY;
    mount_remount(target, flags, c"").map_err(at("make read-only", target))
}

fn at(action: &'static str, path: &Path) -> impl FnOnce(rustix::io::Errno) -> NamespaceError {
    move |error| io_at(action, path)(error.into())
}

fn io_at(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> NamespaceError {
    move |source| NamespaceError::Path {
        action,
        path: path.to_owned(),
        source,
    }
}
