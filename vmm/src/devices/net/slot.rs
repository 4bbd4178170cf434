//! A NIC's place in the VM, and its owner's hold on it.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::NetError;
use super::counters::NetStatistics;
use super::mover::Mover;
use super::stream::{FrameStream, LONGEST_MTU};
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
    /// A tap with virtio-net headers (IFF_TAP, IFF_NO_PI, IFF_VNET_HDR), and an open
    /// /dev/vhost-net, if the host's kernel is to move its frames.
    Tap {
        /// The tap.
        tap: OwnedFd,
        /// Its vhost-net.
        vhost: Option<OwnedFd>,
    },
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
    pub(super) mover: Mover,
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn plug(
        &self,
        mover: impl FnOnce() -> Result<Mover, NetError>,
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
        state.nic = Some(Nic {
            mac,
            mtu,
            offloads,
            mover: mover()?,
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
        let (descriptor, vhost) = match link {
            NicLink::Tap { tap, vhost } => (tap, vhost),
            NicLink::Stream(socket) => {
                let failed = |source| NetError::Socket { mtu, source };
                if mtu > LONGEST_MTU {
                    return Err(failed(io::ErrorKind::InvalidInput.into()));
                }
                let wire = FrameStream::new(socket).map_err(failed)?;
                let mover = || Mover::thread(Box::new(wire));
                return self.shared.plug(mover, mac, mtu, Offloaded::Nothing);
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
        let mover = || match vhost {
            Some(device) => {
                let vhost = VhostNet::new(device).map_err(NetError::Vhost)?;
                Ok(Mover::Kernel { vhost, tap })
            }
            None => Mover::thread(Box::new(tap)),
        };
        self.shared.plug(mover, mac, mtu, offloads)
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

    /// What went over the link; `None` for an empty slot, and where the host's kernel moves the
    /// frames.
    pub fn statistics(&self) -> Option<NetStatistics> {
        let state = self.shared.lock();
        state.nic.as_ref()?.mover.statistics()
    }
}
