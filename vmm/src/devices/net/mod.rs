//! virtio-net (virtio 1.2, section 5.1): the guest's Ethernet interfaces, each on a tap, or on a
//! stream socket to a process that is its network (`stream`).
//!
//! The VM's builder plugs one [`Net`] for each NIC that the VM may ever have, and the host's
//! monitor keeps the [`NicSlot`]s. An empty slot is a device of type 0, which a driver leaves
//! alone; when the container's network is known, a tap is plugged in, and the guest's agent binds
//! the driver. So a VM can boot before an engine has set its network up. A slot whose driver was
//! unbound can be emptied and used again.
//!
//! Frames between the two virtqueues and a tap are moved by vhost-net in the host's kernel, where
//! there is one (`mover`), else by a thread for each NIC, without a copy of its own. Checksums and
//! segmentation are left to whichever end of the link can do them: the headers in front of the
//! frames say what is left to do, and the host's kernel does it.
//!
//! What the guest can do: send whatever frames it likes, as a container with CAP_NET_RAW can. A
//! header that lies, a runt and a giant are dropped and counted (`header`); so is what the host's
//! kernel does not take. Addresses of buffers are looked up in guest memory, never trusted. A
//! queue that makes no sense is left alone until the device is reset. There is no control queue.

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
    VIRTIO_NET_F_CSUM, VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_GUEST_ECN, VIRTIO_NET_F_GUEST_TSO4,
    VIRTIO_NET_F_GUEST_TSO6, VIRTIO_NET_F_GUEST_USO4, VIRTIO_NET_F_GUEST_USO6,
    VIRTIO_NET_F_HOST_ECN, VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_HOST_TSO6, VIRTIO_NET_F_HOST_USO,
    VIRTIO_NET_F_MAC, VIRTIO_NET_F_MRG_RXBUF, VIRTIO_NET_F_MTU,
};
use virtio_bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX;
use virtio_queue::QueueT;

use crate::virtio::{ActivateError, Activation, ActiveQueue, VirtioDevice, copy_config};

pub use counters::NetStatistics;
use header::Rules;
#[cfg(fuzzing)]
pub use header::fuzz;
use slot::{Nic, Offloaded, Shared};
pub use slot::{NicConfig, NicLink, NicSlot};
use worker::Active;

const NAME: &str = "net";

/// Sizes of the receive and the transmit queue.
const QUEUE_SIZES: [u16; 2] = [256, 256];
const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;

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
    /// There is no epoll to be had.
    #[error("set up the poll of a NIC's thread")]
    Poll(#[source] io::Error),
    /// The thread did not start.
    #[error("start the thread of a NIC")]
    Thread(#[source] io::Error),
}

/// The device: a slot with or without a NIC.
#[derive(Debug, Default)]
pub struct Net {
    shared: Arc<Shared>,
}

impl Net {
    /// An empty slot.
    pub fn new() -> Self {
        Self::default()
    }

    /// The owner's hold on it; `index` is its number among the VM's devices.
    pub fn slot(&self, index: usize) -> NicSlot {
        NicSlot::new(index, Arc::clone(&self.shared))
    }
}

fn features(nic: &Nic) -> u64 {
    let (offloads, udp): (&[u32], &[u32]) = match nic.offloads {
        Offloaded::Nothing => (&[], &[]),
        Offloaded::WithoutUdp => (&OFFLOADS, &[]),
        Offloaded::WithUdp => (&OFFLOADS, &UDP_FEATURES),
    };
    let all = FEATURES.iter().chain(offloads).chain(udp);
    let features = all.fold(0, |features, feature| features | 1 << feature);
    nic.mover.limit(features)
}

impl VirtioDevice for Net {
    fn device_type(&self) -> u32 {
        match self.shared.lock().nic {
            Some(_) => VIRTIO_ID_NET,
            None => 0,
        }
    }

    fn queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn features(&self) -> u64 {
        self.shared.lock().nic.as_ref().map_or(0, features)
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        let mut config = [0; 12];
        if let Some(nic) = &self.shared.lock().nic {
            // Link status and number of queues are not there without their features.
            config[..6].copy_from_slice(&nic.mac);
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
        let event_idx = activation.features & 1 << VIRTIO_RING_F_EVENT_IDX != 0;
        let mut take = |index| -> Result<ActiveQueue, ActivateError> {
            let mut queue = activation.take(NAME, index)?;
            queue.queue.set_event_idx(event_idx);
            Ok(queue)
        };
        let receive = take(RECEIVE)?;
        let transmit = take(TRANSMIT)?;
        let mut state = self.shared.lock();
        let Some(nic) = &mut state.nic else {
            return Err(host(io::Error::other("the slot is empty")));
        };
        activation.interrupt.stand();
        nic.mover
            .activate(Active {
                memory: activation.memory,
                interrupt: activation.interrupt,
                rules: Rules {
                    features: activation.features,
                    mtu: nic.mtu,
                },
                receive,
                transmit,
            })
            .map_err(host)
    }

    fn reset(&mut self) {
        let mut state = self.shared.lock();
        if let Some(nic) = &mut state.nic
            && let Err(error) = nic.mover.deactivate()
        {
            tracing::warn!(%error, "reset a NIC");
        }
    }
}
