//! virtio-balloon (virtio 1.2, section 5.5), for free page reporting: the guest says which of its
//! pages are free, and the host takes them back until the guest touches them again.
//!
//! The VM's builder plugs it. The balloon's target size is 0 at all times; the inflate and deflate
//! queues exist because the specification wants them, and what comes there is answered and has no
//! effect.
//!
//! What the guest can do: lose the contents of its own pages. A report is looked up in guest RAM;
//! the windows for shared memory are no part of that. A page that was reported reads as zero, or,
//! where the kernel's image is mapped, as the image's bytes. Both are right: without
//! VIRTIO_BALLOON_F_PAGE_POISON, which is not offered, the contents of a reported page are
//! undefined, and Linux does not report pages if it relies on them.

mod report;

use virtio_bindings::virtio_ids::VIRTIO_ID_BALLOON;
use virtio_bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX;
use vm_memory::GuestMemoryMmap;

use super::served_queue::{Chain, ServedQueue};
use crate::event_loop::{LoopHandle, Watch};
use crate::virtio::{ActivateError, Activation, VirtioDevice};

const NAME: &str = "balloon";

/// Sizes of the inflate, deflate and reporting queue. Without the queues of features that are not
/// offered, reporting is the third. Linux wants room for 32 ranges there.
const QUEUE_SIZES: [u16; 3] = [16, 16, 32];
const REPORTING: usize = 2;

/// `VIRTIO_BALLOON_F_REPORTING`.
const FEATURE_REPORTING: u64 = 1 << 5;

/// Chains taken in one wake-up.
const WAKE_LIMIT: usize = 16;

/// Where `actual` lies in configuration space: after `num_pages`.
const ACTUAL: u64 = 4;

/// The device.
#[derive(Debug)]
pub struct Balloon {
    event_loop: LoopHandle,
    running: Vec<Watch>,
    /// What the driver says is in the balloon, in pages; little-endian.
    actual: [u8; 4],
}

impl Balloon {
    /// A device that is served by `event_loop`.
    pub fn new(event_loop: LoopHandle) -> Self {
        Self {
            event_loop,
            running: Vec::new(),
            actual: [0; 4],
        }
    }
}

impl VirtioDevice for Balloon {
    fn device_type(&self) -> u32 {
        VIRTIO_ID_BALLOON
    }

    fn queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn features(&self) -> u64 {
        FEATURE_REPORTING | 1 << VIRTIO_RING_F_EVENT_IDX
    }

    /// `num_pages` is 0.
    fn read_config(&self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        for (at, byte) in (offset..=u64::MAX).zip(data) {
            let index = at
                .checked_sub(ACTUAL)
                .and_then(|at| usize::try_from(at).ok());
            if let Some(actual) = index.and_then(|index| self.actual.get(index)) {
                *byte = *actual;
            }
        }
    }

    fn write_config(&mut self, offset: u64, data: &[u8]) {
        for (at, byte) in (offset..=u64::MAX).zip(data) {
            let index = at
                .checked_sub(ACTUAL)
                .and_then(|at| usize::try_from(at).ok());
            if let Some(actual) = index.and_then(|index| self.actual.get_mut(index)) {
                *actual = *byte;
            }
        }
    }

    fn activate(&mut self, activation: Activation) -> Result<(), ActivateError> {
        for (index, queue) in activation.queues.into_iter().enumerate() {
            let Some(queue) = queue else {
                if index == REPORTING && activation.features & FEATURE_REPORTING == 0 {
                    continue;
                }
                return Err(ActivateError::QueueMissing {
                    device: NAME,
                    queue: index,
                });
            };
            let served = ServedQueue {
                device: NAME,
                queue,
                memory: activation.memory.clone(),
                interrupt: activation.interrupt.clone(),
                limit: WAKE_LIMIT,
                handler: if index == REPORTING {
                    report::take_back
                } else {
                    ignore
                },
            };
            let watch = served
                .start(&self.event_loop)
                .map_err(|source| ActivateError::Host {
                    device: NAME,
                    action: "watch a queue",
                    source,
                })?;
            self.running.push(watch);
        }
        Ok(())
    }

    fn reset(&mut self) {
        self.running.clear();
        self.actual = [0; 4];
    }
}

/// Answers a request to inflate or deflate.
fn ignore(_memory: &GuestMemoryMmap, _chain: Chain<'_>) -> u32 {
    0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event_loop::EventLoop;

    #[test]
    fn only_actual_can_be_written() {
        let event_loop = EventLoop::start().unwrap();
        let mut balloon = Balloon::new(event_loop.handle());
        balloon.write_config(0, &[1; 20]);
        balloon.write_config(6, &[2]);
        balloon.write_config(u64::MAX, &[3, 3]);
        let mut bytes = [9; 16];
        balloon.read_config(0, &mut bytes);
        assert_eq!(bytes, [0, 0, 0, 0, 1, 1, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
        let mut bytes = [9; 2];
        balloon.read_config(u64::MAX, &mut bytes);
        assert_eq!(bytes, [0, 0]);
    }
}
