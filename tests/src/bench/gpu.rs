//! The GPU in a container next to the same GPU without one: krun-gpu-compute's figures, and what
//! a GPU adds to a container's start.
//!
//! Where a start's time goes, by the runtime's marks on a clock of instructions (`cargo xtask vm
//! --icount --cpus 1`, one a nanosecond): 421 ms without a GPU and 553 with one, of which loading
//! virglrenderer is 15, starting the render server 15, the VMM's set-up 6, the guest's boot 20, and
//! 78 the render server's own start, which a second processor does while the guest boots. Asking
//! the host's drivers who they are takes as long as all of that, which is why the answer is kept.
//! The test VM's wall clock misleads: copies on write (of the kernel's image, in the vCPU's thread)
//! took up to ten times as long in later starts with a GPU, at the same number of faults.
//!
//! An empty submission and its wait are polls of memory on both sides, as Venus's sources say.
//! What decides is whether the host is done before the driver in the guest goes to sleep, which it
//! does after 255 yields (15 in Mesa's own sources), for 160 us at first (17 or 230 us seen without
//! a VM), and how late the render server's sleeps of 10 us end: with the kernel's usual slack of
//! 50 us it took 79 us on an H100, with none 35 (39 natively). The test VM is too slow to show that.

use std::collections::BTreeMap;
use std::time::Instant;

use libtest_mimic::Failed;

use super::median;
use crate::harness::command::{GPU_NODES, sh};
use crate::harness::{ensure, images};

/// Rounds of the compute program, of whose figures each is a median already.
const ROUNDS: usize = 3;

/// Rounds of a container's start, and one more to warm up.
const STARTS: usize = 5;

const PROGRAM: &str = "/usr/local/libexec/krun-gpu/krun-gpu-compute";

/// Times in microseconds by name.
type Figures = BTreeMap<String, Vec<f64>>;

/// The compute program, natively on lavapipe and in a container.
pub(super) fn compute() -> Result<(), Failed> {
    images::debian()?;
    let (mut native, mut contained) = (Figures::new(), Figures::new());
    for _ in 0..ROUNDS {
        collect(
            &mut native,
            &format!("VK_DRIVER_FILES=/usr/share/vulkan/icd.d/lvp_icd.json {PROGRAM} bench"),
        )?;
        collect(
            &mut contained,
            &format!(
                "run --annotation io.krun-gpu.gpu=true -v {PROGRAM}:/compute:ro \
                     localhost/debian /compute bench"
            ),
        )?;
    }
    println!("krun-gpu-compute, microseconds: natively, in a container, native over container");
    for (name, times) in &mut native {
        let ours = median(contained.entry(name.clone()).or_default());
        let theirs = median(times);
        println!("  {name}: {theirs:.0}, {ours:.0}, {:.2}", theirs / ours);
    }
    Ok(())
}

/// Adds the figures that `script` prints.
fn collect(figures: &mut Figures, script: &str) -> Result<(), Failed> {
    let output = sh(script)?;
    ensure(output.status == 0, || output.to_string())?;
    for line in output.stdout.lines() {
        if let Some((name, Ok(time))) = line
            .split_once(' ')
            .map(|(name, time)| (name, time.parse()))
        {
            figures.entry(name.to_owned()).or_default().push(time);
        }
    }
    Ok(())
}

/// `podman run` of a program that ends at once, with a GPU and without.
pub(super) fn start() -> Result<(), Failed> {
    images::busybox()?;
    let nodes = sh(GPU_NODES)?;
    ensure(nodes.status == 0, || nodes.to_string())?;
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for round in 0..=STARTS {
        for (option, times) in [("", &mut without), ("--device /dev/dri", &mut with)] {
            let start = Instant::now();
            let output = sh(&format!("run {option} $BB true"))?;
            ensure(output.status == 0, || output.to_string())?;
            if round > 0 {
                times.push(start.elapsed().as_secs_f64() * 1000.0);
            }
        }
    }
    let (without, with) = (median(&mut without), median(&mut with));
    println!(
        "podman run --rm IMG true: with --device /dev/dri {with:.0} ms, without {without:.0} ms, ratio {:.2} \
         (medians of {STARTS})",
        with / without
    );
    Ok(())
}
