//! The console: a guest log, hvc0. virtio 1.2, section 5.3.
//!
//! Output only: what the guest transmits goes to a [`ConsoleLog`]; its receive queue is never
//! filled, and no feature beyond the ring's is offered. The guest can transmit garbage, and as
//! much as it likes: work per wake-up and bytes per buffer are bounded, memory is constant.

mod log;

use virtio_bindings::virtio_ids::VIRTIO_ID_CONSOLE;
use virtio_bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX;
use vm_memory::{Bytes, GuestMemoryMmap};

pub use log::ConsoleLog;

use super::served_queue::{Chain, ServedQueue};
use crate::event_loop::{LoopHandle, Watch};
use crate::virtio::{ActivateError, Activation, VirtioDevice};

const NAME: &str = "console";
/// The receive queue's index is 0, the transmit queue's 1.
const TRANSMIT: usize = 1;
const QUEUE_SIZES: [u16; 2] = [16, 64];
/// Bytes taken from one buffer; a Linux driver sends at most a page.
const BUFFER_LIMIT: usize = 64 << 10;
/// Buffers taken in one wake-up.
const WAKE_LIMIT: usize = 256;

/// The console device.
#[derive(Debug)]
pub struct Console {
    log: ConsoleLog,
    event_loop: LoopHandle,
    running: Option<Watch>,
}

impl Console {
    /// A console that writes to `log` and is served by `event_loop`.
    pub(crate) fn new(log: ConsoleLog, event_loop: LoopHandle) -> Self {
        Self {
            log,
            event_loop,
            running: None,
        }
    }
}

impl VirtioDevice for Console {
    fn device_type(&self) -> u32 {
        VIRTIO_ID_CONSOLE
    }

    fn queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    /// Without size and ports, so without a configuration.
    fn features(&self) -> u64 {
        1 << VIRTIO_RING_F_EVENT_IDX
    }

    fn activate(&mut self, mut activation: Activation) -> Result<(), ActivateError> {
        let log = self.log.clone();
        let mut buffer = vec![0; 4096];
        let served = ServedQueue {
            device: NAME,
            queue: activation.take(NAME, TRANSMIT)?,
            memory: activation.memory,
            interrupt: activation.interrupt,
            limit: WAKE_LIMIT,
            handler: move |memory: &GuestMemoryMmap, chain: Chain<'_>| {
                transmit(memory, chain, &mut buffer, &log);
                0
            },
        };
        let watch = served
            .start(&self.event_loop)
            .map_err(|source| ActivateError::Host {
                device: NAME,
                action: "watching the transmit queue",
                source,
            })?;
        self.running = Some(watch);
        Ok(())
    }

    fn reset(&mut self) {
        self.running = None;
    }
}

/// Copies a chain's bytes to the log, as far as they lie in guest memory.
fn transmit(memory: &GuestMemoryMmap, chain: Chain<'_>, buffer: &mut [u8], log: &ConsoleLog) {
    let mut left = BUFFER_LIMIT;
    for descriptor in chain.readable() {
        let mut address = descriptor.addr();
        let mut length = left.min(usize::try_from(descriptor.len()).unwrap_or(left));
        left -= length;
        while length > 0 {
            let (chunk, _) = buffer.split_at_mut(length.min(buffer.len()));
            if memory.read_slice(chunk, address).is_err() {
                return;
            }
            log.append(chunk);
            length -= chunk.len();
            address.0 = address.0.saturating_add(chunk.len() as u64);
        }
    }
}

#[cfg(test)]
mod tests;
