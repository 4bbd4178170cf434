//! What is going on, for the person who waits: one line per step on standard error, with the
//! seconds since the start. Standard output belongs to the command that was asked for.

use std::{error::Error, sync::LazyLock, time::Instant};

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Says that `step` is at `state`, such as "cached" or "building".
pub(crate) fn step(step: &str, state: impl AsRef<str>) {
    let seconds = START.elapsed().as_secs_f64();
    eprintln!("[{seconds:6.1} s] {step}: {}", state.as_ref());
}

/// Prints an error and its causes.
pub(crate) fn error(error: &dyn Error) {
    eprint!("error: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        eprint!(": {error}");
        cause = error.source();
    }
    eprintln!();
}
