//! `kill`: sends a signal to the VMM, which passes it on to the workload.

use std::io;

use clap::Args;
use nix::sys::signal::Signal;

use crate::cli::Global;
use crate::control::{Connection, ControlError, Reply, Request};
use crate::state::{self, Container, StateError, Status};

/// Options of `kill`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Send the signal to every process of the container.
    #[arg(long, short)]
    all: bool,
    /// The container's id.
    id: Option<String>,
    /// The signal's name or number.
    #[arg(default_value = "TERM")]
    signal: String,
}

/// Why no signal was sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KillError {
    /// The state.
    #[error(transparent)]
    State(#[from] StateError),
    /// No such signal.
    #[error("unknown signal `{0}`")]
    Signal(String),
    /// It does not run.
    #[error("container `{id}` is not running")]
    NotRunning {
        /// Its id.
        id: String,
    },
    /// The signal was refused.
    #[error("kill container `{id}`")]
    Kill {
        /// Its id.
        id: String,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// The monitor.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The guest.
    #[error("{0}")]
    Guest(krun_gpu_protocol::AgentError),
}

/// Runs the command.
pub(crate) fn run(global: &Global, options: &Options) -> Result<(), KillError> {
    let root = state::root(global)?;
    let container = Container::load(&root, options.id.as_deref().unwrap_or_default())?;
    let signal = number(&options.signal)?;
    let id = container.record.id.to_string();
    let status = container.status();
    let process = match (status, container.record.process) {
        (Status::Created | Status::Running | Status::Paused, Some(process)) => process,
        // Every process of a stopped container has ended already.
        (Status::Stopped, _) if options.all => return Ok(()),
        _ => return Err(KillError::NotRunning { id }),
    };
    // All of the guest's processes end with the VMM, and before `start` there is none.
    if options.all && ![0, libc::SIGKILL].contains(&signal) && status != Status::Created {
        let connection = Connection::open(&container.directory)?;
        connection.send(&Request::SignalAll(signal), &[])?;
        if status == Status::Paused {
            // It arrives when the container runs again, as it would at frozen processes.
            return Ok(());
        }
        return match connection.receive()? {
            Reply::Failed(error) => Err(KillError::Guest(error)),
            _ => Ok(()),
        };
    }
    process
        .signal(signal)
        .map_err(|source| KillError::Kill { id, source })
}

/// A signal's number from its number, or its name with or without `SIG`; 0 asks whether the
/// container runs, as for kill(2).
pub(super) fn number(text: &str) -> Result<i32, KillError> {
    let unknown = || KillError::Signal(text.to_owned());
    if let Ok(number) = text.parse::<i32>() {
        return if (0..=64).contains(&number) {
            Ok(number)
        } else {
            Err(unknown())
        };
    }
    let upper = text.to_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Ok(signal) = format!("SIG{name}").parse::<Signal>() {
        return Ok(signal as i32);
    }
    real_time(name).ok_or_else(unknown)
}

/// `RTMIN`, `RTMIN+3`, `RTMAX-1`, as the kernel numbers them for glibc's programs.
fn real_time(name: &str) -> Option<i32> {
    let (base, rest): (i32, &str) = if let Some(rest) = name.strip_prefix("RTMIN") {
        (34, rest)
    } else {
        (64, name.strip_prefix("RTMAX")?)
    };
    let offset: i32 = if rest.is_empty() {
        0
    } else {
        rest.parse().ok()?
    };
    let number = base.checked_add(offset)?;
    (34..=64).contains(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        for (text, expected) in [
            ("0", 0),
            ("9", 9),
            ("KILL", 9),
            ("SIGKILL", 9),
            ("sigterm", 15),
            ("usr1", 10),
            ("RTMIN", 34),
            ("SIGRTMIN+2", 36),
            ("RTMAX-1", 63),
        ] {
            assert_eq!(number(text).unwrap(), expected, "{text}");
        }
        for text in ["", "65", "-1", "FOO", "SIGSIGKILL", "RTMAX+1"] {
            assert!(number(text).is_err(), "{text}");
        }
    }
}
