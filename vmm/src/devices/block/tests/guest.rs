//! The guest's side of a disk: memory, the ring, requests.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::{Duration, Instant};

use virtio_bindings::virtio_blk::VIRTIO_BLK_F_FLUSH;
use virtio_bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::devices::block::{Block, DiskConfig};
use crate::devices::driver_queue::{DriverQueue, NEXT, WRITE};
use crate::memory::GuestMemory;
use crate::virtio::device::{Activation, Interrupt, VirtioDevice};

pub(super) const MEMORY: u64 = 4 << 20;
/// Where a request's message goes, and where its answer.
pub(super) const MESSAGE: u64 = 1 << 20;
pub(super) const ANSWER: u64 = 2 << 20;

pub(super) const SECTORS: u64 = 64;

pub(super) struct Guest {
    pub(super) block: Block,
    pub(super) memory: GuestMemory,
    pub(super) queue: DriverQueue,
    /// What is behind the disk.
    pub(super) file: File,
}

impl Guest {
    /// With a disk whose sectors are full of their own numbers.
    pub(super) fn new() -> Self {
        Self::with(true)
    }

    pub(super) fn with(writable: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        let file = numbered(&path);
        let opened = OpenOptions::new().read(true).write(writable).open(path);
        let config = DiskConfig {
            file: opened.unwrap(),
            serial: "a-disk".to_owned(),
        };
        let block = Block::new(config).unwrap();
        let regions = [(GuestAddress(0), usize::try_from(MEMORY).unwrap())];
        let memory = Arc::new(GuestMemoryMmap::from_ranges(&regions).unwrap());
        let queue = DriverQueue::new(&memory, 0x1000, 128);
        let mut guest = Self {
            block,
            memory,
            queue,
            file,
        };
        guest.activate(1 << VIRTIO_BLK_F_FLUSH);
        guest
    }

    pub(super) fn activate(&mut self, features: u64) {
        let line = Arc::new(EventFd::new(EFD_NONBLOCK).unwrap());
        self.block
            .activate(Activation {
                memory: self.memory.clone(),
                queues: vec![Some(self.queue.active())],
                interrupt: Interrupt::new(Arc::new(AtomicU32::new(0)), line),
                features: features | 1 << VIRTIO_RING_F_EVENT_IDX,
            })
            .unwrap();
    }

    /// Sends a request; its status, and what was written before it.
    pub(super) fn ask(&mut self, kind: u32, sector: u64, body: &[u8], room: u32) -> (u8, Vec<u8>) {
        let message = [&header(kind, sector)[..], body].concat();
        let length = u32::try_from(message.len()).unwrap();
        self.memory
            .write_slice(&message, GuestAddress(MESSAGE))
            .unwrap();
        let end = GuestAddress(ANSWER + u64::from(room));
        self.memory.write_obj(0xff_u8, end).unwrap();
        self.queue.descriptor(0, MESSAGE, length, NEXT, 1);
        self.queue.descriptor(1, ANSWER, room + 1, WRITE, 0);
        let written = self.submit(0);
        let status = self.memory.read_obj(end).unwrap();
        let mut answer = vec![0; usize::try_from(written).unwrap().saturating_sub(1)];
        self.memory
            .read_slice(&mut answer, GuestAddress(ANSWER))
            .unwrap();
        (status, answer)
    }

    /// Offers the chain at `head`, waits for it and returns how much was written.
    pub(super) fn submit(&mut self, head: u16) -> u32 {
        self.queue.publish(head);
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            if let Some((used, written)) = self.queue.used() {
                assert_eq!(used, head);
                return written;
            }
            assert!(Instant::now() < deadline, "the request was not answered");
            std::thread::sleep(Duration::from_micros(50));
        }
    }

    /// What is on the disk.
    pub(super) fn sector(&self, number: u64) -> [u8; 512] {
        let mut sector = [0; 512];
        self.file.read_exact_at(&mut sector, number * 512).unwrap();
        sector
    }
}

pub(super) fn header(kind: u32, sector: u64) -> [u8; 16] {
    let mut header = [0; 16];
    header[..4].copy_from_slice(&kind.to_le_bytes());
    header[8..].copy_from_slice(&sector.to_le_bytes());
    header
}

/// The structure of discard and write-zeroes.
pub(super) fn range(sector: u64, sectors: u32, flags: u32) -> [u8; 16] {
    let mut range = [0; 16];
    range[..8].copy_from_slice(&sector.to_le_bytes());
    range[8..12].copy_from_slice(&sectors.to_le_bytes());
    range[12..].copy_from_slice(&flags.to_le_bytes());
    range
}

fn numbered(path: &Path) -> File {
    let options = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(path);
    let file = options.unwrap();
    for number in 0..SECTORS {
        let fill = u8::try_from(number).unwrap();
        file.write_all_at(&[fill; 512], number * 512).unwrap();
    }
    file
}
