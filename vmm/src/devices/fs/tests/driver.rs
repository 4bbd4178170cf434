//! The guest's side of a virtio device: memory, rings, doorbells, the interrupt line.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::{Duration, Instant};

use virtio_bindings::virtio_ring::{
    VIRTIO_RING_F_EVENT_IDX, VRING_DESC_F_INDIRECT, VRING_DESC_F_NEXT, VRING_DESC_F_WRITE,
};
use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::devices::fs::Fs;
use crate::memory::GuestMemory;
use crate::virtio::device::{Activation, ActiveQueue, Interrupt, VirtioDevice};

pub(super) const MEMORY: u64 = 8 << 20;
/// Where requests go, and where answers go.
pub(super) const REQUEST: u64 = 1 << 20;
pub(super) const ANSWER: u64 = 4 << 20;
/// Where a test may put an indirect table.
pub(super) const TABLE: u64 = 7 << 20;

pub(super) const NEXT: u32 = VRING_DESC_F_NEXT;
pub(super) const WRITE: u32 = VRING_DESC_F_WRITE;
pub(super) const INDIRECT: u32 = VRING_DESC_F_INDIRECT;

const SIZE: u16 = 64;
/// The queue that [`Driver::exchange`] uses: the first one for requests.
pub(super) const QUEUE: u16 = 1;

/// A descriptor: address, length, flags, next.
pub(super) type Descriptor = (u64, u32, u32, u16);

/// Bytes for the request area and the descriptors that are put at the head of the table.
pub(super) struct Chain {
    pub(super) request: Vec<u8>,
    pub(super) descriptors: Vec<Descriptor>,
}

impl Chain {
    /// One buffer to read and one of `room` bytes to write.
    pub(super) fn plain(request: &[u8], room: u32) -> Self {
        let length = u32::try_from(request.len()).unwrap();
        let descriptors = vec![(REQUEST, length, NEXT, 1), (ANSWER, room, WRITE, 0)];
        Self {
            request: request.to_vec(),
            descriptors,
        }
    }
}

pub(super) struct Driver {
    pub(super) fs: Fs,
    pub(super) memory: GuestMemory,
    doorbells: Vec<EventFd>,
    line: Arc<EventFd>,
    available: Vec<u16>,
}

impl Driver {
    /// Starts the device with the first `queues` queues enabled.
    pub(super) fn new(fs: Fs, queues: u16) -> Self {
        let regions = [(GuestAddress(0), usize::try_from(MEMORY).unwrap())];
        let memory = Arc::new(GuestMemoryMmap::from_ranges(&regions).unwrap());
        let line = Arc::new(EventFd::new(EFD_NONBLOCK).unwrap());
        let mut driver = Self {
            fs,
            memory,
            doorbells: vec![],
            line,
            available: vec![],
        };
        driver.activate(queues);
        driver
    }

    pub(super) fn activate(&mut self, queues: u16) {
        self.doorbells = (0..queues)
            .map(|_| EventFd::new(EFD_NONBLOCK).unwrap())
            .collect();
        self.available = vec![0; queues.into()];
        let active = |(number, doorbell): (u16, &EventFd)| {
            for ring in 0..3 {
                self.memory.write_obj(0u32, at(number, ring)).unwrap();
            }
            let mut queue = Queue::new(1024).unwrap();
            queue.set_size(SIZE);
            let low = |address: GuestAddress| Some(u32::try_from(address.0).unwrap());
            queue.set_desc_table_address(low(at(number, 0)), None);
            queue.set_avail_ring_address(low(at(number, 1)), None);
            queue.set_used_ring_address(low(at(number, 2)), None);
            queue.set_ready(true);
            Some(ActiveQueue {
                queue,
                doorbell: doorbell.try_clone().unwrap(),
            })
        };
        let activation = Activation {
            memory: self.memory.clone(),
            queues: (0..queues).zip(&self.doorbells).map(active).collect(),
            interrupt: Interrupt::new(Arc::new(AtomicU32::new(0)), self.line.clone()),
            features: 1 << VIRTIO_RING_F_EVENT_IDX,
        };
        self.fs.activate(activation).unwrap();
    }

    /// Puts a chain into the queue, waits for it, and returns what was written into it.
    pub(super) fn exchange(&mut self, chain: &Chain) -> Vec<u8> {
        self.memory
            .write_slice(&chain.request, GuestAddress(REQUEST))
            .unwrap();
        for (slot, descriptor) in (0u64..).zip(&chain.descriptors) {
            self.put(at(QUEUE, 0).0 + slot * 16, *descriptor);
        }
        let length = self.submit(QUEUE, 0);
        let mut answer = vec![0; usize::try_from(length).unwrap()];
        self.memory
            .read_slice(&mut answer, GuestAddress(ANSWER))
            .unwrap();
        answer
    }

    pub(super) fn put(&self, address: u64, (start, length, flags, next): Descriptor) {
        let flags = u16::try_from(flags).unwrap();
        self.memory.write_obj(start, GuestAddress(address)).unwrap();
        self.memory
            .write_obj(length, GuestAddress(address + 8))
            .unwrap();
        self.memory
            .write_obj(flags, GuestAddress(address + 12))
            .unwrap();
        self.memory
            .write_obj(next, GuestAddress(address + 14))
            .unwrap();
    }

    /// Offers the chain at `head` and returns the used length.
    pub(super) fn submit(&mut self, queue: u16, head: u16) -> u32 {
        let index = self.available[usize::from(queue)];
        let slot = u64::from(index % SIZE);
        let (available, used) = (at(queue, 1).0, at(queue, 2).0);
        self.memory
            .write_obj(head, GuestAddress(available + 4 + slot * 2))
            .unwrap();
        // used_event: an interrupt for the next completion, please.
        let event = GuestAddress(available + 4 + u64::from(SIZE) * 2);
        self.memory.write_obj(index, event).unwrap();
        let _ = self.line.read();
        self.advance(queue, 1);
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.line.read().is_err() {
            assert!(Instant::now() < deadline, "no interrupt for a request");
            std::thread::sleep(Duration::from_micros(50));
        }
        let done: u16 = self.memory.read_obj(GuestAddress(used + 2)).unwrap();
        assert_eq!(done, self.available[usize::from(queue)]);
        self.memory
            .read_obj(GuestAddress(used + 4 + slot * 8 + 4))
            .unwrap()
    }

    /// Moves the index of the available ring and rings the doorbell.
    pub(super) fn advance(&mut self, queue: u16, by: u16) {
        let index = &mut self.available[usize::from(queue)];
        *index = index.wrapping_add(by);
        self.memory
            .write_obj(*index, GuestAddress(at(queue, 1).0 + 2))
            .unwrap();
        self.doorbells[usize::from(queue)].write(1).unwrap();
    }

    /// Whether the device raises the interrupt line within a moment.
    pub(super) fn is_interrupted(&self) -> bool {
        std::thread::sleep(Duration::from_millis(100));
        self.line.read().is_ok()
    }
}

/// Where a ring of a queue is: 0 the descriptors, 1 what is available, 2 what was used.
pub(super) fn at(queue: u16, ring: u16) -> GuestAddress {
    GuestAddress(u64::from(queue) * 0x1_0000 + u64::from(ring) * 0x1000)
}
