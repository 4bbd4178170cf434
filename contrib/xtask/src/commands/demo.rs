//! `cargo xtask demo`: containers in microVMs, through Podman.

use std::process::ExitCode;

use clap::Args;

use super::{CommandError, Workshop};
use crate::{
    images,
    machine::{Job, Machine},
    vm::{Streams, VmOptions},
};

/// Run a few containers in microVMs through Podman, and show what they print.
#[derive(Args, Debug)]
pub(super) struct Demo {
    /// Use the test VM even where this machine's own /dev/kvm would do.
    #[arg(long)]
    vm: bool,
}

impl Demo {
    pub(super) fn run(self) -> Result<ExitCode, CommandError> {
        let workshop = Workshop::open()?;
        let products = workshop.builder().build()?;
        let stage = workshop.stage(&products)?;
        workshop.stage_images(&stage, [&images::DEBIAN])?;
        let machine = Machine::choose(&workshop, &products, self.vm)?;
        let job = Job {
            cpus: VmOptions::CPUS,
            shares: Vec::new(),
            command: vec!["/srv/demo".into()],
            streams: Streams::Ours,
        };
        Ok(machine.run(&workshop, &stage, job)?.into())
    }
}
