//! One KVM virtual machine with its in-kernel interrupt controllers.
//!
//! There is no timer chip: the guest takes its time from kvm-clock and the TSC and its ticks
//! from the local APIC's TSC-deadline mode, which [`Vm::new`] insists on.

use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};
use std::sync::Arc;

use kvm_bindings::{CpuId, KVM_MAX_CPUID_ENTRIES, kvm_userspace_memory_region};
use kvm_ioctls::{Cap, IoEventAddress, Kvm, VmFd};
use vmm_sys_util::errno::Error as Errno;
use vmm_sys_util::eventfd::EventFd;

use super::vcpu::Vcpu;
use super::{HypervisorError, RegisterPage, cpuid};
use crate::layout;
use crate::sys::BootState;

/// KVM's only API version.
const API_VERSION: i32 = 12;

/// What the VMM cannot do without.
const NEEDED: [(Cap, &str); 9] = [
    (
        Cap::Irqchip,
        "in-kernel interrupt controllers (KVM_CAP_IRQCHIP)",
    ),
    (Cap::Irqfd, "irqfd (KVM_CAP_IRQFD)"),
    (Cap::Ioeventfd, "ioeventfd (KVM_CAP_IOEVENTFD)"),
    (
        Cap::ReadonlyMem,
        "memory that is only read (KVM_CAP_READONLY_MEM)",
    ),
    (Cap::UserMemory, "user memory (KVM_CAP_USER_MEMORY)"),
    (
        Cap::ImmediateExit,
        "immediate exit (KVM_CAP_IMMEDIATE_EXIT)",
    ),
    (Cap::SetTssAddr, "KVM_CAP_SET_TSS_ADDR"),
    (Cap::ExtCpuid, "CPUID filtering (KVM_CAP_EXT_CPUID)"),
    (
        Cap::TscDeadlineTimer,
        "TSC-deadline timer (KVM_CAP_TSC_DEADLINE_TIMER)",
    ),
];

/// A virtual machine.
#[derive(Debug)]
pub(crate) struct Vm {
    fd: Arc<VmFd>,
    cpuid: CpuId,
    vcpus: u8,
    nested: bool,
}

impl Vm {
    /// Makes a VM on `kvm`, an open /dev/kvm, for `vcpus` vCPUs, which may run VMs themselves if
    /// `nested`.
    pub(crate) fn new(kvm: OwnedFd, vcpus: u8, nested: bool) -> Result<Self, HypervisorError> {
        // SAFETY: the descriptor's ownership goes to `Kvm`.
        let kvm = unsafe { Kvm::from_raw_fd(kvm.into_raw_fd()) };
        match kvm.get_api_version() {
            API_VERSION => {}
            other => return Err(HypervisorError::NotKvm(other)),
        }
        if let Some((_, name)) = NEEDED.iter().find(|(cap, _)| !kvm.check_extension(*cap)) {
            return Err(HypervisorError::Missing(name));
        }
        let most = kvm.get_max_vcpus().min(kvm.get_max_vcpu_id());
        if usize::from(vcpus) > most {
            return Err(HypervisorError::TooManyVcpus {
                wanted: vcpus,
                most,
            });
        }
        let mut cpuid = kvm
            .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
            .map_err(HypervisorError::vm("asking KVM for the CPU's features"))?;
        cpuid::add_name(&mut cpuid);
        let fd = create(&kvm).map_err(HypervisorError::vm("creating a KVM virtual machine"))?;
        fd.set_identity_map_address(layout::KVM_IDENTITY_MAP)
            .map_err(HypervisorError::vm("placing KVM's identity map"))?;
        fd.set_tss_address(usize::try_from(layout::KVM_TSS).unwrap_or(usize::MAX))
            .map_err(HypervisorError::vm("placing KVM's task state segment"))?;
        fd.create_irq_chip()
            .map_err(HypervisorError::vm("creating the interrupt controllers"))?;
        Ok(Self {
            fd: Arc::new(fd),
            cpuid,
            vcpus,
            nested,
        })
    }

