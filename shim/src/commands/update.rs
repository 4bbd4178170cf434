//! `update`: changes a running container's limits, in the guest and on the VM.

use std::path::PathBuf;

use clap::Args;
use oci_spec::runtime::{LinuxCpu, LinuxMemory, LinuxPids, LinuxResources};

use super::{AskError, ask, load};
use crate::bundle::{self, PartError};
use crate::cli::Global;
use crate::control::Request;
use crate::sandbox::cgroup::{self, CgroupError};
use crate::split::{self, SplitError, Update};
use crate::state::Status;

/// Options of `update`. Those of them that are given go over what the file says.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// File with the specification's `linux.resources`; `-` is standard input.
    #[arg(long, short, value_name = "FILE")]
    resources: Option<PathBuf>,
    /// CPU time in a period, in microseconds.
    #[arg(long, value_name = "US", allow_negative_numbers = true)]
    cpu_quota: Option<i64>,
    /// The period, in microseconds.
    #[arg(long, value_name = "US")]
    cpu_period: Option<u64>,
    /// Weight against other containers.
    #[arg(long, value_name = "N", alias = "cpu-shares")]
    cpu_share: Option<u64>,
    /// Memory in bytes; -1 for no limit.
    #[arg(long, value_name = "BYTES", allow_negative_numbers = true)]
    memory: Option<i64>,
    /// Memory that is reclaimed last, in bytes.
    #[arg(long, value_name = "BYTES", allow_negative_numbers = true)]
    memory_reservation: Option<i64>,
    /// Processes; -1 for no limit.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pids_limit: Option<i64>,
    /// The container's id.
    id: Option<String>,
}

/// Why nothing was changed, or not everything.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpdateError {
    /// The file.
    #[error(transparent)]
    Part(#[from] PartError),
    /// A limit that a VM cannot have.
    #[error(transparent)]
    Split(#[from] SplitError),
    /// The container.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// The VM's cgroup.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
}

/// Runs the command.
pub(crate) fn run(global: &Global, options: &Options) -> Result<(), UpdateError> {
    let container = load(global, options.id.as_deref(), Status::Running)?;
    let mut resources = match &options.resources {
        Some(path) => bundle::read_part_or_input(path)?,
        None => LinuxResources::default(),
    };
    options.apply_to(&mut resources);
    let record = &container.record;
    let Update { guest, host } = split::update(&resources, record.machine, record.gpu.is_some())?;
    ask(&container, &Request::Limit(Box::new(guest)))?;
    if let Some(cgroup) = &record.cgroup {
        cgroup::apply(cgroup, &record.id, &host)?;
    }
    Ok(())
}

impl Options {
    fn apply_to(&self, resources: &mut LinuxResources) {
        if (self.cpu_quota, self.cpu_period, self.cpu_share) != (None, None, None) {
            let mut cpu: LinuxCpu = resources.cpu().clone().unwrap_or_default();
            let quota = self.cpu_quota.or(cpu.quota());
            let period = self.cpu_period.or(cpu.period());
            let shares = self.cpu_share.or(cpu.shares());
            cpu.set_quota(quota).set_period(period).set_shares(shares);
            resources.set_cpu(Some(cpu));
        }
        if (self.memory, self.memory_reservation) != (None, None) {
            let mut memory: LinuxMemory = (*resources.memory()).unwrap_or_default();
            let limit = self.memory.or(memory.limit());
            let reservation = self.memory_reservation.or(memory.reservation());
            memory.set_limit(limit).set_reservation(reservation);
            resources.set_memory(Some(memory));
        }
        if let Some(limit) = self.pids_limit {
            let mut pids = LinuxPids::default();
            pids.set_limit(limit);
            resources.set_pids(Some(pids));
        }
    }
}
