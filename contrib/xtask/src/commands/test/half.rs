//! The second half of the integration tests, in a test VM of its own beside the first one's.
//!
//! A test keeps little more than one processor busy, so two VMs on two processors are done
//! in two thirds of the time. The second one has one processor, on which QEMU's emulation is
//! sound (tests/src/harness/pinned.rs): it gets the tests that keep it busiest. It is another
//! xtask, whose lines are counted here.

use std::{
    env, io,
    process::{Child, Command, Stdio},
    thread::{self, JoinHandle},
};

use clap::ValueEnum;
use rustix::process::{Signal, set_parent_process_death_signal};

use super::{CommandError, Tally};
use crate::process::ProcessError;

/// The variable that tells the test program which cases to run.
pub(super) const VARIABLE: &str = "KRUN_GPU_TESTS_HALF";

/// Which of the cases.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(super) enum Half {
    /// Those that want two processors, and the agent's tests.
    First,
    /// The others.
    Second,
}

impl Half {
    /// As the test program calls it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Second => "second",
        }
    }

    /// Its VM's processors.
    pub(super) fn cpus(self) -> u8 {
        match self {
            Self::First => 2,
            Self::Second => 1,
        }
    }
}

/// Called by the other xtask: it ends when the one that started it does.
pub(super) fn end_with_the_first() -> Result<(), CommandError> {
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(|error| failed(error.into()).into())
}

fn failed(source: io::Error) -> ProcessError {
    ProcessError::Run {
        program: "the second half's xtask".to_owned(),
        source,
    }
}

/// The other xtask.
pub(super) struct Second {
    child: Child,
    relay: JoinHandle<io::Result<u64>>,
}

impl Second {
    /// Starts it; what it prints is passed on and counted in `tally`.
    pub(super) fn start(tally: &Tally) -> Result<Self, CommandError> {
        let mut command = Command::new(env::current_exe().map_err(failed)?);
        command.args(["test", "--vm", "--integration", "--half", "second"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(failed)?;
        let mut lines = child.stdout.take();
        let mut tally = tally.beside();
        let relay = thread::spawn(move || match &mut lines {
            Some(lines) => io::copy(lines, &mut tally),
            None => Ok(0),
        });
        Ok(Self { child, relay })
    }

    /// Waits for it; whether its tests passed.
    pub(super) fn wait(mut self) -> Result<bool, CommandError> {
        // A relay that panicked counted what it could.
        let relayed = self.relay.join().unwrap_or(Ok(0)).map_err(failed);
        let status = self.child.wait().map_err(failed)?;
        relayed?;
        Ok(status.success())
    }
}
