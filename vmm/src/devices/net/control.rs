//! The control queue: how many of a NIC's pairs of queues its driver uses (virtio 1.2, section
//! 5.1.6.5.6).
//!
//! The event loop serves it, for NICs that have several pairs. A command is the guest's: one that
//! is none, is too short, or asks for more pairs than the driver has set up gets an error for an
//! answer and is counted, and one with no room for an answer gets none.

use std::sync::Arc;

use virtio_bindings::virtio_net::{
    VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, VIRTIO_NET_ERR, VIRTIO_NET_OK,
};
use vm_memory::GuestMemoryMmap;

use super::slot::Shared;
use crate::devices::buffers::{BufferError, Buffers};
use crate::devices::served_queue::Chain;

/// The queue's size: one command at a time has three descriptors.
pub(super) const QUEUE_SIZE: u16 = 16;

/// Commands in one wake-up: each may wait for the host's kernel to know of another pair.
pub(super) const WAKE_LIMIT: usize = 4;

/// Class, command, and the number of pairs.
const COMMAND: usize = 4;

/// Why a command is refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum ControlError {
    /// Its buffers.
    #[error("a control command's buffers")]
    Buffers(#[from] BufferError),
    /// It is cut off, or goes on.
    #[error("a control command of {0} bytes")]
    Length(usize),
    /// It was not negotiated.
    #[error("control command {command} of class {class}")]
    Unknown { class: u8, command: u8 },
    /// There are not so many.
    #[error("{wanted} pairs of queues are wanted, {ready} are ready")]
    Pairs { wanted: u16, ready: usize },
    /// The NIC was taken out.
    #[error("the NIC is gone")]
    Gone,
    /// The host's kernel.
    #[error("enable {wanted} pairs of queues")]
    Host {
        wanted: u16,
        #[source]
        source: std::io::Error,
    },
}

/// Does what a chain asks for, and returns how many bytes of an answer it wrote.
pub(super) fn serve(shared: &Arc<Shared>, memory: &GuestMemoryMmap, chain: Chain<'_>) -> u32 {
    let (result, answer) = match Buffers::both(memory, chain) {
        Ok((command, answer)) => (obey(shared, &command), Some(answer)),
        Err(error) => (Err(error.into()), None),
    };
    let status = match result {
        Ok(()) => VIRTIO_NET_OK,
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            tracing::debug!(error, "refuse a control command of the guest");
            shared.lock().refused_commands += 1;
            VIRTIO_NET_ERR
        }
    };
    let status = [u8::try_from(status).unwrap_or(1)];
    let answer = answer.and_then(|answer| answer.split_at(status.len()).ok());
    let written = answer.and_then(|(answer, _)| answer.copy_from(&status).ok());
    u32::from(written.is_some())
}

fn obey(shared: &Shared, command: &Buffers<'_>) -> Result<(), ControlError> {
    if command.len() != COMMAND {
        return Err(ControlError::Length(command.len()));
    }
    let mut bytes = [0; COMMAND];
    command.copy_to(0, &mut bytes);
    let wanted = parse(bytes)?;
    let mut state = shared.lock();
    let nic = state.nic.as_mut().ok_or(ControlError::Gone)?;
    let ready = nic.ready();
    if !(1..=ready).contains(&usize::from(wanted)) {
        return Err(ControlError::Pairs { wanted, ready });
    }
    nic.enable(usize::from(wanted))
        .map_err(|source| ControlError::Host { wanted, source })
}

/// The number of pairs that a command asks for.
fn parse([class, command, low, high]: [u8; COMMAND]) -> Result<u16, ControlError> {
    match (u32::from(class), u32::from(command)) {
        (VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET) => {
            Ok(u16::from_le_bytes([low, high]))
        }
        _ => Err(ControlError::Unknown { class, command }),
    }
}

/// For fuzzing: an answer is one byte, or none.
#[cfg(any(test, fuzzing))]
#[cfg_attr(
    not(fuzzing),
    allow(unreachable_pub, reason = "only the fuzzer is outside")
)]
pub mod fuzz {
    use std::sync::Arc;

    use virtio_queue::{Queue, QueueOwnedT, QueueT};
    use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

    use super::super::slot::Shared;
    use super::serve;

    const MEMORY: usize = 0x4000;
    const DESCRIPTORS: usize = 8;

    /// Serves a command: the bytes are a table of descriptors, and what they lead to.
    #[expect(clippy::unwrap_used, reason = "its own memory and queue")]
    pub fn command(bytes: &[u8]) {
        let Some((table, rest)) = bytes.split_at_checked(16 * DESCRIPTORS) else {
            return;
        };
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), MEMORY)]).unwrap();
        let (rest, _) = rest.split_at(rest.len().min(0x1000));
        memory.write_slice(table, GuestAddress(0)).unwrap();
        memory.write_slice(rest, GuestAddress(0x1000)).unwrap();
        // One chain is there, from the first descriptor.
        memory.write_obj(1_u32 << 16, GuestAddress(0x2000)).unwrap();
        let mut queue = Queue::new(8).unwrap();
        queue
            .try_set_avail_ring_address(GuestAddress(0x2000))
            .unwrap();
        queue
            .try_set_used_ring_address(GuestAddress(0x3000))
            .unwrap();
        queue.set_ready(true);
        let chain = queue.iter(&memory).unwrap().next().unwrap();
        let shared = Arc::<Shared>::default();
        let written = serve(&shared, &memory, chain);
        assert!(written <= 1);
        // There is no NIC.
        assert_eq!(shared.lock().refused_commands, 1);
    }

    #[cfg(test)]
    #[test]
    fn random_commands_are_refused() {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..5_000 {
            let mut random = || {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state
            };
            let mut bytes = Vec::new();
            for _ in 0..DESCRIPTORS {
                // Addresses and lengths that often lie inside.
                let word = random();
                bytes.extend((word & 0x3fff).to_le_bytes());
                bytes.extend((word >> 20 & 0x7ff).to_le_bytes()[..4].iter());
                bytes.extend((word >> 32 & 0x7).to_le_bytes()[..2].iter());
                bytes.extend((word >> 40 & 0x7).to_le_bytes()[..2].iter());
            }
            bytes.extend((0..32).flat_map(|_| random().to_le_bytes()));
            command(&bytes);
        }
    }
}
