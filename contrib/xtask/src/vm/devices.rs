//! The VM's file systems: each a virtiofsd of its own in the tree.

use std::{
    fs, io,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::net::UnixListener,
    },
    path::{Path, PathBuf},
    process::{Child, Stdio},
};

use super::VmError;
use crate::{
    process::{self, ProcessError},
    tree::Namespace,
};

/// A folder of the namespace that the VM can mount.
#[derive(Clone, Debug)]
pub(crate) struct FileSystem {
    /// The name that the VM mounts it by.
    pub(super) tag: String,
    directory: PathBuf,
    read_only: bool,
}

impl FileSystem {
    /// The VM's root. Nobody changes it while the VM runs, so the guest may cache all of it; an
    /// overlay takes no lower tree with automounts, so submounts are not announced.
    pub(super) fn tree(directory: &Path) -> Self {
        Self {
            tag: "tree".to_owned(),
            directory: directory.to_owned(),
            read_only: true,
        }
    }

    /// A folder of the host, readable and writable.
    pub(super) fn share(index: usize, directory: &Path) -> Self {
        Self {
            tag: format!("share{index}"),
            directory: directory.to_owned(),
            read_only: false,
        }
    }

    /// The socket on which its server listens, a path in the namespace.
    pub(super) fn socket(&self) -> PathBuf {
        Path::new("/run").join(format!("{}.sock", self.tag))
    }

    /// Starts its server. The socket is there when this returns.
    pub(super) fn serve(&self, namespace: &Namespace) -> Result<Child, VmError> {
        let failed = |error| VmError::Stream("listen for a file system", error);
        let socket = namespace.outside(&self.socket());
        // The one of a VM that ran before this one.
        match fs::remove_file(&socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let listener = UnixListener::bind(socket).map_err(failed)?;
        let number = listener.as_raw_fd().to_string();
        let command = namespace
            .command("/usr/libexec/virtiofsd")
            .args([
                "--fd",
                &number,
                "--sandbox=none",
                "--log-level=warn",
                "--rlimit-nofile=0",
                "--inode-file-handles=prefer",
                "--shared-dir",
            ])
            .arg(&self.directory);
        let command = if self.read_only {
            command.args(["--readonly", "--cache=always", "--no-announce-submounts"])
        } else {
            command.args(["--cache=auto", "--xattr", "--posix-acl"])
        };
        let mut command = command.inherit(OwnedFd::from(listener)).finish();
        let program = process::name(&command);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .map_err(|source| ProcessError::Run { program, source }.into())
    }
}
