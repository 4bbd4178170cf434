//! `cargo xtask test`: formatting, lints, unit tests in the tree, and then the integration tests
//! where KVM works. Its last line on standard output adds everything up.

mod tally;

use std::{
    io::{self, BufRead, BufReader},
    process::{Command, ExitCode, Stdio},
};

use clap::Args;
use tally::Tally;

use super::{CommandError, Workshop, workshop::TESTS};
use crate::{
    build::cargo,
    machine::{Job, Machine},
    process::{self, ProcessError},
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
    /// Run the integration tests only.
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
                check(
                    &workshop,
                    &tally,
                    "formatting",
                    &["fmt", "--all", "--check"],
                )?;
                check(&workshop, &tally, "lints", &LINTS)?;
            }
            unit_tests(&workshop, &tally, self.filter.as_deref())?;
        }
        self.integration_tests(&workshop, &tally)?;
        Ok(tally.report())
    }

    fn integration_tests(&self, workshop: &Workshop, tally: &Tally) -> Result<(), CommandError> {
        let products = workshop.builder().build()?;
        let stage = workshop.stage(&products)?;
        workshop.stage_debian_image(&stage)?;
        let machine = Machine::choose(workshop, &products, self.vm)?;
        progress::step("integration tests", "running");
        let mut command = vec![TESTS.into()];
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

const LINTS: [&str; 7] = [
    "clippy",
    "--quiet",
    "--workspace",
    "--all-targets",
    "--",
    "--deny",
    "warnings",
];

/// A check that passes or fails as a whole.
fn check(
    workshop: &Workshop,
    tally: &Tally,
    title: &str,
    arguments: &[&str],
) -> Result<(), CommandError> {
    progress::step(title, "checking");
    let mut command = cargo(&workshop.builder(), arguments[0], &[]);
    command.args(&arguments[1..]);
    match process::run_shown(&mut command) {
        Ok(()) => tally.passed(),
        Err(ProcessError::Unlogged { .. }) => tally.failed(title),
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

/// The unit tests of all packages.
fn unit_tests(
    workshop: &Workshop,
    tally: &Tally,
    filter: Option<&str>,
) -> Result<(), CommandError> {
    progress::step("unit tests", "running");
    let mut command = cargo(&workshop.builder(), "test", &[]);
    command.args(["--workspace", "--no-fail-fast", "--"]);
    command.args(filter);
    let success = collect(&mut command, tally)?;
    tally.suite_ended("unit tests", success);
    Ok(())
}

/// Runs `command` with its output in the tally; says whether it succeeded.
fn collect(command: &mut Command, tally: &Tally) -> Result<bool, ProcessError> {
    let program = process::name(command);
    let failed = |source: io::Error| ProcessError::Run {
        program: program.clone(),
        source,
    };
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    if let Some(output) = child.stdout.take() {
        let mut output = BufReader::new(output);
        let mut line = Vec::new();
        while output.read_until(b'\n', &mut line).map_err(failed)? > 0 {
            tally.line(&line);
            line.clear();
        }
    }
    Ok(child.wait().map_err(failed)?.success())
}
