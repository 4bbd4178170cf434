//! The block device: a block device or a file of the host's as a disk of the guest's (virtio 1.2,
//! section 5.2).
//!
//! The builder makes it from a [`DiskConfig`]. One queue, one thread: `request` reads what the
//! guest wants and checks it against the disk's size, `disk` does it with plain preadv, pwritev
//! and fallocate. The guest can read the whole file, and write it unless it was opened for reading
//! alone: then the host's kernel refuses as well. What else it can use up is the thread's time.

mod config;
mod disk;
mod request;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_F_BLK_SIZE, VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_RO,
    VIRTIO_BLK_F_SEG_MAX, VIRTIO_BLK_F_SIZE_MAX, VIRTIO_BLK_F_WRITE_ZEROES,
};
use virtio_bindings::virtio_ids::VIRTIO_ID_BLOCK;
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};
use virtio_queue::DescriptorChain;
use vm_memory::GuestMemoryMmap;
use zerocopy::IntoBytes;

use self::config::Space;
use self::disk::Disk;
#[cfg(fuzzing)]
pub use self::request::fuzz;
use super::queue_worker::{Job, Serve, Worker};
use crate::virtio::{ActivateError, Activation, VirtioDevice, copy_config};

const NAME: &str = "block";
const QUEUE_SIZES: [u16; 1] = [128];

/// The longest serial (`VIRTIO_BLK_ID_BYTES`).
const SERIAL_LENGTH: usize = 20;

/// A disk of the VM's.
#[derive(Debug)]
pub struct DiskConfig {
    /// What it holds. If it is open for reading alone, the disk is read-only.
    pub file: File,
    /// By what the guest tells it from others: 1 to 20 bytes of printable ASCII.
    pub serial: String,
}

/// A virtio-blk device.
#[derive(Debug)]
pub struct Block {
    space: Space,
    features: u64,
    write_through: Arc<AtomicBool>,
    worker: Worker,
}

impl Block {
    /// Looks at the file and starts the worker, which sleeps until the guest uses the device.
    pub fn new(config: DiskConfig) -> Result<Self, BlockError> {
        let DiskConfig { file, serial } = config;
        let printable = serial.bytes().all(|byte| byte.is_ascii_graphic());
        if !(1..=SERIAL_LENGTH).contains(&serial.len()) || !printable {
            return Err(BlockError::Serial(serial));
        }
        let disk = Disk::new(file)?;
        let mut features = [
            VIRTIO_BLK_F_SIZE_MAX,
            VIRTIO_BLK_F_SEG_MAX,
            VIRTIO_BLK_F_BLK_SIZE,
            VIRTIO_BLK_F_FLUSH,
            VIRTIO_RING_F_EVENT_IDX,
            VIRTIO_RING_F_INDIRECT_DESC,
        ]
        .into_iter()
        .fold(0, |word, bit| word | 1 << bit);
        features |= match disk.is_read_only() {
            true => 1 << VIRTIO_BLK_F_RO,
            false => 1 << VIRTIO_BLK_F_DISCARD | 1 << VIRTIO_BLK_F_WRITE_ZEROES,
        };
        let space = Space::new(disk.sectors(), disk.block_size());
        let write_through = Arc::new(AtomicBool::new(true));
        let requests = Requests {
            disk,
            serial,
            write_through: Arc::clone(&write_through),
        };
        let worker =
            Worker::start(NAME.to_owned(), move || Ok(requests)).map_err(BlockError::Worker)?;
        Ok(Self {
            space,
            features,
            write_through,
            worker,
        })
    }
}

impl VirtioDevice for Block {
    fn device_type(&self) -> u32 {
        VIRTIO_ID_BLOCK
    }

    fn queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn features(&self) -> u64 {
        self.features
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        copy_config(self.space.as_bytes(), offset, data);
    }

    fn activate(&mut self, mut activation: Activation) -> Result<(), ActivateError> {
        // Section 5.2.5: who cannot flush has its writes on the disk when they are answered.
        let flushes = activation.features & 1 << VIRTIO_BLK_F_FLUSH != 0;
        self.write_through.store(!flushes, Ordering::Release);
        let job = Job {
            queue: activation.take(NAME, 0)?,
            memory: activation.memory,
            interrupt: activation.interrupt,
            event_idx: activation.features & 1 << VIRTIO_RING_F_EVENT_IDX != 0,
        };
        self.worker
            .assign(job)
            .map_err(|source| ActivateError::Host {
                device: NAME,
                action: "giving the queue to the worker",
                source,
            })
    }

    fn reset(&mut self) {
        self.worker.stop();
    }
}

/// What the worker's requests go to.
#[derive(Debug)]
struct Requests {
    disk: Disk,
    serial: String,
    write_through: Arc<AtomicBool>,
}

impl Serve for Requests {
    fn serve(
        &mut self,
        memory: &GuestMemoryMmap,
        chain: &DescriptorChain<&GuestMemoryMmap>,
    ) -> u32 {
        let sync = self.write_through.load(Ordering::Acquire);
        request::serve(memory, chain, self.disk.sectors(), |request| {
            self.disk.execute(request, &self.serial, sync)
        })
    }
}

/// Why a block device could not be made.
#[derive(Debug, thiserror::Error)]
pub enum BlockError {
    /// The serial does not fit its field.
    #[error("a disk's serial {0:?} is not 1 to 20 printable characters")]
    Serial(String),
    /// The file is open for writing alone.
    #[error("a disk's file is not open for reading")]
    NotReadable,
    /// The file could not be examined.
    #[error("{action} of a disk")]
    Examine {
        /// What was being done.
        action: &'static str,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// The thread could not be started.
    #[error("starting the worker of a disk")]
    Worker(#[source] io::Error),
}
