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
use nix::unistd::{ForkResult, fork};

use crate::bundle::BundleError;
use crate::cli::Global;
use crate::control::{Connection, ControlError, Reply, Request};
use crate::split::SplitError;
use crate::state::{self, Container, StateError, Status};

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
    /// A capability to add.
    #[arg(long, short, value_name = "CAP")]
    cap: Vec<String>,
    /// Set no_new_privs.
    #[arg(long)]
    no_new_privs: bool,
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
    if container.status() != Status::Running {
        return Err(ExecError::NotRunning {
            id: container.record.id.to_string(),
        });
    }
    let process = process::build(options, &container)?;
    let connection = Connection::open(&container.directory)?;
    let (input, output, error) = (io::stdin(), io::stdout(), io::stderr());
    let streams = [input.as_fd(), output.as_fd(), error.as_fd()];
    // From here on a signal is the session's.
    let signals = proxy::block_signals().map_err(host("read signals"))?;
    connection.send(&Request::Exec(Box::new(process)), &streams)?;
    match connection.receive()? {
        Reply::Done => {}
        Reply::Failed(error) => return Err(ExecError::Guest(error)),
        Reply::Ended(status) => return Ok(status),
    }
    if !options.detach {
        write_pid(options, std::process::id())?;
        return proxy::run(&connection, &signals).map_err(host("wait for the session"));
    }
    // SAFETY: this process has one thread.
    match unsafe { fork() }.map_err(|error| host("fork the session's process")(error.into()))? {
        ForkResult::Parent { child } => {
            write_pid(options, child.as_raw().unsigned_abs())?;
            Ok(0)
        }
        ForkResult::Child => proxy::run_detached(&connection, &signals),
    }
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
    if options.tty || options.console_socket.is_some() {
        return unsupported("--tty", "this version of krun-gpu has no terminals yet");
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
