//! One KVM vCPU: its first state, and one run of it at a time.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;

use kvm_bindings::CpuId;
use kvm_ioctls::{VcpuExit, VcpuFd};

use super::kick::{Kicker, RunPage};
use super::{HypervisorError, registers};
use crate::sys::BootState;

/// A vCPU. It is run in one thread.
#[derive(Debug)]
pub(crate) struct Vcpu {
    fd: VcpuFd,
    page: Arc<RunPage>,
}

/// Why a vCPU stopped running. Data of a read is filled in before the next run.
#[derive(Debug)]
pub(crate) enum Exit<'a> {
    /// The guest reads device memory.
    MmioRead(u64, &'a mut [u8]),
    /// The guest writes device memory.
    MmioWrite(u64, &'a [u8]),
    /// The guest reads a port; a string instruction reads it several times.
    PortRead(&'a mut [u8]),
    /// The guest writes a port; a string instruction writes it several times.
    PortWrite(u16, &'a [u8]),
    /// The guest's CPU shut down: a triple fault.
    TripleFault,
    /// [`Kicker::kick`] was called, or a signal came.
    Kicked,
    /// Nothing for us to do.
    Spurious,
    /// The hypervisor cannot go on.
    Failed(String),
}

impl Vcpu {
    pub(super) fn new(
        fd: VcpuFd,
        index: u8,
        cpuid: &CpuId,
        boot: BootState,
    ) -> Result<Self, HypervisorError> {
        fd.set_cpuid2(cpuid)
            .map_err(HypervisorError::vcpu(index, "setting the features"))?;
        registers::set_model_specific(&fd, index)?;
        registers::set_local_interrupts(&fd, index)?;
        if index == 0 {
            registers::set_boot_state(&fd, index, boot)?;
        }
        // SAFETY: the descriptor is open as long as `fd` lives, which is beyond the borrow.
        let borrowed = unsafe { BorrowedFd::borrow_raw(fd.as_raw_fd()) };
        let page = RunPage::map(borrowed).map_err(|source| HypervisorError::Vcpu {
            action: "mapping the shared page",
            vcpu: index,
            source,
        })?;
        Ok(Self {
            fd,
            page: Arc::new(page),
        })
    }

    /// What makes this vCPU stop.
    pub(crate) fn kicker(&self) -> Kicker {
        Kicker::new(Arc::clone(&self.page))
    }

    /// Gets ready to run after a pause: earlier kicks no longer count, and the guest's clock is
    /// told, so that its watchdogs do not take the pause for a hang.
    pub(crate) fn resume(&self) {
        self.page.clear_immediate_exit();
        // A guest that does not use the clock has no watchdog to tell.
        let _ = self.fd.kvmclock_ctrl();
    }

    /// Runs the guest until something is to be done.
    pub(crate) fn run(&mut self) -> Exit<'_> {
        match self.fd.run() {
            Ok(VcpuExit::MmioRead(address, data)) => Exit::MmioRead(address, data),
            Ok(VcpuExit::MmioWrite(address, data)) => Exit::MmioWrite(address, data),
            Ok(VcpuExit::IoIn(_, data)) => Exit::PortRead(data),
            Ok(VcpuExit::IoOut(port, data)) => Exit::PortWrite(port, data),
            Ok(VcpuExit::Shutdown) => Exit::TripleFault,
            Ok(VcpuExit::Intr) => Exit::Kicked,
            // With in-kernel APICs a halt is the kernel's business.
            Ok(VcpuExit::Hlt | VcpuExit::IrqWindowOpen) => Exit::Spurious,
            Ok(VcpuExit::FailEntry(reason, cpu)) => Exit::Failed(format!(
                "KVM could not enter the guest on CPU {cpu} (hardware reason {reason:#x})"
            )),
            Ok(VcpuExit::InternalError) => Exit::Failed(format!(
                "KVM internal error {} ({})",
                self.page.internal_suberror(),
                suberror_name(self.page.internal_suberror()),
            )),
            Ok(VcpuExit::MemoryFault { gpa, size, .. }) => Exit::Failed(format!(
                "KVM could not give the guest its memory at {gpa:#x} ({size:#x} bytes)"
            )),
            Ok(other) => Exit::Failed(format!("KVM exit that was not asked for: {other:?}")),
            Err(errno) => match errno.errno() {
                libc::EINTR => Exit::Kicked,
                libc::EAGAIN => Exit::Spurious,
                _ => Exit::Failed(format!("KVM could not run the guest: {errno}")),
            },
        }
    }
}

fn suberror_name(suberror: u32) -> &'static str {
    match suberror {
        kvm_bindings::KVM_INTERNAL_ERROR_EMULATION => "an instruction could not be emulated",
        kvm_bindings::KVM_INTERNAL_ERROR_SIMUL_EX => "simultaneous exceptions",
        kvm_bindings::KVM_INTERNAL_ERROR_DELIVERY_EV => "event delivery failed",
        kvm_bindings::KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON => "unexpected exit reason",
        _ => "unknown",
    }
}
