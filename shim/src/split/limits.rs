//! The row of `linux.resources`: the host's cgroup limits the VM, the guest's cgroup limits the
//! workload again, so that a workload over its memory loses a process and not its VM.

use krun_gpu_protocol::Limits;
use oci_spec::runtime::{LinuxMemory, LinuxPids, LinuxResources};

use super::SplitError;
use super::gpu::Gpu;
use super::machine::VMM_OVERHEAD;
use crate::state::MachineRecord;

/// The smallest memory limit, in bytes, in which a workload's cgroup is of use.
const MEMORY_MIN: u64 = 16 << 20;

/// Threads that a VMM may need; a smaller limit on processes holds in the guest alone.
const VMM_THREADS: i64 = 64;

/// Threads that a render server may need beside them: a process for each of the guest's, in each
/// of them the driver's.
const GPU_THREADS: i64 = 1024;

/// The memory limit in bytes.
pub(super) fn memory_limit(resources: Option<&LinuxResources>) -> Result<Option<u64>, SplitError> {
    let limit = resources
        .and_then(|resources| resources.memory().as_ref())
        .and_then(LinuxMemory::limit);
    let Some(limit) = limit.and_then(positive) else {
        return Ok(None);
    };
    if limit < MEMORY_MIN {
        return Err(SplitError::MemoryTooSmall {
            field: "linux.resources.memory.limit",
            value: limit,
            least: MEMORY_MIN,
        });
    }
    Ok(Some(limit))
}

/// The guest's limits. There is no swap in a guest, so `memory.swap` needs no row here: it limits
/// the VM on the host.
pub(super) fn guest_limits(resources: Option<&LinuxResources>) -> Result<Limits, SplitError> {
    let Some(resources) = resources else {
        return Ok(Limits::default());
    };
    let cpu = resources.cpu().as_ref();
    let quota = cpu.and_then(|cpu| cpu.quota()).and_then(positive);
    let period = cpu
        .and_then(|cpu| cpu.period())
        .filter(|period| *period > 0);
    let mut unified: Vec<(String, String)> = resources
        .unified()
        .iter()
        .flatten()
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    unified.sort();
    Ok(Limits {
        memory_max: memory_limit(Some(resources))?,
        memory_low: resources
            .memory()
            .as_ref()
            .and_then(LinuxMemory::reservation)
            .and_then(positive),
        memory_swap_max: None,
        cpu_max: match (quota, period) {
            (None, None) => None,
            (quota, period) => Some((quota, period.unwrap_or(DEFAULT_PERIOD))),
        },
        cpu_weight: cpu
            .and_then(|cpu| cpu.shares())
            .filter(|shares| *shares > 0)
            .map(weight),
        pids_max: resources.pids().as_ref().map(|pids| positive(pids.limit())),
        unified,
    })
}

/// What a VM needs on top of the workload's limits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Needs {
    /// Memory in bytes, if the workload's is limited.
    memory: Option<u64>,
    /// Threads, at the least.
    threads: i64,
    /// It has a GPU.
    pub(super) gpu: bool,
}

impl Needs {
    /// For a VM with `memory` bytes and `gpu`, whose workload may use `limit` bytes.
    pub(super) fn new(limit: Option<u64>, memory: u64, gpu: Option<&Gpu>) -> Self {
        let more = |limit| {
            memory
                .saturating_sub(limit)
                .saturating_add(VMM_OVERHEAD)
                .saturating_add(gpu.map_or(0, Gpu::overhead))
        };
        Self {
            memory: limit.map(more),
            threads: VMM_THREADS + if gpu.is_some() { GPU_THREADS } else { 0 },
            gpu: gpu.is_some(),
        }
    }
}

/// The host's resources for a VM: those of the workload, and what the VM needs on top of them.
pub(super) fn host_resources(resources: &LinuxResources, needs: Needs) -> LinuxResources {
    let mut host = resources.clone();
    if let (Some(overhead), Some(section)) = (needs.memory, host.memory_mut()) {
        let overhead = signed(overhead);
        let raise = |value: Option<i64>| {
            value.map(|value| match value {
                value if value > 0 => value.saturating_add(overhead),
                unlimited => unlimited,
            })
        };
        section.set_limit(raise(section.limit()));
        section.set_swap(raise(section.swap()));
    }
    if let Some(limit) = host.pids().as_ref().map(LinuxPids::limit)
        && limit > 0
        && limit < needs.threads
    {
        let mut pids = LinuxPids::default();
        pids.set_limit(needs.threads);
        host.set_pids(Some(pids));
    }
    // Names of the guest's cgroup files; on the host they would limit the VM below its needs.
    host.set_unified(None);
    // A VMM opens no device but the ones it was given; a render server opens its GPU's.
    if needs.gpu {
        host.set_devices(None);
    }
    host
}

/// New limits of a running container.
#[derive(Debug)]
pub(crate) struct Update {
    /// Those of the workload, in the guest.
    pub(crate) guest: Limits,
    /// Those of the VM, in the host's cgroup.
    pub(crate) host: LinuxResources,
}