    /// Makes `length` bytes at `host` the guest's memory from `start`, in the memory slot `slot`.
    ///
    /// # Safety
    ///
    /// The host range stays mapped, and is the guest's to write, until [`Vm::unmap`] or until no
    /// vCPU runs any more.
    pub(crate) unsafe fn map(
        &self,
        slot: u32,
        start: u64,
        host: *mut u8,
        length: usize,
    ) -> Result<(), HypervisorError> {
        let region = kvm_userspace_memory_region {
            slot,
            flags: 0,
            guest_phys_addr: start,
            memory_size: length as u64,
            userspace_addr: host as u64,
        };
        // SAFETY: the caller vouches for the host range.
        unsafe { self.fd.set_user_memory_region(region) }.map_err(|errno| HypervisorError::Map {
            start,
            length,
            source: errno.into(),
        })
    }

    /// Makes the vCPU with this index; vCPU 0 starts with `boot`.
    pub(crate) fn new_vcpu(&self, index: u8, boot: BootState) -> Result<Vcpu, HypervisorError> {
        let fd = self
            .fd
            .create_vcpu(u64::from(index))
            .map_err(HypervisorError::vcpu(index, "creation"))?;
        let cpuid = cpuid::for_vcpu(&self.cpuid, index, self.vcpus, self.nested);
        Vcpu::new(fd, index, &cpuid, boot)
    }

    /// An eventfd whose every write pulses an interrupt line (an edge).
    pub(crate) fn interrupt_line(&self, line: u32) -> Result<EventFd, HypervisorError> {
        let eventfd = new_eventfd()?;
        self.fd
            .register_irqfd(&eventfd, line)
            .map_err(HypervisorError::vm("connecting an interrupt line"))?;
        Ok(eventfd)
    }

    /// A page of registers at `address`, in the memory slot `slot`.
    pub(crate) fn register_page(
        &self,
        slot: u32,
        address: u64,
        length: usize,
    ) -> Result<RegisterPage, HypervisorError> {
        let page = super::mapping::reserve(length).map_err(|source| HypervisorError::Vm {
            action: "making a page of registers",
            source,
        })?;
        Ok(RegisterPage::new(Arc::clone(&self.fd), slot, address, page))
    }

    /// An eventfd that is written, with no exit to this process, whenever the guest writes
    /// `value` as 32 bits to `address`.
    pub(crate) fn doorbell(&self, address: u64, value: u32) -> Result<EventFd, HypervisorError> {
        let eventfd = new_eventfd()?;
        connect_doorbell(&self.fd, &eventfd, address, value)?;
        Ok(eventfd)
    }

    /// The same for later.
    pub(crate) fn late_doorbell(
        &self,
        address: u64,
        value: u32,
    ) -> Result<(EventFd, LateDoorbell), HypervisorError> {
        let eventfd = new_eventfd()?;
        let kept = eventfd.try_clone().map_err(|source| HypervisorError::Vm {
            action: "duplicating an eventfd",
            source,
        })?;
        let late = LateDoorbell {
            vm: Arc::clone(&self.fd),
            eventfd: kept,
            address,
            value,
            connected: false,
        };
        Ok((eventfd, late))
    }
}

fn connect_doorbell(
    vm: &VmFd,
    eventfd: &EventFd,
    address: u64,
    value: u32,
) -> Result<(), HypervisorError> {
    vm.register_ioevent(eventfd, &IoEventAddress::Mmio(address), value)
        .map_err(HypervisorError::vm("connecting a doorbell"))
}

/// A doorbell whose rings are exits to this process until KVM is told of it, which takes a while
/// that a VM's start need not spend on queues that nobody may use.
#[derive(Debug)]
pub(crate) struct LateDoorbell {
    vm: Arc<VmFd>,
    eventfd: EventFd,
    address: u64,
    value: u32,
    connected: bool,
}

impl LateDoorbell {
    /// Makes it one as [`Vm::doorbell`] does.
    pub(crate) fn connect(&mut self) -> Result<(), HypervisorError> {
        if !self.connected {
            connect_doorbell(&self.vm, &self.eventfd, self.address, self.value)?;
            self.connected = true;
        }
        Ok(())
    }
}

/// KVM gives up with EINTR when a signal comes while it waits for a lock.
fn create(kvm: &Kvm) -> Result<VmFd, Errno> {
    loop {
        match kvm.create_vm() {
            Err(errno) if errno.errno() == libc::EINTR => {}
            result => return result,
        }
    }
}

fn new_eventfd() -> Result<EventFd, HypervisorError> {
    super::eventfd::new().map_err(|source| HypervisorError::Vm {
        action: "creating an eventfd",
        source,
    })
}
