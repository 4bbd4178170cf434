//! `cargo xtask vm`: a command in the test VM, with the current build installed.

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use clap::Args;

use super::{CommandError, Workshop};
use crate::{
    images, progress,
    vm::{Clock, Kernel, Streams, VmOptions},
};

/// Run a command as root in the test VM, with the current build of krun-gpu installed and
/// registered with Podman.
#[derive(Args, Debug)]
pub(super) struct Vm {
    /// A folder of this machine to show in the VM at its own name, readable and writable.
    #[arg(long = "share", value_name = "DIR")]
    shares: Vec<PathBuf>,
    /// The VM's memory in MiB.
    #[arg(long, value_name = "MIB", default_value_t = VmOptions::MEMORY)]
    memory: u32,
    /// The VM's processors.
    #[arg(long, value_name = "N", default_value_t = VmOptions::CPUS)]
    cpus: u8,
    /// Boot Debian bookworm's kernel, with cgroup v1.
    #[arg(long)]
    cgroup1: bool,
    /// Run the VM's clock by instructions executed, so that measurements repeat.
    #[arg(long)]
    icount: bool,
    /// Install what earlier builds left, be it nothing, instead of building.
    #[arg(long)]
    no_build: bool,
    /// Show the container images that the tests use in /usr/local/share/krun-gpu-tests.
    #[arg(long)]
    images: bool,
    /// The command.
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

impl Vm {
    pub(super) fn run(self) -> Result<ExitCode, CommandError> {
        let workshop = Workshop::open()?;
        let stage = if self.no_build {
            workshop.stage_last()?
        } else {
            workshop.stage(&workshop.builder().build()?)?
        };
        if self.images {
            workshop.stage_images(&stage, images::all())?;
        }
        progress::step("test VM", "booting");
        let options = VmOptions {
            command: self.command,
            shares: self.shares,
            memory: self.memory,
            cpus: self.cpus,
            kernel: self
                .cgroup1
                .then(|| Kernel::with_cgroup1(&workshop.builder()))
                .transpose()?,
            clock: if self.icount {
                Clock::Instructions
            } else {
                Clock::Host
            },
        };
        Ok(workshop.vm(&stage, options, Streams::Ours)?.into())
    }
}
