//! The cases, grouped as users meet them.

mod attributes;
mod bad_input;
mod bad_values;
mod build;
mod check;
mod death;
mod engines;
mod exec;
mod gpu;
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

/// Groups whose cases keep both processors of the emulated machine busy, which it does not survive.
const BUSY: [&str; 5] = ["engines", "gpu", "load", "network", "services"];

/// Whether a case stays on one processor from the start (see `harness::pinned`): those of [`BUSY`],
/// and those under which the test VM died ([`PINNED`], by xtask). `gpu::compute` has a
/// guest with two vCPUs all the same, for the proof.
pub(crate) fn on_one_processor(name: &str) -> bool {
    let died = std::env::var(PINNED).unwrap_or_default();
    if died.split(' ').any(|word| word == name) {
        return true;
    }
    let group = name.split("::").next().unwrap_or_default();
    BUSY.contains(&group) && name != "gpu::compute"
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
        network::CASES,
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
