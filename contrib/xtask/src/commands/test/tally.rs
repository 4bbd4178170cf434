//! The sum of all tests, read line by line off what Rust's test harness (and libtest-mimic, which
//! imitates it) prints, while it is passed on to standard output.

use std::{
    io::{self, Write},
    process::ExitCode,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use crate::lines::Lines;

/// What a line has that tells of a test which another stream tells of too
/// (tests/src/harness/claims.rs).
const TAKEN: &str = " ... ignored (taken by the other VM)";

/// The sum so far. Clones share it and a stream's unfinished line; what is written into one is
/// passed on and counted.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    counts: Arc<Mutex<Counts>>,
    /// What is written, line by line.
    stream: Arc<Mutex<Stream>>,
}

/// What a test program prints.
#[derive(Debug)]
struct Stream {
    lines: Lines,
    /// When the line before came.
    since: Instant,
}

impl Default for Stream {
    fn default() -> Self {
        Self {
            lines: Lines::default(),
            since: Instant::now(),
        }
    }
}

impl Stream {
    /// Lines that are whole now. One that tells how a test ended gets the seconds that it took,
    /// if it took any; each test program runs one at a time, or all in no time.
    fn push(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut whole = self.lines.push(bytes);
        for line in &mut whole {
            let seconds = self.since.elapsed().as_secs();
            self.since = Instant::now();
            let is_new = !line.ends_with(b" s)\n");
            if seconds > 0 && is_new && ended(&String::from_utf8_lossy(line)).is_some() {
                line.pop();
                line.extend(format!(" ({seconds} s)\n").into_bytes());
            }
        }
        whole
    }
}

/// How a test can end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Outcome {
    Passed,
    Skipped,
    Failed,
}

/// The test whose end `line` tells, if it tells one.
fn ended(line: &str) -> Option<(&str, Outcome)> {
    let (name, outcome) = line
        .trim_end()
        .strip_prefix("test ")?
        .rsplit_once(" ... ")?;
    let outcome = match outcome.split([' ', ',']).next()? {
        "ok" => Outcome::Passed,
        "ignored" => Outcome::Skipped,
        "FAILED" => Outcome::Failed,
        _ => return None,
    };
    Some((name.trim_end(), outcome))
}

#[derive(Debug, Default)]
struct Counts {
    passed: u64,
    failed: u64,
    skipped: u64,
    /// Names of what was skipped and of what failed.
    skipped_names: Vec<String>,
    failed_names: Vec<String>,
    /// Names of the tests that ended since [`Tally::suite_began`].
    ended: Vec<String>,
    /// What the report tells beside the results: deaths of the machine, tests that passed the
    /// second time only.
    incidents: Vec<String>,
    /// Failures when the running suite began.
    failed_before: u64,
}

impl Tally {
    /// The same sum for another stream of lines.
    pub(super) fn beside(&self) -> Self {
        Self {
            counts: Arc::clone(&self.counts),
            stream: Arc::default(),
        }
    }

    /// Counts a check that passed.
    pub(super) fn passed(&self) {
        self.with(|counts| counts.passed += 1);
    }

    /// Counts a check that failed.
    pub(super) fn failed(&self, name: &str) {
        self.with(|counts| {
            counts.failed += 1;
            counts.failed_names.push(name.to_owned());
        });
    }

    /// Passes on and counts a line, with its newline, unless it tells of a test of another stream.
    pub(super) fn line(&self, line: &[u8]) {
        let text = String::from_utf8_lossy(line);
        if text.contains(TAKEN) {
            return;
        }
        // Whoever reads our output may be gone; the count goes on.
        let _ = io::stdout().write_all(line);
        self.with(|counts| counts.count(&text));
    }

    /// Forgets which tests ended so far.
    pub(super) fn suite_began(&self) {
        self.with(|counts| counts.ended.clear());
    }

    /// The tests that ended since the suite began.
    pub(super) fn ended(&self) -> Vec<String> {
        self.with(|counts| counts.ended.clone())
    }

    /// Notes that the machine died under a test, and returns the test's name if one was running.
    pub(super) fn machine_died(&self) -> Option<String> {
        let line = lock(&self.stream).lines.take_rest();
        let line = String::from_utf8_lossy(&line).into_owned();
        let running = line
            .strip_prefix("test ")
            .and_then(|rest| rest.split_once(" ... "))
            .map(|(name, _)| name.trim_end().to_owned());
        let during = running.as_deref().unwrap_or("no test");
        self.line(format!("incident: the test VM died during {during}\n").as_bytes());
        running
    }

