//! Children that have ended: as PID 1 the agent inherits every orphan of the guest.
//!
//! Called by `agent` when SIGCHLD is pending.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::{Errno, read};
use rustix::process::{Pid, WaitOptions, WaitStatus, wait};

use crate::sys::signal;

/// SIGCHLD as a descriptor.
#[derive(Debug)]
pub(crate) struct Reaper(OwnedFd);

impl Reaper {
    /// Blocks all signals of the agent from here on.
    pub(crate) fn new() -> Result<Self, Errno> {
        signal::block_all().map(Self)
    }

    /// Every child that has ended since the last call, with its exit status.
    pub(crate) fn reap(&self) -> Vec<(Pid, u8)> {
        // One pending SIGCHLD can stand for many children; what matters is that it is taken.
        let mut ignored = [0; 128];
        while matches!(read(&self.0, &mut ignored), Ok(1..)) {}
        let mut ended = Vec::new();
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => ended.push((pid, exit_status(status))),
                Err(Errno::INTR) => {}
                // No child has ended, or there is none.
                Ok(None) | Err(_) => return ended,
            }
        }
    }
}

impl AsFd for Reaper {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The exit status as a shell has it: the code, or 128 plus the signal.
fn exit_status(status: WaitStatus) -> u8 {
    let number = match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => 128 + signal,
        (None, None) => 255,
    };
    u8::try_from(number).unwrap_or(255)
}
