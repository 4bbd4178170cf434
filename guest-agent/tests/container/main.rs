//! The agent against a host of the test's own, in namespaces of the test machine: a read-only
//! view of the machine's own `/` stands in for the virtio-fs tree, Unix sockets for vsock.
//!
//! Needs root; says so and skips everything otherwise. Limits of a cgroup need the v2 memory
//! controller, which the test VM has.

#![allow(clippy::unwrap_used, reason = "a test's panic is its failure")]

mod disks;
mod gpu;
mod guest;
mod lifecycle;
mod machine;
mod process;
mod sessions;
mod surroundings;

use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

use libtest_mimic::{Arguments, Trial};

/// Tests that failed at first and passed when they were run again.
static FLAKY: Mutex<Vec<&str>> = Mutex::new(Vec::new());

fn main() -> ExitCode {
    if let Some(code) = machine::reentered() {
        return code;
    }
    let arguments = Arguments::from_args();
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: the agent's tests need root: namespaces, mounts, cgroups");
        return ExitCode::SUCCESS;
    }
    let mut trials = Vec::new();
    trials.extend(process::trials());
    trials.extend(sessions::trials());
    trials.extend(surroundings::trials());
    trials.extend(disks::trials());
    trials.extend(gpu::trials());
    trials.extend(lifecycle::trials());
    let conclusion = libtest_mimic::run(&arguments, trials);
    for name in FLAKY.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        println!("flaky: {name} failed, and passed when it was run again");
    }
    conclusion.exit_code()
}

/// A test whose panic is its failure. It is run once more then, as the harness of `tests/` does
/// and for its reason: the emulated machine fails by itself now and then. `cargo xtask test` names
/// what passed only the second time.
fn trial(name: &'static str, test: fn()) -> Trial {
    Trial::test(name, move || {
        if std::panic::catch_unwind(test).is_err() {
            eprintln!("{name}: it is run again");
            test();
            FLAKY
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(name);
        }
        Ok(())
    })
}
