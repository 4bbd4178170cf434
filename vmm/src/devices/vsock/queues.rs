//! The device's virtqueues (virtio 1.2, section 5.10.2) between guest and muxer.
//!
//! Everything in the rings is the guest's. A packet that is none is dropped or its connection
//! reset; a ring whose indices make no sense is not looked at again before the next reset. Work in
//! one pass is limited, so that no guest keeps the thread from its other duties.

use virtio_queue::{Queue, QueueOwnedT, QueueT};
use vm_memory::GuestMemoryMmap;
use zerocopy::{FromZeros, IntoBytes};

use crate::memory::GuestMemory;
use crate::virtio::{ActiveQueue, Interrupt};

use super::connection::Next;
use super::muxer::{Muxer, Turn};
use super::packet::{HEADER_LENGTH, Header};
use super::receive::ReceiveBatch;
use crate::devices::buffers::Buffers;

/// Packets from the guest in one pass, and turns of connections.
const PASS: usize = 128;

/// Most bytes read from one input in one turn.
const MAX_READ: u32 = 128 << 10;

/// The queues of an active device.
#[derive(Debug)]
pub(super) struct Queues {
    memory: GuestMemory,
    interrupt: Interrupt,
    /// Buffers for packets to the guest.
    pub(super) receive: ActiveQueue,
    /// Packets from the guest.
    pub(super) transmit: ActiveQueue,
    receive_broken: bool,
    transmit_broken: bool,
}

impl Queues {
    pub(super) fn new(
        memory: GuestMemory,
        interrupt: Interrupt,
        receive: ActiveQueue,
        transmit: ActiveQueue,
    ) -> Self {
        Self {
            memory,
            interrupt,
            receive,
            transmit,
            receive_broken: false,
            transmit_broken: false,
        }
    }

    /// Moves packets both ways and interrupts the guest at most once. Returns whether there may
    /// be more to do at once.
    pub(super) fn pass(&mut self, muxer: &mut Muxer) -> bool {
        let (sent, more_sent) = self.transmit(muxer);
        let (received, more_received) = self.receive(muxer);
        let memory = &*self.memory;
        let wanted = |used: bool, queue: &mut Queue| {
            used && queue.needs_notification(memory).unwrap_or(true)
        };
        let wanted_sent = wanted(sent, &mut self.transmit.queue);
        if wanted(received, &mut self.receive.queue) || wanted_sent {
            self.interrupt.signal_used();
        }
        more_sent || more_received
    }

    /// Takes packets from the guest. Returns whether there were any and whether there may be more.
    fn transmit(&mut self, muxer: &mut Muxer) -> (bool, bool) {
        let memory = &*self.memory;
        let queue = &mut self.transmit.queue;
        let mut used = false;
        for _ in 0..PASS {
            if self.transmit_broken || muxer.is_congested() {
                return (used, false);
            }
            let chain = match queue.iter(memory) {
                Ok(mut chains) => chains.next(),
                Err(error) => {
                    tracing::warn!(%error, "the guest broke its vsock transmit queue");
                    self.transmit_broken = true;
                    return (used, false);
                }
            };
            let Some(chain) = chain else {
                match queue.enable_notification(memory) {
                    Ok(true) => continue,
                    _ => return (used, false),
                }
            };
            let head = chain.head_index();
            take(memory, chain, muxer);
            self.transmit_broken = queue.add_used(memory, head, 0).is_err();
            used = true;
        }
        (used, true)
    }

    /// Gives the guest what the muxer has for it, as `transmit` does the other way.
    fn receive(&mut self, muxer: &mut Muxer) -> (bool, bool) {
        let memory = &*self.memory;
        let queue = &mut self.receive.queue;
        let mut used = false;
        for _ in 0..PASS {
            let Some(turn) = muxer.turn() else {
                return (used, false);
            };
            if self.receive_broken {
                return (used, false);
            }
            let wanted = match turn {
                Turn::Connection(_, Next::Data(limit)) => limit.min(MAX_READ),
                _ => 0,
            };
            let mut batch = match ReceiveBatch::take(memory, queue, wanted) {
                Ok(batch) => batch,
                Err(error) => {
                    tracing::warn!(%error, "the guest broke its vsock receive queue");
                    self.receive_broken = true;
                    return (used, false);
                }
            };
            if batch.is_empty() {
                match queue.enable_notification(memory) {
                    Ok(true) => continue,
                    _ => return (used, false),
                }
            }
            match turn {
                Turn::Reset(header) => {
                    batch.fill(header, 0);
                    muxer.reset_sent();
                }
                Turn::Connection(id, Next::Control(operation, flags)) => {
                    batch.fill(muxer.control(id, operation, flags), 0);
                }
                Turn::Connection(id, Next::Data(_)) => {
                    if let Some((length, header)) = muxer.data(id, &batch.target(wanted)) {
                        batch.fill(header, length);
                        muxer.rotate();
                    }
                }
            }
            used |= batch.return_to(memory, queue);
        }
        (used, true)
    }
}

/// Hands one packet of the guest's to the muxer.
fn take(
    memory: &GuestMemoryMmap,
    chain: virtio_queue::DescriptorChain<&GuestMemoryMmap>,
    muxer: &mut Muxer,
) {
    let parts = Buffers::new(memory, chain, false).and_then(|all| all.split_at(HEADER_LENGTH));
    let (head, rest) = match parts {
        Ok(parts) => parts,
        Err(error) => {
            tracing::debug!(%error, "drop a vsock packet of the guest");
            return;
        }
    };
    let mut header = Header::new_zeroed();
    head.copy_to(0, header.as_mut_bytes());
    let payload = usize::try_from(header.len.get())
        .ok()
        .and_then(|length| rest.split_at(length).ok());
    match payload {
        Some((payload, _)) => muxer.receive(&header, payload),
        None => muxer.receive_broken(&header),
    }
}
