//! A session's terminal on the host: a pseudo terminal whose master an engine gets, or the
//! caller's own.
//!
//! The workload's terminal is the guest's; what is here carries its bytes and is raw, so that
//! nothing is done to them twice. `create` and `exec` make it, the VMM relays it, and whoever has
//! it as controlling terminal hears of its sizes and of its end by SIGWINCH and SIGHUP.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use krun_gpu_protocol::TerminalSize;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

use crate::descriptors;

/// What can go wrong with a terminal.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TerminalError {
    /// The pseudo terminal or the caller's.
    #[error("terminal: {action}")]
    Terminal {
        /// What was being done.
        action: &'static str,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// The socket that it is sent to.
    #[error("send a terminal to the console socket {}", path.display())]
    Socket {
        /// The socket.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
}

fn failed<E: Into<io::Error>>(action: &'static str) -> impl FnOnce(E) -> TerminalError {
    move |source| TerminalError::Terminal {
        action,
        source: source.into(),
    }
}

/// What a session's terminal is relayed through.
#[derive(Debug)]
pub(crate) struct Terminal {
    input: OwnedFd,
    output: OwnedFd,
    /// It is ours, and may become our controlling terminal.
    own: bool,
}

impl Terminal {
    /// Makes a raw pseudo terminal of this size and sends its master to `socket`.
    pub(crate) fn send_to(socket: &Path, size: TerminalSize) -> Result<Self, TerminalError> {
        let (master, slave) = pair()?;
        set_size(slave.as_fd(), size).map_err(failed("set its size"))?;
        // Before anybody has the master: an engine only adds what raw mode makes meaningless.
        RawMode::make(slave.as_fd()).map_err(failed("make it raw"))?;
        let output = slave.try_clone().map_err(failed("duplicate it"))?;
        send(socket, &master).map_err(|source| TerminalError::Socket {
            path: socket.to_owned(),
            source,
        })?;
        Ok(Self {
            input: slave,
            output,
            own: true,
        })
    }

    /// The caller's standard input and output, whatever they are.
    pub(crate) fn of_caller() -> Result<Self, TerminalError> {
        let duplicate = |number| {
            descriptors::duplicate_standard(number).map_err(failed("duplicate the caller's"))
        };
        Ok(Self {
            input: duplicate(0)?,
            output: duplicate(1)?,
            own: false,
        })
    }

    /// The two descriptors that a client sent.
    pub(crate) fn received(descriptors: Vec<OwnedFd>) -> Option<Self> {
        let [input, output] = <[OwnedFd; 2]>::try_from(descriptors).ok()?;
        Some(Self {
            input,
            output,
            own: false,
        })
    }

    /// What is read from and what is written to.
    pub(crate) fn descriptors(&self) -> [BorrowedFd<'_>; 2] {
        [self.input.as_fd(), self.output.as_fd()]
    }

    /// Whether it was made here.
    pub(crate) fn is_own(&self) -> bool {
        self.own
    }

    /// Makes it this process' controlling terminal, if it is ours; the process leads a session
    /// that has none.
    pub(crate) fn take(&self) -> Result<(), TerminalError> {
        if !self.own {
            return Ok(());
        }
        // SAFETY: the request takes a number.
        let result = unsafe { libc::ioctl(self.input.as_raw_fd(), libc::TIOCSCTTY, 0) };
        check(result).map_err(failed("make it the controlling terminal"))
    }

    /// Its size; `None` when it has none, or is no terminal at all.
    pub(crate) fn size(&self) -> Option<TerminalSize> {
        // SAFETY: zeros are a valid winsize.
        let mut size: libc::winsize = unsafe { std::mem::zeroed() };
        // SAFETY: the request fills in a winsize.
        let result =
            unsafe { libc::ioctl(self.input.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
        (result == 0 && (size.ws_row, size.ws_col) != (0, 0)).then_some(TerminalSize {
            rows: size.ws_row,
            columns: size.ws_col,
        })
    }

    /// Makes the caller's terminal raw until the result is dropped. `None` when it is none.
    pub(crate) fn raw(&self) -> Result<Option<RawMode>, TerminalError> {
        if self.own || !io::IsTerminal::is_terminal(&self.input) {
            return Ok(None);
        }
        let terminal = self.input.try_clone().map_err(failed("duplicate it"))?;
        let before = RawMode::make(terminal.as_fd()).map_err(failed("make it raw"))?;
        Ok(Some(RawMode { terminal, before }))
    }
}

/// A terminal that is raw as long as this lives.
#[derive(Debug)]
pub(crate) struct RawMode {
    terminal: OwnedFd,
    before: Termios,
}

impl RawMode {
    /// Makes a terminal raw; how it was before.
    fn make(terminal: BorrowedFd<'_>) -> nix::Result<Termios> {
        let before = tcgetattr(terminal)?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(terminal, SetArg::TCSANOW, &raw)?;
        Ok(before)
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // A terminal that hung up needs no tidying.
        let _ = tcsetattr(&self.terminal, SetArg::TCSADRAIN, &self.before);
    }
}

/// A new pseudo terminal: its master, and its slave without O_NONBLOCK's waiting.
fn pair() -> Result<(File, OwnedFd), TerminalError> {
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    let master = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOCTTY)
        .open("/dev/ptmx")
        .map_err(failed("open /dev/ptmx"))?;
    let unlocked: libc::c_int = 0;
    // SAFETY: the request reads a number.
    let result = unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlocked) };
    check(result).map_err(failed("unlock it"))?;
    // The relay must not wait, and the open file is ours alone.
    let flags = flags | libc::O_NONBLOCK;
    // SAFETY: the request takes the flags of open(2).
    let slave = unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags) };
    check(slave).map_err(failed("open its slave"))?;
    // SAFETY: the kernel just gave us this descriptor.
    Ok((master, unsafe { OwnedFd::from_raw_fd(slave) }))
}

