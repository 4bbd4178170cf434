//! What the guest's CPUs say of themselves.
//!
//! The base is what KVM supports on this host, and the host's own name for the CPU. On top: the
//! topology is one package with as many cores as there are vCPUs, no performance counters, and no
//! nested virtualisation unless it is asked for.
//! Intel SDM volume 2A (CPUID), AMD APM volume 3 appendix E.

use std::arch::x86_64::__cpuid;

use kvm_bindings::{CpuId, kvm_cpuid_entry2};

const LEAF_FEATURES: u32 = 1;
const LEAF_CACHES: u32 = 4;
const LEAF_PERFORMANCE: u32 = 0xa;
const LEAF_TOPOLOGY: u32 = 0xb;
const LEAF_TOPOLOGY_2: u32 = 0x1f;
const LEAF_EXTENDED_FEATURES: u32 = 0x8000_0001;
const LEAVES_NAME: [u32; 3] = [0x8000_0002, 0x8000_0003, 0x8000_0004];
const LEAF_SIZES: u32 = 0x8000_0008;
const LEAF_SVM: u32 = 0x8000_000a;
const LEAF_AMD_CACHES: u32 = 0x8000_001d;
const LEAF_AMD_TOPOLOGY: u32 = 0x8000_001e;
const LEAF_AMD_PERFORMANCE: u32 = 0x8000_0022;

const ECX_VMX: u32 = 1 << 5;
const ECX_X2APIC: u32 = 1 << 21;
const ECX_TSC_DEADLINE: u32 = 1 << 24;
const ECX_HYPERVISOR: u32 = 1 << 31;
const EDX_MULTIPLE: u32 = 1 << 28;
const ECX_SVM: u32 = 1 << 2;
const ECX_AMD_PERFORMANCE: u32 = 0b11 << 23;

/// Adds the CPU's name, which KVM leaves out and `/proc/cpuinfo` shows.
pub(super) fn add_name(supported: &mut CpuId) {
    supported.retain(|entry| !LEAVES_NAME.contains(&entry.function));
    for function in LEAVES_NAME {
        let leaf = __cpuid(function);
        // KVM's limit leaves room: it reports far fewer entries than it takes.
        let _ = supported.push(kvm_cpuid_entry2 {
            function,
            eax: leaf.eax,
            ebx: leaf.ebx,
            ecx: leaf.ecx,
            edx: leaf.edx,
            ..Default::default()
        });
    }
}

/// `supported` made into the CPUID of vCPU `index` (which is its APIC id, too) of `count`.
pub(super) fn for_vcpu(supported: &CpuId, index: u8, count: u8, nested: bool) -> CpuId {
    let mut cpuid = supported.clone();
    cpuid.retain(|entry| !matches!(entry.function, LEAF_TOPOLOGY | LEAF_TOPOLOGY_2));
    for entry in cpuid.as_mut_slice() {
        adapt(entry, u32::from(index), u32::from(count));
        if !nested {
            hide_virtualisation(entry);
        }
    }
    for entry in topology(u32::from(index), u32::from(count)) {
        // There is room: see `add_name`.
        let _ = cpuid.push(entry);
    }
    cpuid
}

fn adapt(entry: &mut kvm_cpuid_entry2, apic_id: u32, count: u32) {
    match entry.function {
        0 => entry.eax = entry.eax.max(LEAF_TOPOLOGY),
        LEAF_FEATURES => {
            // Bits 31-24: initial APIC id. Bits 23-16: logical processors in the package.
            entry.ebx = entry.ebx & 0xffff | apic_id << 24 | count << 16;
            entry.ecx |= ECX_X2APIC | ECX_TSC_DEADLINE | ECX_HYPERVISOR;
            entry.edx &= !EDX_MULTIPLE;
            if count > 1 {
                entry.edx |= EDX_MULTIPLE;
            }
        }
        LEAF_CACHES => {
            let level = entry.eax >> 5 & 0b111;
            entry.eax =
                entry.eax & 0x3fff | sharing(level, count) << 14 | (count - 1).min(63) << 26;
        }
        LEAF_AMD_CACHES => {
            let level = entry.eax >> 5 & 0b111;
            entry.eax = entry.eax & 0x3fff | sharing(level, count) << 14;
        }
        LEAF_EXTENDED_FEATURES => entry.ecx &= !ECX_AMD_PERFORMANCE,
        // Bits 7-0: cores less one. Bits 15-12: bits of the APIC id that number them.
        LEAF_SIZES => entry.ecx = (count - 1) | id_bits(count) << 12,
        LEAF_AMD_TOPOLOGY => {
            entry.eax = apic_id;
            // Bits 7-0: core id; one thread per core, one node.
            entry.ebx = apic_id;
            entry.ecx = 0;
        }
        LEAF_PERFORMANCE | LEAF_AMD_PERFORMANCE => {
            (entry.eax, entry.ebx, entry.ecx, entry.edx) = (0, 0, 0, 0);
        }
        _ => {}
    }
}

