//! Who moves the frames of a pair of a NIC's queues: a thread of this process (`worker`), or the
//! host's kernel.

use std::io;
use std::sync::Arc;

use virtio_bindings::virtio_net::VIRTIO_NET_F_MRG_RXBUF;
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};

use super::NetError;
use super::counters::{Counters, NetStatistics};
use super::wire::Wire;
use super::worker::{Active, WorkerHandle};
use crate::sys::tap::Tap;
use crate::sys::vhost::VhostNet;

/// Features that whoever works on the queues has or has not; the others are the link's.
const OF_QUEUES: [u32; 3] = [
    VIRTIO_NET_F_MRG_RXBUF,
    VIRTIO_RING_F_EVENT_IDX,
    VIRTIO_RING_F_INDIRECT_DESC,
];

/// The mover of one pair's frames.
#[derive(Debug)]
pub(super) enum Mover {
    /// A thread of ours.
    Thread {
        worker: WorkerHandle,
        counters: Arc<Counters>,
    },
    /// The host's kernel, from a tap.
    Kernel { vhost: VhostNet, tap: Tap },
}

impl Mover {
    /// Starts a thread for `wire`, which counts the NIC's frames.
    pub(super) fn thread(wire: Box<dyn Wire>, counters: Arc<Counters>) -> Result<Self, NetError> {
        let worker = WorkerHandle::start(wire, Arc::clone(&counters))?;
        Ok(Self::Thread { worker, counters })
    }

    /// `features` without those that it does not have.
    pub(super) fn limit(&self, features: u64) -> u64 {
        let Self::Kernel { vhost, .. } = self else {
            return features;
        };
        let missing = |feature: &&u32| vhost.features() & 1 << **feature == 0;
        OF_QUEUES
            .iter()
            .filter(missing)
            .fold(features, |features, feature| features & !(1 << feature))
    }

    /// Hands the queues over.
    pub(super) fn activate(&mut self, active: Active) -> io::Result<()> {
        match self {
            Self::Thread { worker, .. } => worker.activate(active),
            Self::Kernel { vhost, tap } => {
                tap.accept(active.rules.features)?;
                let rings = [&active.receive, &active.transmit];
                vhost.start(
                    active.memory,
                    active.rules.features,
                    rings.map(|ring| (&ring.queue, &ring.doorbell)),
                    active.interrupt.line(),
                    tap,
                )
            }
        }
    }

    /// Takes the queues away: on return nobody touches guest memory.
    pub(super) fn deactivate(&mut self) -> io::Result<()> {
        match self {
            Self::Thread { worker, .. } => worker.deactivate(),
            Self::Kernel { vhost, .. } => vhost.stop(),
        }
    }

    /// Lets frames come to this pair, or to the NIC's others alone.
    pub(super) fn enable(&self, enabled: bool) -> io::Result<()> {
        match self {
            Self::Thread { worker, .. } => worker.enable(enabled),
            Self::Kernel { tap, .. } => tap.attach(enabled),
        }
    }

    /// What the NIC's threads have moved; the kernel does not say.
    pub(super) fn statistics(&self) -> Option<NetStatistics> {
        match self {
            Self::Thread { counters, .. } => Some(counters.statistics()),
            Self::Kernel { .. } => None,
        }
    }
}
