//! The cases, grouped as users meet them.

mod attributes;
mod bad_input;
mod bad_values;
mod build;
mod check;
mod contract;
mod death;
mod disks;
mod engines;
mod exec;
mod generate;
mod gpu;
mod hooks;
mod images;
mod lifecycle;
mod load;
mod mount_kinds;
mod mount_table;
mod mounts;
mod network;
mod parts;
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
pub(crate) use parts::{stays_on_one_processor, wanted};

use crate::harness::Case;

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
        mount_table::CASES,
        disks::CASES,
        storage::CASES,
        services::CASES,
        lifecycle::CASES,
        exec::CASES,
        load::CASES,
        terminal::CASES,
        verbs::CASES,
        generate::CASES,
        podman::CASES,
        build::CASES,
        images::CASES,
        resources::CASES,
        // About the last to be begun (`parts`): they take long, and smaller ones go over the same ground.
        network::load::CASES,
        death::CASES,
        rootless::CASES,
        engines::CASES,
        hooks::CASES,
        contract::CASES,
        network::bridge::CASES,
        network::traffic::CASES,
        network::rootless::CASES,
        network::shared::CASES,
        network::sockets::CASES,
        network::changes::CASES,
        bad_input::CASES,
        bad_values::CASES,
        check::CASES,
        gpu::asking::CASES,
        gpu::opengl::CASES,
        gpu::software::CASES,
        gpu::llama::CASES,
        gpu::compute::CASES,
        gpu::death::CASES,
        gpu::confined::CASES,
        gpu::host::CASES,
        gpu::vtest::CASES,
    ]
    .concat()
}
