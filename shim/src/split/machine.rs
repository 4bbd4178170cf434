//! The VM's size: from annotations, the container's limits and the host's configuration, in this
//! order.

use std::path::PathBuf;

use oci_spec::runtime::{LinuxCpu, LinuxResources, Spec};

use super::SplitError;
use super::annotations::Annotations;
use super::facts::Facts;
use super::limits::{DEFAULT_PERIOD, memory_limit};
use crate::config::Config;

/// Guest memory comes in steps of this many bytes.
const STEP: u64 = 2 << 20;

/// What the guest's kernel and agent need beyond the workload's limit, in bytes, next to a 64th
/// of all memory for the kernel's page structures.
const GUEST_OVERHEAD: u64 = 48 << 20;

/// What a VMM needs beyond guest memory, in bytes: its own memory, page tables, buffers.
pub(super) const VMM_OVERHEAD: u64 = 48 << 20;

/// Guest memory of a container without a limit, in bytes, if the host has twice as much.
/// It is reserved, not committed: what the guest does not touch costs nothing.
const DEFAULT_MEMORY: u64 = 2 << 30;

/// The smallest guest memory that boots.
const LEAST_MEMORY: u64 = 64 << 20;

/// vCPUs of a container without a limit, at most.
const DEFAULT_CPUS: usize = 8;

/// The VM's size and its kernel, where the container chooses them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Machine {
    /// vCPUs.
    pub(crate) vcpus: u8,
    /// Guest memory in bytes, a multiple of 2 MiB.
    pub(crate) memory: u64,
    /// The container has /dev/kvm.
    pub(crate) nested: bool,
    /// Kernel from the `vm` section.
    pub(crate) kernel: Option<PathBuf>,
    /// Initramfs from the `vm` section.
    pub(crate) initramfs: Option<PathBuf>,
    /// Kernel parameters from the `vm` section.
    pub(crate) parameters: Vec<String>,
}

impl Machine {
    /// Sizes the VM of `spec`.
    pub(super) fn new(
        spec: &Spec,
        annotations: Annotations<'_>,
        config: &Config,
        facts: &dyn Facts,
    ) -> Result<Self, SplitError> {
        let linux = spec.linux().as_ref();
        let resources = linux.and_then(|linux| linux.resources().as_ref());
        let mut machine = Self {
            vcpus: vcpus(annotations, resources, config, facts)?,
            memory: memory(annotations, resources, config, facts)?,
            nested: false,
            kernel: None,
            initramfs: None,
            parameters: Vec::new(),
        };
        machine.read_vm_section(spec, config)?;
        Ok(machine)
    }

    fn read_vm_section(&mut self, spec: &Spec, config: &Config) -> Result<(), SplitError> {
        let Some(vm) = spec.vm() else { return Ok(()) };
        let refuse = |field, value: String, reason| SplitError::Unsupported {
            field,
            value,
            reason,
        };
        if let Some(hypervisor) = vm.hypervisor() {
            let path = hypervisor.path().display().to_string();
            return Err(refuse(
                "vm.hypervisor.path",
                path,
                "krun-gpu is its own hypervisor",
            ));
        }
        if let Some(image) = vm.image() {
            let path = image.path().display().to_string();
            return Err(refuse(
                "vm.image.path",
                path,
                "the root file system comes from root.path",
            ));
        }
        let kernel = vm.kernel();
        if kernel.path().as_os_str().is_empty() {
            return Ok(());
        }
        if !config.allow_vm_section {
            let path = kernel.path().display().to_string();
            let reason = "the host's configuration does not have `allow_vm_section = true`";
            return Err(refuse("vm.kernel.path", path, reason));
        }
        self.kernel = Some(kernel.path().clone());
        self.initramfs = kernel.initrd().as_ref().map(PathBuf::from);
        self.parameters = kernel.parameters().clone().unwrap_or_default();
        Ok(())
    }
}

