//! rlimits, OOM score, priorities, personality.
//!
//! Called by `process::run` while the process is still root; the OOM score by `session/` before.

use std::io;

use krun_gpu_protocol::{IoPriority, Process, Rlimit, Scheduler};
use rustix::io::Errno;

use crate::sys::scheduling;

/// A value that the kernel does not take.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LimitError {
    /// `process.rlimits`.
    #[error("set rlimit {} to soft {}, hard {}", limit.resource, limit.soft, limit.hard)]
    Rlimit {
        /// The limit.
        limit: Rlimit,
        /// Why it failed.
        #[source]
        source: Errno,
    },
    /// `process.oomScoreAdj`.
    #[error("set oom_score_adj to {value}")]
    OomScore {
        /// The value.
        value: i32,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// `process.ioPriority`.
    #[error("set the I/O priority to {value:?}")]
    IoPriority {
        /// The value.
        value: IoPriority,
        /// Why it failed.
        #[source]
        source: Errno,
    },
    /// `process.scheduler`.
    #[error("set the scheduler to {value:?}")]
    Scheduler {
        /// The value.
        value: Scheduler,
        /// Why it failed.
        #[source]
        source: Errno,
    },
    /// `linux.personality`.
    #[error("set the personality to {value:#x}")]
    Personality {
        /// The value.
        value: u64,
        /// Why it failed.
        #[source]
        source: Errno,
    },
}

/// Applies what `process` names.
pub(super) fn apply(process: &Process) -> Result<(), LimitError> {
    for limit in &process.rlimits {
        scheduling::set_limit(limit).map_err(|source| LimitError::Rlimit {
            limit: *limit,
            source,
        })?;
    }
    if let Some(value) = process.io_priority {
        scheduling::set_io_priority(value)
            .map_err(|source| LimitError::IoPriority { value, source })?;
    }
    if let Some(value) = process.scheduler {
        scheduling::set_scheduler(&value)
            .map_err(|source| LimitError::Scheduler { value, source })?;
    }
    if let Some(value) = process.personality {
        scheduling::set_personality(value)
            .map_err(|source| LimitError::Personality { value, source })?;
    }
    Ok(())
}

/// Sets the OOM score through the agent's own /proc, so before the process enters the container.
/// A process without a value gets 0: the agent's own is for the agent alone.
pub(crate) fn set_oom_score(process: &Process) -> Result<(), LimitError> {
    let value = process.oom_score_adj.unwrap_or(0);
    std::fs::write("/proc/self/oom_score_adj", value.to_string())
        .map_err(|source| LimitError::OomScore { value, source })
}
