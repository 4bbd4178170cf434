//! A vCPU's registers before its first instruction.
//!
//! Intel SDM volume 3; the x86/HVM direct boot ABI (PVH) and Documentation/arch/x86/boot.rst
//! (64-bit protocol) say what the kernels expect.

use kvm_bindings::{Msrs, kvm_lapic_state, kvm_msr_entry, kvm_regs, kvm_segment, kvm_sregs};
use kvm_ioctls::VcpuFd;

use super::HypervisorError;
use crate::sys::BootState;

const MSR_MISC_ENABLE: u32 = 0x1a0;
const MISC_ENABLE_FAST_STRING: u64 = 1;
const MSR_MTRR_DEFAULT_TYPE: u32 = 0x2ff;
const MTRR_ENABLED: u64 = 1 << 11;
const MTRR_WRITE_BACK: u64 = 6;

const CR0_PROTECTED: u64 = 1;
const CR0_EXTENSION_TYPE: u64 = 1 << 4;
const CR0_PAGING: u64 = 1 << 31;
const CR4_PAE: u64 = 1 << 5;
const EFER_LONG_MODE: u64 = 1 << 8;
const EFER_LONG_MODE_ACTIVE: u64 = 1 << 10;
/// Bit 1 of RFLAGS is always set.
const RFLAGS_RESERVED: u64 = 2;

/// Offsets of the local vector table's entries for the two pins, in the APIC's page.
const LVT_LINT0: usize = 0x350;
const LVT_LINT1: usize = 0x360;
/// Delivery mode (bits 8 to 10): the 8259's interrupts, and NMI.
const DELIVERY_EXTINT: i8 = 0b111;
const DELIVERY_NMI: i8 = 0b100;

/// Model-specific registers that a firmware would have set: string instructions are fast (the
/// kernel gives up ERMS otherwise), and memory is write-back unless a page table says otherwise.
pub(super) fn set_model_specific(fd: &VcpuFd, index: u8) -> Result<(), HypervisorError> {
    let entry = |index, data| kvm_msr_entry {
        index,
        data,
        ..Default::default()
    };
    let entries = [
        entry(MSR_MISC_ENABLE, MISC_ENABLE_FAST_STRING),
        entry(MSR_MTRR_DEFAULT_TYPE, MTRR_ENABLED | MTRR_WRITE_BACK),
    ];
    let failed = |source| HypervisorError::Vcpu {
        action: "setting the model-specific registers",
        vcpu: index,
        source,
    };
    let registers = Msrs::from_entries(&entries)
        .map_err(|error| failed(std::io::Error::other(format!("{error:?}"))))?;
    match fd.set_msrs(&registers) {
        Ok(count) if count == entries.len() => Ok(()),
        Ok(count) => Err(failed(std::io::Error::other(format!(
            "KVM took {count} of {} registers",
            entries.len()
        )))),
        Err(errno) => Err(failed(errno.into())),
    }
}

/// The local APIC's two pins as a firmware leaves them ("virtual wire").
pub(super) fn set_local_interrupts(fd: &VcpuFd, index: u8) -> Result<(), HypervisorError> {
    let mut apic = fd
        .get_lapic()
        .map_err(HypervisorError::vcpu(index, "reading the local APIC"))?;
    set_delivery(&mut apic, LVT_LINT0, DELIVERY_EXTINT);
    set_delivery(&mut apic, LVT_LINT1, DELIVERY_NMI);
    fd.set_lapic(&apic)
        .map_err(HypervisorError::vcpu(index, "setting the local APIC"))
}

fn set_delivery(apic: &mut kvm_lapic_state, entry: usize, mode: i8) {
    // The delivery mode's bits 8 to 10 are the low bits of the entry's second byte.
    if let Some(byte) = apic.regs.get_mut(entry + 1) {
        *byte = *byte & !0b111 | mode;
    }
}

/// Puts vCPU 0 at the kernel's entry.
pub(super) fn set_boot_state(
    fd: &VcpuFd,
    index: u8,
    boot: BootState,
) -> Result<(), HypervisorError> {
    let mut special = fd
        .get_sregs()
        .map_err(HypervisorError::vcpu(index, "reading the system registers"))?;
    let general = match boot {
        BootState::Pvh { entry, start_info } => {
            enter_protected_mode(&mut special);
            kvm_regs {
                rip: entry,
                rbx: start_info,
                rflags: RFLAGS_RESERVED,
                ..Default::default()
            }
        }
        BootState::Linux64 {
            entry,
            zero_page,
            page_tables,
            gdt,
        } => {
            enter_long_mode(&mut special, page_tables);
            (special.gdt.base, special.gdt.limit) = gdt;
            kvm_regs {
                rip: entry,
                rsi: zero_page,
                rflags: RFLAGS_RESERVED,
                ..Default::default()
            }
        }
    };
    fd.set_sregs(&special)
        .map_err(HypervisorError::vcpu(index, "setting the system registers"))?;
    fd.set_regs(&general)
        .map_err(HypervisorError::vcpu(index, "setting the registers"))
}

fn enter_protected_mode(special: &mut kvm_sregs) {
    set_segments(special, kvm_segment { db: 1, ..code() });
    special.cr0 = CR0_PROTECTED | CR0_EXTENSION_TYPE;
    special.cr4 = 0;
}

fn enter_long_mode(special: &mut kvm_sregs, page_tables: u64) {
    set_segments(special, kvm_segment { l: 1, ..code() });
    special.cr3 = page_tables;
    special.cr4 = CR4_PAE;
    special.cr0 = CR0_PROTECTED | CR0_EXTENSION_TYPE | CR0_PAGING;
    special.efer = EFER_LONG_MODE | EFER_LONG_MODE_ACTIVE;
}

fn set_segments(special: &mut kvm_sregs, code: kvm_segment) {
    let data = kvm_segment {
        selector: 0x18,
        type_: 0b0011,
        db: 1,
        ..code
    };
    let data = kvm_segment { l: 0, ..data };
    special.cs = code;
    for segment in [
        &mut special.ds,
        &mut special.es,
        &mut special.fs,
        &mut special.gs,
        &mut special.ss,
    ] {
        *segment = data;
    }
    // A busy 32-bit task state segment: VT-x insists on one.
    special.tr = kvm_segment {
        base: 0,
        limit: 0x67,
        selector: 0x20,
        type_: 0b1011,
        present: 1,
        ..Default::default()
    };
}

/// A flat code segment (readable, accessed) of selector 0x10, as `__BOOT_CS`.
fn code() -> kvm_segment {
    kvm_segment {
        base: 0,
        limit: u32::MAX,
        selector: 0x10,
        type_: 0b1011,
        present: 1,
        s: 1,
        g: 1,
        ..Default::default()
    }
}