fn vcpus(
    annotations: Annotations<'_>,
    resources: Option<&LinuxResources>,
    config: &Config,
    facts: &dyn Facts,
) -> Result<u8, SplitError> {
    if let Some(number) = annotations.number(&["io.krun-gpu.cpus", "krun.cpus"])? {
        return u8::try_from(number).map_err(|_| SplitError::Annotation {
            name: "io.krun-gpu.cpus".to_owned(),
            value: number.to_string(),
            reason: "a VM has at most 255 vCPUs",
        });
    }
    let host = facts.processors().max(1);
    let cpu = resources.and_then(|resources| resources.cpu().as_ref());
    let set = cpu
        .and_then(|cpu| cpu.cpus().as_deref())
        .filter(|set| !set.is_empty());
    let limited = match set {
        Some(set) => Some(count_cpuset(set)?),
        None => cpu.and_then(from_quota),
    };
    let number = match limited {
        // More vCPUs than processors would only wait for one another.
        Some(number) => number.min(host),
        None => match config.cpus {
            Some(cpus) => usize::from(cpus),
            None => host.min(DEFAULT_CPUS),
        },
    };
    Ok(u8::try_from(number.max(1)).unwrap_or(u8::MAX))
}

/// The processors that a quota comes to, rounded up.
fn from_quota(cpu: &LinuxCpu) -> Option<usize> {
    let quota = u64::try_from(cpu.quota()?)
        .ok()
        .filter(|quota| *quota > 0)?;
    let period = cpu
        .period()
        .filter(|period| *period > 0)
        .unwrap_or(DEFAULT_PERIOD);
    usize::try_from(quota.div_ceil(period)).ok()
}

/// How many processors a list such as `0-3,7` names.
fn count_cpuset(set: &str) -> Result<usize, SplitError> {
    let error = || SplitError::Cpuset {
        value: set.to_owned(),
    };
    let mut count = 0_usize;
    for part in set.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let first: usize = first.trim().parse().map_err(|_| error())?;
        let last: usize = last.trim().parse().map_err(|_| error())?;
        let more = last.checked_sub(first).and_then(|more| more.checked_add(1));
        count = more
            .and_then(|more| count.checked_add(more))
            .ok_or_else(error)?;
    }
    Ok(count)
}

fn memory(
    annotations: Annotations<'_>,
    resources: Option<&LinuxResources>,
    config: &Config,
    facts: &dyn Facts,
) -> Result<u64, SplitError> {
    let names = ["io.krun-gpu.memory", "krun.ram_mib"];
    let limit = memory_limit(resources)?;
    let bytes = match annotations.number(&names)? {
        Some(mebibytes) => {
            let bytes = mebibytes.saturating_mul(1 << 20);
            if bytes < LEAST_MEMORY {
                return Err(SplitError::MemoryTooSmall {
                    field: "annotations.io.krun-gpu.memory",
                    value: bytes,
                    least: LEAST_MEMORY,
                });
            }
            bytes
        }
        None => match (limit, config.memory_mib) {
            (Some(limit), _) => limit
                .saturating_add(limit / 64)
                .saturating_add(GUEST_OVERHEAD),
            (None, Some(mebibytes)) => mebibytes.saturating_mul(1 << 20),
            (None, None) => default_memory(facts.memory()),
        },
    };
    // No machine has an exbibyte; the next multiple of the step does not overflow below it.
    Ok(bytes.clamp(LEAST_MEMORY, 1 << 60).next_multiple_of(STEP))
}

fn default_memory(host: Option<u64>) -> u64 {
    host.map_or(DEFAULT_MEMORY, |host| DEFAULT_MEMORY.min(host / 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpusets_are_counted() {
        assert_eq!(count_cpuset("0-3,7").unwrap(), 5);
        assert_eq!(count_cpuset("1").unwrap(), 1);
        for bad in ["", "a", "3-1", "0-", "0-18446744073709551615"] {
            assert!(count_cpuset(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn quotas_are_rounded_up() {
        let cpu: LinuxCpu = serde_json::from_str(r#"{"quota": 150000, "period": 100000}"#).unwrap();
        assert_eq!(from_quota(&cpu), Some(2));
        let cpu: LinuxCpu = serde_json::from_str(r#"{"quota": -1}"#).unwrap();
        assert_eq!(from_quota(&cpu), None);
    }

    #[test]
    fn half_of_a_small_host_at_most() {
        assert_eq!(default_memory(Some(1 << 30)), 512 << 20);
        assert_eq!(default_memory(Some(1 << 40)), DEFAULT_MEMORY);
    }
}
