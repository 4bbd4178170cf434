//! Whole runs: `podman run` and `RUNTIME run` of a program that ends at once, over crun.

use std::time::Instant;

use libtest_mimic::Failed;

use super::{ROUNDS, median};
use crate::harness::bundle::Bundle;
use crate::harness::command::sh_with;
use crate::harness::{ensure, images};

/// `podman run --rm --network none IMG true`.
pub(super) fn podman() -> Result<(), Failed> {
    images::busybox()?;
    compare("podman run --rm --network none IMG true", |runtime| {
        let output = sh_with(runtime, "run $BB true")?;
        ensure(output.status == 0, || output.to_string())
    })
}

/// `RUNTIME run` of a bundle's `/bin/true`.
pub(super) fn runtime() -> Result<(), Failed> {
    let bundle = Bundle::new(&["true"])?;
    compare("RUNTIME run of a bundle's /bin/true", |runtime| {
        let output = bundle.sh(runtime, "exec $RUNTIME run bench")?;
        ensure(output.status == 0, || output.to_string())
    })
}

fn compare(what: &str, once: impl Fn(&str) -> Result<(), Failed>) -> Result<(), Failed> {
    let mut crun = Vec::new();
    let mut ours = Vec::new();
    for round in 0..=ROUNDS {
        for (runtime, times) in [("crun", &mut crun), ("krun-gpu", &mut ours)] {
            let start = Instant::now();
            once(runtime)?;
            if round > 0 {
                times.push(start.elapsed().as_secs_f64() * 1000.0);
            }
        }
    }
    let (crun, ours) = (median(&mut crun), median(&mut ours));
    println!(
        "{what}: krun-gpu {ours:.1} ms, crun {crun:.1} ms, ratio {:.2} (medians of {ROUNDS})",
        ours / crun
    );
    Ok(())
}
