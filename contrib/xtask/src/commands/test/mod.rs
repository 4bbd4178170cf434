//! `cargo xtask test`: formatting, lints, unit tests in the tree, and then the integration tests
//! where KVM works. Its last line on standard output adds everything up.

mod cargo;
mod conformance;
mod integration;
mod tally;

use std::process::ExitCode;

use clap::Args;
use tally::Tally;

use super::{CommandError, Workshop, workshop::TESTS};
use crate::{images, machine::Machine};

/// Run all tests.
#[derive(Args, Debug)]
pub(super) struct Test {
    /// Run only the tests whose names contain this; formatting and lints are left out. With
    /// `conformance`: runtime-tools' validation suite instead.
    filter: Option<String>,
    /// With `conformance`: another runtime, such as crun, whose scores are shown.
    #[arg(long, value_name = "NAME")]
    runtime: Option<String>,
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
        if self.filter.as_deref() == Some("conformance") {
            return conformance::run(&workshop, self.runtime.as_deref());
        }
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
        workshop.stage_images(&stage, images::all())?;
        let mut programs = cargo::machine_tests(workshop, tally, &stage)?;
        programs.push(TESTS.to_owned());
        let machine = Machine::choose(workshop, &products, self.vm)?;
        let suite = integration::Suite {
            workshop,
            tally,
            machine,
            stage: &stage,
            programs: &programs,
            filter: self.filter.as_deref(),
        };
        suite.run()
    }
}
