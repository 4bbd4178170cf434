//! What a `Prepare` or an `Exec` must hold before anything is built.
//!
//! Called by `control`. The host has checked the specification; these are the rules that the
//! agent itself relies on.

use krun_gpu_protocol::{Process, Workload};

/// A field that breaks a rule.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InvalidError {
    /// A path is not absolute.
    #[error("{field} `{value}` is not an absolute path")]
    Relative {
        /// The field of the specification.
        field: &'static str,
        /// Its value.
        value: String,
    },
    /// A string holds a NUL.
    #[error("{field} {value:?} holds a NUL byte")]
    Nul {
        /// The field of the specification.
        field: &'static str,
        /// Its value.
        value: String,
    },
    /// There is no command.
    #[error("process.args is empty")]
    NoArguments,
}

/// Checks everything but the process.
pub(crate) fn workload(workload: &Workload) -> Result<(), InvalidError> {
    for mount in &workload.mounts {
        absolute("mounts.destination", &mount.destination)?;
    }
    for device in &workload.devices {
        absolute("linux.devices.path", &device.path)?;
    }
    for disk in &workload.disks {
        absolute("linux.devices.path", &disk.path)?;
    }
    for path in &workload.masked_paths {
        absolute("linux.maskedPaths", path)?;
    }
    for path in &workload.readonly_paths {
        absolute("linux.readonlyPaths", path)?;
    }
    for hook in &workload.start_container_hooks {
        absolute("hooks.startContainer.path", &hook.path)?;
    }
    process(&workload.process)
}

/// Checks a process.
pub(crate) fn process(process: &Process) -> Result<(), InvalidError> {
    if process.args.is_empty() {
        return Err(InvalidError::NoArguments);
    }
    for argument in &process.args {
        no_nul("process.args", argument)?;
    }
    for variable in &process.env {
        no_nul("process.env", variable)?;
    }
    absolute("process.cwd", &process.cwd)
}

fn absolute(field: &'static str, value: &str) -> Result<(), InvalidError> {
    no_nul(field, value)?;
    if value.starts_with('/') {
        Ok(())
    } else {
        Err(InvalidError::Relative {
            field,
            value: value.into(),
        })
    }
}

fn no_nul(field: &'static str, value: &str) -> Result<(), InvalidError> {
    if value.contains('\0') {
        Err(InvalidError::Nul {
            field,
            value: value.into(),
        })
    } else {
        Ok(())
    }
}
