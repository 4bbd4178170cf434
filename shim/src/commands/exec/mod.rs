//! `exec`: runs another process in a running container.
//!
//! The streams go to the VMM as descriptors. What stays on the host is one small process for each
//! session, the [`proxy`]: it passes signals on and exits with the session's status. With
//! `--detach` it is a child of this process, and its pid goes into the pid file; conmon adopts it.

mod process;
mod proxy;

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;

use clap::Args;
use krun_gpu_protocol::{Process, Stdio};
use nix::unistd::{ForkResult, fork};

use super::run::wait;
use crate::bundle::BundleError;
use crate::cli::Global;
use crate::control::{Connection, ControlError, Reply, Request};
use crate::split::SplitError;
use crate::state::{self, Container, ProcessIdentity, StateError, Status};
use crate::terminal::{Terminal, TerminalError};

/// Options of `exec`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// File with the process, as the specification's `process` object.
    #[arg(long, short, value_name = "FILE")]
    process: Option<PathBuf>,
    /// Do not wait for the process.
    #[arg(long, short)]
    detach: bool,
    /// File that the session's pid is written to.
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// Give the process a terminal.
    #[arg(long, short)]
    tty: bool,
    /// Socket that a terminal is sent to.
    #[arg(long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,
    /// Descriptors to pass into the container; only 0 is possible.
    #[arg(long, value_name = "N", default_value_t = 0)]
    preserve_fds: u32,
    /// The working directory.
    #[arg(long, value_name = "DIR")]
    cwd: Option<PathBuf>,
    /// A variable to set.
    #[arg(long, short, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// The user: `UID` or `UID:GID`.
    #[arg(long, short, value_name = "USER")]
    user: Option<String>,
    /// A capability to have, instead of the container's.
    #[arg(long, short, value_name = "CAP")]
    cap: Vec<String>,
    /// A supplementary group, by number.
    #[arg(long, short = 'g', value_name = "GID")]
    additional_gids: Vec<u32>,
    /// Set no_new_privs.
    #[arg(long)]
    no_new_privs: bool,
    /// Wait for a paused container to run again.
    #[arg(long)]
    ignore_paused: bool,
    /// The container's id.
    id: Option<String>,
    /// The command line.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

/// Why nothing was run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExecError {
    /// The state.
    #[error(transparent)]
    State(#[from] StateError),
    /// The container does not run.
    #[error("the container `{id}` is not running")]
    NotRunning {
        /// Its id.
        id: String,
    },
    /// The container is paused.
    #[error("the container `{id}` is paused")]
    Paused {
        /// Its id.
        id: String,
    },
    /// No command.
    #[error("please specify the ID of a container and a command, or --process")]
    NoCommand,
    /// The process' or the container's configuration.
    #[error(transparent)]
    Configuration(#[from] BundleError),
    /// The process file.
    #[error(transparent)]
    Process(#[from] process::ProcessError),
    /// What a VM cannot have.
    #[error(transparent)]
    Split(#[from] SplitError),
    /// The monitor.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The guest; the words are crun's.
    #[error("{0}")]
    Guest(krun_gpu_protocol::AgentError),
    /// Something that a VM cannot have, or not yet.
    #[error("{option} is not supported: {reason}")]
    Unsupported {
        /// The option.
        option: &'static str,
        /// Why.
        reason: &'static str,
    },
    /// The terminal.
    #[error(transparent)]
    Terminal(#[from] TerminalError),
    /// A terminal, and nobody to have it.
    #[error("use --console-socket: the process has a terminal, and nobody here stays to show it")]
    NoConsoleSocket,
    /// The session's process on the host.
    #[error("{action}")]
    Host {
        /// What was being done.
        action: &'static str,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// The pid file.
    #[error("write {}", path.display())]
    PidFile {
        /// The file.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
}

/// Runs the command; the session's exit status.
pub(crate) fn run(global: &Global, options: &Options) -> Result<u8, ExecError> {
    refuse(options)?;
    let root = state::root(global)?;
    let container = Container::load(&root, options.id.as_deref().unwrap_or_default())?;
    let id = || container.record.id.to_string();
    match container.status() {
        Status::Running => {}
        // It runs once the container does.
        Status::Paused if options.ignore_paused => {}
        Status::Paused => return Err(ExecError::Paused { id: id() }),
        Status::Creating | Status::Created | Status::Stopped => {
            return Err(ExecError::NotRunning { id: id() });
        }
    }
    let mut process = process::build(options, &container)?;
    let terminal = terminal(options, &mut process)?;
    let connection = Connection::open(&container.directory)?;
    let (input, output, error) = (io::stdin(), io::stdout(), io::stderr());
    let streams = match &terminal {
        Some(terminal) => terminal.descriptors().to_vec(),
        None => vec![input.as_fd(), output.as_fd(), error.as_fd()],
    };
    // From here on a signal is the session's.
    let signals = proxy::block_signals().map_err(host("read signals"))?;
    connection.send(&Request::Exec(Box::new(process)), &streams)?;
    match connection.receive()? {
        Reply::Failed(error) => return Err(ExecError::Guest(error)),
        Reply::Ended(status) => return Ok(status),
        _ => {}
    }
    let session = proxy::Session {
        connection,
        signals,
        terminal,
    };
    // Only the leader of a new session can have a terminal of ours as its own.
    let leads = session.terminal.as_ref().is_some_and(Terminal::is_own);
    if !options.detach && !leads {
        write_pid(options, std::process::id())?;
        let raw = session.terminal.as_ref().map(Terminal::raw).transpose()?;
        let status = session.run().map_err(host("wait for the session"));
        drop(raw);
        return status;
    }
    // SAFETY: this process has one thread.
    match unsafe { fork() }.map_err(|error| host("fork the session's process")(error.into()))? {
        ForkResult::Parent { child } => {
            write_pid(options, child.as_raw().unsigned_abs())?;
            if options.detach {
                return Ok(0);
            }
            // What the child holds is the child's alone.
            drop(session);
            ProcessIdentity::of(child.as_raw())
                .and_then(wait)
                .map_err(host("wait for the session"))
        }
        ForkResult::Child => session.run_detached(),
    }
}

/// The session's terminal, if it has one; its size is noted in `process`.
fn terminal(options: &Options, process: &mut Process) -> Result<Option<Terminal>, ExecError> {
    let Stdio::Terminal { size, .. } = &mut process.stdio else {
        return Ok(None);
    };
    let terminal = match &options.console_socket {
        Some(socket) => Terminal::send_to(socket, *size)?,
        None if options.detach => return Err(ExecError::NoConsoleSocket),
        None => Terminal::of_caller()?,
    };
    *size = terminal.size().unwrap_or(*size);
    Ok(Some(terminal))
}

fn host(action: &'static str) -> impl FnOnce(io::Error) -> ExecError {
    move |source| ExecError::Host { action, source }
}

fn refuse(options: &Options) -> Result<(), ExecError> {
    let unsupported = |option, reason| Err(ExecError::Unsupported { option, reason });
    if options.preserve_fds > 0 {
        return unsupported(
            "--preserve-fds",
            "a descriptor of the host's cannot be passed into the container's VM",
        );
    }
    Ok(())
}

fn write_pid(options: &Options, pid: u32) -> Result<(), ExecError> {
    let Some(path) = &options.pid_file else {
        return Ok(());
    };
    fs::write(path, pid.to_string()).map_err(|source| ExecError::PidFile {
        path: path.clone(),
        source,
    })
}
