//! The transmit queue: frames of the guest to the host.
//!
//! A chain is a header and a frame. What is no such thing, or what lies in its header, is dropped
//! and counted; the guest gets its buffer back either way.

use std::io;

use virtio_queue::{DescriptorChain, QueueOwnedT, QueueT};
use vm_memory::GuestMemoryMmap;
use zerocopy::{FromZeros, IntoBytes};

use super::header::{self, HEADER_LENGTH, Header, Rules};
use super::receive::Passed;
use super::wire::Wire;
use crate::devices::buffers::Buffers;
use crate::virtio::ActiveQueue;

/// Frames in one pass.
const PASS: usize = 64;

/// The queue at work.
#[derive(Debug)]
pub(super) struct Transmit {
    pub(super) active: ActiveQueue,
    rules: Rules,
    broken: bool,
}

impl Transmit {
    pub(super) fn new(active: ActiveQueue, rules: Rules) -> Self {
        Self {
            active,
            rules,
            broken: false,
        }
    }

    /// Moves frames from the guest to `wire`.
    pub(super) fn pass(&mut self, memory: &GuestMemoryMmap, wire: &dyn Wire) -> Passed {
        let mut passed = Passed {
            more: true,
            ..Passed::default()
        };
        if let Err(error) = wire.flush()
            && error.kind() != io::ErrorKind::WouldBlock
        {
            tracing::debug!(%error, "the rest of a frame is lost");
        }
        if let Err(error) = self.frames(memory, wire, &mut passed) {
            tracing::warn!(%error, "the guest broke its transmit queue");
            self.broken = true;
            passed.more = false;
        }
        let used = passed.frames + passed.dropped > 0;
        let queue = &mut self.active.queue;
        passed.interrupt = used && queue.needs_notification(memory).unwrap_or(true);
        passed
    }

    fn frames(
        &mut self,
        memory: &GuestMemoryMmap,
        wire: &dyn Wire,
        passed: &mut Passed,
    ) -> Result<(), virtio_queue::Error> {
        for _ in 0..PASS {
            if self.broken {
                passed.more = false;
                return Ok(());
            }
            let queue = &mut self.active.queue;
            let Some(chain) = queue.iter(memory)?.next() else {
                if queue.enable_notification(memory)? {
                    continue;
                }
                passed.more = false;
                return Ok(());
            };
            let head = chain.head_index();
            match send(memory, chain, wire, self.rules) {
                Sent::Whole => passed.frames += 1,
                Sent::Dropped => passed.dropped += 1,
                Sent::Later => {
                    // The wire tells when there is room.
                    queue.go_to_previous_position();
                    passed.more = false;
                    return Ok(());
                }
            }
            queue.add_used(memory, head, 0)?;
        }
        Ok(())
    }
}

/// What became of a frame.
enum Sent {
    Whole,
    Dropped,
    Later,
}

/// Sends one frame.
fn send(
    memory: &GuestMemoryMmap,
    chain: DescriptorChain<&GuestMemoryMmap>,
    wire: &dyn Wire,
    rules: Rules,
) -> Sent {
    let parts = Buffers::new(memory, chain, false).and_then(|all| all.split_at(HEADER_LENGTH));
    let (head, frame) = match parts {
        Ok(parts) => parts,
        Err(error) => {
            tracing::debug!(%error, "drop a frame of the guest");
            return Sent::Dropped;
        }
    };
    let mut header = Header::new_zeroed();
    head.copy_to(0, header.as_mut_bytes());
    let clean = match header::check(&header, frame.len(), rules) {
        Ok(clean) => clean,
        Err(error) => {
            tracing::debug!(%error, "drop a frame of the guest");
            return Sent::Dropped;
        }
    };
    match wire.write(clean.as_bytes(), frame.pieces()) {
        Ok(_) => Sent::Whole,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock && wire.holds_up() => Sent::Later,
        Err(error) => {
            // As on any link: it is down, full, or the kernel found a lie that we did not.
            tracing::debug!(%error, "drop a frame of the guest");
            Sent::Dropped
        }
    }
}
