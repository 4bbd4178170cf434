//! Standard streams: the host's descriptors of a session and the tokens under which the guest's
//! streams are joined to them. No byte passes through the monitor.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::OwnedFd;

use krun_gpu_protocol::{Stdio, StreamToken, TerminalSize};
use krun_gpu_vmm::devices::vsock::{Attached, VsockError, VsockHandle};

use crate::descriptors;
use crate::terminal::Terminal;

/// A session's descriptors on the host.
#[derive(Debug)]
pub(crate) enum StandardStreams {
    /// Whatever the caller has.
    Three {
        /// Standard input.
        input: OwnedFd,
        /// Standard output.
        output: OwnedFd,
        /// Standard error.
        error: OwnedFd,
    },
    /// A terminal.
    Terminal(Terminal),
}

impl StandardStreams {
    /// Duplicates this process' own.
    pub(crate) fn take() -> io::Result<Self> {
        Ok(Self::Three {
            input: descriptors::duplicate_standard(0)?,
            output: descriptors::duplicate_standard(1)?,
            error: descriptors::duplicate_standard(2)?,
        })
    }

    /// What a client sent for a process with `stdio`.
    pub(super) fn received(descriptors: Vec<OwnedFd>, stdio: &Stdio) -> Option<Self> {
        if let Stdio::Terminal { .. } = stdio {
            return Terminal::received(descriptors).map(Self::Terminal);
        }
        let [input, output, error] = <[OwnedFd; 3]>::try_from(descriptors).ok()?;
        Some(Self::Three {
            input,
            output,
            error,
        })
    }

    /// A second hold on standard error, for the monitor's own words.
    pub(super) fn for_reports(&self) -> io::Result<File> {
        let error = match self {
            Self::Three { error, .. } => error.try_clone()?,
            Self::Terminal(terminal) => terminal.descriptors()[1].try_clone_to_owned()?,
        };
        Ok(File::from(error))
    }
}

/// A session's streams, joined.
#[derive(Debug)]
pub(super) struct Joined {
    tokens: Vec<StreamToken>,
    /// What is written to: readable when all was written.
    outputs: Vec<Attached>,
    terminal: Option<Terminal>,
    handle: VsockHandle,
}

impl Joined {
    /// Joins `streams` to whatever guest streams bring the new tokens.
    pub(super) fn new(handle: &VsockHandle, streams: StandardStreams) -> Result<Self, VsockError> {
        let mut joined = Self {
            tokens: Vec::new(),
            outputs: Vec::new(),
            terminal: None,
            handle: handle.clone(),
        };
        match streams {
            StandardStreams::Three {
                input,
                output,
                error,
            } => {
                joined.attach(Some(input), None)?;
                joined.attach(None, Some(output))?;
                joined.attach(None, Some(error))?;
            }
            StandardStreams::Terminal(terminal) => {
                let [input, output] = terminal.descriptors().map(|end| end.try_clone_to_owned());
                let input = input.map_err(VsockError::Event)?;
                let output = output.map_err(VsockError::Event)?;
                joined.attach(Some(input), Some(output))?;
                joined.terminal = Some(terminal);
            }
        }
        Ok(joined)
    }

    fn attach(
        &mut self,
        input: Option<OwnedFd>,
        output: Option<OwnedFd>,
    ) -> Result<(), VsockError> {
        let token = token()?;
        let is_output = output.is_some();
        let attached = self.handle.attach(token.0, input, output)?;
        self.tokens.push(token);
        if is_output {
            self.outputs.push(attached);
        }
        Ok(())
    }

    /// What the agent is told.
    pub(super) fn stdio(&self) -> Stdio {
        let mut tokens = self.tokens.iter().copied();
        match (&self.terminal, tokens.next()) {
            (Some(_), Some(stream)) => Stdio::Terminal {
                stream,
                size: self.size().unwrap_or_default(),
            },
            (_, stdin) => Stdio::Pipes {
                stdin,
                stdout: tokens.next(),
                stderr: tokens.next(),
            },
        }
    }

    /// The terminal's size, if there is a terminal and it has one.
    pub(super) fn size(&self) -> Option<TerminalSize> {
        self.terminal.as_ref().and_then(Terminal::size)
    }

    /// Hangs the terminal up: the guest's hangs up as well.
    pub(super) fn hang_up(&self) {
        if self.terminal.is_some() {
            self.release();
        }
    }

    fn release(&self) {
        for token in &self.tokens {
            // The muxer is gone only when the VM is.
            let _ = self.handle.release(token.0);
        }
    }

    /// The outputs that have not ended yet.
    pub(super) fn outputs(&self) -> impl Iterator<Item = &Attached> {
        self.outputs.iter()
    }

    /// Forgets outputs that have ended; whether all have.
    pub(super) fn is_done(&mut self) -> bool {
        // Reading the eventfd says whether it was ever written; it is non-blocking.
        self.outputs.retain(|output| output.done.read().is_err());
        self.outputs.is_empty()
    }
}

impl Drop for Joined {
    fn drop(&mut self) {
        self.release();
    }
}

/// A token from the kernel's random numbers.
fn token() -> Result<StreamToken, VsockError> {
    let mut bytes = [0_u8; 16];
    // SAFETY: the buffer is as long as we say, and lives through the call.
    let count = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    if usize::try_from(count) != Ok(bytes.len()) {
        return Err(VsockError::Event(io::Error::last_os_error()));
    }
    Ok(StreamToken(bytes))
}

/// Writes words of the monitor's to the container's standard error.
pub(super) fn say(mut error: &File, text: &str) {
    // Nobody may be reading any more.
    let mut line = format!("krun-gpu: {text}\n");
    if error.is_terminal() {
        // It is raw.
        line = line.replace('\n', "\r\n");
    }
    let _ = error.write_all(line.as_bytes());
}
