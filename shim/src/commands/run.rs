//! `run`: creates and starts a container, waits for it, and deletes it.

use std::io;

use clap::Args;
use nix::errno::Errno;
use nix::sys::signal::SigSet;
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::{CommandError, create, delete, start};
use crate::cli::Global;
use crate::state::ProcessIdentity;
use crate::terminal::{Terminal, TerminalError};

/// Options of `run`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// What `create` takes.
    #[command(flatten)]
    create: create::Options,
    /// Do not wait: leave the container running.
    #[arg(long, short)]
    detach: bool,
    /// Do not delete the container when it has ended.
    #[arg(long)]
    keep: bool,
}

/// What can go wrong while a container runs.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    /// Signals or children of this process.
    #[error("wait for the container")]
    Wait(#[source] io::Error),
    /// The caller's terminal.
    #[error(transparent)]
    Terminal(#[from] TerminalError),
}

/// Runs the command; the workload's exit status.
pub(crate) fn run(global: &Global, options: &Options) -> Result<u8, CommandError> {
    let create::Created {
        mut container,
        terminal,
    } = create::create(global, &options.create, !options.detach)?;
    if let Err(error) = start::start(&mut container, false) {
        // The first failure is the one to tell.
        let _ = delete::delete(&container, true);
        return Err(error.into());
    }
    if options.detach {
        return Ok(0);
    }
    let Some(process) = container.record.process else {
        return Ok(0);
    };
    let raw = terminal.as_ref().map(Terminal::raw);
    let raw = raw.transpose().map_err(RunError::Terminal)?;
    let status = wait(process).map_err(RunError::Wait)?;
    drop(raw);
    if !options.keep {
        delete::delete(&container, true)?;
    }
    Ok(status)
}

/// Waits for our child `process`, and passes signals on to it.
pub(super) fn wait(process: ProcessIdentity) -> io::Result<u8> {
    SigSet::all().thread_block()?;
    let signals = SignalFd::with_flags(&SigSet::all(), SfdFlags::SFD_CLOEXEC)?;
    loop {
        match waitpid(Pid::from_raw(process.pid), Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(_, status)) => return Ok(u8::try_from(status).unwrap_or(1)),
            Ok(WaitStatus::Signaled(_, signal, _)) => {
                return Ok(u8::try_from(128 + signal as i32).unwrap_or(1));
            }
            Ok(_) => {}
            Err(Errno::EINTR) => continue,
            Err(error) => return Err(error.into()),
        }
        // SIGCHLD wakes us for the next look.
        if let Some(signal) = signals.read_signal()? {
            let number = i32::try_from(signal.ssi_signo).unwrap_or(0);
            if number != libc::SIGCHLD {
                process.signal(number)?;
            }
        }
    }
}
