//! A session's process on the host: signals to it reach the session, its exit status is the
//! session's, and the session ends when it does.
//!
//! It holds none of the streams but a terminal, whose size it tells: whoever waits for their end
//! must not wait for it.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::SigSet;
use nix::sys::signalfd::{SfdFlags, SignalFd, siginfo};

use crate::control::{Connection, ControlError, Reply, Request};
use crate::descriptors;
use crate::terminal::Terminal;

/// Status of a session whose container ended with it.
const KILLED: u8 = 137;

/// Blocks all signals and opens a descriptor to read them from.
pub(super) fn block_signals() -> io::Result<SignalFd> {
    SigSet::all().thread_block()?;
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    Ok(SignalFd::with_flags(&SigSet::all(), flags)?)
}

/// A session that runs.
#[derive(Debug)]
pub(super) struct Session {
    /// To the container's monitor.
    pub(super) connection: Connection,
    /// Signals to this process.
    pub(super) signals: SignalFd,
    /// Its terminal, if it has one.
    pub(super) terminal: Option<Terminal>,
}

impl Session {
    /// Waits for the session's end; its status.
    pub(super) fn run(&self) -> io::Result<u8> {
        let null = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/null")?;
        descriptors::silence_standard(&null)?;
        drop(null);
        loop {
            let mut watched = [
                PollFd::new(self.connection.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut watched, PollTimeout::NONE) {
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
            let ended = watched[0].any().unwrap_or(false);
            while let Some(signal) = self.signals.read_signal()? {
                if let Some(request) = self.request(&signal) {
                    // When the container is gone, the next look at the connection says so.
                    let _ = self.connection.send(&request, &[]);
                }
            }
            if ended {
                match self.connection.receive() {
                    Ok(Reply::Ended(status)) => return Ok(status),
                    Ok(_) => {}
                    Err(ControlError::Ended) => return Ok(KILLED),
                    Err(_) => return Ok(1),
                }
            }
        }
    }

    /// The same in a process of its own, which is not to come back.
    pub(super) fn run_detached(&self) -> ! {
        // conmon kills process groups: this one is not its own.
        let _ = nix::unistd::setsid();
        let took = self.terminal.as_ref().map_or(Ok(()), Terminal::take);
        let status = took.map_err(io::Error::other).and_then(|()| {
            // It may have changed before there was a signal for it.
            if let Some(request) = self.resize() {
                let _ = self.connection.send(&request, &[]);
            }
            self.run()
        });
        // SAFETY: plain system call; a forked child leaves its parent's exit handlers alone.
        unsafe { libc::_exit(status.unwrap_or(1).into()) }
    }

    /// What a signal asks of the monitor. The kernel sends those of a terminal.
    fn request(&self, signal: &siginfo) -> Option<Request> {
        let number = i32::try_from(signal.ssi_signo).unwrap_or(0);
        let from_kernel = signal.ssi_code > 0;
        match number {
            libc::SIGCHLD => None,
            libc::SIGWINCH if from_kernel && self.terminal.is_some() => self.resize(),
            libc::SIGHUP if from_kernel && self.terminal.is_some() => Some(Request::HangUp),
            // What a terminal's end sends along.
            libc::SIGCONT if from_kernel && self.terminal.is_some() => None,
            _ => Some(Request::Signal(number)),
        }
    }

    fn resize(&self) -> Option<Request> {
        self.terminal.as_ref()?.size().map(Request::Resize)
    }
}
