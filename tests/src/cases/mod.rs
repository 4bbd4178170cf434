//! The cases, grouped as users meet them.

mod attributes;
mod bad_input;
mod bad_values;
mod build;
mod check;
mod death;
mod disks;
mod engines;
mod exec;
mod gpu;
mod hooks;
mod images;
mod lifecycle;
mod load;
mod mount_kinds;
mod mounts;
mod network;
mod podman;
mod process;
mod resources;
mod rootless;
mod services;
mod status;
mod stdio;
mod storage;
mod terminal;
mod verbs;
mod volumes;

pub(crate) use gpu::gguf;

use crate::harness::Case;

/// The variable with the names of the cases under which the test VM died before.
const PINNED: &str = "KRUN_GPU_TESTS_PINNED";

/// Groups whose cases keep both processors of the emulated machine busy for minutes, which it does
/// not survive. They are the second half of a run in two machines.
const BUSY: [&str; 6] = ["engines", "gpu", "load", "network", "services", "storage"];

/// The variable that asks for one half of the cases: `first` or `second` (xtask's test/half.rs).
const HALF: &str = "KRUN_GPU_TESTS_HALF";

/// Whether a case is one of [`BUSY`]. `gpu::compute` has a guest with two vCPUs all the same, for
/// the proof.
fn is_busy(name: &str) -> bool {
    let group = name.split("::").next().unwrap_or_default();
    BUSY.contains(&group) && name != "gpu::compute"
}

/// Whether a case stays on one processor from the start (see `harness::pinned`): the busy ones, and
/// those under which the test VM died ([`PINNED`], by xtask).
pub(crate) fn on_one_processor(name: &str) -> bool {
    let died = std::env::var(PINNED).unwrap_or_default();
    if died.split(' ').any(|word| word == name) {
        return true;
    }
    is_busy(name)
}

/// The cases of the half that is asked for, or all.
pub(crate) fn wanted() -> Vec<Case> {
    let half = std::env::var(HALF).unwrap_or_default();
    let mut cases = all();
    match half.as_str() {
        "first" => cases.retain(|case| !is_busy(case.name)),
        "second" => cases.retain(|case| is_busy(case.name)),
        _ => {}
    }
    cases
}

/// Every case.
pub(crate) fn all() -> Vec<Case> {
    [
        stdio::CASES,
        status::CASES,
        process::CASES,
        attributes::CASES,
        volumes::CASES,
        mounts::CASES,
        mount_kinds::CASES,
        disks::CASES,
        storage::CASES,
        services::CASES,
        lifecycle::CASES,
        exec::CASES,
        load::CASES,
        terminal::CASES,
        verbs::CASES,
        podman::CASES,
        build::CASES,
        images::CASES,
        resources::CASES,
        death::CASES,
        rootless::CASES,
        engines::CASES,
        hooks::CASES,
        network::bridge::CASES,
        network::traffic::CASES,
        network::rootless::CASES,
        network::shared::CASES,
        network::changes::CASES,
        bad_input::CASES,
        bad_values::CASES,
        check::CASES,
        gpu::asking::CASES,
        gpu::software::CASES,
        gpu::llama::CASES,
        gpu::compute::CASES,
        gpu::death::CASES,
        gpu::host::CASES,
        gpu::vtest::CASES,
    ]
    .concat()
}
