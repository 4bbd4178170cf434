//! The integration tests in their machine.
//!
//! The test VM's kernel runs nested KVM on QEMU's emulation and was seen to panic now and then
//! ("corrupted stack end", in a thread that had left KVM). No container can do that, so the tests
//! that had not ended go on in a fresh VM, the one that ran first. The report names each such
//! incident; a test under which the VM died stays on one processor from then on (see
//! tests/src/harness/pinned.rs), and one under which it dies more often than
//! [`DEATHS_OF_ONE_TEST`] has failed.

use std::{collections::HashMap, ffi::OsString, path::Path};

use super::{
    CommandError, Tally, Workshop,
    half::{self, Half},
};
use crate::{
    machine::{Job, Machine},
    progress,
    vm::{Status, Streams, VmError, VmOptions},
};

/// How many deaths of the test VM are borne in one run: about one in forty minutes was seen.
const MOST_DEATHS: usize = 9;

/// How many of them one test may see: the longest, with a GPU, were seen to meet two.
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
    /// Only this half of Podman's.
    pub(super) half: Option<Half>,
}

impl Suite<'_> {
    /// Runs every program, whatever becomes of the others; whether all passed.
    pub(super) fn run(&self) -> Result<bool, CommandError> {
        progress::step("integration tests", "running");
        self.tally.suite_began();
        let mut deaths_during: HashMap<String, usize> = HashMap::new();
        for death in 1.. {
            match self.once(deaths_during.keys()) {
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

    /// Runs what has not ended, the tests `pinned` on one processor.
    fn once<'n>(&self, pinned: impl Iterator<Item = &'n String>) -> Result<Status, CommandError> {
        let names: Vec<&str> = pinned.map(String::as_str).collect();
        let half = self.half.map_or("", Half::name);
        let mut script = format!(
            "export {}={half} KRUN_GPU_TESTS_PINNED='{}'\nstatus=0\n",
            half::VARIABLE,
            names.join(" ")
        );
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
            cpus: self.half.map_or(VmOptions::CPUS, Half::cpus),
            streams: Streams::Collected(Box::new(self.tally.clone())),
        };
        self.machine.run(self.workshop, self.stage, job)
    }
}
