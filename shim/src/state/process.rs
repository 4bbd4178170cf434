//! A process that is still the one it was: its pid and the time at which it started.
//!
//! A pid alone may belong to somebody else by the time `kill` or `delete` looks at it.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::{Deserialize, Serialize};

/// A process, for good.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ProcessIdentity {
    /// Its pid in the caller's pid namespace.
    pub(crate) pid: i32,
    /// Clock ticks between boot and its start: field 22 of proc_pid_stat(5).
    pub(crate) start: u64,
}

impl ProcessIdentity {
    /// The identity of the process that has `pid` now.
    pub(crate) fn of(pid: i32) -> io::Result<Self> {
        let (_, start) = status(pid)?;
        Ok(Self { pid, start })
    }

    /// Whether it still runs; a zombie does not.
    pub(crate) fn is_alive(self) -> bool {
        matches!(status(self.pid), Ok((state, start))
            if start == self.start && state != 'Z' && state != 'X')
    }

    /// Sends `signal`. Not an error when the process is gone.
    pub(crate) fn signal(self, signal: i32) -> io::Result<()> {
        let Some(descriptor) = self.open()? else {
            return Ok(());
        };
        // SAFETY: plain system call on an open pidfd, without a siginfo.
        let result = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                descriptor.as_raw_fd(),
                signal,
                std::ptr::null::<libc::siginfo_t>(),
                0,
            )
        };
        if result < 0 {
            return gone_is_fine(io::Error::last_os_error());
        }
        Ok(())
    }

    /// Kills the process and waits until all its threads are gone: a zombie whose threads are
    /// still on their way out keeps its cgroup busy. `false` when that takes longer than `limit`.
    pub(crate) fn end(self, limit: Duration) -> io::Result<bool> {
        self.signal(libc::SIGKILL)?;
        self.wait(limit)
    }

    /// Waits as long as that for its end; whether it came.
    pub(crate) fn wait(self, limit: Duration) -> io::Result<bool> {
        let Some(descriptor) = self.open()? else {
            return Ok(true);
        };
        let mut watched = [PollFd::new(descriptor.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
        Ok(poll(&mut watched, timeout)? > 0)
    }

    /// A hold on the process; `None` when it is gone.
    pub(crate) fn open(self) -> io::Result<Option<OwnedFd>> {
        // SAFETY: plain system call; a negative result is no descriptor.
        let descriptor = unsafe { libc::syscall(libc::SYS_pidfd_open, self.pid, 0) };
        let descriptor = match i32::try_from(descriptor) {
            // SAFETY: the kernel just gave us this descriptor.
            Ok(descriptor) if descriptor >= 0 => unsafe { OwnedFd::from_raw_fd(descriptor) },
            _ => return gone_is_fine(io::Error::last_os_error()).map(|()| None),
        };
        // The descriptor holds on to whatever has the pid; whether it is the right one is asked
        // after.
        let same = matches!(status(self.pid), Ok((_, start)) if start == self.start);
        Ok(same.then_some(descriptor))
    }
}

fn gone_is_fine(error: io::Error) -> io::Result<()> {
    match error.raw_os_error() {
        Some(libc::ESRCH) => Ok(()),
        _ => Err(error),
    }
}

/// State and start time of a process.
fn status(pid: i32) -> io::Result<(char, u64)> {
    parse(&fs::read_to_string(format!("/proc/{pid}/stat"))?)
        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

/// The name may hold anything, blanks and parentheses too: fields count from the last `)`.
fn parse(stat: &str) -> Option<(char, u64)> {
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_whitespace();
    let state = fields.next()?.chars().next()?;
    let start = fields.nth(18)?.parse().ok()?;
    Some((state, start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_do_not_confuse_the_fields() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 0 0 0 1 1 0 0 20 0 1 0 4711 0 0";
        assert_eq!(parse(stat), Some(('S', 4711)));
    }

    #[test]
    fn this_process_is_alive_and_a_later_one_with_its_pid_is_not_it() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let me = ProcessIdentity::of(pid).unwrap();
        assert!(me.is_alive());
        let other = ProcessIdentity {
            start: me.start + 1,
            ..me
        };
        assert!(!other.is_alive());
        other.signal(libc::SIGKILL).unwrap();
        assert!(other.end(Duration::ZERO).unwrap());
    }

    #[test]
    fn an_ended_process_is_waited_for() {
        let mut child = std::process::Command::new("sleep")
            .arg("1000")
            .spawn()
            .unwrap();
        let process = ProcessIdentity::of(i32::try_from(child.id()).unwrap()).unwrap();
        assert!(process.end(Duration::from_secs(10)).unwrap());
        assert!(!process.is_alive());
        child.wait().unwrap();
    }
}
