//! Signals to the VMM: read from a descriptor, since all are blocked, and meant for the workload.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::signal::SigSet;
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// What a signal says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Notice {
    /// Somebody sent it, for the workload.
    Sent(i32),
    /// The controlling terminal has a new size.
    Resized,
    /// The controlling terminal hung up.
    HungUp,
}

/// The process' signals.
#[derive(Debug)]
pub(super) struct Signals {
    descriptor: SignalFd,
}

impl Signals {
    /// Opens the descriptor; every signal must be blocked already.
    pub(super) fn new() -> io::Result<Self> {
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let descriptor = SignalFd::with_flags(&SigSet::all(), flags)?;
        Ok(Self { descriptor })
    }

    /// The next signal that somebody sent us, or the terminal's. What else the kernel or our own
    /// writing to a closed pipe raised is no business of the workload's.
    pub(super) fn next(&self) -> Option<Notice> {
        loop {
            let signal = self.descriptor.read_signal().ok()??;
            let from_kernel = signal.ssi_code > 0;
            let from_us = signal.ssi_pid == std::process::id() && signal.ssi_code == libc::SI_USER;
            let number = i32::try_from(signal.ssi_signo).unwrap_or(0);
            match number {
                libc::SIGWINCH if from_kernel => return Some(Notice::Resized),
                libc::SIGHUP if from_kernel => return Some(Notice::HungUp),
                libc::SIGCHLD => {}
                _ if from_kernel || from_us => {}
                _ => return Some(Notice::Sent(number)),
            }
        }
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// Whether a process that does nothing about this signal dies of it: then a VMM whose workload
/// does not run yet does.
pub(super) fn is_deadly(signal: i32) -> bool {
    !matches!(
        signal,
        libc::SIGCHLD
            | libc::SIGCONT
            | libc::SIGURG
            | libc::SIGWINCH
            | libc::SIGTSTP
            | libc::SIGTTIN
            | libc::SIGTTOU
    )
}
