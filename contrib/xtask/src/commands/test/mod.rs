//! `cargo xtask test`: formatting, lints, unit tests in the tree, then the integration tests where
//! KVM works, and the conformance suite. Its last line on standard output adds everything up.

mod cargo;
mod conformance;
mod integration;
mod part;
mod tally;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;
use part::{Part, Second};
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
    /// Run one part of that, and print its lines alone.
    #[arg(long, hide = true)]
    part: Option<Part>,
    /// The folder in which that part claims its tests.
    #[arg(long, hide = true, value_name = "DIR")]
    claims: Option<PathBuf>,
}

impl Test {
    pub(super) fn run(self) -> Result<ExitCode, CommandError> {
        if self.part.is_some() {
            part::end_with_the_first()?;
        }
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
        Ok(match self.part {
            Some(_) => tally.status(),
            None => tally.report(),
        })
    }

    /// The packages' own integration tests and ours with Podman in one machine, or in several at
    /// once, and the conformance suite.
    fn integration_tests(&self, workshop: &Workshop, tally: &Tally) -> Result<(), CommandError> {
        let products = workshop.builder().build()?;
        let stage = workshop.stage(&products)?;
        workshop.stage_images(&stage, images::all())?;
        let mut programs = match self.part {
            Some(_) => Vec::new(),
            None => cargo::machine_tests(workshop, tally, &stage)?,
        };
        programs.push(TESTS.to_owned());
        let machine = Machine::choose(workshop, &products, self.vm)?;
        let run = |part, programs: &[String], claims: Option<&Path>| {
            integration::Suite {
                workshop,
                tally,
                machine,
                stage: &stage,
                programs,
                filter: self.filter.as_deref(),
                part,
                claims,
            }
            .run()
        };
        // A machine's own KVM is quick, and there is one machine alone.
        let is_split = machine == Machine::Vm && self.filter.is_none() && self.part.is_none();
        let passed = if is_split {
            let claims = tempfile::tempdir().map_err(CommandError::Claims)?;
            let second = Second::start(tally, claims.path())?;
            let two_processors = run(Some(Part::TwoProcessors), &[TESTS.to_owned()], None)?;
            let first = run(Some(Part::First), &programs, Some(claims.path()))?;
            second.wait()? && first && two_processors
        } else {
            // Before what the VMs share out, so that they end together.
            if self.filter.is_none() {
                conformance::count(workshop, &stage, tally)?;
            }
            run(self.part, &programs, self.claims.as_deref())?
        };
        tally.suite_ended("integration tests", passed);
        Ok(())
    }
}
