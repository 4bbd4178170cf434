//! The sub-commands, one file each. A command's `run` gives the exit status of this process.

pub(crate) mod check;
pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod exec;
pub(crate) mod features;
mod hooks;
pub(crate) mod kill;
pub(crate) mod list;
pub(crate) mod run;
pub(crate) mod spec;
pub(crate) mod start;
pub(crate) mod state;
pub(crate) mod version;

use std::io;

use crate::cli::{Cli, Command};
use crate::gpu;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    /// `create` and the first half of `run`.
    #[error(transparent)]
    Create(#[from] create::CreateError),
    /// `start` and the second half of `run`.
    #[error(transparent)]
    Start(#[from] start::StartError),
    /// `run` after it has started the container.
    #[error(transparent)]
    Run(#[from] run::RunError),
    /// `state` and `list`.
    #[error(transparent)]
    State(#[from] crate::state::StateError),
    /// `kill`.
    #[error(transparent)]
    Kill(#[from] kill::KillError),
    /// `delete`.
    #[error(transparent)]
    Delete(#[from] delete::DeleteError),
    /// `exec`.
    #[error(transparent)]
    Exec(#[from] exec::ExecError),
    /// `spec`.
    #[error(transparent)]
    Spec(#[from] spec::SpecError),
    /// Standard output.
    #[error("write to standard output")]
    Output(#[from] io::Error),
    /// No command.
    #[error("no command given; see `krun-gpu --help`")]
    Nothing,
}

impl CommandError {
    /// The exit status of a command that failed so; crun's.
    pub(crate) fn status(&self) -> u8 {
        match self {
            Self::Exec(exec::ExecError::Guest(_)) => 255,
            _ => 1,
        }
    }
}

/// Runs the command that was given.
pub(crate) fn run(cli: &Cli) -> Result<u8, CommandError> {
    let global = &cli.global;
    if cli.version {
        version::run(global)?;
        return Ok(0);
    }
    match cli.command.as_ref().ok_or(CommandError::Nothing)? {
        Command::Create(options) => create::run(global, options)?,
        Command::Start(options) => start::run(global, options)?,
        Command::State(options) => state::run(global, options)?,
        Command::Kill(options) => kill::run(global, options)?,
        Command::Delete(options) => delete::run(global, options)?,
        Command::Run(options) => return run::run(global, options),
        Command::Exec(options) => return Ok(exec::run(global, options)?),
        Command::List(options) => list::run(global, options)?,
        Command::Spec(options) => spec::run(options)?,
        Command::Features => features::run()?,
        Command::Check(options) => return Ok(check::run(options)?),
        Command::GpuProbe => gpu::probe::run()?,
        Command::GpuServer(options) => gpu::render_server::supervisor::run(options)?,
    }
    Ok(0)
}
