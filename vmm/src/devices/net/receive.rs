//! The receive queue: frames of the host into buffers of the guest.
//!
//! Buffers are taken ahead and kept until they are filled, so that a frame of 64 KiB finds its
//! forty without a search for each small one. Where buffers lie is the guest's word: their memory
//! is looked up again for every frame. A frame that needs several of them (`MRG_RXBUF`) is shown
//! to the guest all at once, since its driver takes the later ones for granted.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{Ordering, fence};

use virtio_bindings::virtio_net::{
    VIRTIO_NET_F_GUEST_TSO4, VIRTIO_NET_F_GUEST_TSO6, VIRTIO_NET_F_GUEST_USO4,
    VIRTIO_NET_F_GUEST_USO6, VIRTIO_NET_F_MRG_RXBUF,
};
use virtio_queue::{Queue, QueueOwnedT, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemory as _, GuestMemoryMmap, VolatileSlice};

use super::header::{BUFFERS_OFFSET, HEADER_LENGTH, LONGEST_PACKET, Rules};
use super::wire::Wire;
use crate::virtio::ActiveQueue;

/// Frames in one pass.
const PASS: usize = 64;

/// Descriptors that one buffer may have; Linux uses at most 19.
const MAX_PIECES: usize = 64;

/// An Ethernet header and two VLAN tags.
const FRAMING: usize = 22;

/// The queue at work.
#[derive(Debug)]
pub(super) struct Receive {
    pub(super) active: ActiveQueue,
    merges: bool,
    /// Room that the longest frame needs.
    longest: usize,
    /// Buffers that the guest has offered and no frame has filled.
    buffers: VecDeque<Buffer>,
    room: usize,
    /// Used entries that the guest was not asked about yet.
    added: u16,
    broken: bool,
}

/// One buffer of the guest's.
#[derive(Debug)]
struct Buffer {
    head: u16,
    pieces: Vec<(GuestAddress, usize)>,
    room: usize,
}

/// What a pass came to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Passed {
    /// Frames moved.
    pub(super) frames: u64,
    /// Frames lost.
    pub(super) dropped: u64,
    /// There may be more to do at once.
    pub(super) more: bool,
    /// The guest wants to hear of it.
    pub(super) interrupt: bool,
}

impl Receive {
    pub(super) fn new(active: ActiveQueue, rules: Rules) -> Self {
        let has = |feature: u32| rules.features & 1 << feature != 0;
        let segments = [
            VIRTIO_NET_F_GUEST_TSO4,
            VIRTIO_NET_F_GUEST_TSO6,
            VIRTIO_NET_F_GUEST_USO4,
            VIRTIO_NET_F_GUEST_USO6,
        ];
        let packet = match segments.into_iter().any(has) {
            true => LONGEST_PACKET,
            false => usize::from(rules.mtu),
        };
        Self {
            active,
            merges: has(VIRTIO_NET_F_MRG_RXBUF),
            longest: HEADER_LENGTH + FRAMING + packet,
            buffers: VecDeque::new(),
            room: 0,
            added: 0,
            broken: false,
        }
    }

    /// Moves frames from `wire` to the guest.
    pub(super) fn pass(&mut self, memory: &GuestMemoryMmap, wire: &dyn Wire) -> io::Result<Passed> {
        let mut passed = Passed {
            more: true,
            ..Passed::default()
        };
        let result = self.frames(memory, wire, &mut passed);
        passed.interrupt = self.added > 0 && self.wants_interrupt(memory);
        result.map(|()| passed)
    }

