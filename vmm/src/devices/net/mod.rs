//! virtio-net (virtio 1.2, section 5.1): the guest's Ethernet interfaces, each on a tap, or on a
//! stream socket to a process that is its network (`stream`).
//!
//! The VM's builder plugs one [`Net`] for each NIC that the VM may ever have, and the host's
//! monitor keeps the [`NicSlot`]s. An empty slot is a device of type 0, which a driver leaves
//! alone; when the container's network is known, a tap is plugged in, and the guest's agent binds
//! the driver. So a VM can boot before an engine has set its network up. A slot whose driver was
//! unbound can be emptied and used again.
//!
//! Frames between a pair of virtqueues and a tap are moved by vhost-net in the host's kernel, where
//! there is one (`mover`), else by a thread for each pair, without a copy of its own. A VM with
//! several vCPUs has several pairs for each NIC on a tap, and a control queue by which its driver
//! says how many it uses (`control`): none comes by the others. Checksums and
//! segmentation are left to whichever end of the link can do them: the headers in front of the
//! frames say what is left to do, and the host's kernel does it.
//!
//! What the guest can do: send whatever frames it likes, as a container with CAP_NET_RAW can. A
//! header that lies, a runt and a giant are dropped and counted (`header`); so is what the host's
//! kernel does not take. Addresses of buffers are looked up in guest memory, never trusted. A
//! queue that makes no sense is left alone until the device is reset.

mod control;
mod counters;
mod header;
mod mover;
mod receive;
mod slot;
mod stream;
#[cfg(test)]
mod tests;
mod transmit;
mod wire;
mod worker;

use std::io;
use std::sync::Arc;

use virtio_bindings::virtio_ids::VIRTIO_ID_NET;
use virtio_bindings::virtio_net::{
    VIRTIO_NET_F_CSUM, VIRTIO_NET_F_CTRL_VQ, VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_GUEST_ECN,
    VIRTIO_NET_F_GUEST_TSO4, VIRTIO_NET_F_GUEST_TSO6, VIRTIO_NET_F_GUEST_USO4,
    VIRTIO_NET_F_GUEST_USO6, VIRTIO_NET_F_HOST_ECN, VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_HOST_TSO6,
    VIRTIO_NET_F_HOST_USO, VIRTIO_NET_F_MAC, VIRTIO_NET_F_MQ, VIRTIO_NET_F_MRG_RXBUF,
    VIRTIO_NET_F_MTU,
};
use virtio_bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX;
use virtio_queue::QueueT;
use vm_memory::GuestMemoryMmap;

use crate::devices::served_queue::{Chain, ServedQueue};
use crate::event_loop::{LoopHandle, Watch};
use crate::sys::HypervisorError;
use crate::virtio::{ActivateError, Activation, ActiveQueue, VirtioDevice, copy_config};

pub use counters::NetStatistics;
use header::Rules;
use slot::{Nic, Offloaded, Shared};
pub use slot::{NicConfig, NicLink, NicSlot, TapQueue};
use worker::Active;

/// What the fuzzer calls.
#[cfg(fuzzing)]
pub mod fuzz {
    pub use super::control::fuzz::command;
    pub use super::header::fuzz::header;
}

const NAME: &str = "net";

/// Sizes of the receive and the transmit queue of a pair.
const QUEUE_SIZES: [u16; 2] = [256, 256];

/// Queues that every NIC has.
pub(crate) const FIRST_PAIR: usize = QUEUE_SIZES.len();

/// Pairs of queues of one NIC: each is a thread, two where the host's kernel moves frames, and all
/// of a NIC's share one interrupt.
const MOST_PAIRS: u8 = 4;

/// Without VIRTIO_NET_F_STATUS the link is always up: with it, Linux takes a second to believe so.
const FEATURES: [u32; 5] = [
    VIRTIO_NET_F_MTU,
    VIRTIO_NET_F_MAC,
    VIRTIO_NET_F_MRG_RXBUF,
    VIRTIO_RING_F_EVENT_IDX,
    virtio_bindings::virtio_ring::VIRTIO_RING_F_INDIRECT_DESC,
];

