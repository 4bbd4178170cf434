//! Finds the program that `process.args[0]` names, with crun's rules and words: Podman reads
//! the exit status (126, 127) out of them.
//!
//! Called by `process::run` as the process' user, in its working directory.

use std::fs;
use std::path::{Path, PathBuf};

use krun_gpu_protocol::ErrorKind;
use rustix::fs::{Access, access};
use rustix::io::Errno;

/// Why there is no program to run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LookupError {
    /// The name is empty.
    #[error("cannot find `` in $PATH")]
    Empty(#[source] Errno),
    /// It is in no folder of PATH.
    #[error("executable file `{name}` not found in $PATH")]
    NotInPath {
        /// The name.
        name: String,
        /// ENOENT.
        #[source]
        source: Errno,
    },
    /// There is nothing at this path.
    #[error("executable file `{path}` not found")]
    NotFound {
        /// The path.
        path: String,
        /// ENOENT or what else the kernel says.
        #[source]
        source: Errno,
    },
    /// It is a folder or the like.
    #[error("the path `{path}` is not a regular file")]
    NotRegular {
        /// The path.
        path: String,
        /// EPERM.
        #[source]
        source: Errno,
    },
    /// The user may not execute it.
    #[error("the path `{path}` exists but it is not executable")]
    NotExecutable {
        /// The path.
        path: String,
        /// EPERM.
        #[source]
        source: Errno,
    },
}

impl LookupError {
    /// What the host makes an exit status of.
    pub(super) fn kind(&self) -> ErrorKind {
        match self {
            Self::Empty(_) | Self::NotInPath { .. } | Self::NotFound { .. } => ErrorKind::NotFound,
            Self::NotRegular { .. } | Self::NotExecutable { .. } => ErrorKind::NotExecutable,
        }
    }
}

/// The path to execute for `name`.
pub(super) fn find(name: &str, search_path: &str) -> Result<PathBuf, LookupError> {
    if name.is_empty() {
        return Err(LookupError::Empty(Errno::NOENT));
    }
    if name.contains('/') {
        let path = Path::new(name);
        return match obstacle(path, name) {
            None => Ok(path.into()),
            Some(error) => Err(error),
        };
    }
    let mut found = None;
    for folder in search_path.split(':') {
        let folder = if folder.is_empty() { "." } else { folder };
        let path = Path::new(folder).join(name);
        match obstacle(&path, name) {
            None => return Ok(path),
            Some(LookupError::NotFound { .. }) => {}
            // A later folder may have one that can be executed.
            Some(error) => found = found.or(Some(error)),
        }
    }
    Err(found.unwrap_or(LookupError::NotInPath {
        name: name.into(),
        source: Errno::NOENT,
    }))
}

/// What keeps `path` from being executed.
fn obstacle(path: &Path, name: &str) -> Option<LookupError> {
    let name = name.to_string();
    match fs::metadata(path) {
        Err(error) => Some(LookupError::NotFound {
            path: name,
            source: Errno::from_io_error(&error).unwrap_or(Errno::NOENT),
        }),
        Ok(status) if !status.is_file() => Some(LookupError::NotRegular {
            path: name,
            source: Errno::PERM,
        }),
        Ok(_) => match access(path, Access::EXEC_OK) {
            Ok(()) => None,
            Err(_) => Some(LookupError::NotExecutable {
                path: name,
                source: Errno::PERM,
            }),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::report;

    fn text(name: &str, search_path: &str) -> (ErrorKind, String) {
        let error = find(name, search_path).unwrap_err();
        (error.kind(), report(error.kind(), &error).message)
    }

    #[test]
    fn the_words_are_cruns() {
        assert_eq!(
            text("no-such-program", "/bin:/usr/bin"),
            (
                ErrorKind::NotFound,
                "executable file `no-such-program` not found in $PATH: No such file or directory"
                    .into()
            )
        );
        assert_eq!(
            text("/no/such", ""),
            (
                ErrorKind::NotFound,
                "executable file `/no/such` not found: No such file or directory".into()
            )
        );
        assert_eq!(
            text("etc", "/"),
            (
                ErrorKind::NotExecutable,
                "the path `etc` is not a regular file: Operation not permitted".into()
            )
        );
        assert_eq!(
            text("passwd", "/etc"),
            (
                ErrorKind::NotExecutable,
                "the path `passwd` exists but it is not executable: Operation not permitted".into()
            )
        );
    }

    #[test]
    fn an_executable_in_a_later_folder_is_found() {
        assert_eq!(
            find("sh", "/etc:/no/such:/bin").unwrap(),
            Path::new("/bin/sh")
        );
    }
}
