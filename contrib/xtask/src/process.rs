//! Running other programs to their end. What they print goes into a log in the cache, and onto
//! the screen only when they fail.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
};

/// Why a program did not do its work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProcessError {
    /// The log could not be made.
    #[error("create the log {path}")]
    Log {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The program could not be started.
    #[error("run {program}")]
    Run {
        program: String,
        #[source]
        source: io::Error,
    },
    /// The program said that it failed.
    #[error("{program} failed ({status}); its output is in {log}:\n{tail}")]
    Failed {
        program: String,
        status: ExitStatus,
        log: PathBuf,
        tail: String,
    },
    /// The program said that it failed, and why, on the screen.
    #[error("{program} failed ({status})")]
    Unlogged { program: String, status: ExitStatus },
}

/// Runs `command` with no input and its output in the file `log`.
pub(crate) fn run_logged(command: &mut Command, log: &Path) -> Result<(), ProcessError> {
    let log_error = |source| ProcessError::Log {
        path: log.to_owned(),
        source,
    };
    if let Some(folder) = log.parent() {
        fs::create_dir_all(folder).map_err(log_error)?;
    }
    let output = File::create(log).map_err(log_error)?;
    let error = output.try_clone().map_err(log_error)?;
    let program = name(command);
    let status = command
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(error)
        .status()
        .map_err(|source| ProcessError::Run {
            program: program.clone(),
            source,
        })?;
    if status.success() {
        return Ok(());
    }
    Err(ProcessError::Failed {
        program,
        status,
        log: log.to_owned(),
        tail: tail(log, 60),
    })
}

/// Runs `command` with no input and its output, both streams, on standard error.
pub(crate) fn run_shown(command: &mut Command) -> Result<(), ProcessError> {
    let program = name(command);
    let status = command
        .stdin(Stdio::null())
        .stdout(io::stderr())
        .status()
        .map_err(|source| ProcessError::Run {
            program: program.clone(),
            source,
        })?;
    if status.success() {
        return Ok(());
    }
    Err(ProcessError::Unlogged { program, status })
}

/// The program with its first few arguments, for messages.
pub(crate) fn name(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).take(8).collect();
    words.join(" ")
}

/// The last `lines` lines of the file at `path`; empty when it cannot be read.
pub(crate) fn tail(path: &Path, lines: usize) -> String {
    let bytes = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<_> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
