//! A driver's side of a virtqueue, with EVENT_IDX: it rings and waits only when it has to.

use std::sync::atomic::{Ordering, fence};

use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::eventfd::EventFd;

use crate::memory::GuestMemory;
use crate::virtio::ActiveQueue;

pub(super) const WRITE: u16 = 2;
pub(super) const NEXT: u16 = 1;

#[derive(Debug)]
pub(super) struct DriverQueue {
    memory: GuestMemory,
    base: u64,
    size: u16,
    pub(super) doorbell: EventFd,
    pub(super) avail: u16,
    used: u16,
    pub(super) rings: usize,
}

impl DriverQueue {
    pub(super) fn new(memory: &GuestMemory, base: u64, size: u16) -> Self {
        Self {
            memory: memory.clone(),
            base,
            size,
            doorbell: EventFd::new(0).unwrap(),
            avail: 0,
            used: 0,
            rings: 0,
        }
    }

    /// As a driver that begins anew has it.
    pub(super) fn restart(&mut self) {
        let zeros = vec![0; usize::from(self.size) * 32];
        self.memory
            .write_slice(&zeros, GuestAddress(self.base))
            .unwrap();
        (self.avail, self.used) = (0, 0);
    }

    fn avail_ring(&self) -> u64 {
        self.base + 16 * u64::from(self.size)
    }

    fn used_ring(&self) -> u64 {
        (self.avail_ring() + 6 + 2 * u64::from(self.size)).next_multiple_of(4)
    }

    pub(super) fn active(&self) -> ActiveQueue {
        let mut queue = Queue::new(self.size).unwrap();
        queue
            .try_set_desc_table_address(GuestAddress(self.base))
            .unwrap();
        queue
            .try_set_avail_ring_address(GuestAddress(self.avail_ring()))
            .unwrap();
        queue
            .try_set_used_ring_address(GuestAddress(self.used_ring()))
            .unwrap();
        queue.set_ready(true);
        ActiveQueue {
            queue,
            doorbell: self.doorbell.try_clone().unwrap(),
        }
    }

    pub(super) fn put<T: vm_memory::ByteValued>(&self, value: T, address: u64) {
        self.memory.write_obj(value, GuestAddress(address)).unwrap();
    }

    pub(super) fn descriptor(&self, index: u16, address: u64, length: u32, flags: u16, next: u16) {
        let at = self.base + 16 * u64::from(index);
        self.put(address, at);
        self.put(length, at + 8);
        self.put(flags, at + 12);
        self.put(next, at + 14);
    }

    /// Makes the chain at `head` available and rings if the device asked for it.
    pub(super) fn publish(&mut self, head: u16) {
        let slot = u64::from(self.avail % self.size);
        self.put(head, self.avail_ring() + 4 + 2 * slot);
        let old = self.avail;
        self.avail = self.avail.wrapping_add(1);
        self.set_avail_index(self.avail);
        fence(Ordering::SeqCst);
        let event = self.used_ring() + 4 + 8 * u64::from(self.size);
        let event: u16 = self.memory.read_obj(GuestAddress(event)).unwrap();
        if self.avail.wrapping_sub(event).wrapping_sub(1) < self.avail.wrapping_sub(old) {
            self.ring();
        }
    }

    pub(super) fn ring(&mut self) {
        self.rings += 1;
        self.doorbell.write(1).unwrap();
    }

    pub(super) fn set_avail_index(&self, index: u16) {
        let address = GuestAddress(self.avail_ring() + 2);
        self.memory.store(index, address, Ordering::SeqCst).unwrap();
    }

    /// The next used chain and its length. With none, the device will interrupt for the next.
    pub(super) fn used(&mut self) -> Option<(u16, u32)> {
        let event = self.avail_ring() + 4 + 2 * u64::from(self.size);
        self.put(self.used, event);
        fence(Ordering::SeqCst);
        let index: u16 = self
            .memory
            .load(GuestAddress(self.used_ring() + 2), Ordering::SeqCst)
            .unwrap();
        if index == self.used {
            return None;
        }
        let at = self.used_ring() + 4 + 8 * u64::from(self.used % self.size);
        let head: u32 = self.memory.read_obj(GuestAddress(at)).unwrap();
        let length = self.memory.read_obj(GuestAddress(at + 4)).unwrap();
        self.used = self.used.wrapping_add(1);
        Some((u16::try_from(head).unwrap(), length))
    }
}
