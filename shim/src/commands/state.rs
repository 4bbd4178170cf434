//! `state`: prints a container's state as JSON, with crun's keys.

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::Path;

use clap::Args;
use serde::Serialize;

use crate::cli::Global;
use crate::commands::CommandError;
use crate::gpu::probe::HostGpu;
use crate::state::{self, Container};

/// Options of `state`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The container's id.
    id: Option<String>,
}

/// What is printed: the specification's keys and crun's own.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct State<'a> {
    oci_version: &'a str,
    id: &'a str,
    pid: i32,
    status: &'a str,
    bundle: &'a Path,
    rootfs: &'a Path,
    created: &'a str,
    owner: String,
    #[serde(skip_serializing_if = "HashMap::is_empty")]
    annotations: &'a HashMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gpu: Option<Gpu<'a>>,
}

/// What serves the container's GPU. Podman takes no notice of it.
#[derive(Serialize)]
struct Gpu<'a> {
    personality: &'a str,
    devices: &'a [HostGpu],
    software: bool,
}

/// Runs the command.
pub(crate) fn run(global: &Global, options: &Options) -> Result<(), CommandError> {
    let root = state::root(global)?;
    let container = Container::load(&root, options.id.as_deref().unwrap_or_default())?;
    let record = &container.record;
    let state = State {
        oci_version: &record.oci_version,
        id: record.id.as_str(),
        pid: container.pid().unwrap_or(0),
        status: container.status().as_str(),
        bundle: &record.bundle,
        rootfs: &record.rootfs,
        created: &record.created,
        owner: owner(record.owner),
        annotations: &record.annotations,
        gpu: record.gpu.as_ref().map(|gpu| Gpu {
            personality: &gpu.personality,
            devices: &gpu.devices,
            software: gpu.software,
        }),
    };
    // In one piece: a reader such as `grep -q` may leave before the last line.
    let text = serde_json::to_string_pretty(&state).map_err(io::Error::from)?;
    io::stdout()
        .lock()
        .write_all(format!("{text}\n").as_bytes())?;
    Ok(())
}

/// A user's name, or number if it has none.
pub(super) fn owner(uid: u32) -> String {
    match nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(uid)) {
        Ok(Some(user)) => user.name,
        _ => uid.to_string(),
    }
}
