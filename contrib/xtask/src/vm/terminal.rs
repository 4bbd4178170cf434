//! The terminal of the person who runs us, while it is the VM's: raw, so that every key goes to
//! the command, and given back as it was.

use std::{
    io::{self, IsTerminal},
    os::unix::net::UnixStream,
    thread,
    time::Duration,
};

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

use super::VmError;

/// A raw terminal; dropping it restores it.
#[derive(Debug)]
pub(super) struct RawTerminal {
    before: Termios,
}

impl RawTerminal {
    /// Whether the command should have a terminal: when a person types and reads.
    pub(super) fn wanted() -> bool {
        io::stdin().is_terminal() && io::stdout().is_terminal()
    }

    /// Makes the terminal on standard input raw.
    pub(super) fn new() -> Result<Self, VmError> {
        let error = |error: rustix::io::Errno| VmError::Stream("set the terminal", error.into());
        let before = tcgetattr(io::stdin()).map_err(error)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Now, &raw).map_err(error)?;
        Ok(Self { before })
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        // Nothing is left to do for a terminal that is gone.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}

/// Writes the terminal's size to the guest, `ROWS COLUMNS` a line, now and whenever it changes.
/// Returns when the guest is gone.
pub(super) fn report_size(mut control: UnixStream) {
    let mut reported = (0, 0);
    loop {
        let Ok(size) = tcgetwinsize(io::stdin()) else {
            return;
        };
        let size = (size.ws_row, size.ws_col);
        if size != reported {
            let line = format!("{} {}\n", size.0, size.1);
            if io::Write::write_all(&mut control, line.as_bytes()).is_err() {
                return;
            }
            reported = size;
        }
        thread::sleep(Duration::from_millis(200));
    }
}
