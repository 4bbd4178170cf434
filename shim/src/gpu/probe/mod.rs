//! Which Vulkan devices the host has, asked in a process of its own.
//!
//! A Vulkan driver is large, may start threads, and stays loaded: nothing that `create`, which
//! becomes a VMM, wants in itself. So `krun-gpu gpu-probe` asks, and prints a [`Report`].

mod kept;
mod vulkan;

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::{Deserialize, Serialize};

use self::kept::Kept;

/// How long the host's drivers may take to tell.
const PATIENCE: Duration = Duration::from_secs(60);

/// The sub-command's name.
pub(crate) const COMMAND: &str = "gpu-probe";

/// A Vulkan device of the host's.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct HostGpu {
    /// Its name, as vulkaninfo prints it.
    pub(crate) name: String,
    /// What kind of device it is.
    pub(crate) kind: DeviceKind,
    /// Its driver's name.
    pub(crate) driver: String,
    /// The version of Vulkan that it has.
    pub(crate) api: String,
}

impl HostGpu {
    /// Whether NVIDIA's own driver drives it.
    pub(crate) fn is_nvidia(&self) -> bool {
        self.driver == "NVIDIA"
    }
}

/// Kinds of Vulkan devices.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum DeviceKind {
    /// A card of its own.
    Discrete,
    /// Part of the processor.
    Integrated,
    /// The host is a guest itself.
    Virtual,
    /// A rasteriser on the processors.
    Cpu,
    /// Anything else.
    Other,
}

/// What was found.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(crate) struct Report {
    /// The devices, in the loader's order.
    pub(crate) devices: Vec<HostGpu>,
    /// Why there are none, if Vulkan said so.
    pub(crate) error: Option<String>,
}

/// Why the host could not be asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProbeError {
    /// The process.
    #[error("ask the host's Vulkan drivers")]
    Process(#[source] io::Error),
    /// It took too long.
    #[error("the host's Vulkan drivers did not answer within {} s", PATIENCE.as_secs())]
    Silent,
    /// It crashed, or said something else.
    #[error("the host's Vulkan drivers could not be asked: `krun-gpu {COMMAND}` ended with {0}")]
    Crashed(std::process::ExitStatus),
}

/// A question that was asked, or whose answer is known.
#[derive(Debug)]
pub(crate) enum Probe {
    /// The drivers answered before, in the same circumstances.
    Known(Vec<HostGpu>),
    /// They are being asked; the answer is kept there.
    Asked(Asking, Option<Kept>),
}

impl Probe {
    /// Starts to ask, if that must be.
    pub(crate) fn begin() -> Result<Self, ProbeError> {
        let kept = Kept::of_caller();
        match kept.as_ref().and_then(Kept::devices) {
            Some(devices) => Ok(Self::Known(devices)),
            None => Ok(Self::Asked(Asking::begin()?, kept)),
        }
    }

    /// Starts to ask.
    pub(crate) fn begin_anew() -> Result<Self, ProbeError> {
        Ok(Self::Asked(Asking::begin()?, Kept::of_caller()))
    }

    /// Waits for the answer.
    pub(crate) fn finish(self) -> Result<Report, ProbeError> {
        match self {
            Self::Known(devices) => Ok(Report {
                devices,
                error: None,
            }),
            Self::Asked(asking, kept) => {
                let report = asking.finish()?;
                if let Some(kept) = kept {
                    kept.keep(&report.devices);
                }
                Ok(report)
            }
        }
    }
}

/// The asking process. It is killed when nobody waits for its answer.
#[derive(Debug)]
pub(crate) struct Asking {
    child: Child,
    output: ChildStdout,
}

impl Asking {
    fn begin() -> Result<Self, ProbeError> {
        let mut child = Command::new("/proc/self/exe")
            .arg0("krun-gpu")
            .arg(COMMAND)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .current_dir("/")
            .spawn()
            .map_err(ProbeError::Process)?;
        match child.stdout.take() {
            Some(output) => Ok(Self { child, output }),
            None => Err(ProbeError::Process(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn finish(mut self) -> Result<Report, ProbeError> {
        let until = Instant::now() + PATIENCE;
        let mut text = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            let mut watched = [PollFd::new(self.output.as_fd(), PollFlags::POLLIN)];
            match poll(&mut watched, timeout) {
                Ok(0) => return Err(ProbeError::Silent),
                Ok(_) => {}
                Err(nix::errno::Errno::EINTR) => continue,
                Err(error) => return Err(ProbeError::Process(error.into())),
            }
            match self.output.read(&mut buffer).map_err(ProbeError::Process)? {
                0 => break,
                count => text.extend(buffer.iter().take(count)),
            }
        }
        let status = self.child.wait().map_err(ProbeError::Process)?;
        serde_json::from_slice(&text).map_err(|_| ProbeError::Crashed(status))
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        // It has ended, or nobody is interested any more.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The sub-command: prints the report.
pub(crate) fn run() -> io::Result<()> {
    let report = match vulkan::devices() {
        Ok(devices) => Report {
            devices,
            error: None,
        },
        Err(error) => Report {
            devices: Vec::new(),
            error: Some(crate::report::chain(&error)),
        },
    };
    let mut output = io::stdout().lock();
    serde_json::to_writer(&mut output, &report)?;
    output.flush()
}