/// Splits the new `resources` of a container whose VM has this `machine`. The host's memory limit
/// stays: it is the VM's, whose size no limit changes.
pub(crate) fn update(
    resources: &LinuxResources,
    machine: MachineRecord,
    gpu: bool,
) -> Result<Update, SplitError> {
    let mut guest = guest_limits(Some(resources))?;
    if let Some(limit) = guest.memory_max
        && limit > machine.memory
    {
        return Err(SplitError::BeyondBoot {
            field: "memory.limit",
            value: limit,
            booted: machine.memory,
        });
    }
    let asked = resources.memory().as_ref().and_then(LinuxMemory::limit);
    if asked.is_some_and(|limit| limit < 0) {
        // The kernel takes this much for no limit.
        guest.memory_max = Some(u64::MAX);
    }
    if let Some((Some(quota), period)) = guest.cpu_max {
        let processors = quota.div_ceil(period);
        let booted = u64::from(machine.vcpus);
        if processors > booted {
            return Err(SplitError::BeyondBoot {
                field: "cpu.quota in processors",
                value: processors,
                booted,
            });
        }
    }
    let needs = Needs {
        memory: None,
        threads: VMM_THREADS + if gpu { GPU_THREADS } else { 0 },
        gpu,
    };
    let mut host = host_resources(resources, needs);
    host.set_memory(None);
    Ok(Update { guest, host })
}

/// The kernel's default period in microseconds.
pub(super) const DEFAULT_PERIOD: u64 = 100_000;

/// cgroup v1's shares (2 to 262144) as cgroup v2's weight (1 to 10000).
fn weight(shares: u64) -> u64 {
    let shares = shares.clamp(2, 262_144);
    1 + (shares - 2) * 9999 / 262_142
}

/// Zero and less mean no limit.
fn positive(value: i64) -> Option<u64> {
    u64::try_from(value).ok().filter(|value| *value > 0)
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resources(text: &str) -> LinuxResources {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn podmans_limits() {
        let resources = resources(
            r#"{"memory": {"limit": 268435456, "swap": 536870912},
                "cpu": {"quota": 200000, "period": 100000, "shares": 1024},
                "pids": {"limit": 2048}}"#,
        );
        let guest = guest_limits(Some(&resources)).unwrap();
        assert_eq!(guest.memory_max, Some(256 << 20));
        assert_eq!(guest.cpu_max, Some((Some(200_000), 100_000)));
        assert_eq!(guest.cpu_weight, Some(39));
        assert_eq!(guest.pids_max, Some(Some(2048)));

        let host = host_resources(&resources, Needs::new(guest.memory_max, 320 << 20, None));
        let memory = host.memory().unwrap();
        let expected = signed((320 << 20) + VMM_OVERHEAD);
        assert_eq!(memory.limit(), Some(expected));
        assert_eq!(memory.swap(), Some(expected + (256 << 20)));
        assert_eq!(host.pids().unwrap().limit(), 2048);
    }

    #[test]
    fn a_small_number_of_processes_does_not_starve_the_vmm() {
        let needs = Needs::new(None, 1 << 30, None);
        let host = host_resources(&resources(r#"{"pids": {"limit": 5}}"#), needs);
        assert_eq!(host.pids().unwrap().limit(), VMM_THREADS);
        let host = host_resources(&resources(r#"{"pids": {"limit": -1}}"#), needs);
        assert_eq!(host.pids().unwrap().limit(), -1);
    }

    #[test]
    fn an_update_stays_within_the_boot() {
        let machine = MachineRecord {
            vcpus: 2,
            memory: 512 << 20,
        };
        let change = |text: &str| update(&resources(text), machine, false);
        let changed = change(
            r#"{"memory": {"limit": 268435456}, "cpu": {"quota": 150000, "period": 100000}, "pids": {"limit": 7}}"#,
        )
        .unwrap();
        assert_eq!(changed.guest.memory_max, Some(256 << 20));
        assert_eq!(changed.guest.cpu_max, Some((Some(150_000), 100_000)));
        assert_eq!(changed.guest.pids_max, Some(Some(7)));
        assert!(changed.host.memory().is_none());
        assert_eq!(changed.host.pids().unwrap().limit(), VMM_THREADS);
        let lifted = change(r#"{"memory": {"limit": -1}}"#).unwrap();
        assert_eq!(lifted.guest.memory_max, Some(u64::MAX));
        assert_eq!(lifted.guest.cpu_max, None);
        let error = change(r#"{"memory": {"limit": 1073741824}}"#).unwrap_err();
        assert!(error.to_string().contains("536870912"), "{error}");
        assert!(change(r#"{"cpu": {"quota": 300000}}"#).is_err());
    }

    #[test]
    fn too_little_memory_is_an_error_with_the_field() {
        let error =
            guest_limits(Some(&resources(r#"{"memory": {"limit": 8388608}}"#))).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("linux.resources.memory.limit") && text.contains("8388608"),
            "{text}"
        );
    }
}
