//! The parts of a whole run in test VMs, and the second one, which runs beside the others.
//!
//! QEMU's emulation is sound on one processor alone (tests/src/harness/pinned.rs), and a VM with
//! one keeps one of this machine's busy: so two VMs of that kind run at once, and share the tests
//! out between them while they run, from both ends of the list (tests/src/harness/claims.rs). The
//! few tests that want two processors precede the first part in a VM of their own. The second part
//! and the conformance suite before it are another xtask's, whose lines are counted here.

use std::{
    env, io,
    path::Path,
    process::{Child, Command, Stdio},
    thread::{self, JoinHandle},
};

use clap::ValueEnum;
use rustix::process::{Signal, set_parent_process_death_signal};

use super::{CommandError, Tally};
use crate::{process::ProcessError, vm::VmOptions};

/// The variable that tells the test program which cases to run.
const VARIABLE: &str = "KRUN_GPU_TESTS_PART";

/// The variable that tells it the folder in which the VMs claim tests.
const CLAIMS: &str = "KRUN_GPU_TESTS_CLAIMS";

/// The variable that tells it when to begin no more tests (tests/src/harness/mod.rs); passed on as
/// it is.
pub(super) const UNTIL: &str = "KRUN_GPU_TESTS_UNTIL";

/// The variable that tells it that the machine is emulated.
pub(super) const EMULATED: &str = "KRUN_GPU_TESTS_EMULATED";

/// Which of the cases (tests/src/cases/parts.rs).
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(super) enum Part {
    /// The packages' own tests, and then ours from the list's front.
    First,
    /// Ours from the list's end, which another xtask runs at the same time.
    Second,
    /// Those that want two processors.
    TwoProcessors,
}

impl Part {
    /// The lines of a shell's script that ask the test program for it.
    pub(super) fn assignments(self, claims: Option<&Path>) -> String {
        let name = match self {
            Self::First => "first",
            Self::Second => "second",
            Self::TwoProcessors => "two-processors",
        };
        let part = format!("export {VARIABLE}={name}\n");
        match claims {
            Some(claims) => format!("{part}export {CLAIMS}='{}'\n", claims.display()),
            None => part,
        }
    }

    /// Its VM's processors.
    fn cpus(self) -> u8 {
        match self {
            Self::First | Self::Second => 1,
            Self::TwoProcessors => 2,
        }
    }
}

/// The processors of a VM for `part`, or for tests that were named.
pub(super) fn cpus(part: Option<Part>) -> u8 {
    part.map_or(VmOptions::CPUS, Part::cpus)
}

/// Called by the other xtask: it ends when the one that started it does.
pub(super) fn end_with_the_first() -> Result<(), CommandError> {
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(|error| failed(error.into()).into())
}

fn failed(source: io::Error) -> ProcessError {
    ProcessError::Run {
        program: "the second part's xtask".to_owned(),
        source,
    }
}

/// The other xtask.
pub(super) struct Second {
    child: Child,
    relay: JoinHandle<io::Result<u64>>,
}

impl Second {
    /// Starts it, with the folder of claims; what it prints is passed on and counted in `tally`.
    pub(super) fn start(tally: &Tally, claims: &Path) -> Result<Self, CommandError> {
        let mut command = Command::new(env::current_exe().map_err(failed)?);
        command.args(["test", "--vm", "--integration", "--part", "second"]);
        command.arg("--claims").arg(claims);
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
