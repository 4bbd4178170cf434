//! Containers as they are on disk: one directory each below the state root, mode 0700.
//!
//! `state.json` is the record, `config.json` the configuration that `create` read (later changes
//! of the bundle's do not count), `control.sock` the monitor's socket, `notify.sock`
//! libcontainer's. `console.log` is written when a guest ends badly.

mod id;
mod process;
mod record;

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

pub(crate) use id::{ContainerId, IdError};
pub(crate) use process::ProcessIdentity;
pub(crate) use record::{CgroupRecord, MachineRecord, OCI_VERSION, Record, Status};

use crate::cli::Global;
use crate::host;

const RECORD: &str = "state.json";

/// What can go wrong with a container's state.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StateError {
    /// A bad id.
    #[error(transparent)]
    Id(#[from] IdError),
    /// No such container.
    #[error("container `{id}` does not exist")]
    NotFound {
        /// Its id.
        id: ContainerId,
    },
    /// The id is in use.
    #[error("container `{id}` already exists")]
    Exists {
        /// The id.
        id: ContainerId,
    },
    /// An ordinary user without XDG_RUNTIME_DIR.
    #[error("no directory for the state: set XDG_RUNTIME_DIR or give --root")]
    NoRoot,
    /// A file or directory of the state.
    #[error("{action} {}", path.display())]
    File {
        /// What was being done.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// The record is no record of ours.
    #[error("read {}", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// The reason.
        #[source]
        source: serde_json::Error,
    },
}

/// A container: its directory and its record.
#[derive(Debug)]
pub(crate) struct Container {
    /// The state directory.
    pub(crate) directory: PathBuf,
    /// What it says.
    pub(crate) record: Record,
}

/// The state root: `--root`, or `/run/krun-gpu`, or the same below an ordinary user's runtime
/// directory.
pub(crate) fn root(global: &Global) -> Result<PathBuf, StateError> {
    if let Some(root) = &global.root {
        return Ok(root.clone());
    }
    if !host::is_rootless() {
        return Ok(PathBuf::from("/run/krun-gpu"));
    }
    match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(directory) if !directory.is_empty() => Ok(Path::new(&directory).join("krun-gpu")),
        _ => Err(StateError::NoRoot),
    }
}

/// Makes the directory of a new container.
pub(crate) fn create_directory(root: &Path, id: &ContainerId) -> Result<PathBuf, StateError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| StateError::File {
            action: "create",
            path,
            source,
        }
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(root)
        .map_err(failed(root))?;
    let directory = root.join(id.as_str());
    match DirBuilder::new().mode(0o700).create(&directory) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Err(StateError::Exists { id: id.clone() })
        }
        result => result.map_err(failed(&directory)).map(|()| directory),
    }
}

impl Container {
    /// Reads the container with this id.
    pub(crate) fn load(root: &Path, id: &str) -> Result<Self, StateError> {
        let id = ContainerId::new(id)?;
        let directory = root.join(id.as_str());
        let path = directory.join(RECORD);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(StateError::NotFound { id });
            }
            Err(source) => {
                return Err(StateError::File {
                    action: "read",
                    path,
                    source,
                });
            }
        };
        match serde_json::from_slice(&text) {
            Ok(record) => Ok(Self { directory, record }),
            Err(source) => Err(StateError::Record { path, source }),
        }
    }

    /// Writes the record in one step: a reader sees the old one or the new one.
    pub(crate) fn save(&self) -> Result<(), StateError> {
        let path = self.directory.join(RECORD);
        let temporary = self.directory.join(".state.json");
        let text = serde_json::to_vec(&self.record).map_err(|source| StateError::Record {
            path: path.clone(),
            source,
        })?;
        fs::write(&temporary, text)
            .and_then(|()| fs::rename(&temporary, &path))
            .map_err(|source| StateError::File {
                action: "write",
                path,
                source,
            })
    }

    /// Where the container is now.
    pub(crate) fn status(&self) -> Status {
        match (self.record.status, self.record.process) {
            // `create` is still at work as long as there is no process in the record.
            (Status::Creating, None) => Status::Creating,
            (status, Some(process)) if process.is_alive() => status,
            _ => Status::Stopped,
        }
    }

    /// The VMM's pid while it runs.
    pub(crate) fn pid(&self) -> Option<i32> {
        let process = self.record.process?;
        process.is_alive().then_some(process.pid)
    }

    /// Removes the state directory.
    pub(crate) fn remove(&self) -> Result<(), StateError> {
        remove_directory(&self.directory)
    }
}

/// Removes a container's state directory.
pub(crate) fn remove_directory(directory: &Path) -> Result<(), StateError> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result.map_err(|source| StateError::File {
            action: "remove",
            path: directory.to_owned(),
            source,
        }),
    }
}

/// The ids of all containers below `root`, sorted.
pub(crate) fn list(root: &Path) -> Result<Vec<String>, StateError> {
    let entries = match fs::read_dir(root) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => {
            return Err(StateError::File {
                action: "read",
                path: root.to_owned(),
                source,
            });
        }
    };
    let mut ids: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| root.join(name).join(RECORD).exists())
        .collect();
    ids.sort();
    Ok(ids)
}
