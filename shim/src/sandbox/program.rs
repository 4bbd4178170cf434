//! Looks for the workload's program and working directory before there is a guest to run it.
//!
//! Podman reads the exit statuses 126 and 127 out of what `create` says, so a missing program
//! must fail here, in crun's words, and not at `start`. This runs in the VMM's process after
//! pivot_root: `/` is the container's root with its volumes in place. What lies on a file system
//! that only the guest mounts is left to the guest.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use krun_gpu_protocol::{MountSource, Workload};

/// Why the workload could not run. The words are crun's.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProgramError {
    /// The working directory.
    #[error("chdir to `{cwd}`")]
    WorkingDirectory {
        /// Its path.
        cwd: String,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// It is in no directory of PATH.
    #[error("executable file `{name}` not found in $PATH")]
    NotInPath {
        /// The name.
        name: String,
        /// ENOENT.
        #[source]
        source: io::Error,
    },
    /// There is nothing at this path.
    #[error("executable file `{name}` not found")]
    NotFound {
        /// The path.
        name: String,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// It is a directory or the like.
    #[error("the path `{name}` is not a regular file")]
    NotRegular {
        /// The path.
        name: String,
        /// EPERM.
        #[source]
        source: io::Error,
    },
    /// It has no execute permission.
    #[error("the path `{name}` exists but it is not executable")]
    NotExecutable {
        /// The path.
        name: String,
        /// EPERM.
        #[source]
        source: io::Error,
    },
}

/// Checks the process of `workload` against the tree at `root`.
pub(super) fn check(root: &Path, workload: &Workload) -> Result<(), ProgramError> {
    let process = &workload.process;
    let guests: Vec<&Path> = workload
        .mounts
        .iter()
        .filter(|mount| matches!(mount.source, MountSource::Guest { .. }))
        .map(|mount| Path::new(&mount.destination))
        .collect();
    let is_guests = |path: &Path| guests.iter().any(|mount| path.starts_with(mount));
    let cwd = Path::new(&process.cwd);
    if !is_guests(cwd) {
        enter(&inside(root, cwd)).map_err(|source| ProgramError::WorkingDirectory {
            cwd: process.cwd.clone(),
            source,
        })?;
    }
    let name = process.args.first().map_or("", String::as_str);
    let obstacle = |path: &Path| {
        let path = cwd.join(path);
        if is_guests(&path) {
            None
        } else {
            obstacle(&inside(root, &path), name)
        }
    };
    if name.contains('/') {
        return obstacle(Path::new(name)).map_or(Ok(()), Err);
    }
    let search = process
        .env
        .iter()
        .find_map(|variable| variable.strip_prefix("PATH="));
    let mut found = None;
    for directory in search.unwrap_or_default().split(':') {
        let directory = if directory.is_empty() { "." } else { directory };
        match obstacle(&Path::new(directory).join(name)) {
            None if !name.is_empty() => return Ok(()),
            None | Some(ProgramError::NotFound { .. }) => {}
            // A later directory may have one that can be executed.
            error => found = found.or(error),
        }
    }
    Err(found.unwrap_or(ProgramError::NotInPath {
        name: name.to_owned(),
        source: io::Error::from_raw_os_error(libc::ENOENT),
    }))
}

/// A working directory that is missing is made, as under crun.
fn enter(cwd: &Path) -> io::Result<()> {
    match fs::metadata(cwd) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(io::Error::from_raw_os_error(libc::ENOTDIR)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(cwd),
        Err(error) => Err(error),
    }
}

fn inside(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

/// What keeps `path` from being executed.
fn obstacle(path: &Path, name: &str) -> Option<ProgramError> {
    use std::os::unix::fs::MetadataExt;
    let name = name.to_owned();
    let forbidden = || io::Error::from_raw_os_error(libc::EPERM);
    match fs::metadata(path) {
        Err(source) => Some(ProgramError::NotFound { name, source }),
        Ok(found) if !found.is_file() => Some(ProgramError::NotRegular {
            name,
            source: forbidden(),
        }),
        Ok(found) if found.mode() & 0o111 == 0 => Some(ProgramError::NotExecutable {
            name,
            source: forbidden(),
        }),
        Ok(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use krun_gpu_protocol::{Limits, Mount, MountFlags, Process, Stdio, User};

    use super::*;
    use crate::report;

    fn workload(name: &str, cwd: &str) -> Workload {
        Workload {
            hostname: None,
            domainname: None,
            root_readonly: false,
            root_propagation: None,
            mounts: vec![Mount {
                destination: "/t".into(),
                source: MountSource::Guest {
                    kind: "tmpfs".into(),
                    source: "tmpfs".into(),
                    data: String::new(),
                    copy_up: false,
                },
                flags: MountFlags::empty(),
                propagation: None,
            }],
            devices: Vec::new(),
            disks: Vec::new(),
            gpu: None,
            masked_paths: Vec::new(),
            readonly_paths: Vec::new(),
            sysctl: Vec::new(),
            limits: Limits::default(),
            start_container_hooks: Vec::new(),
            state: String::new(),
            process: Process {
                args: vec![name.into()],
                env: vec!["PATH=/sbin:/bin".into()],
                cwd: cwd.into(),
                user: User::default(),
                capabilities: None,
                rlimits: Vec::new(),
                no_new_privileges: false,
                oom_score_adj: None,
                seccomp: None,
                io_priority: None,
                scheduler: None,
                personality: None,
                stdio: Stdio::Pipes {
                    stdin: None,
                    stdout: None,
                    stderr: None,
                },
            },
            realtime_ns: 0,
        }
    }

    #[test]
    fn the_words_are_cruns() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("bin")).unwrap();
        for (name, mode) in [("good", 0o755), ("plain", 0o644)] {
            let path = root.path().join("bin").join(name);
            fs::write(&path, "x").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
        let said = |name: &str, cwd: &str| match check(root.path(), &workload(name, cwd)) {
            Ok(()) => "runs".to_owned(),
            Err(error) => report::chain(&error),
        };
        assert_eq!(said("good", "/"), "runs");
        assert_eq!(said("/bin/good", "/"), "runs");
        assert_eq!(said("bin/good", "/"), "runs");
        assert_eq!(said("good", "/t/deep"), "runs");
        assert_eq!(said("/t/program", "/"), "runs");
        assert_eq!(
            said("none", "/"),
            "executable file `none` not found in $PATH: No such file or directory"
        );
        assert_eq!(
            said("/none", "/"),
            "executable file `/none` not found: No such file or directory"
        );
        assert_eq!(
            said("plain", "/"),
            "the path `plain` exists but it is not executable: Operation not permitted"
        );
        assert_eq!(
            said("/bin", "/"),
            "the path `/bin` is not a regular file: Operation not permitted"
        );
        assert_eq!(said("good", "/new/deep"), "runs");
        assert!(root.path().join("new/deep").is_dir());
        assert_eq!(
            said("good", "/bin/good"),
            "chdir to `/bin/good`: Not a directory"
        );
    }
}
