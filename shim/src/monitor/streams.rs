//! Standard streams: the host's descriptors of a session and the tokens under which the guest's
//! streams are joined to them. No byte passes through the monitor.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;

use krun_gpu_protocol::{Stdio, StreamToken};
use krun_gpu_vmm::devices::vsock::{Attached, VsockError, VsockHandle};

use crate::descriptors;

/// A session's descriptors: standard input, output and error.
#[derive(Debug)]
pub(crate) struct StandardStreams {
    input: OwnedFd,
    output: OwnedFd,
    error: OwnedFd,
}

impl StandardStreams {
    /// Duplicates this process' own.
    pub(crate) fn take() -> io::Result<Self> {
        Ok(Self {
            input: descriptors::duplicate_standard(0)?,
            output: descriptors::duplicate_standard(1)?,
            error: descriptors::duplicate_standard(2)?,
        })
    }

    /// The three that a client sent.
    pub(super) fn received(descriptors: Vec<OwnedFd>) -> Option<Self> {
        let [input, output, error] = <[OwnedFd; 3]>::try_from(descriptors).ok()?;
        Some(Self {
            input,
            output,
            error,
        })
    }

    /// A second hold on standard error, for the monitor's own words.
    pub(super) fn for_reports(&self) -> io::Result<File> {
        Ok(File::from(self.error.try_clone()?))
    }
}

/// A session's streams, joined.
#[derive(Debug)]
pub(super) struct Joined {
    tokens: [StreamToken; 3],
    /// Standard output and error: readable when all was written.
    outputs: Vec<Attached>,
    handle: VsockHandle,
}

impl Joined {
    /// Joins `streams` to whatever guest streams bring the new tokens.
    pub(super) fn new(handle: &VsockHandle, streams: StandardStreams) -> Result<Self, VsockError> {
        let tokens = [token()?, token()?, token()?];
        let [input, output, error] = tokens;
        handle.attach(input.0, Some(streams.input), None)?;
        let outputs = vec![
            handle.attach(output.0, None, Some(streams.output))?,
            handle.attach(error.0, None, Some(streams.error))?,
        ];
        Ok(Self {
            tokens,
            outputs,
            handle: handle.clone(),
        })
    }

    /// What the agent is told.
    pub(super) fn stdio(&self) -> Stdio {
        let [stdin, stdout, stderr] = self.tokens.map(Some);
        Stdio::Pipes {
            stdin,
            stdout,
            stderr,
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
        for token in self.tokens {
            // The muxer is gone only when the VM is.
            let _ = self.handle.release(token.0);
        }
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
    let _ = error.write_all(format!("krun-gpu: {text}\n").as_bytes());
}
