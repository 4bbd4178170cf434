//! `delete`: removes what is left of a container: VMM, render server, cgroup, state; then runs poststop hooks.
//!
//! Podman calls it with no PATH and no HOME, also for containers whose VMM died.

use std::io;
use std::time::Duration;

use clap::Args;

use super::hooks;
use crate::cli::Global;
use crate::network;
use crate::report;
use crate::sandbox::cgroup::{self, CgroupError};
use crate::state::{self, Container, ProcessIdentity, StateError, Status};

/// How long a killed VMM has to be gone.
const PATIENCE: Duration = Duration::from_secs(10);

/// Options of `delete`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Kill the container first if it runs; no error if there is none.
    #[arg(long, short)]
    force: bool,
    /// The container's id.
    id: Option<String>,
}

/// Why a container is still there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeleteError {
    /// The state.
    #[error(transparent)]
    State(#[from] StateError),
    /// It runs.
    #[error("cannot delete container `{id}`: it is {status} and not stopped")]
    Running {
        /// Its id.
        id: String,
        /// Its state.
        status: &'static str,
    },
    /// It could not be killed.
    #[error("kill container `{id}`")]
    Kill {
        /// Its id.
        id: String,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// It was killed and is still there.
    #[error("container `{id}` is still there {seconds} seconds after it was killed")]
    Stuck {
        /// Its id.
        id: String,
        /// How long was waited.
        seconds: u64,
    },
    /// The cgroup.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
}

/// Runs the command.
pub(crate) fn run(global: &Global, options: &Options) -> Result<(), DeleteError> {
    let root = state::root(global)?;
    let id = options.id.as_deref().unwrap_or_default();
    let container = match Container::load(&root, id) {
        Err(StateError::NotFound { id }) if options.force => {
            // A `create` that was killed early leaves a directory without a record.
            return Ok(state::remove_directory(&root.join(id.as_str()))?);
        }
        container => container?,
    };
    delete(&container, options.force)
}

/// Deletes a container.
pub(crate) fn delete(container: &Container, force: bool) -> Result<(), DeleteError> {
    let record = &container.record;
    let status = container.status();
    // Like crun and runc, and against the letter of the specification, a created container can be
    // deleted as it is: its workload never ran.
    if !force && matches!(status, Status::Running | Status::Paused | Status::Creating) {
        return Err(DeleteError::Running {
            id: record.id.to_string(),
            status: status.as_str(),
        });
    }
    if let Some(process) = record.process {
        end(process, container)?;
    }
    if let Some(gpu) = &record.gpu {
        // With the VMM gone it ends by itself, after the processes below it, which would keep the
        // cgroup busy.
        let supervisor = gpu.render_server;
        if !matches!(supervisor.wait(PATIENCE), Ok(true)) {
            end(supervisor, container)?;
        }
    }
    // They end by themselves when the VMM has.
    for helper in [record.passt, record.watcher].into_iter().flatten() {
        if !matches!(helper.wait(PATIENCE), Ok(true)) {
            end(helper, container)?;
        }
    }
    if let (Some(joined), Some(path)) = (&record.joined, &record.network) {
        // The rest has to go all the same.
        if let Err(error) = network::part(joined, path) {
            tracing::warn!("{}", report::chain(&error));
        }
    }
    if let Some(cgroup) = &record.cgroup {
        cgroup::remove(cgroup, &record.id)?;
    }
    container.remove()?;
    let state = record.oci_state(Status::Stopped, None);
    for hook in &record.poststop {
        // The specification: a warning, and the other hooks still run.
        if let Err(error) = hooks::run(hook, &state) {
            tracing::warn!("poststop hook: {}", report::chain(&error));
        }
    }
    Ok(())
}

/// Kills the VMM and waits until it is gone.
fn end(process: ProcessIdentity, container: &Container) -> Result<(), DeleteError> {
    let id = container.record.id.to_string();
    match process.end(PATIENCE) {
        Ok(true) => Ok(()),
        Ok(false) => Err(DeleteError::Stuck {
            id,
            seconds: PATIENCE.as_secs(),
        }),
        Err(source) => Err(DeleteError::Kill { id, source }),
    }
}
