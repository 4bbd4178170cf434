//! The agent against a host of the test's own, in namespaces of the test machine: a read-only
//! view of the machine's own `/` stands in for the virtio-fs tree, Unix sockets for vsock.
//!
//! Needs root; says so and skips everything otherwise. Limits of a cgroup need the v2 memory
//! controller, which the test VM has.

#![allow(clippy::unwrap_used, reason = "a test's panic is its failure")]

mod gpu;
mod guest;
mod lifecycle;
mod machine;
mod process;
mod sessions;
mod surroundings;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

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
    trials.extend(gpu::trials());
    trials.extend(lifecycle::trials());
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// A test whose panic is its failure.
fn trial(name: &str, test: fn()) -> Trial {
    Trial::test(name, move || {
        test();
        Ok(())
    })
}
