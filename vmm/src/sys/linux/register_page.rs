//! A page of registers that the guest reads without an exit: KVM shows it as memory that is only
//! read, so a write is still an exit, or a doorbell.
//!
//! Called by the transport of a device whose registers do not change while its driver runs.

use std::sync::Arc;

use kvm_bindings::{KVM_MEM_READONLY, kvm_userspace_memory_region};
use kvm_ioctls::VmFd;
use vm_memory::{MmapRegion, VolatileMemory};

use super::HypervisorError;

/// The page: hidden at first, so that a read is an exit, too.
#[derive(Debug)]
pub(crate) struct RegisterPage {
    vm: Arc<VmFd>,
    slot: u32,
    address: u64,
    page: MmapRegion,
    shown: bool,
}

impl RegisterPage {
    pub(super) fn new(vm: Arc<VmFd>, slot: u32, address: u64, page: MmapRegion) -> Self {
        Self {
            vm,
            slot,
            address,
            page,
            shown: false,
        }
    }

    /// Bytes in it.
    pub(crate) fn size(&self) -> usize {
        self.page.size()
    }

    /// Lets the guest read `contents`, which stay as they are until [`RegisterPage::hide`].
    pub(crate) fn show(&mut self, contents: &[u8]) -> Result<(), HypervisorError> {
        self.hide();
        let slice = self.page.as_volatile_slice();
        slice.copy_from(contents);
        self.set(self.page.size())?;
        self.shown = true;
        Ok(())
    }

    /// Makes reads exits again.
    pub(crate) fn hide(&mut self) {
        if self.shown {
            self.shown = false;
            if let Err(error) = self.set(0) {
                tracing::error!(%error, "hide a page of registers");
            }
        }
    }

    fn set(&self, length: usize) -> Result<(), HypervisorError> {
        let region = kvm_userspace_memory_region {
            slot: self.slot,
            flags: KVM_MEM_READONLY,
            guest_phys_addr: self.address,
            memory_size: length as u64,
            userspace_addr: self.page.as_ptr() as u64,
        };
        // SAFETY: the page is mapped as long as `self`, which hides it in the end; nothing here
        // refers to its contents.
        unsafe { self.vm.set_user_memory_region(region) }.map_err(|errno| HypervisorError::Map {
            start: self.address,
            length,
            source: errno.into(),
        })
    }
}

impl Drop for RegisterPage {
    fn drop(&mut self) {
        self.hide();
    }
}
