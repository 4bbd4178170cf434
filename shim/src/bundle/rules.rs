//! What a configuration must be beyond having the right types.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Hook, Process, Spec};

/// What execve(2) takes of arguments and environment at most, whatever the stack's limit.
const MOST_ARGUMENTS: usize = 6 << 20;

/// A value that makes no sense, by field.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InvalidConfig {
    /// A version that we do not know.
    #[error("ociVersion `{version}` is not supported: 1.x is")]
    Version {
        /// What it says.
        version: String,
    },
    /// A part that must be there.
    #[error("`{field}` is missing")]
    Missing {
        /// Its name.
        field: &'static str,
    },
    /// A mount without a place.
    #[error("mounts[{index}].destination is empty")]
    Destination {
        /// The place in the list.
        index: usize,
    },
    /// A path that must be absolute.
    #[error("{field} `{}` is not an absolute path", path.display())]
    Relative {
        /// The field.
        field: String,
        /// Its value.
        path: PathBuf,
    },
    /// An unknown capability.
    #[error("process.capabilities.{set}[{index}]: unknown capability `{name}`")]
    Capability {
        /// The set.
        set: &'static str,
        /// The place in it.
        index: usize,
        /// The name.
        name: String,
    },
    /// An unknown resource limit.
    #[error("process.rlimits[{index}].type: unknown limit `{name}`")]
    Rlimit {
        /// The place in the list.
        index: usize,
        /// The name.
        name: String,
    },
    /// A resource limit given twice.
    #[error("process.rlimits[{index}]: duplicate limit `{name}`")]
    DuplicateRlimit {
        /// The place in the list.
        index: usize,
        /// The name.
        name: String,
    },
    /// An unknown namespace.
    #[error("linux.namespaces[{index}].type: unknown namespace `{name}`")]
    Namespace {
        /// The place in the list.
        index: usize,
        /// The name.
        name: String,
    },
    /// A namespace given twice.
    #[error("linux.namespaces[{index}]: duplicate namespace `{name}`")]
    DuplicateNamespace {
        /// The place in the list.
        index: usize,
        /// The name.
        name: String,
    },
    /// A string that no program can be given.
    #[error("{field} {value:?} holds a NUL byte")]
    Nul {
        /// The field.
        field: String,
        /// Its value.
        value: String,
    },
    /// More than any program can be given.
    #[error(
        "process.args and process.env take {bytes} bytes, the kernel has room for {MOST_ARGUMENTS}: \
         Argument list too long"
    )]
    TooLong {
        /// How much it is.
        bytes: usize,
    },
    /// A hook's time limit below one second.
    #[error("{field}.timeout {timeout} is not greater than zero")]
    Timeout {
        /// The hook.
        field: String,
        /// Its value.
        timeout: i64,
    },
}

/// Checks `spec`.
pub(super) fn check(spec: &Spec) -> Result<(), InvalidConfig> {
    let missing = |field| InvalidConfig::Missing { field };
    if spec.version().is_empty() {
        return Err(missing("ociVersion"));
    }
    if spec.version().split('.').next() != Some("1") {
        return Err(InvalidConfig::Version {
            version: spec.version().clone(),
        });
    }
    let root = spec.root().as_ref().ok_or_else(|| missing("root"))?;
    if root.path().as_os_str().is_empty() {
        return Err(missing("root.path"));
    }
    let linux = spec.linux().as_ref().ok_or_else(|| missing("linux"))?;
    let mut seen = HashSet::new();
    for (index, namespace) in linux.namespaces().iter().flatten().enumerate() {
        if !seen.insert(namespace.typ()) {
            let name = serde_json::to_value(namespace.typ()).unwrap_or_default();
            return Err(InvalidConfig::DuplicateNamespace {
                index,
                name: name.as_str().unwrap_or_default().to_owned(),
            });
        }
        if let Some(path) = namespace.path() {
            absolute(|| format!("linux.namespaces[{index}].path"), path)?;
        }
    }
    let mut mounts = spec.mounts().iter().flatten();
    if let Some(index) = mounts.position(|mount| mount.destination().as_os_str().is_empty()) {
        return Err(InvalidConfig::Destination { index });
    }
    check_hooks(spec)?;
    check_process(spec.process().as_ref().ok_or_else(|| missing("process"))?)
}

/// Checks a process: the container's, or one that `exec` reads.
pub(crate) fn check_process(process: &Process) -> Result<(), InvalidConfig> {
    if process.args().as_ref().is_none_or(Vec::is_empty) {
        return Err(InvalidConfig::Missing {
            field: "process.args",
        });
    }
    absolute(|| "process.cwd".to_owned(), process.cwd())?;
    let lists = [("args", process.args()), ("env", process.env())];
    let strings = lists.iter().flat_map(|(name, list)| {
        let list = list.iter().flatten().enumerate();
        list.map(move |(index, text)| (name, index, text))
    });
    let mut bytes = 0_usize;
    for (name, index, text) in strings {
        if text.contains('\0') {
            return Err(InvalidConfig::Nul {
                field: format!("process.{name}[{index}]"),
                value: text.clone(),
            });
        }
        // With its NUL and a pointer to it.
        bytes = bytes.saturating_add(text.len() + 1 + size_of::<usize>());
    }
    if bytes > MOST_ARGUMENTS {
        return Err(InvalidConfig::TooLong { bytes });
    }
    let mut seen = HashSet::new();
    for (index, limit) in process.rlimits().iter().flatten().enumerate() {
        let name = limit.typ().to_string();
        if !seen.insert(name.clone()) {
            return Err(InvalidConfig::DuplicateRlimit { index, name });
        }
    }
    Ok(())
}

#[allow(
    deprecated,
    reason = "prestart hooks are deprecated, and still what containers bring"
)]
fn check_hooks(spec: &Spec) -> Result<(), InvalidConfig> {
    let Some(hooks) = spec.hooks() else {
        return Ok(());
    };
    let lists: [(&str, &Option<Vec<Hook>>); 6] = [
        ("prestart", hooks.prestart()),
        ("createRuntime", hooks.create_runtime()),
        ("createContainer", hooks.create_container()),
        ("startContainer", hooks.start_container()),
        ("poststart", hooks.poststart()),
        ("poststop", hooks.poststop()),
    ];
    for (name, list) in lists {
        for (index, hook) in list.iter().flatten().enumerate() {
            absolute(|| format!("hooks.{name}[{index}].path"), hook.path())?;
            if let Some(timeout) = hook.timeout().filter(|timeout| *timeout <= 0) {
                return Err(InvalidConfig::Timeout {
                    field: format!("hooks.{name}[{index}]"),
                    timeout,
                });
            }
        }
    }
    Ok(())
}

fn absolute(field: impl FnOnce() -> String, path: &Path) -> Result<(), InvalidConfig> {
    if path.is_absolute() {
        return Ok(());
    }
    Err(InvalidConfig::Relative {
        field: field(),
        path: path.to_owned(),
    })
}
