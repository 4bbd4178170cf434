//! `resume`: lets a paused container's VM run again.

use clap::Args;

use super::{AskError, ask, load};
use crate::cli::Global;
use crate::control::Request;
use crate::state::Status;

/// Options of `resume`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The container's id.
    id: Option<String>,
}

/// Runs the command.
pub(crate) fn run(global: &Global, options: &Options) -> Result<(), AskError> {
    let mut container = load(global, options.id.as_deref(), Status::Paused)?;
    // Before the VM runs: whoever sees it run must find it running.
    container.record.status = Status::Running;
    container.save()?;
    ask(&container, &Request::Resume)?;
    Ok(())
}
