//! The cases, grouped as users meet them.

mod attributes;
mod bad_input;
mod build;
mod check;
mod death;
mod exec;
mod gpu;
mod images;
mod lifecycle;
mod mounts;
mod network;
mod podman;
mod process;
mod resources;
mod rootless;
mod status;
mod stdio;
mod terminal;
mod verbs;
mod volumes;

use crate::harness::Case;

/// Cases that are left out, and why: not seen to pass, or not to be relied on under emulation. They
/// count as skipped and are named; `--ignored` runs them.
pub(crate) const UNPROVEN: &[&str] = &[
    // Both passed twice, in two to three minutes on a busy machine; later runs of ggml's tests
    // hung, one with the VM's processors idle, for a reason that is not known yet.
    "gpu::ggml_kernels",
    "gpu::llama",
];

/// Every case.
pub(crate) fn all() -> Vec<Case> {
    [
        stdio::CASES,
        status::CASES,
        process::CASES,
        attributes::CASES,
        volumes::CASES,
        mounts::CASES,
        lifecycle::CASES,
        exec::CASES,
        terminal::CASES,
        verbs::CASES,
        podman::CASES,
        build::CASES,
        images::CASES,
        resources::CASES,
        death::CASES,
        rootless::CASES,
        network::CASES,
        bad_input::CASES,
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