/// What a link of whole frames cannot have.
const OFFLOADS: [u32; 8] = [
    VIRTIO_NET_F_CSUM,
    VIRTIO_NET_F_GUEST_CSUM,
    VIRTIO_NET_F_GUEST_TSO4,
    VIRTIO_NET_F_GUEST_TSO6,
    VIRTIO_NET_F_GUEST_ECN,
    VIRTIO_NET_F_HOST_TSO4,
    VIRTIO_NET_F_HOST_TSO6,
    VIRTIO_NET_F_HOST_ECN,
];

/// What a NIC with several pairs of queues has.
const PAIRS_FEATURES: [u32; 2] = [VIRTIO_NET_F_CTRL_VQ, VIRTIO_NET_F_MQ];

const UDP_FEATURES: [u32; 3] = [
    VIRTIO_NET_F_GUEST_USO4,
    VIRTIO_NET_F_GUEST_USO6,
    VIRTIO_NET_F_HOST_USO,
];

/// What can go wrong with a NIC, apart from the guest.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// The slot has a NIC.
    #[error("the NIC's slot is taken")]
    Taken,
    /// The VM has no queues for it.
    #[error("a NIC with {pairs} pairs of queues; the VM has room for 1 to {most}")]
    Pairs {
        /// How many it has.
        pairs: usize,
        /// How many it may have.
        most: usize,
    },
    /// No link has such an MTU.
    #[error("a NIC's MTU of {mtu} is less than 68")]
    Mtu {
        /// The MTU.
        mtu: u16,
    },
    /// The descriptor is no socket that can be used, or the MTU is more than it takes.
    #[error("set up the socket of a NIC with an MTU of {mtu}")]
    Socket {
        /// The MTU.
        mtu: u16,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// The descriptor is no tap, or none that can be used.
    #[error("set up the tap of a NIC")]
    Tap(#[source] io::Error),
    /// The descriptor is no vhost-net, or none that can be used.
    #[error("set up vhost-net for a NIC")]
    Vhost(#[source] io::Error),
    /// KVM was not told of the doorbells of its further queues.
    #[error("connect a NIC's doorbells")]
    Doorbells(#[source] HypervisorError),
    /// There is no epoll to be had.
    #[error("set up the poll of a NIC's thread")]
    Poll(#[source] io::Error),
    /// The thread did not start.
    #[error("start the thread of a NIC")]
    Thread(#[source] io::Error),
}

/// Pairs of queues that each NIC of a VM with so many vCPUs can have: one for each.
pub fn pairs(vcpus: u8) -> u8 {
    vcpus.clamp(1, MOST_PAIRS)
}

/// The device: a slot with or without a NIC.
#[derive(Debug)]
pub struct Net {
    shared: Arc<Shared>,
    event_loop: LoopHandle,
    queue_sizes: Vec<u16>,
    pairs: usize,
    /// The control queue at work.
    control: Option<Watch>,
}

impl Net {
    /// An empty slot for NICs with up to `pairs` pairs of queues, whose control queue `event_loop`
    /// serves.
    pub fn new(pairs: u8, event_loop: LoopHandle) -> Self {
        let pairs = usize::from(pairs);
        let mut queue_sizes = QUEUE_SIZES.repeat(pairs);
        if pairs > 1 {
            queue_sizes.push(control::QUEUE_SIZE);
        }
        Self {
            shared: Arc::default(),
            event_loop,
            queue_sizes,
            pairs,
            control: None,
        }
    }

    /// The owner's hold on it; `index` is its number among the VM's devices.
    pub fn slot(&self, index: usize) -> NicSlot {
        NicSlot::new(index, self.pairs, Arc::clone(&self.shared))
    }
}

fn features(nic: &Nic) -> u64 {
    let (offloads, udp): (&[u32], &[u32]) = match nic.offloads {
        Offloaded::Nothing => (&[], &[]),
        Offloaded::WithoutUdp => (&OFFLOADS, &[]),
        Offloaded::WithUdp => (&OFFLOADS, &UDP_FEATURES),
    };
    let pairs: &[u32] = match nic.pairs() {
        ..=1 => &[],
        2.. => &PAIRS_FEATURES,
    };
    let all = FEATURES.iter().chain(offloads).chain(udp).chain(pairs);
    let features = all.fold(0, |features, feature| features | 1 << feature);
    nic.limit(features)
}

impl VirtioDevice for Net {
    fn device_type(&self) -> u32 {
        match self.shared.lock().nic {
            Some(_) => VIRTIO_ID_NET,
            None => 0,
        }
    }

    fn queue_sizes(&self) -> &[u16] {
        &self.queue_sizes
    }

    fn features(&self) -> u64 {
        self.shared.lock().nic.as_ref().map_or(0, features)
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        let mut config = [0; 12];
        if let Some(nic) = &self.shared.lock().nic {
            // The link's status is not there without its feature.
            let pairs = u16::try_from(nic.pairs()).unwrap_or(1);
            config[..6].copy_from_slice(&nic.mac);
            config[8..10].copy_from_slice(&pairs.to_le_bytes());
            config[10..].copy_from_slice(&nic.mtu.to_le_bytes());
        }
        copy_config(&config, offset, data);
    }

    fn activate(&mut self, mut activation: Activation) -> Result<(), ActivateError> {
        let host = |source| ActivateError::Host {
            device: NAME,
            action: "hand the queues over",
            source,
        };
        let features = activation.features;
        let has = |feature: u32| features & 1 << feature != 0;
        let mut take = |index| -> Result<ActiveQueue, ActivateError> {
            let mut queue = activation.take(NAME, index)?;
            queue.queue.set_event_idx(has(VIRTIO_RING_F_EVENT_IDX));
            Ok(queue)
        };
        let mut pair = |number: usize| Ok((take(2 * number)?, take(2 * number + 1)?));
        let mut queues = vec![pair(0)?];
        let mut control = None;
        {
            let mut state = self.shared.lock();
            let Some(nic) = &mut state.nic else {
                return Err(host(io::Error::other("the slot is empty")));
            };
            let most = match has(VIRTIO_NET_F_MQ) {
                true => nic.pairs(),
                false => 1,
            };
            // A pair that the driver leaves out ends them.
            let others = (1..most).map_while(|number| pair(number).ok());
            queues.extend(others);
            if has(VIRTIO_NET_F_CTRL_VQ) {
                control = take(2 * most).ok();
            }
            activation.interrupt.stand();
            let pairs = queues.into_iter().map(|(receive, transmit)| Active {
                memory: Arc::clone(&activation.memory),
                interrupt: activation.interrupt.clone(),
                rules: Rules {
                    features,
                    mtu: nic.mtu,
                },
                receive,
                transmit,
            });
            nic.activate(pairs.collect()).map_err(host)?;
        }
        let Some(queue) = control else {
            return Ok(());
        };
        let shared = Arc::clone(&self.shared);
        let served = ServedQueue {
            device: NAME,
            queue,
            memory: activation.memory,
            interrupt: activation.interrupt,
            limit: control::WAKE_LIMIT,
            handler: move |memory: &GuestMemoryMmap, chain: Chain<'_>| {
                control::serve(&shared, memory, chain)
            },
        };
        self.control = Some(served.start(&self.event_loop).map_err(host)?);
        Ok(())
    }

    fn reset(&mut self) {
        // Without the lock, which a command that is obeyed just now takes.
        self.control = None;
        let mut state = self.shared.lock();
        if let Some(nic) = &mut state.nic
            && let Err(error) = nic.deactivate()
        {
            tracing::warn!(%error, "reset a NIC");
        }
    }
}
