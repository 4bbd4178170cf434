//! What the cases share: running commands, images, bundles, comparing with crun, leftovers.

pub(crate) mod bundle;
pub(crate) mod claims;
pub(crate) mod command;
pub(crate) mod compare;
pub(crate) mod images;
pub(crate) mod leftovers;
mod pinned;
pub(crate) mod schema;

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use libtest_mimic::Failed;

pub(crate) use command::{Output, sh};
pub(crate) use compare::same;
use pinned::Pinned;

/// How a case ends.
pub(crate) type Outcome = Result<(), Failed>;

/// One case: its name and what it does.
#[derive(Clone, Copy)]
pub(crate) struct Case {
    /// `group::name`, as the report shows it.
    pub(crate) name: &'static str,
    /// The test itself.
    pub(crate) run: fn() -> Outcome,
}

/// How often a case may be run: in the emulated machine a guest may end in a triple fault by
/// itself (see `pinned`).
const ATTEMPTS: usize = 4;

/// The variable with the second since 1970 after which no case is begun any more: each that is left
/// is reported as skipped. `.ci/run` sets it, since CI ends after 90 minutes, however slow its
/// machine.
const UNTIL: &str = "KRUN_GPU_TESTS_UNTIL";

/// When no case is begun any more, if ever.
///
/// # Errors
/// The variable is not a number.
pub(crate) fn until() -> Result<Option<SystemTime>, String> {
    let Ok(value) = std::env::var(UNTIL) else {
        return Ok(None);
    };
    let seconds = value
        .parse()
        .map_err(|error| format!("{UNTIL}={value}: {error}"))?;
    Ok(SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds)))
}

/// Cases that failed at first and passed when they were run again, and how often they failed.
static FLAKY: Mutex<Vec<(&str, usize)>> = Mutex::new(Vec::new());

/// Runs one case, and again if it fails: the emulated machine was seen to corrupt its own memory
/// (its kernel panicked in places that no container reaches). What passes only then is named in
/// the report, with the number of its failures. What failed by taking too long is run once more.
pub(crate) fn run(case: &Case) -> Outcome {
    let _pinned = crate::cases::stays_on_one_processor(case.name)
        .then(Pinned::to_one_processor)
        .transpose()?;
    let Err(first) = attempt(case) else {
        return Ok(());
    };
    let started = Instant::now();
    for failures in 1..ATTEMPTS {
        // Whatever takes so long hangs, or belongs in fewer words.
        if started.elapsed() > command::limit() {
            break;
        }
        eprintln!("{}: it is run again", case.name);
        if attempt(case).is_ok() {
            FLAKY
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push((case.name, failures));
            return Ok(());
        }
    }
    Err(first)
}

/// Prints the names of the cases that did not pass the first time, a line each.
pub(crate) fn report_flaky() {
    let flaky = FLAKY.lock().unwrap_or_else(PoisonError::into_inner);
    for (name, failures) in flaky.iter() {
        println!("flaky: {name} passed after it had failed {failures} times");
    }
}

/// Runs the case and then looks for what it left behind.
fn attempt(case: &Case) -> Outcome {
    images::busybox()?;
    command::settle_limit()?;
    let before = leftovers::Snapshot::take()?;
    let outcome = (case.run)().and_then(|()| before.wait_until_clean());
    if let Err(failed) = &outcome {
        // At once: the summary at the end is lost when the machine dies before.
        eprintln!("{}: {}", case.name, failed.message().unwrap_or("failed"));
        // The case may have stopped half-way: the next one shall not trip over what it made.
        sh("podman rm --all --force --time 0")?;
    }
    outcome
}

/// Fails with a message.
pub(crate) fn fail<T>(message: impl Into<String>) -> Result<T, Failed> {
    Err(Failed::from(message.into()))
}

/// Fails with `message` unless `condition` holds.
pub(crate) fn ensure(condition: bool, message: impl FnOnce() -> String) -> Outcome {
    if condition { Ok(()) } else { fail(message()) }
}
