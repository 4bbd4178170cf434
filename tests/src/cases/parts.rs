//! Which cases run in which of a whole run's test VMs, and on how many processors. xtask names the
//! part (its `test/part.rs`); without a part all cases run.
//!
//! Nearly all of them have one processor: the emulated machine is sound only there
//! (`harness::pinned`), and two VMs on a machine with two processors gain nothing from more. Those
//! cases are shared out while they run (`harness::claims`): one VM takes them from the front of
//! the list and one from the end, until they meet.

use std::env;

use crate::harness::Case;
use crate::harness::claims::Claims;

/// The variable that asks for one part.
const PART: &str = "KRUN_GPU_TESTS_PART";

/// The part that takes cases from the end of the list.
const SECOND: &str = "second";

/// The part with [`TWO_PROCESSORS`].
const OF_TWO_PROCESSORS: &str = "two-processors";

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

/// Whether a case is kept on one processor of a test VM that has more.
pub(crate) fn stays_on_one_processor(name: &str) -> bool {
    env::var_os(EMULATED).is_some() && !TWO_PROCESSORS.contains(&name)
}

/// The cases of the part that is asked for, or all, and by what claims they are shared out.
pub(crate) fn wanted() -> (Vec<Case>, Option<Claims>) {
    let mut cases = super::all();
    let Ok(part) = env::var(PART) else {
        return (cases, None);
    };
    let of_two = part == OF_TWO_PROCESSORS;
    cases.retain(|case| TWO_PROCESSORS.contains(&case.name) == of_two);
    if part == SECOND {
        cases.reverse();
    }
    (cases, Claims::of(&part))
}

#[cfg(test)]
mod tests {
    use super::TWO_PROCESSORS;
    use crate::cases::all;

    #[test]
    fn what_is_named_is_there() {
        let names: Vec<&str> = all().iter().map(|case| case.name).collect();
        for name in TWO_PROCESSORS {
            assert!(names.contains(&name), "{name}");
        }
    }
}