fn set_size(terminal: BorrowedFd<'_>, size: TerminalSize) -> io::Result<()> {
    let size = libc::winsize {
        ws_row: size.rows,
        ws_col: size.columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: the request reads a winsize.
    check(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) })
}

/// Sends the master, with its name as the message's bytes.
fn send(socket: &Path, master: &File) -> io::Result<()> {
    let stream = UnixStream::connect(socket)?;
    let numbers = [master.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&numbers)];
    let name = [IoSlice::new(b"/dev/ptmx")];
    sendmsg::<()>(
        stream.as_raw_fd(),
        &name,
        &rights,
        MsgFlags::MSG_NOSIGNAL,
        None,
    )?;
    Ok(())
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{IoSliceMut, Read, Write};
    use std::os::unix::net::UnixListener;

    use nix::sys::socket::{ControlMessageOwned, recvmsg};

    use super::*;

    #[test]
    fn the_master_is_sent_and_nothing_changes_its_bytes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("console");
        let listener = UnixListener::bind(&path).unwrap();
        let size = TerminalSize {
            rows: 50,
            columns: 132,
        };
        let terminal = Terminal::send_to(&path, size).unwrap();
        assert_eq!(terminal.size(), Some(size));
        let (stream, _) = listener.accept().unwrap();
        let mut bytes = [0; 16];
        let mut space = nix::cmsg_space!([std::os::fd::RawFd; 1]);
        let mut slices = [IoSliceMut::new(&mut bytes)];
        let flags = MsgFlags::empty();
        let message =
            recvmsg::<()>(stream.as_raw_fd(), &mut slices, Some(&mut space), flags).unwrap();
        let Some(ControlMessageOwned::ScmRights(numbers)) = message.cmsgs().unwrap().next() else {
            panic!("no descriptor");
        };
        // SAFETY: the kernel just gave us this descriptor.
        let mut master = File::from(unsafe { OwnedFd::from_raw_fd(numbers[0]) });
        File::from(terminal.output.try_clone().unwrap())
            .write_all(b"a\nb\x03")
            .unwrap();
        let mut shown = [0; 4];
        master.read_exact(&mut shown).unwrap();
        assert_eq!(&shown, b"a\nb\x03");
        let larger = TerminalSize {
            rows: 60,
            columns: 90,
        };
        set_size(master.as_fd(), larger).unwrap();
        assert_eq!(terminal.size(), Some(larger));
    }

    #[test]
    fn a_missing_socket_is_named() {
        let error = Terminal::send_to(Path::new("/no/such"), TerminalSize::default()).unwrap_err();
        assert!(error.to_string().ends_with("socket /no/such"), "{error}");
    }
}
