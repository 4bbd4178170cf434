//! Whether `/dev/kvm` runs an ordinary kernel. Some hosts have one that is meant for paravirtual
//! guests only; its presence says nothing. So a few instructions are run: those with which a
//! kernel gets from 32-bit protected mode, where the PVH entry leaves it, into 64-bit mode (Intel
//! SDM volume 3, "Initializing IA-32e Mode"), and then one of the x87 unit, which every processor
//! has and KVM's own emulator lacks. A paravirtual KVM was seen to emulate all else, at 5 us an
//! instruction, and to fail there.
//!
//! Called by `krun-gpu check`, and through it by `cargo xtask`. The guest is our own code.

use std::{
    io,
    os::fd::{AsFd, FromRawFd, IntoRawFd},
};

use kvm_bindings::{
    KVM_API_VERSION, KVM_MAX_CPUID_ENTRIES, kvm_regs, kvm_segment, kvm_userspace_memory_region,
};
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd};
use vm_memory::{Bytes, GuestAddress, GuestMemory, GuestMemoryMmap};
use vmm_sys_util::errno::Error as Errno;

/// What the probe's guest has: this many bytes of memory at 0.
const MEMORY: usize = 0x1_0000;
const GDT: u64 = 0x1000;
const PAGE_TABLES: u64 = 0x2000;
const CODE: u64 = 0x5000;
/// Where KVM may keep the pages that older Intel processors need for real mode.
const TASK_STATE: usize = 0xfffb_d000;

/// Selectors of the 32-bit code and the data segment in [`DESCRIPTORS`].
const CODE_32: u16 = 0x10;
const DATA: u16 = 0x18;
/// Null, 64-bit code, 32-bit code, data: flat.
const DESCRIPTORS: [u64; 4] = [
    0,
    0x00af_9b00_0000_ffff,
    0x00cf_9b00_0000_ffff,
    0x00cf_9300_0000_ffff,
];

/// What the guest writes to this port once it is in 64-bit mode.
const WORD: [u8; 4] = *b"krun";
const PORT: u16 = 0x80;

const PROGRAM: &[u8] = &[
    0x0f, 0x20, 0xe0, // mov eax, cr4
    0x83, 0xc8, 0x20, // or eax, PAE
    0x0f, 0x22, 0xe0, // mov cr4, eax
    0xb8, 0x00, 0x20, 0x00, 0x00, // mov eax, PAGE_TABLES
    0x0f, 0x22, 0xd8, // mov cr3, eax
    0xb9, 0x80, 0x00, 0x00, 0xc0, // mov ecx, EFER
    0x0f, 0x32, // rdmsr
    0x0d, 0x00, 0x01, 0x00, 0x00, // or eax, LME
    0x0f, 0x30, // wrmsr
    0x0f, 0x20, 0xc0, // mov eax, cr0
    0x0d, 0x01, 0x00, 0x00, 0x80, // or eax, PG | PE
    0x0f, 0x22, 0xc0, // mov cr0, eax
    0xea, 0x31, 0x50, 0x00, 0x00, 0x08, 0x00, // jmp 0x08:CODE + 0x31
    0xd9, 0xe8, // fld1
    0xb8, b'k', b'r', b'u', b'n', // mov eax, WORD
    0xe7, 0x80, // out PORT, eax
    0xf4, // hlt
];

/// Why `/dev/kvm` is of no use.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The descriptor is something else, or speaks another version.
    #[error("KVM's API version is {0}, not 12")]
    Version(i32),
    /// KVM refused a request that every VM needs.
    #[error("KVM refuses {request}")]
    Refused {
        /// The ioctl.
        request: &'static str,
        /// Its reason.
        #[source]
        source: io::Error,
    },
    /// The guest's memory could not be made.
    #[error("the probe's guest memory could not be made")]
    Memory(#[source] io::Error),
    /// KVM tried to emulate an instruction and could not.
    #[error("it emulates the guest's instructions instead of running them, and does not know all")]
    Emulated,
    /// The guest did not come to its end.
    #[error("the guest ended with {0} on its way into 64-bit mode")]
    Ended(String),
}

