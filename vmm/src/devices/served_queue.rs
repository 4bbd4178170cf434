//! A virtqueue that the event loop serves: the frame of the devices with little to do.
//!
//! Called by rng and balloon in `activate`. The rings are the guest's: work in one wake-up is
//! limited, and a queue whose indices make no sense is left alone until the device is reset.

use std::io;
use std::sync::Arc;

use virtio_queue::{DescriptorChain, QueueT};
use vm_memory::GuestMemoryMmap;

use crate::event_loop::{LoopHandle, Watch};
use crate::memory::GuestMemory;
use crate::sys;
use crate::virtio::{ActiveQueue, Interrupt};

/// A chain of the guest's.
pub(super) type Chain<'m> = DescriptorChain<&'m GuestMemoryMmap>;

/// A queue at work, in the event loop's thread.
pub(super) struct ServedQueue<H> {
    /// The device's name, for the log.
    pub(super) device: &'static str,
    /// The queue.
    pub(super) queue: ActiveQueue,
    /// Guest memory.
    pub(super) memory: GuestMemory,
    /// The device's interrupt.
    pub(super) interrupt: Interrupt,
    /// Chains taken in one wake-up.
    pub(super) limit: usize,
    /// Does what a chain asks for and returns how many bytes it wrote to it.
    pub(super) handler: H,
}

impl<H> ServedQueue<H>
where
    H: FnMut(&GuestMemoryMmap, Chain<'_>) -> u32 + Send + 'static,
{
    /// Serves the queue until the returned watch is dropped.
    pub(super) fn start(mut self, event_loop: &LoopHandle) -> io::Result<Watch> {
        let doorbell = sys::eventfd::duplicate(&self.queue.doorbell)?;
        event_loop.watch(doorbell, move || self.serve())
    }

    fn serve(&mut self) {
        match self.drain() {
            Ok(true) => {}
            // The other devices have their turn first. The write fails only when the counter is
            // full, and then the doorbell is rung already.
            Ok(false) => {
                let _ = self.queue.doorbell.write(1);
            }
            Err(error) => {
                tracing::debug!(%error, device = self.device, "the guest broke a virtqueue");
            }
        }
    }

    /// Whether the queue was found empty, with notifications on.
    fn drain(&mut self) -> Result<bool, virtio_queue::Error> {
        let memory = Arc::clone(&self.memory);
        let queue = &mut self.queue.queue;
        let mut taken = 0;
        loop {
            queue.disable_notification(&*memory)?;
            while taken < self.limit
                && let Some(chain) = virtio_queue::QueueOwnedT::iter(queue, &*memory)?.next()
            {
                taken += 1;
                let head = chain.head_index();
                let written = (self.handler)(&memory, chain);
                queue.add_used(&*memory, head, written)?;
            }
            if taken > 0 && queue.needs_notification(&*memory)? {
                self.interrupt.signal_used();
            }
            if taken >= self.limit {
                return Ok(false);
            }
            if !queue.enable_notification(&*memory)? {
                return Ok(true);
            }
        }
    }
}
