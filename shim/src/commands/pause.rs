//! `pause`: stops a container's VM. Its memory stays, its clocks run on.

use clap::Args;

use super::{AskError, ask, load};
use crate::cli::Global;
use crate::control::Request;
use crate::state::Status;

/// Options of `pause`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The container's id.
    id: Option<String>,
}

/// Runs the command.
pub(crate) fn run(global: &Global, options: &Options) -> Result<(), AskError> {
    let mut container = load(global, options.id.as_deref(), Status::Running)?;
    ask(&container, &Request::Pause)?;
    container.record.status = Status::Paused;
    Ok(container.save()?)
}
