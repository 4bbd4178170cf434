//! A NIC's place in the VM, and its owner's hold on it.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::NetError;
use super::counters::{Counters, NetStatistics};
use super::mover::Mover;
use super::stream::{FrameStream, LONGEST_MTU};
use super::worker::Active;
use crate::sys::LateDoorbell;
use crate::sys::tap::{Offloads, Tap};
use crate::sys::vhost::VhostNet;

/// The least MTU of an Ethernet interface, and the one that every link of the Internet has.
const LEAST_MTU: u16 = 68;

/// What is plugged into a slot.
#[derive(Debug)]
pub struct NicConfig {
    /// The host's end of its link.
    pub link: NicLink,
    /// The guest's address on the link.
    pub mac: [u8; 6],
    /// The link's MTU.
    pub mtu: u16,
}

/// Where a NIC's frames go.
#[derive(Debug)]
pub enum NicLink {
    /// A tap with virtio-net headers (IFF_TAP, IFF_NO_PI, IFF_VNET_HDR), opened once for each pair
    /// of queues that the NIC is to have (IFF_MULTI_QUEUE): all but the first are detached.
    Tap(Vec<TapQueue>),
    /// A stream socket: whole frames with their length in front, as passt speaks.
    Stream(OwnedFd),
}

/// One pair's end of a tap.
#[derive(Debug)]
pub struct TapQueue {
    /// The tap.
    pub tap: OwnedFd,
    /// An open /dev/vhost-net, if the host's kernel is to move its frames.
    pub vhost: Option<OwnedFd>,
}

/// What may be left to the other end of a link.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Offloaded {
    Nothing,
    /// Kernels before 6.2 segment no UDP.
    WithoutUdp,
    WithUdp,
}

/// A slot, for plugging NICs into it, one at a time. Cheap to clone.
#[derive(Clone, Debug)]
pub struct NicSlot {
    index: usize,
    pairs: usize,
    shared: Arc<Shared>,
}

/// What the slot's device and its owner share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) nic: Option<Nic>,
    pub(super) refused_commands: u64,
    /// Those of queues after the first pair.
    doorbells: Vec<LateDoorbell>,
}

/// A NIC in its slot.
#[derive(Debug)]
pub(super) struct Nic {
    pub(super) mac: [u8; 6],
    pub(super) mtu: u16,
    pub(super) offloads: Offloaded,
    /// One for each pair of queues.
    movers: Vec<Mover>,
    /// Pairs that the driver has set up, and those of them to which frames come.
    ready: usize,
    enabled: usize,
}

impl Nic {
    /// Pairs of queues that it can have.
    pub(super) fn pairs(&self) -> usize {
        self.movers.len()
    }

    /// Those that the driver has set up.
    pub(super) fn ready(&self) -> usize {
        self.ready
    }

    /// `features` without those that its movers do not have.
    pub(super) fn limit(&self, features: u64) -> u64 {
        let limit = |features, mover: &Mover| mover.limit(features);
        self.movers.iter().fold(features, limit)
    }

    /// Hands pairs of queues over, and enables the first.
    pub(super) fn activate(&mut self, pairs: Vec<Active>) -> io::Result<()> {
        self.ready = pairs.len();
        for (mover, pair) in self.movers.iter_mut().zip(pairs) {
            mover.activate(pair)?;
        }
        self.enable(1)
    }

    /// Takes the queues away: on return nobody touches guest memory.
    pub(super) fn deactivate(&mut self) -> io::Result<()> {
        self.ready = 0;
        let results = self.movers.iter_mut().map(Mover::deactivate);
        // Every one is asked, whatever became of the others.
        results.fold(Ok(()), io::Result::and)
    }

