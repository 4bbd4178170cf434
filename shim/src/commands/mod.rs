//! The sub-commands, one file each. A command's `run` gives the exit status of this process.

pub(crate) mod check;
pub(crate) mod checkpoint;
pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod events;
pub(crate) mod exec;
pub(crate) mod features;
mod hooks;
pub(crate) mod kill;
pub(crate) mod list;
pub(crate) mod pause;
pub(crate) mod ps;
pub(crate) mod resume;
pub(crate) mod run;
pub(crate) mod spec;
pub(crate) mod start;
pub(crate) mod state;
pub(crate) mod update;
pub(crate) mod version;

use std::io;

use crate::cli::{Cli, Command, Global};
use crate::control::{self, ControlError, Reply, Request};
use crate::gpu;
use crate::network;
use crate::state::{self as state_directory, Container, StateError, Status};

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
    State(#[from] StateError),
    /// `kill`.
    #[error(transparent)]
    Kill(#[from] kill::KillError),
    /// `delete`.
    #[error(transparent)]
    Delete(#[from] delete::DeleteError),
    /// `pause`, `resume`, `ps`, `events` and `update`.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// `update`.
    #[error(transparent)]
    Update(#[from] update::UpdateError),
    /// `checkpoint` and `restore`.
    #[error(transparent)]
    Checkpoint(#[from] checkpoint::CheckpointError),
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

/// Why a running container could not be asked for something.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    /// The state.
    #[error(transparent)]
    State(#[from] StateError),
    /// It is in another state.
    #[error("the container `{id}` is {status}, not {wanted}")]
    Status {
        /// Its id.
        id: String,
        /// Its state.
        status: &'static str,
        /// What it would have to be.
        wanted: &'static str,
    },
    /// The monitor.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The guest.
    #[error("{0}")]
    Guest(krun_gpu_protocol::AgentError),
    /// An answer to another question.
    #[error("the container's monitor gave an unexpected answer")]
    Unexpected,
    /// Standard output.
    #[error("write to standard output")]
    Output(#[from] io::Error),
}

/// The container with this id, which must be in this state.
fn load(global: &Global, id: Option<&str>, wanted: Status) -> Result<Container, AskError> {
    let root = state_directory::root(global)?;
    let container = Container::load(&root, id.unwrap_or_default())?;
    let status = container.status();
    if status != wanted {
        return Err(AskError::Status {
            id: container.record.id.to_string(),
            status: status.as_str(),
            wanted: wanted.as_str(),
        });
    }
    Ok(container)
}

/// Asks a container's monitor; its answer, unless that is a refusal.
fn ask(container: &Container, request: &Request) -> Result<Reply, AskError> {
    match control::ask(&container.directory, request)? {
        Reply::Failed(error) => Err(AskError::Guest(error)),
        reply => Ok(reply),
    }
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
        Command::Pause(options) => pause::run(global, options)?,
        Command::Resume(options) => resume::run(global, options)?,
        Command::Ps(options) => ps::run(global, options)?,
        Command::Events(options) => events::run(global, options)?,
        Command::Update(options) => update::run(global, options)?,
        Command::Checkpoint(_) => checkpoint::refuse("checkpoint")?,
        Command::Restore(_) => checkpoint::refuse("restore")?,
        Command::List(options) => list::run(global, options)?,
        Command::Spec(options) => spec::run(options)?,
        Command::Features => features::run()?,
        Command::Check(options) => return Ok(check::run(options)?),
        Command::GpuProbe => gpu::probe::run()?,
        Command::GpuServer(options) => gpu::render_server::supervisor::run(options)?,
        Command::NetworkWatch(options) => network::watcher::run(options)?,
    }
    Ok(0)
}
