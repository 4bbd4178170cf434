//! `krun-gpu-tests bench`: the figures, each a ratio against a control in the same run.
//!
//! `cargo xtask bench` runs this in the test VM, with `--instructions` on a clock that counts
//! them. Rounds alternate between the subjects; medians are printed.

mod gpu;
mod llama;
mod memory;
mod net;
mod runs;
mod split;

use std::process::ExitCode;

use libtest_mimic::Failed;

/// Rounds of each subject; the first one is a warm-up and is not counted.
const ROUNDS: usize = 10;

/// Those without a GPU.
const PLAIN: [fn() -> Result<(), Failed>; 4] =
    [runs::podman, runs::runtime, split::run, memory::run];

/// Those of the GPU.
const GPU: [fn() -> Result<(), Failed>; 3] = [gpu::start, gpu::compute, llama::run];

/// Those of networks.
const NET: [fn() -> Result<(), Failed>; 2] = [net::traffic, net::start];

/// Runs the benchmarks of `subject`, `gpu`, `net` or everything else; fails when one could not be
/// measured.
pub(crate) fn run(subject: Option<&str>) -> ExitCode {
    let benchmarks = match subject {
        Some("gpu") => &GPU[..],
        Some("net") => &NET,
        _ => &PLAIN,
    };
    let mut status = ExitCode::SUCCESS;
    for benchmark in benchmarks {
        if let Err(failed) = benchmark() {
            eprintln!("bench: {}", failed.message().unwrap_or("failed"));
            status = ExitCode::FAILURE;
        }
    }
    status
}

/// The median of `values`, or 0 of none.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        length if length % 2 == 1 => values[length / 2],
        length => f64::midpoint(values[length / 2 - 1], values[length / 2]),
    }
}
