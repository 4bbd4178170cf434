//! A process' pseudo terminal, made in the container's own devpts.
//!
//! Called by `session/` in the child: the master goes to the agent, the slave becomes the
//! process' standard streams and controlling terminal.

use std::os::fd::{AsFd, OwnedFd};

use krun_gpu_protocol::TerminalSize;
use rustix::fs::{Uid, fchown};
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};
use rustix::process::{ioctl_tiocsctty, setsid};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
use rustix::termios::{Winsize, tcsetwinsize};

/// What can go wrong with a terminal.
#[derive(Debug, thiserror::Error)]
#[error("terminal: {doing}")]
pub(crate) struct TerminalError {
    doing: &'static str,
    #[source]
    source: Errno,
}

/// A pair of master and slave.
#[derive(Debug)]
pub(crate) struct Terminal {
    /// The agent's end.
    pub(crate) master: OwnedFd,
    slave: OwnedFd,
}

impl Terminal {
    /// A new terminal of the devpts at /dev/pts.
    pub(crate) fn open(size: TerminalSize) -> Result<Self, TerminalError> {
        let doing = |doing| move |source| TerminalError { doing, source };
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).map_err(doing("open /dev/ptmx of the container"))?;
        unlockpt(&master).map_err(doing("unlock it"))?;
        let slave = ioctl_tiocgptpeer(&master, flags).map_err(doing("open its slave"))?;
        tcsetwinsize(&master, window(size)).map_err(doing("set its size"))?;
        Ok(Self { master, slave })
    }

    /// A detached mount of the slave, for /dev/console.
    pub(crate) fn mount(&self) -> Result<OwnedFd, Errno> {
        open_tree(
            &self.slave,
            "",
            OpenTreeFlags::OPEN_TREE_CLONE
                | OpenTreeFlags::OPEN_TREE_CLOEXEC
                | OpenTreeFlags::AT_EMPTY_PATH,
        )
    }

    /// Makes the slave this process' terminal, owned by `uid`, in a session of its own.
    pub(crate) fn take(&self, uid: u32) -> Result<(), TerminalError> {
        let doing = |doing| move |source| TerminalError { doing, source };
        setsid().map_err(doing("make a session"))?;
        fchown(&self.slave, Some(Uid::from_raw(uid)), None).map_err(doing("set its owner"))?;
        ioctl_tiocsctty(&self.slave).map_err(doing("make it the controlling terminal"))?;
        dup2_stdin(self.slave.as_fd())
            .and_then(|()| dup2_stdout(&self.slave))
            .and_then(|()| dup2_stderr(&self.slave))
            .map_err(doing("make it the standard streams"))
    }
}

/// The kernel's form of a size.
pub(crate) fn window(size: TerminalSize) -> Winsize {
    Winsize {
        ws_row: size.rows,
        ws_col: size.columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}
