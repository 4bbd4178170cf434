//! virtio-rng (virtio 1.2, section 5.4): the host's random numbers for the guest.
//!
//! The VM's builder plugs it. All that the guest can do is ask: for at most 64 KiB at a time and
//! 16 times before the other devices have their turn.

use rustix::rand::{GetRandomFlags, getrandom};
use virtio_bindings::virtio_ids::VIRTIO_ID_RNG;
use virtio_bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX;
use vm_memory::{Address, Bytes, GuestMemoryMmap};

use super::served_queue::{Chain, ServedQueue};
use crate::event_loop::{LoopHandle, Watch};
use crate::virtio::{ActivateError, Activation, VirtioDevice};

const NAME: &str = "rng";
const QUEUE_SIZES: [u16; 1] = [16];

/// Bytes for one request.
const REQUEST_LIMIT: usize = 64 << 10;

/// Requests in one wake-up.
const WAKE_LIMIT: usize = 16;

/// The device.
#[derive(Debug)]
pub struct Rng {
    event_loop: LoopHandle,
    running: Option<Watch>,
}

impl Rng {
    /// A device that is served by `event_loop`.
    pub fn new(event_loop: LoopHandle) -> Self {
        Self {
            event_loop,
            running: None,
        }
    }
}

impl VirtioDevice for Rng {
    fn device_type(&self) -> u32 {
        VIRTIO_ID_RNG
    }

    fn queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn features(&self) -> u64 {
        1 << VIRTIO_RING_F_EVENT_IDX
    }

    /// The device has no configuration space.
    fn activate(&mut self, mut activation: Activation) -> Result<(), ActivateError> {
        let served = ServedQueue {
            device: NAME,
            queue: activation.take(NAME, 0)?,
            memory: activation.memory,
            interrupt: activation.interrupt,
            limit: WAKE_LIMIT,
            handler: fill,
        };
        let watch = served
            .start(&self.event_loop)
            .map_err(|source| ActivateError::Host {
                device: NAME,
                action: "watch the request queue",
                source,
            })?;
        self.running = Some(watch);
        Ok(())
    }

    fn reset(&mut self) {
        self.running = None;
    }
}

/// Fills a request's buffers, as far as they lie in guest memory, and returns the bytes written.
fn fill(memory: &GuestMemoryMmap, chain: Chain<'_>) -> u32 {
    let mut bytes = [0; 4096];
    let mut budget = REQUEST_LIMIT;
    'request: for descriptor in chain.writable() {
        let mut address = descriptor.addr();
        let mut left = usize::try_from(descriptor.len()).unwrap_or(usize::MAX);
        while left > 0 && budget > 0 {
            let length = left.min(budget).min(bytes.len());
            let (chunk, _) = bytes.split_at_mut(length);
            let filled = match getrandom(&mut *chunk, GetRandomFlags::empty()) {
                Ok(filled) => filled,
                Err(error) => {
                    tracing::warn!(%error, "read the host's random numbers");
                    break 'request;
                }
            };
            let chunk = chunk.get(..filled).unwrap_or_default();
            let end = address.checked_add(chunk.len() as u64);
            let (Ok(()), Some(end)) = (memory.write_slice(chunk, address), end) else {
                break 'request;
            };
            address = end;
            left -= chunk.len();
            budget -= chunk.len();
        }
    }
    u32::try_from(REQUEST_LIMIT - budget).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use virtio_bindings::bindings::virtio_ring::VRING_DESC_F_WRITE;
    use virtio_queue::desc::{RawDescriptor, split::Descriptor};
    use virtio_queue::mock::MockSplitQueue;
    use vm_memory::GuestAddress;

    const MEMORY: usize = 1 << 20;

    /// Serves one request of these buffers: address and length.
    fn request(memory: &GuestMemoryMmap, buffers: &[(u64, u32)], flags: u32) -> u32 {
        let mock = MockSplitQueue::new(memory, 16);
        let flags = u16::try_from(flags).unwrap();
        let descriptors: Vec<_> = buffers
            .iter()
            .map(|(address, length)| {
                RawDescriptor::from(Descriptor::new(*address, *length, flags, 0))
            })
            .collect();
        fill(memory, mock.build_desc_chain(&descriptors).unwrap())
    }

    fn memory() -> GuestMemoryMmap {
        GuestMemoryMmap::from_ranges(&[(GuestAddress(0), MEMORY)]).unwrap()
    }

    #[test]
    fn all_buffers_of_a_request_are_filled() {
        let memory = memory();
        let buffers = [(0x1_0000, 5000), (0x2_0000, 64)];
        assert_eq!(request(&memory, &buffers, VRING_DESC_F_WRITE), 5064);
        let mut bytes = [0; 5001];
        memory
            .read_slice(&mut bytes, GuestAddress(0x1_0000))
            .unwrap();
        // 64 zeros in a row do not happen.
        assert!(
            bytes[..5000]
                .chunks(64)
                .all(|chunk| chunk.iter().any(|byte| *byte != 0))
        );
        assert_eq!(bytes[5000], 0);
    }

    #[test]
    fn a_request_is_limited_and_ends_where_memory_ends() {
        let memory = memory();
        let large = [(0x1_0000, 40_000), (0x4_0000, 0x8_0000)];
        assert_eq!(request(&memory, &large, VRING_DESC_F_WRITE), 64 << 10);
        let outside = [(0x1_0000, 10), (MEMORY as u64, 10), (0x1_0000, 10)];
        assert_eq!(request(&memory, &outside, VRING_DESC_F_WRITE), 10);
        assert_eq!(
            request(&memory, &[(u64::MAX - 4, 10)], VRING_DESC_F_WRITE),
            0
        );
        assert_eq!(request(&memory, &[(0x1_0000, 10)], 0), 0);
    }
}