    /// Lets frames come to the first `count` pairs.
    pub(super) fn enable(&mut self, count: usize) -> io::Result<()> {
        while self.enabled != count {
            let more = self.enabled < count;
            let index = self.enabled - usize::from(!more);
            let mover = self.movers.get(index).ok_or(io::ErrorKind::NotFound)?;
            mover.enable(more)?;
            self.enabled = index + usize::from(more);
        }
        Ok(())
    }
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn plug(
        &self,
        movers: impl FnOnce() -> Result<Vec<Mover>, NetError>,
        mac: [u8; 6],
        mtu: u16,
        offloads: Offloaded,
    ) -> Result<(), NetError> {
        if mtu < LEAST_MTU {
            return Err(NetError::Mtu { mtu });
        }
        let mut state = self.lock();
        if state.nic.is_some() {
            return Err(NetError::Taken);
        }
        let movers = movers()?;
        if movers.len() > 1 {
            let connected = state.doorbells.iter_mut().map(LateDoorbell::connect);
            connected
                .collect::<Result<(), _>>()
                .map_err(NetError::Doorbells)?;
        }
        state.nic = Some(Nic {
            mac,
            mtu,
            offloads,
            movers,
            ready: 0,
            enabled: 1,
        });
        Ok(())
    }
}

impl NicSlot {
    pub(super) fn new(index: usize, pairs: usize, shared: Arc<Shared>) -> Self {
        Self {
            index,
            pairs,
            shared,
        }
    }

    /// The number of the slot's device among the VM's: N of `virtio-mmio.N` in a Linux guest.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Doorbells of further queues, for the first NIC that has them.
    pub(crate) fn keep(&self, doorbells: Vec<LateDoorbell>) {
        self.shared.lock().doorbells = doorbells;
    }

    /// Pairs of queues that a NIC can have in it.
    pub fn pairs(&self) -> usize {
        self.pairs
    }

    /// Plugs a NIC in. A guest that looked at the empty slot before does not look again by
    /// itself: somebody in it has to bind the driver.
    pub fn plug(&self, config: NicConfig) -> Result<(), NetError> {
        let NicConfig { link, mac, mtu } = config;
        let counters = Arc::<Counters>::default();
        let queues = match link {
            NicLink::Tap(queues) => queues,
            NicLink::Stream(socket) => {
                let failed = |source| NetError::Socket { mtu, source };
                if mtu > LONGEST_MTU {
                    return Err(failed(io::ErrorKind::InvalidInput.into()));
                }
                let wire = FrameStream::new(socket).map_err(failed)?;
                let movers = || Ok(vec![Mover::thread(Box::new(wire), counters)?]);
                return self.shared.plug(movers, mac, mtu, Offloaded::Nothing);
            }
        };
        let taps = queues
            .into_iter()
            .map(|queue| Ok((Tap::new(queue.tap)?, queue.vhost)))
            .collect::<io::Result<Vec<_>>>()
            .map_err(NetError::Tap)?;
        let (Some((tap, _)), true) = (taps.first(), taps.len() <= self.pairs) else {
            return Err(NetError::Pairs {
                pairs: taps.len(),
                most: self.pairs,
            });
        };
        let udp_segments = Offloads {
            checksums: true,
            udp: true,
            ..Offloads::default()
        };
        let offloads = match tap.set_offloads(udp_segments) {
            Ok(()) => Offloaded::WithUdp,
            Err(_) => Offloaded::WithoutUdp,
        };
        tap.set_offloads(Offloads::default())
            .map_err(NetError::Tap)?;
        let mover = |(tap, vhost)| match vhost {
            Some(device) => {
                let vhost = VhostNet::new(device).map_err(NetError::Vhost)?;
                Ok(Mover::Kernel { vhost, tap })
            }
            None => Mover::thread(Box::new(tap), Arc::clone(&counters)),
        };
        let movers = || taps.into_iter().map(mover).collect();
        self.shared.plug(movers, mac, mtu, offloads)
    }

    /// Takes the NIC out and closes its link. A guest whose driver is still bound to it has one
    /// that neither sends nor receives, until it lets go of it.
    pub fn unplug(&self) {
        // Its threads are waited for without the lock.
        let nic = self.shared.lock().nic.take();
        drop(nic);
    }

    /// Whether a NIC can be plugged in.
    pub fn is_empty(&self) -> bool {
        self.shared.lock().nic.is_none()
    }

    /// What went over the link; `None` for an empty slot, and where the host's kernel moves the
    /// frames.
    pub fn statistics(&self) -> Option<NetStatistics> {
        let state = self.shared.lock();
        state.nic.as_ref()?.movers.first()?.statistics()
    }

    /// Commands of the guest that were refused, since the VM began.
    pub fn refused_commands(&self) -> u64 {
        self.shared.lock().refused_commands
    }
}
