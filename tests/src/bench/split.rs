//! Where the time of `krun-gpu run` goes, from the runtime's own marks on one clock.
//!
//! `--debug --log FILE --log-format json` makes the runtime write a line for every step, with
//! the field `monotonic_us` (CLOCK_MONOTONIC in microseconds) and the mark's name.

use std::collections::HashMap;
use std::fs;

use libtest_mimic::Failed;
use serde_json::Value;

use super::{ROUNDS, median};
use crate::harness::bundle::Bundle;
use crate::harness::{ensure, fail};

/// Phases: name, first mark, last mark.
const PHASES: [(&str, &str, &str); 6] = [
    ("sandbox", "begin", "sandbox_ready"),
    ("VMM set-up", "sandbox_ready", "vcpus_started"),
    ("kernel", "vcpus_started", "agent_hello"),
    ("agent", "agent_hello", "workload_started"),
    ("workload", "workload_started", "workload_exited"),
    ("teardown", "workload_exited", "end"),
];

/// Prints the split.
pub(super) fn run() -> Result<(), Failed> {
    let bundle = Bundle::new(&["true"])?;
    let mut phases: Vec<Vec<f64>> = vec![Vec::new(); PHASES.len()];
    for round in 0..=ROUNDS {
        let marks = marks(&bundle)?;
        for ((name, first, last), times) in PHASES.iter().zip(&mut phases) {
            let (Some(first), Some(last)) = (marks.get(*first), marks.get(*last)) else {
                return fail(format!("no marks for the phase {name}: {marks:?}"));
            };
            if round > 0 {
                times.push((last - first) / 1000.0);
            }
        }
    }
    let medians: Vec<f64> = phases.iter_mut().map(|times| median(times)).collect();
    let total: f64 = medians.iter().sum();
    for ((name, ..), time) in PHASES.iter().zip(&medians) {
        println!(
            "krun-gpu run, {name}: {time:.1} ms, {:.0} % of the whole",
            100.0 * time / total
        );
    }
    Ok(())
}

fn marks(bundle: &Bundle) -> Result<HashMap<String, f64>, Failed> {
    let output = bundle.sh(
        "krun-gpu",
        "rm -f l; $RUNTIME --debug --log $PWD/l --log-format json run bench",
    )?;
    ensure(output.status == 0, || output.to_string())?;
    let log = fs::read_to_string(bundle.path().join("l"))?;
    let lines = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    Ok(lines
        .filter_map(|line| {
            Some((
                line["mark"].as_str()?.to_owned(),
                line["monotonic_us"].as_f64()?,
            ))
        })
        .collect())
}
