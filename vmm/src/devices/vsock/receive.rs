//! Receive buffers of the guest, several at a time.
//!
//! Linux offers buffers of one page, so an input is read into as many of them as it may fill, with
//! one call; each then becomes a packet of its own. Buffers that were not filled go back, as if
//! they had not been taken.

use virtio_queue::{Queue, QueueOwnedT, QueueT};
use vm_memory::{GuestMemoryMmap, VolatileSlice};
use zerocopy::IntoBytes;

use super::packet::{HEADER_LENGTH, Header};
use crate::devices::buffers::Buffers;

/// Buffers in one batch.
const MAX_BUFFERS: usize = 64;

/// One buffer: room for a header, and for data behind it.
#[derive(Debug)]
struct ReceiveBuffer<'m> {
    head: u16,
    header: Buffers<'m>,
    data: Buffers<'m>,
}

/// Buffers taken from the receive queue, and the lengths of those that were filled.
#[derive(Debug, Default)]
pub(super) struct ReceiveBatch<'m> {
    buffers: Vec<ReceiveBuffer<'m>>,
    filled: Vec<u32>,
}

impl<'m> ReceiveBatch<'m> {
    /// Takes one buffer, and more while there are fewer than `wanted` bytes for data. There are
    /// none when the queue is empty. Unusable buffers are given back to the guest with length 0.
    pub(super) fn take(
        memory: &'m GuestMemoryMmap,
        queue: &mut Queue,
        wanted: u32,
    ) -> Result<Self, virtio_queue::Error> {
        let mut batch = Self::default();
        let mut room = 0;
        while batch.buffers.is_empty()
            || (room < u64::from(wanted) && batch.buffers.len() < MAX_BUFFERS)
        {
            let Some(chain) = queue.iter(memory)?.next() else {
                break;
            };
            let head = chain.head_index();
            let usable = Buffers::new(memory, chain, true)
                .and_then(|all| all.split_at(HEADER_LENGTH))
                .ok()
                .filter(|(_, data)| wanted == 0 || !data.is_empty());
            match usable {
                Some((header, data)) => {
                    room += data.len() as u64;
                    batch.buffers.push(ReceiveBuffer { head, header, data });
                }
                // The used ring is filled in order, so it waits until it is the first.
                None if !batch.buffers.is_empty() => {
                    queue.go_to_previous_position();
                    break;
                }
                None => queue.add_used(memory, head, 0)?,
            }
        }
        Ok(batch)
    }

    /// Whether the queue had no buffer.
    pub(super) fn is_empty(&self) -> bool {
        self.buffers.is_empty()
    }

    /// The first `limit` bytes of the buffers' room for data.
    pub(super) fn target(&self, limit: u32) -> Vec<VolatileSlice<'m>> {
        let mut left = usize::try_from(limit).unwrap_or(usize::MAX);
        let mut target = Vec::new();
        let pieces = self.buffers.iter().flat_map(|buffer| buffer.data.pieces());
        for piece in pieces {
            let length = piece.len().min(left);
            if let Ok(piece) = piece.subslice(0, length)
                && length > 0
            {
                target.push(piece);
            }
            left -= length;
        }
        target
    }

    /// Makes packets with `header` of the first `length` bytes of data, one without data for 0.
    pub(super) fn fill(&mut self, header: Header, length: usize) {
        let mut left = length;
        for buffer in &self.buffers {
            let data = u32::try_from(buffer.data.len().min(left)).unwrap_or(u32::MAX);
            let header = Header {
                len: data.into(),
                ..header
            };
            // The room was measured when the buffer was taken.
            let written = buffer.header.copy_from(header.as_bytes()).is_ok();
            let used = data.saturating_add(u32::try_from(HEADER_LENGTH).unwrap_or(u32::MAX));
            self.filled.push(if written { used } else { 0 });
            left -= usize::try_from(data).unwrap_or(left);
            if left == 0 {
                return;
            }
        }
    }

    /// Gives the filled buffers to the guest and puts the others back. Returns whether there were
    /// filled ones.
    pub(super) fn return_to(self, memory: &GuestMemoryMmap, queue: &mut Queue) -> bool {
        for (buffer, length) in self.buffers.iter().zip(&self.filled) {
            if let Err(error) = queue.add_used(memory, buffer.head, *length) {
                tracing::warn!(%error, "return a vsock buffer to the guest");
            }
        }
        for _ in self.filled.len()..self.buffers.len() {
            queue.go_to_previous_position();
        }
        !self.filled.is_empty()
    }
}
