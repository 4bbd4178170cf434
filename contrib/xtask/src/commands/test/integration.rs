//! The integration tests in their machine.
//!
//! The test VM's kernel runs nested KVM on QEMU's emulation and was seen to panic now and then
//! ("corrupted stack end", in a thread that had left KVM), on two processors. No container can do
//! that, so the tests that had not ended go on in a fresh VM, the one that ran first. The report
//! names each such incident; a test under which it happens more often than
//! [`DEATHS_OF_ONE_TEST`] has failed.

use std::{
    collections::HashMap,
    env,
    ffi::OsString,
    path::{Path, PathBuf},
};

use super::{
    CommandError, Tally, Workshop,
    part::{self, Part},
};
use crate::{
    machine::{Job, Machine},
    progress,
    vm::{Status, Streams, VmError},
};

/// How many deaths of the test VM are borne in one run: none was seen yet on one processor, one in
/// ten minutes on two.
const MOST_DEATHS: usize = 9;

/// How many of them one test may see.
const DEATHS_OF_ONE_TEST: usize = 3;

/// What to run and where.
pub(super) struct Suite<'a> {
    pub(super) workshop: &'a Workshop,
    pub(super) tally: &'a Tally,
    pub(super) machine: Machine,
    pub(super) stage: &'a Path,
    /// The test programs, as paths in the machine.
    pub(super) programs: &'a [String],
    /// Only the tests whose names contain this.
    pub(super) filter: Option<&'a str>,
    /// Only this part of Podman's.
    pub(super) part: Option<Part>,
    /// The folder in which this part claims its tests.
    pub(super) claims: Option<&'a Path>,
}

impl Suite<'_> {
    /// Runs every program, whatever becomes of the others; whether all passed.
    pub(super) fn run(&self) -> Result<bool, CommandError> {
        progress::step("integration tests", "running");
        self.tally.suite_began();
        let mut deaths_during: HashMap<String, usize> = HashMap::new();
        for death in 1.. {
            match self.once() {
                Err(CommandError::Vm(error @ VmError::Died { .. }))
                    if death <= MOST_DEATHS && self.filter.is_none() =>
                {
                    eprintln!("{error}");
                    if let Some(running) = self.tally.machine_died() {
                        let deaths = deaths_during.entry(running.clone()).or_default();
                        *deaths += 1;
                        if *deaths > DEATHS_OF_ONE_TEST {
                            self.tally
                                .line(format!("test {running} ... FAILED\n").as_bytes());
                        }
                    }
                    progress::step("integration tests", "going on in a fresh VM");
                }
                result => return Ok(result?.0 == 0),
            }
        }
        Ok(false)
    }

    /// Runs what has not ended.
    fn once(&self) -> Result<Status, CommandError> {
        let mut script = String::from("status=0\n");
        if let Some(part) = self.part {
            script.push_str(&part.assignments(self.claims));
        }
        if self.machine == Machine::Vm {
            script.push_str(&format!("export {}=1\n", part::EMULATED));
        }
        if let Ok(until) = env::var(part::UNTIL) {
            script.push_str(&format!("export {}='{until}'\n", part::UNTIL));
        }
        for program in self.programs {
            script.push_str(&format!("{program} \"$@\" || status=1\n"));
        }
        script.push_str("exit $status");
        let mut command: Vec<OsString> = vec!["sh".into(), "-c".into(), script.into(), "sh".into()];
        command.extend(self.filter.map(Into::into));
        let ended = self.tally.ended();
        if !ended.is_empty() {
            command.push("--exact".into());
            command.extend(ended.iter().map(|name| format!("--skip={name}").into()));
        }
        let job = Job {
            command,
            cpus: part::cpus(self.part),
            shares: self.claims.iter().map(PathBuf::from).collect(),
            streams: Streams::Collected(Box::new(self.tally.clone())),
        };
        self.machine.run(self.workshop, self.stage, job)
    }
}