    /// Counts a failure if the suite said that it failed and none of its tests did: it did not
    /// build, or died.
    pub(super) fn suite_ended(&self, name: &str, success: bool) {
        self.with(|counts| {
            if !success && counts.failed == counts.failed_before {
                counts.failed += 1;
                counts.failed_names.push(format!("{name} (ended early)"));
            }
            counts.failed_before = counts.failed;
        });
    }

    /// Success, if nothing failed.
    pub(super) fn status(&self) -> ExitCode {
        self.with(|counts| ExitCode::from(u8::from(counts.failed > 0)))
    }

    /// Prints what was skipped and what failed, and the sum alone on the last line.
    pub(super) fn report(&self) -> ExitCode {
        self.with(|counts| {
            for name in &counts.skipped_names {
                println!("skipped: {name}");
            }
            for incident in &counts.incidents {
                println!("{incident}");
            }
            for name in &counts.failed_names {
                println!("failed: {name}");
            }
            println!("{}", counts.sum());
        });
        self.status()
    }

    fn with<T>(&self, action: impl FnOnce(&mut Counts) -> T) -> T {
        action(&mut lock(&self.counts))
    }
}

/// Counts stay counts when a relay panicked.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Write for Tally {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let whole = lock(&self.stream).push(bytes);
        for line in whole {
            self.line(&line);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stdout().flush()
    }
}

impl Counts {
    /// Adds what `line` says, if it tells how a test ended.
    fn count(&mut self, line: &str) {
        if line.starts_with("flaky: ") || line.starts_with("incident: ") {
            self.incidents.push(line.trim_end().to_owned());
            return;
        }
        let Some((name, outcome)) = ended(line) else {
            return;
        };
        let name = name.to_owned();
        match outcome {
            Outcome::Passed => self.passed += 1,
            Outcome::Skipped => {
                self.skipped += 1;
                self.skipped_names.push(name.clone());
            }
            Outcome::Failed => {
                self.failed += 1;
                self.failed_names.push(name.clone());
            }
        }
        self.ended.push(name);
    }

    fn sum(&self) -> String {
        let Self {
            passed,
            failed,
            skipped,
            ..
        } = self;
        format!("{passed} passed, {failed} failed, {skipped} skipped")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_added_up_and_names_are_kept() {
        let mut counts = Counts::default();
        for line in [
            "test a::b ... ok (12 s)\n",
            "test a::c      ... FAILED\n",
            "test d ... ignored, needs a GPU\n",
            "test e ... output of its own\n",
            "test result: FAILED. 1 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out\n",
        ] {
            counts.count(line);
        }
        assert_eq!(counts.sum(), "1 passed, 1 failed, 1 skipped");
        assert_eq!(counts.failed_names, ["a::c"]);
        assert_eq!(counts.skipped_names, ["d"]);
        assert_eq!(counts.ended, ["a::b", "a::c", "d"]);
    }

    #[test]
    fn a_test_that_another_vm_took_is_not_counted_here() {
        let tally = Tally::default();
        tally.line(b"test a::b   ... ignored (taken by the other VM)\n");
        tally.line(b"test a::c   ... ok\n");
        assert_eq!(tally.ended(), ["a::c"]);
        tally.with(|counts| assert_eq!(counts.sum(), "1 passed, 0 failed, 0 skipped"));
    }

    #[test]
    fn a_suite_that_died_is_a_failure_and_one_with_failures_is_not_another() {
        let tally = Tally::default();
        tally.suite_ended("died", false);
        tally.with(|counts| counts.count("test a ... FAILED"));
        tally.suite_ended("failed", false);
        tally.suite_ended("good", true);
        tally.with(|counts| {
            assert_eq!(counts.sum(), "0 passed, 2 failed, 0 skipped");
            assert_eq!(counts.failed_names, ["died (ended early)", "a"]);
        });
    }

    #[test]
    fn a_death_names_the_test_that_ran() {
        let tally = Tally::default();
        tally.with(|counts| {
            counts.count("test a ... ok");
        });
        lock(&tally.stream).push(b"test b   ... ");
        assert_eq!(tally.beside().machine_died(), None);
        assert_eq!(tally.machine_died().as_deref(), Some("b"));
        assert_eq!(tally.ended(), ["a"]);
        assert_eq!(tally.machine_died(), None);
    }
}
