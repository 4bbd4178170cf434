//! A network namespace: which one it is, and work inside it.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::sched::{CloneFlags, setns};
use serde::{Deserialize, Serialize};

use super::NetworkError;

/// What tells a namespace from all others that exist at the same time.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    /// That of the namespace at `path`.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        Ok(identity(&fs::metadata(path)?))
    }
}

/// A network namespace.
#[derive(Debug)]
pub(super) struct Namespace {
    file: File,
    identity: Identity,
}

impl Namespace {
    /// Opens the namespace at `path`.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        Ok(Self {
            file,
            identity: identity(&metadata),
        })
    }

    pub(super) fn identity(&self) -> Identity {
        self.identity
    }

    /// A descriptor of it.
    pub(super) fn file(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Whether this process is in it.
    pub(super) fn is_ours(&self) -> io::Result<bool> {
        Ok(identity(&fs::metadata("/proc/self/ns/net")?) == self.identity)
    }

    /// Runs `work` in a thread that has entered the namespace. It needs CAP_SYS_ADMIN there.
    pub(super) fn enter<T: Send + 'static>(
        self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, NetworkError> {
        let inside = move || {
            setns(&self.file, CloneFlags::CLONE_NEWNET)
                .map_err(|error| NetworkError::Namespace(error.into()))?;
            Ok(work())
        };
        let thread = std::thread::Builder::new()
            .name("network".to_owned())
            .spawn(inside)
            .map_err(NetworkError::Thread)?;
        thread
            .join()
            .map_err(|_| NetworkError::Thread(io::Error::other("it panicked")))?
    }
}

fn identity(metadata: &fs::Metadata) -> Identity {
    Identity {
        device: metadata.dev(),
        inode: metadata.ino(),
    }
}
