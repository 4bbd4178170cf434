//! vhost-net: the host's kernel moves a NIC's frames between its virtqueues and its tap.
//!
//! Called by the net device (`devices::net`). The caller of this crate has opened /dev/vhost-net.
//! The kernel works in a thread of this process (`vhost-PID`), by the same rules as ours: it looks
//! up every address of the guest's in the table that it is given here, and takes a frame's header
//! as it takes one from any writer to a tap. The guest's doorbells wake it and it interrupts the
//! guest, both without this process.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;

use vhost::vhost_kern::VhostKernBackend;
use vhost::vhost_kern::vhost_binding::{VHOST_NET_SET_BACKEND, vhost_vring_file};
use vhost::{Error, VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use virtio_queue::{Queue, QueueT};
use vm_memory::{GuestMemory as _, GuestMemoryMmap, GuestMemoryRegion, GuestRegionMmap};
use vmm_sys_util::eventfd::EventFd;
use vmm_sys_util::ioctl::ioctl_with_ref;

use super::tap::Tap;
use crate::memory::GuestMemory;

/// One vhost-net device.
#[derive(Debug)]
pub(crate) struct VhostNet {
    device: OwnedFd,
    /// The guest's, from its driver's start on.
    memory: GuestMemory,
    features: u64,
}

/// A queue with its doorbell.
pub(crate) type Ring<'a> = (&'a Queue, &'a EventFd);

impl VhostNet {
    /// Takes over an open /dev/vhost-net, and starts its thread.
    pub(crate) fn new(device: OwnedFd) -> io::Result<Self> {
        let mut vhost = Self {
            device,
            memory: Arc::new(GuestMemoryMmap::new()),
            features: 0,
        };
        vhost.set_owner().map_err(reason)?;
        vhost.features = vhost.get_features().map_err(reason)?;
        Ok(vhost)
    }

    /// The features of virtqueues that it knows.
    pub(crate) fn features(&self) -> u64 {
        self.features
    }

    /// Lets it move frames between `tap` and the rings, receive and transmit, of a driver that
    /// accepted `features`; `interrupt` is the guest's.
    pub(crate) fn start(
        &mut self,
        memory: GuestMemory,
        features: u64,
        rings: [Ring<'_>; 2],
        interrupt: &EventFd,
        tap: &Tap,
    ) -> io::Result<()> {
        self.memory = memory;
        self.set_up(features, rings, interrupt).map_err(reason)?;
        for index in 0..2 {
            self.connect(index, tap.as_fd().as_raw_fd())?;
        }
        Ok(())
    }

    /// Takes the rings away: on return it does not touch guest memory.
    pub(crate) fn stop(&mut self) -> io::Result<()> {
        for index in 0..2 {
            self.connect(index, -1)?;
        }
        self.memory = Arc::new(GuestMemoryMmap::new());
        Ok(())
    }

    fn set_up(
        &self,
        features: u64,
        rings: [Ring<'_>; 2],
        interrupt: &EventFd,
    ) -> Result<(), Error> {
        self.set_features(features & self.features)?;
        let regions: Vec<_> = self.memory.iter().map(region).collect();
        self.set_mem_table(&regions)?;
        for (index, (queue, doorbell)) in rings.into_iter().enumerate() {
            self.set_vring_num(index, queue.size())?;
            self.set_vring_base(index, 0)?;
            let config = VringConfigData {
                queue_max_size: queue.max_size(),
                queue_size: queue.size(),
                flags: 0,
                desc_table_addr: queue.desc_table(),
                used_ring_addr: queue.used_ring(),
                avail_ring_addr: queue.avail_ring(),
                log_addr: None,
            };
            self.set_vring_addr(index, &config)?;
            self.set_vring_call(index, interrupt)?;
            self.set_vring_kick(index, doorbell)?;
        }
        Ok(())
    }

    /// Joins a ring to a tap, or to nothing (-1).
    fn connect(&self, index: u32, tap: RawFd) -> io::Result<()> {
        let file = vhost_vring_file { index, fd: tap };
        // SAFETY: the request takes a pointer to this structure, which lives through the call.
        match unsafe { ioctl_with_ref(self, VHOST_NET_SET_BACKEND(), &file) } {
            0.. => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl AsRawFd for VhostNet {
    fn as_raw_fd(&self) -> RawFd {
        self.device.as_raw_fd()
    }
}

impl VhostKernBackend for VhostNet {
    type AS = GuestMemory;

    fn mem(&self) -> &GuestMemory {
        &self.memory
    }
}

fn region(region: &GuestRegionMmap) -> VhostUserMemoryRegionInfo {
    VhostUserMemoryRegionInfo {
        guest_phys_addr: region.start_addr().0,
        memory_size: region.len(),
        userspace_addr: region.as_ptr() as u64,
        ..VhostUserMemoryRegionInfo::default()
    }
}

/// The kernel's reason, where it has one.
fn reason(error: Error) -> io::Error {
    match error {
        Error::IoctlError(source) => source,
        other => io::Error::other(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_device_is_refused() {
        let null = std::fs::File::open("/dev/null").unwrap();
        let error = VhostNet::new(null.into()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOTTY));
    }
}
