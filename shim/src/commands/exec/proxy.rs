//! A session's process on the host: signals to it reach the session, its exit status is the
//! session's, and the session ends when it does.
//!
//! It holds none of the streams: whoever waits for their end must not wait for it.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::SigSet;
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::control::{Connection, ControlError, Reply, Request};
use crate::descriptors;

/// Status of a session whose container ended with it.
const KILLED: u8 = 137;

/// Blocks all signals and opens a descriptor to read them from.
pub(super) fn block_signals() -> io::Result<SignalFd> {
    SigSet::all().thread_block()?;
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    Ok(SignalFd::with_flags(&SigSet::all(), flags)?)
}

/// Waits for the session's end.
pub(super) fn run(connection: &Connection, signals: &SignalFd) -> io::Result<u8> {
    let null = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")?;
    descriptors::silence_standard(&null)?;
    drop(null);
    loop {
        let mut watched = [
            PollFd::new(connection.as_fd(), PollFlags::POLLIN),
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut watched, PollTimeout::NONE) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let ended = watched[0].any().unwrap_or(false);
        while let Some(signal) = signals.read_signal()? {
            let number = i32::try_from(signal.ssi_signo).unwrap_or(0);
            if number != libc::SIGCHLD {
                // When the container is gone, the next look at the connection says so.
                let _ = connection.send(&Request::Signal(number), &[]);
            }
        }
        if ended {
            match connection.receive() {
                Ok(Reply::Ended(status)) => return Ok(status),
                Ok(Reply::Done | Reply::Failed(_)) => {}
                Err(ControlError::Ended) => return Ok(KILLED),
                Err(_) => return Ok(1),
            }
        }
    }
}

/// The same in a process of its own, which is not to come back.
pub(super) fn run_detached(connection: &Connection, signals: &SignalFd) -> ! {
    // conmon kills process groups: this one is not its own.
    let _ = nix::unistd::setsid();
    let status = run(connection, signals).unwrap_or(1);
    // SAFETY: plain system call; a forked child leaves its parent's exit handlers alone.
    unsafe { libc::_exit(status.into()) }
}
