//! What a virtio device is to its transport.
//!
//! The transport (`virtio::mmio`) owns the status register, feature negotiation and the queues'
//! configuration. At DRIVER_OK it validates the queues and hands them to the device as an owned
//! [`Activation`]; from then on nothing that the guest writes to the transport can change them.
//! virtio 1.2, sections 2.1 (status), 2.2 (features), 2.6 (split virtqueues), 4.2 (MMIO).

use std::fmt::Debug;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use virtio_queue::Queue;
use vmm_sys_util::eventfd::EventFd;

use crate::memory::GuestMemory;

/// A virtio device, as the transport sees it. Every call comes from a vCPU thread.
pub trait VirtioDevice: Debug + Send {
    /// The device type of virtio 1.2, section 5.
    fn device_type(&self) -> u32;

    /// The largest size of each queue, a power of two; its length is the number of queues.
    fn queue_sizes(&self) -> &[u16];

    /// The features that the device offers, without `VIRTIO_F_VERSION_1`, which the transport
    /// adds and insists on.
    fn features(&self) -> u64;

    /// Copies configuration space from `offset` into `data`; what lies beyond reads as zero, as
    /// does all of it unless the device has one.
    fn read_config(&self, _offset: u64, data: &mut [u8]) {
        data.fill(0);
    }

    /// Writes configuration space. Most devices have nothing to write there.
    fn write_config(&mut self, _offset: u64, _data: &[u8]) {}

    /// The shared memory region with this id: guest-physical address and length in bytes.
    fn shared_memory(&self, _id: u8) -> Option<(u64, u64)> {
        None
    }

    /// Takes the queues and starts working. Called once between resets.
    fn activate(&mut self, activation: Activation) -> Result<(), ActivateError>;

    /// Stops working and drops the activation; on return no thread of the device touches guest
    /// memory. May be called on a device that is not active.
    fn reset(&mut self);
}

/// Everything that an active device owns.
#[derive(Debug)]
pub struct Activation {
    /// Guest memory.
    pub memory: GuestMemory,
    /// The validated queues, in order. A queue that the driver did not enable is `None`.
    pub queues: Vec<Option<ActiveQueue>>,
    /// How to interrupt the guest.
    pub interrupt: Interrupt,
    /// The features that the driver accepted.
    pub features: u64,
}

impl Activation {
    /// Takes a queue without which `device` cannot work.
    pub(crate) fn take(
        &mut self,
        device: &'static str,
        queue: usize,
    ) -> Result<ActiveQueue, ActivateError> {
        let taken = self.queues.get_mut(queue).and_then(Option::take);
        taken.ok_or(ActivateError::QueueMissing { device, queue })
    }
}

/// Copies the configuration `space` from `offset` into `data`, and zeroes from its end on.
pub(crate) fn copy_config(space: &[u8], offset: u64, data: &mut [u8]) {
    let start = usize::try_from(offset).unwrap_or(usize::MAX);
    let rest = space.iter().copied().skip(start);
    for (to, from) in data.iter_mut().zip(rest.chain(std::iter::repeat(0))) {
        *to = from;
    }
}

/// A queue and the doorbell that the guest rings for it.
#[derive(Debug)]
pub struct ActiveQueue {
    /// The queue; its rings were found inside guest memory.
    pub queue: Queue,
    /// Becomes readable when the guest notifies this queue (an ioeventfd on KVM).
    pub doorbell: EventFd,
}

/// The device's interrupt line. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Interrupt {
    status: Arc<AtomicU32>,
    line: Arc<EventFd>,
    config_changes: Arc<AtomicU32>,
    /// Bits of the register that are set whatever the driver acknowledges.
    standing: Arc<AtomicU32>,
}

impl Interrupt {
    /// `status` is the transport's InterruptStatus register, `line` the irqfd.
    pub fn new(status: Arc<AtomicU32>, line: Arc<EventFd>) -> Self {
        Self {
            status,
            line,
            config_changes: Arc::default(),
            standing: Arc::default(),
        }
    }

    /// Tells the driver that buffers were used (interrupt status bit 0).
    pub fn signal_used(&self) {
        self.signal(virtio_bindings::virtio_mmio::VIRTIO_MMIO_INT_VRING);
    }

    /// Tells the driver that the configuration space changed (bit 1).
    pub fn signal_config(&self) {
        self.config_changes.fetch_add(1, Ordering::SeqCst);
        self.signal(virtio_bindings::virtio_mmio::VIRTIO_MMIO_INT_CONFIG);
    }

    /// ConfigGeneration: another value after each change of the configuration space.
    pub(crate) fn config_generation(&self) -> u32 {
        self.config_changes.load(Ordering::SeqCst)
    }

    /// Sets bit 0 of the status register until the device is reset, whatever the driver
    /// acknowledges: a driver that looks in vain at its queues has lost nothing. The host's kernel
    /// may then raise the line, and nobody has to hear of an acknowledgement.
    pub(crate) fn stand(&self) {
        let used = virtio_bindings::virtio_mmio::VIRTIO_MMIO_INT_VRING;
        self.standing.store(used, Ordering::SeqCst);
    }

    /// The line itself.
    pub(crate) fn line(&self) -> &EventFd {
        &self.line
    }

    /// The bits that stand.
    pub(crate) fn standing(&self) -> u32 {
        self.standing.load(Ordering::SeqCst)
    }

    /// The device was reset.
    pub(crate) fn reset(&self) {
        self.standing.store(0, Ordering::SeqCst);
    }

    fn signal(&self, bit: u32) {
        self.status.fetch_or(bit, Ordering::SeqCst);
        // An eventfd write fails only when its counter would overflow: the line is up already.
        let _ = self.line.write(1);
    }
}

impl AsFd for ActiveQueue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        use std::os::fd::AsRawFd;
        // SAFETY: the eventfd is owned by `self`, so it is open as long as the borrow lives.
        unsafe { BorrowedFd::borrow_raw(self.doorbell.as_raw_fd()) }
    }
}

/// Why a device could not start.
#[derive(Debug, thiserror::Error)]
pub enum ActivateError {
    /// The driver did not enable a queue that the device cannot work without.
    #[error("virtio device {device}: the driver did not enable queue {queue}")]
    QueueMissing {
        /// The device's name.
        device: &'static str,
        /// The queue's index.
        queue: usize,
    },
    /// A resource of the host could not be had.
    #[error("virtio device {device}: {action}")]
    Host {
        /// The device's name.
        device: &'static str,
        /// What was being done.
        action: &'static str,
        /// The reason.
        #[source]
        source: std::io::Error,
    },
}