/// Boots a guest of a few instructions into 64-bit mode. `kvm` is an open `/dev/kvm`.
pub fn probe(kvm: impl AsFd) -> Result<(), ProbeError> {
    let descriptor = kvm
        .as_fd()
        .try_clone_to_owned()
        .map_err(|source| ProbeError::Refused {
            request: "a second descriptor",
            source,
        })?;
    // SAFETY: the descriptor is our own, and `Kvm` becomes its owner.
    let kvm = unsafe { Kvm::from_raw_fd(descriptor.into_raw_fd()) };
    let version = kvm.get_api_version();
    if u32::try_from(version) != Ok(KVM_API_VERSION) {
        return Err(ProbeError::Version(version));
    }
    let memory = memory()?;
    let vm = kvm.create_vm().map_err(refused("KVM_CREATE_VM"))?;
    vm.set_tss_address(TASK_STATE)
        .map_err(refused("KVM_SET_TSS_ADDR"))?;
    let host = memory
        .get_host_address(GuestAddress(0))
        .map_err(|error| ProbeError::Memory(io::Error::other(error)))?;
    let region = kvm_userspace_memory_region {
        memory_size: MEMORY as u64,
        userspace_addr: host.addr() as u64,
        ..Default::default()
    };
    // SAFETY: the region is the whole of `memory`, which outlives the VM.
    unsafe { vm.set_user_memory_region(region) }.map_err(refused("KVM_SET_USER_MEMORY_REGION"))?;
    let mut vcpu = vm.create_vcpu(0).map_err(refused("KVM_CREATE_VCPU"))?;
    let features = kvm
        .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
        .map_err(refused("KVM_GET_SUPPORTED_CPUID"))?;
    vcpu.set_cpuid2(&features)
        .map_err(refused("KVM_SET_CPUID2"))?;
    set_registers(&vcpu)?;
    run(&mut vcpu)
}

/// The guest's memory: its GDT, its code, and page tables that map the first 2 MiB to themselves.
fn memory() -> Result<GuestMemoryMmap, ProbeError> {
    const PRESENT_WRITABLE: u64 = 0b11;
    const LARGE_PAGE: u64 = 1 << 7;
    let failed = |error: vm_memory::GuestMemoryError| ProbeError::Memory(io::Error::other(error));
    let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), MEMORY)])
        .map_err(|error| ProbeError::Memory(io::Error::other(error)))?;
    let directory_pointers = PAGE_TABLES + 0x1000;
    let directory = PAGE_TABLES + 0x2000;
    for (address, entry) in [
        (PAGE_TABLES, directory_pointers),
        (directory_pointers, directory),
        (directory, LARGE_PAGE),
    ] {
        memory
            .write_obj(entry | PRESENT_WRITABLE, GuestAddress(address))
            .map_err(failed)?;
    }
    for (address, descriptor) in (GDT..).step_by(8).zip(DESCRIPTORS) {
        memory
            .write_obj(descriptor, GuestAddress(address))
            .map_err(failed)?;
    }
    memory
        .write_slice(PROGRAM, GuestAddress(CODE))
        .map_err(failed)?;
    Ok(memory)
}

/// 32-bit protected mode without paging, as the PVH entry has it.
fn set_registers(vcpu: &VcpuFd) -> Result<(), ProbeError> {
    const PROTECTED_MODE: u64 = 1;
    const CODE_TYPE: u8 = 0b1011;
    const DATA_TYPE: u8 = 0b0011;
    let flat = |selector, type_| kvm_segment {
        limit: u32::MAX,
        selector,
        type_,
        present: 1,
        db: 1,
        s: 1,
        g: 1,
        ..Default::default()
    };
    let mut special = vcpu.get_sregs().map_err(refused("KVM_GET_SREGS"))?;
    special.cr0 |= PROTECTED_MODE;
    special.cs = flat(CODE_32, CODE_TYPE);
    let data = flat(DATA, DATA_TYPE);
    (special.ds, special.es, special.ss) = (data, data, data);
    (special.fs, special.gs) = (data, data);
    special.gdt.base = GDT;
    special.gdt.limit = 31;
    vcpu.set_sregs(&special).map_err(refused("KVM_SET_SREGS"))?;
    let general = kvm_regs {
        rip: CODE,
        // Bit 1 is always set.
        rflags: 2,
        ..Default::default()
    };
    vcpu.set_regs(&general).map_err(refused("KVM_SET_REGS"))
}

fn run(vcpu: &mut VcpuFd) -> Result<(), ProbeError> {
    loop {
        match vcpu.run() {
            Ok(VcpuExit::IoOut(PORT, data)) if data == WORD => return Ok(()),
            Ok(VcpuExit::InternalError) => return Err(ProbeError::Emulated),
            Ok(VcpuExit::Shutdown) => return Err(ProbeError::Ended("a triple fault".to_owned())),
            Ok(exit) => return Err(ProbeError::Ended(format!("{exit:?}"))),
            Err(errno) if matches!(errno.errno(), libc::EINTR | libc::EAGAIN) => {}
            Err(errno) => return Err(refused("KVM_RUN")(errno)),
        }
    }
}

fn refused(request: &'static str) -> impl Fn(Errno) -> ProbeError {
    move |errno| ProbeError::Refused {
        request,
        source: errno.into(),
    }
}
