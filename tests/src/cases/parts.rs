//! Which cases run in which of a whole run's test VMs, and on how many processors. xtask names the
//! part (its `test/part.rs`); without a part all cases run.
//!
//! Nearly all of them have one processor: the emulated machine is sound only there
//! (`harness::pinned`), and two VMs on a machine with two processors gain nothing from more.

use std::env;

use crate::harness::Case;

/// The variable that asks for one part: `first`, `second` or `two-processors`.
const PART: &str = "KRUN_GPU_TESTS_PART";

/// The variable that is set in the test VM, and not where the machine's own KVM is used.
const EMULATED: &str = "KRUN_GPU_TESTS_EMULATED";

/// Cases that want two processors, and what for.
const TWO_PROCESSORS: [&str; 6] = [
    // Guests with one and with two vCPUs.
    "resources::cpus",
    // The set that is asked for is the second processor.
    "resources::cpuset",
    // Sessions that start on two vCPUs at once.
    "exec::twenty_at_once",
    // All vCPUs stop and go on.
    "verbs::pause",
    // One vCPU's end is the end of all.
    "death::guest_panics",
    // The driver on two vCPUs.
    "gpu::compute_on_two_vcpus",
];

/// The second part: groups of cases that take about as long as all others do, less the conformance
/// suite, which that VM's xtask runs after them.
const SECOND: [&str; 3] = ["engines", "gpu", "network"];

/// The part that a case belongs to.
fn part(name: &str) -> &'static str {
    let group = name.split("::").next().unwrap_or_default();
    if TWO_PROCESSORS.contains(&name) {
        "two-processors"
    } else if SECOND.contains(&group) {
        "second"
    } else {
        "first"
    }
}

/// Whether a case is kept on one processor of a test VM that has more.
pub(crate) fn stays_on_one_processor(name: &str) -> bool {
    env::var_os(EMULATED).is_some() && !TWO_PROCESSORS.contains(&name)
}

/// The cases of the part that is asked for, or all.
pub(crate) fn wanted() -> Vec<Case> {
    let mut cases = super::all();
    if let Ok(asked) = env::var(PART) {
        cases.retain(|case| part(case.name) == asked);
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::{SECOND, TWO_PROCESSORS};
    use crate::cases::all;

    #[test]
    fn what_is_named_is_there() {
        let names: Vec<&str> = all().iter().map(|case| case.name).collect();
        for name in TWO_PROCESSORS {
            assert!(names.contains(&name), "{name}");
        }
        for group in SECOND {
            let prefix = format!("{group}::");
            assert!(
                names.iter().any(|name| name.starts_with(&prefix)),
                "{group}"
            );
        }
    }
}
