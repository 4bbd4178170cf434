//! A NIC's place in the VM, and its owner's hold on it.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::NetError;
use super::counters::{Counters, NetStatistics};
use super::stream::{FrameStream, LONGEST_MTU};
use super::wire::Wire;
use super::worker::WorkerHandle;
use crate::sys::tap::{Offloads, Tap};

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
    /// A tap with virtio-net headers (IFF_TAP, IFF_NO_PI, IFF_VNET_HDR).
    Tap(OwnedFd),
    /// A stream socket: whole frames with their length in front, as passt speaks.
    Stream(OwnedFd),
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
}

/// A NIC in its slot.
#[derive(Debug)]
pub(super) struct Nic {
    pub(super) mac: [u8; 6],
    pub(super) mtu: u16,
    pub(super) offloads: Offloaded,
    pub(super) counters: Arc<Counters>,
    pub(super) worker: WorkerHandle,
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn plug(
        &self,
        wire: Box<dyn Wire>,
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
        let counters = Arc::<Counters>::default();
        let worker = WorkerHandle::start(wire, Arc::clone(&counters))?;
        state.nic = Some(Nic {
            mac,
            mtu,
            offloads,
            counters,
            worker,
        });
        Ok(())
    }
}

impl NicSlot {
    pub(super) fn new(index: usize, shared: Arc<Shared>) -> Self {
        Self { index, shared }
    }

    /// The number of the slot's device among the VM's: N of `virtio-mmio.N` in a Linux guest.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Plugs a NIC in. A guest that looked at the empty slot before does not look again by
    /// itself: somebody in it has to bind the driver.
    pub fn plug(&self, config: NicConfig) -> Result<(), NetError> {
        let NicConfig { link, mac, mtu } = config;
        let descriptor = match link {
            NicLink::Tap(descriptor) => descriptor,
            NicLink::Stream(socket) => {
                let failed = |source| NetError::Socket { mtu, source };
                if mtu > LONGEST_MTU {
                    return Err(failed(io::ErrorKind::InvalidInput.into()));
                }
                let wire = FrameStream::new(socket).map_err(failed)?;
                let wire = Box::new(wire);
                return self.shared.plug(wire, mac, mtu, Offloaded::Nothing);
            }
        };
        let tap = Tap::new(descriptor).map_err(NetError::Tap)?;
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
        self.shared.plug(Box::new(tap), mac, mtu, offloads)
    }

    /// Takes the NIC out and closes its link. A guest whose driver is still bound to it has one
    /// that neither sends nor receives, until it lets go of it.
    pub fn unplug(&self) {
        // Its thread is waited for without the lock.
        let nic = self.shared.lock().nic.take();
        drop(nic);
    }

    /// Whether a NIC can be plugged in.
    pub fn is_empty(&self) -> bool {
        self.shared.lock().nic.is_none()
    }

    /// What went over the link; `None` for an empty slot.
    pub fn statistics(&self) -> Option<NetStatistics> {
        let state = self.shared.lock();
        state.nic.as_ref().map(|nic| nic.counters.statistics())
    }
}
