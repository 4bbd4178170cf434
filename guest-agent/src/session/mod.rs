//! Sessions: the workload (session 0) and each `exec`, as the agent's loop sees them.
//!
//! Owned by `agent`. A session is a child process, a report channel from it until it becomes
//! its program, and its streams. It is over when the process is reaped and every stream is
//! written out.

mod child;
mod exec;
mod init;
mod report;

use std::os::fd::OwnedFd;

use krun_gpu_protocol::{AgentError, TerminalSize};
use rustix::io::Errno;
use rustix::process::Pid;

use crate::process::terminal::window;
use crate::stdio::{Stdio, StdioError};
use crate::sys::clone::Child;
use crate::sys::signal;
pub(crate) use exec::start as start_exec;
pub(crate) use init::start as start_init;
pub(crate) use report::{Channel, Message, Received};

/// Why a session's process could not be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionError {
    /// A step that has no values of its own.
    #[error("{doing}")]
    System {
        /// What the agent was doing.
        doing: &'static str,
        /// Why it failed.
        #[source]
        source: Errno,
    },
    /// Its streams.
    #[error(transparent)]
    Stdio(#[from] StdioError),
}

/// One session.
#[derive(Debug)]
pub(crate) struct Session {
    /// Its process in the agent's pid namespace.
    pub(crate) pid: Pid,
    /// The same, for signals.
    pidfd: OwnedFd,
    /// Open until the process has become its program, or failed to.
    pub(crate) channel: Option<Channel>,
    /// The request that waits for the child's next report.
    pub(crate) request: Option<u64>,
    /// Its streams.
    pub(crate) stdio: Stdio,
    /// Its pid in the workload's pid namespace, once it has told.
    pub(crate) inner_pid: Option<i32>,
    /// What the child said went wrong.
    pub(crate) failure: Option<AgentError>,
    /// Its exit status, once it is reaped.
    pub(crate) status: Option<u8>,
    /// The cgroup's count of OOM kills when it began.
    pub(crate) oom_kills: u64,
}

impl Session {
    fn new(child: Child, channel: Channel, stdio: Stdio, request: u64) -> Self {
        Self {
            pid: child.pid,
            pidfd: child.pidfd,
            channel: Some(channel),
            request: Some(request),
            stdio,
            inner_pid: None,
            failure: None,
            status: None,
            oom_kills: 0,
        }
    }

    /// The process, for setns(2).
    pub(crate) fn pidfd(&self) -> &OwnedFd {
        &self.pidfd
    }

    /// Sends a signal to its process.
    pub(crate) fn signal(&self, number: i32) -> Result<(), Errno> {
        signal::send(rustix::fd::AsFd::as_fd(&self.pidfd), number)
    }

    /// Kills the process group that the process leads.
    pub(crate) fn kill_group(&self) -> Result<(), Errno> {
        if self.status.is_some() {
            return Ok(());
        }
        let group = -self.pid.as_raw_nonzero().get();
        match signal::send_to_pid(group, libc::SIGKILL) {
            // It has not made its group yet.
            Err(Errno::SRCH) => self.signal(libc::SIGKILL),
            other => other,
        }
    }

    /// Gives its terminal a new size. False when it has none.
    pub(crate) fn resize(&self, size: TerminalSize) -> Result<bool, Errno> {
        match self.stdio.terminal() {
            Some(master) => rustix::termios::tcsetwinsize(master, window(size)).map(|()| true),
            None => Ok(false),
        }
    }

    /// Notes the exit status: what the process' end left in its pipes is still written out.
    pub(crate) fn ended(&mut self, status: u8) {
        self.status = Some(status);
        self.stdio.process_ended();
    }

    /// Nothing is left to do.
    pub(crate) fn is_over(&self) -> bool {
        self.status.is_some() && self.stdio.is_closed()
    }
}