    fn frames(
        &mut self,
        memory: &GuestMemoryMmap,
        wire: &dyn Wire,
        passed: &mut Passed,
    ) -> io::Result<()> {
        for _ in 0..PASS {
            if self.broken || !self.gather(memory) {
                passed.more = false;
                return Ok(());
            }
            let target = self.target(memory);
            let length = match wire.read(&target) {
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    passed.more = false;
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    passed.more = false;
                    return Err(error);
                }
            };
            // The link's MTU grew: what did not fit is gone.
            if length < HEADER_LENGTH || length > self.fits() {
                passed.dropped += 1;
                continue;
            }
            match self.hand_over(memory, &target, length) {
                Ok(()) => passed.frames += 1,
                Err(error) => {
                    tracing::warn!(%error, "the guest broke its receive queue");
                    self.broken = true;
                }
            }
        }
        Ok(())
    }

    /// Room for one frame: of one buffer, or of all that may be merged.
    fn fits(&self) -> usize {
        match self.merges {
            true => self.room,
            false => self.buffers.front().map_or(0, |buffer| buffer.room),
        }
    }

    /// Takes buffers until the longest frame fits; false when the guest has to offer some first.
    fn gather(&mut self, memory: &GuestMemoryMmap) -> bool {
        while self.fits() < self.longest {
            let queue = &mut self.active.queue;
            let chain = match queue.iter(memory) {
                Ok(mut chains) => chains.next(),
                Err(error) => {
                    tracing::warn!(%error, "the guest broke its receive queue");
                    self.broken = true;
                    return false;
                }
            };
            let Some(chain) = chain else {
                match queue.enable_notification(memory) {
                    Ok(true) => continue,
                    _ => return false,
                }
            };
            let head = chain.head_index();
            let mut buffer = Buffer {
                head,
                pieces: Vec::new(),
                room: 0,
            };
            let mut usable = true;
            for descriptor in chain.take(MAX_PIECES + 1) {
                let length = usize::try_from(descriptor.len()).unwrap_or(0);
                usable &= descriptor.is_write_only()
                    && buffer.pieces.len() < MAX_PIECES
                    && memory.check_range(descriptor.addr(), length);
                buffer.pieces.push((descriptor.addr(), length));
                buffer.room = buffer.room.saturating_add(length);
            }
            let least = match self.merges {
                true => HEADER_LENGTH,
                false => self.longest,
            };
            if usable && buffer.room >= least {
                self.room = self.room.saturating_add(buffer.room);
                self.buffers.push_back(buffer);
            } else if self.publish(memory, &[(head, 0)]).is_err() {
                self.broken = true;
                return false;
            }
        }
        true
    }

    /// Where the next frame goes.
    fn target<'m>(&self, memory: &'m GuestMemoryMmap) -> Vec<VolatileSlice<'m>> {
        let mut target = Vec::new();
        let mut room = 0;
        for buffer in &self.buffers {
            for (address, length) in &buffer.pieces {
                // The range was checked when the buffer was taken.
                let slices = memory.get_slices(*address, *length);
                target.extend(slices.map_while(Result::ok));
                room += length;
            }
            if room >= self.longest || !self.merges {
                break;
            }
        }
        target
    }

    /// Gives the guest the buffers that a frame of `length` bytes has filled.
    fn hand_over(
        &mut self,
        memory: &GuestMemoryMmap,
        target: &[VolatileSlice<'_>],
        length: usize,
    ) -> Result<(), virtio_queue::Error> {
        let mut used = Vec::new();
        let mut left = length;
        while left > 0 {
            let Some(buffer) = self.buffers.pop_front() else {
                break;
            };
            let filled = buffer.room.min(left);
            left -= filled;
            self.room -= buffer.room;
            used.push((buffer.head, u32::try_from(filled).unwrap_or(u32::MAX)));
        }
        // There are no more of them than descriptors in a queue.
        let count = u16::try_from(used.len()).unwrap_or(u16::MAX);
        put(target, BUFFERS_OFFSET, &count.to_le_bytes());
        self.publish(memory, &used)
    }

    /// Writes used entries and shows all of them to the guest at once.
    fn publish(
        &mut self,
        memory: &GuestMemoryMmap,
        used: &[(u16, u32)],
    ) -> Result<(), virtio_queue::Error> {
        let queue = &mut self.active.queue;
        let ring = queue.used_ring();
        let mut next = queue.next_used();
        for (head, length) in used {
            let slot = u64::from(next % queue.size());
            let at = GuestAddress(ring + 4 + 8 * slot);
            let entry = u64::from(*head) | u64::from(*length) << 32;
            memory
                .write_obj(entry.to_le(), at)
                .map_err(virtio_queue::Error::GuestMemory)?;
            next = next.wrapping_add(1);
            self.added = self.added.wrapping_add(1);
        }
        queue.set_next_used(next);
        memory
            .store(next.to_le(), GuestAddress(ring + 2), Ordering::Release)
            .map_err(virtio_queue::Error::GuestMemory)
    }

    /// Whether the guest wants to hear of what was added (virtio 1.2, section 2.7.10).
    fn wants_interrupt(&mut self, memory: &GuestMemoryMmap) -> bool {
        let added = std::mem::take(&mut self.added);
        let queue: &Queue = &self.active.queue;
        if !queue.event_idx_enabled() {
            return true;
        }
        fence(Ordering::SeqCst);
        let event = GuestAddress(queue.avail_ring() + 4 + 2 * u64::from(queue.size()));
        let event: u16 = match memory.load(event, Ordering::Relaxed) {
            Ok(event) => u16::from_le(event),
            Err(_) => return true,
        };
        queue.next_used().wrapping_sub(event).wrapping_sub(1) < added
    }
}

/// Writes `bytes` at `offset` of `target`, which may divide them.
fn put(target: &[VolatileSlice<'_>], offset: usize, bytes: &[u8]) {
    for (index, byte) in bytes.iter().enumerate() {
        let mut at = offset + index;
        for slice in target {
            if at < slice.len() {
                // It was just found to be inside.
                let _ = slice.write_obj(*byte, at);
                break;
            }
            at -= slice.len();
        }
    }
}