fn hide_virtualisation(entry: &mut kvm_cpuid_entry2) {
    match entry.function {
        LEAF_FEATURES => entry.ecx &= !ECX_VMX,
        LEAF_EXTENDED_FEATURES => entry.ecx &= !ECX_SVM,
        LEAF_SVM => (entry.eax, entry.ebx, entry.ecx, entry.edx) = (0, 0, 0, 0),
        _ => {}
    }
}

/// Logical processors that share a cache, less one: the last level is everybody's.
fn sharing(level: u32, count: u32) -> u32 {
    if level >= 3 { count - 1 } else { 0 }
}

/// How many bits of the APIC id number the cores.
fn id_bits(count: u32) -> u32 {
    count.next_power_of_two().trailing_zeros()
}

/// Leaf 0xb: threads of a core, cores of the package, end.
fn topology(apic_id: u32, count: u32) -> [kvm_cpuid_entry2; 3] {
    const SIGNIFICANT_INDEX: u32 = 1;
    const THREADS: u32 = 1 << 8;
    const CORES: u32 = 2 << 8;
    let level = |index, eax, ebx, kind: u32| kvm_cpuid_entry2 {
        function: LEAF_TOPOLOGY,
        index,
        flags: SIGNIFICANT_INDEX,
        eax,
        ebx,
        ecx: kind | index,
        edx: apic_id,
        ..Default::default()
    };
    [
        level(0, 0, 1, THREADS),
        level(1, id_bits(count), count, CORES),
        level(2, 0, 0, 0),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(cpuid: &CpuId, function: u32, index: u32) -> kvm_cpuid_entry2 {
        *cpuid
            .as_slice()
            .iter()
            .find(|entry| entry.function == function && entry.index == index)
            .expect("the leaf exists")
    }

    fn host(entries: &[kvm_cpuid_entry2]) -> CpuId {
        CpuId::from_entries(entries).expect("few entries")
    }

    fn entry(function: u32) -> kvm_cpuid_entry2 {
        kvm_cpuid_entry2 {
            function,
            eax: u32::MAX,
            ebx: u32::MAX,
            ecx: u32::MAX,
            edx: u32::MAX,
            ..Default::default()
        }
    }

    #[test]
    fn each_vcpu_has_its_own_apic_id_everywhere() {
        let supported = host(&[entry(1), entry(LEAF_TOPOLOGY), entry(LEAF_AMD_TOPOLOGY)]);
        let cpuid = for_vcpu(&supported, 2, 3, false);
        assert_eq!(leaf(&cpuid, 1, 0).ebx >> 16, 2 << 8 | 3);
        assert_eq!(leaf(&cpuid, LEAF_TOPOLOGY, 0).edx, 2);
        assert_eq!(leaf(&cpuid, LEAF_TOPOLOGY, 1).ebx, 3);
        assert_eq!(
            leaf(&cpuid, LEAF_TOPOLOGY, 1).eax,
            2,
            "three cores take two bits"
        );
        assert_eq!(leaf(&cpuid, LEAF_AMD_TOPOLOGY, 0).eax, 2);
        let leaves = cpuid
            .as_slice()
            .iter()
            .filter(|entry| entry.function == LEAF_TOPOLOGY);
        assert_eq!(leaves.count(), 3, "the host's own leaf is gone");
    }

    #[test]
    fn nested_virtualisation_and_counters_are_hidden() {
        let supported = host(&[
            entry(1),
            entry(LEAF_EXTENDED_FEATURES),
            entry(LEAF_SVM),
            entry(LEAF_PERFORMANCE),
        ]);
        let cpuid = for_vcpu(&supported, 0, 1, false);
        assert_eq!(leaf(&cpuid, 1, 0).ecx & ECX_VMX, 0);
        assert_eq!(leaf(&cpuid, 1, 0).edx & EDX_MULTIPLE, 0);
        assert_eq!(leaf(&cpuid, LEAF_EXTENDED_FEATURES, 0).ecx & ECX_SVM, 0);
        assert_eq!(leaf(&cpuid, LEAF_SVM, 0).eax, 0);
        assert_eq!(leaf(&cpuid, LEAF_PERFORMANCE, 0).eax, 0);
        let cpuid = for_vcpu(&supported, 0, 1, true);
        assert_ne!(leaf(&cpuid, 1, 0).ecx & ECX_VMX, 0);
        assert_ne!(leaf(&cpuid, LEAF_EXTENDED_FEATURES, 0).ecx & ECX_SVM, 0);
        assert_ne!(leaf(&cpuid, LEAF_SVM, 0).eax, 0);
        assert_eq!(leaf(&cpuid, LEAF_PERFORMANCE, 0).eax, 0);
    }
}
