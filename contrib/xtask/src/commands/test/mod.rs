//! `cargo xtask test`: formatting, lints, unit tests in the tree, and then the integration tests
//! where KVM works. Its last line on standard output adds everything up.

mod cargo;
mod tally;

use std::process::ExitCode;

use clap::Args;
use tally::Tally;

use super::{CommandError, Workshop, workshop::TESTS};
use crate::{
    machine::{Job, Machine},
    progress,
    vm::Streams,
};

/// Run all tests.
#[derive(Args, Debug)]
pub(super) struct Test {
    /// Run only the tests whose names contain this; formatting and lints are left out.
    filter: Option<String>,
    /// Use the test VM even where this machine's own /dev/kvm would do.
    #[arg(long)]
    vm: bool,
    /// Run only what needs a whole machine.
    #[arg(long)]
    integration: bool,
}

impl Test {
    pub(super) fn run(self) -> Result<ExitCode, CommandError> {
        let workshop = Workshop::open()?;
        let tally = Tally::default();
        workshop.sources.fetch(&workshop.cache)?;
        if !self.integration {
            if self.filter.is_none() {
                cargo::formatting(&workshop, &tally)?;
                cargo::lints(&workshop, &tally)?;
            }
            cargo::unit_tests(&workshop, &tally, self.filter.as_deref())?;
        }
        self.integration_tests(&workshop, &tally)?;
        Ok(tally.report())
    }

    /// The packages' own integration tests and then ours with Podman, in one machine.
    fn integration_tests(&self, workshop: &Workshop, tally: &Tally) -> Result<(), CommandError> {
        let products = workshop.builder().build()?;
        let stage = workshop.stage(&products)?;
        workshop.stage_debian_image(&stage)?;
        let mut programs = cargo::machine_tests(workshop, tally, &stage)?;
        programs.push(TESTS.to_owned());
        let machine = Machine::choose(workshop, &products, self.vm)?;
        progress::step("integration tests", "running");
        // Every program runs, whatever became of the others.
        let mut script = "status=0\n".to_owned();
        for program in programs {
            script.push_str(&format!("{program} \"$@\" || status=1\n"));
        }
        script.push_str("exit $status");
        let mut command = vec!["sh".into(), "-c".into(), script.into(), "sh".into()];
        command.extend(self.filter.iter().map(Into::into));
        let job = Job {
            command,
            streams: Streams::Collected(Box::new(tally.clone())),
        };
        let status = machine.run(workshop, &stage, job)?;
        tally.suite_ended("integration tests", status.0 == 0);
        Ok(())
    }
}
