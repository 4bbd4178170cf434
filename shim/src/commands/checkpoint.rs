//! `checkpoint` and `restore`: refused. Podman asks for their help to find out whether they work.

use std::ffi::OsString;

use clap::Args;

/// Options of both: whatever other runtimes take.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Not looked at.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    _arguments: Vec<OsString>,
}

/// Why it is refused.
#[derive(Debug, thiserror::Error)]
#[error(
    "{command} is not supported: a container is a VM here, and CRIU, which saves processes, \
     cannot save one"
)]
pub(crate) struct CheckpointError {
    command: &'static str,
}

/// Refuses `command`.
pub(crate) fn refuse(command: &'static str) -> Result<(), CheckpointError> {
    Err(CheckpointError { command })
}
