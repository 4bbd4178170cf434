//! `start`: joins the container's network, which an engine has set up by now, runs the workload of a
//! created container, then the poststart hooks.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use clap::Args;

use crate::cli::Global;
use crate::commands::hooks::{self, HookError};
use crate::control::{Connection, ControlError, Reply, Request};
use crate::network::{self, Network, NetworkError, watcher};
use crate::state::{self, Container, StateError, Status};

/// Options of `start`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The container's id.
    id: Option<String>,
}

/// Why a container was not started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// The state.
    #[error(transparent)]
    State(#[from] StateError),
    /// It is in another state.
    #[error("cannot start container `{id}`: it is {status}, not created")]
    Status {
        /// Its id.
        id: String,
        /// Its state.
        status: &'static str,
    },
    /// The container's network.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The process that follows its changes.
    #[error("start the watcher of the container's network")]
    Watcher(#[source] io::Error),
    /// The monitor.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The guest.
    #[error("{0}")]
    Guest(krun_gpu_protocol::AgentError),
    /// An answer to another question.
    #[error("the container's monitor gave an unexpected answer")]
    Unexpected,
    /// A poststart hook.
    #[error("poststart hook")]
    Hook(#[source] HookError),
}

/// Runs the command.
pub(crate) fn run(global: &Global, options: &Options) -> Result<(), StartError> {
    let root = state::root(global)?;
    let mut container = Container::load(&root, options.id.as_deref().unwrap_or_default())?;
    start(&mut container, true)
}

/// Starts a created container; `tell` when its standard error is not ours.
pub(crate) fn start(container: &mut Container, tell: bool) -> Result<(), StartError> {
    let status = container.status();
    if status != Status::Created {
        return Err(StartError::Status {
            id: container.record.id.to_string(),
            status: status.as_str(),
        });
    }
    let pid = container.record.process.map(|process| process.pid);
    let network = match pid {
        Some(pid) => network::join(container, pid)?,
        None => Network::default(),
    };
    let cgroup = pid.filter(|_| container.record.cgroup.is_some());
    if network.record.is_some() || network.passt.is_some() {
        // Before anything else can fail: `delete` is to find them.
        container.record.joined = network.record;
        container.record.passt = network.passt;
        container.save()?;
    }
    let connection = Connection::open(&container.directory)?;
    let links: Vec<BorrowedFd<'_>> = network.links.iter().map(AsFd::as_fd).collect();
    let mut notices = container.record.notices.clone();
    notices.extend(network.notice);
    let names: Vec<String> = network
        .interfaces
        .iter()
        .map(|interface| interface.name.clone())
        .collect();
    let request = Request::Start {
        interfaces: network.interfaces,
        links: network.kind,
        notices,
        tell,
    };
    connection.send(&request, &links)?;
    match connection.receive()? {
        Reply::Done => {}
        Reply::Failed(error) => return Err(StartError::Guest(error)),
        _ => return Err(StartError::Unexpected),
    }
    container.record.status = Status::Running;
    if let Some(namespace) = network.watched {
        let pairs = container.record.pairs();
        let watcher = watcher::spawn(&connection, namespace, &names, pairs, cgroup);
        container.record.watcher = Some(watcher.map_err(|error| {
            end(container);
            StartError::Watcher(error)
        })?);
    }
    container.save()?;
    let state = container.record.oci_state(Status::Running, pid);
    for hook in &container.record.poststart {
        hooks::run(hook, &state).map_err(|error| {
            // runtime-spec 1.3: the container is stopped, and start fails.
            end(container);
            StartError::Hook(error)
        })?;
    }
    Ok(())
}

/// Ends a container whose start failed late.
fn end(container: &Container) {
    if let Some(process) = container.record.process {
        let _ = process.signal(libc::SIGKILL);
    }
}
