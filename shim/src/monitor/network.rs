//! NICs: the taps and sockets that `start` brings are plugged into the VM's slots, and so are those
//! that `network::watcher` brings while the container runs.
//!
//! The guest's agent binds and unbinds the driver. Whatever it answers, a slot is emptied when its
//! interface is gone from the host.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;

use krun_gpu_protocol::{AgentError, ErrorKind, Interface, Reply, RequestBody};
use krun_gpu_vmm::MicroVm;
use krun_gpu_vmm::devices::net::{NetError, NicConfig, NicLink, TapQueue};

use super::agent::AgentFault;
use super::clients::ClientId;
use super::workload::Phase;
use super::{Monitor, Waiting};
use crate::network::LinkKind;
use crate::report;

/// Why a NIC cannot be plugged in.
#[derive(Debug, thiserror::Error)]
pub(super) enum PlugError {
    /// Somebody sent something else.
    #[error("{interfaces} network interfaces came with {links} links")]
    Count {
        /// Interfaces.
        interfaces: usize,
        /// Taps or sockets.
        links: usize,
    },
    /// Every slot is taken.
    #[error("network interface `{name}`: the VM has room for {room}")]
    Full {
        /// Its name.
        name: String,
        /// Slots.
        room: usize,
    },
    /// A link that no NIC has.
    #[error("network interface `{name}` has an address of {length} bytes and an MTU of {mtu}")]
    Link {
        /// Its name.
        name: String,
        /// The length of its address.
        length: usize,
        /// Its MTU.
        mtu: u32,
    },
    /// Its socket.
    #[error("watch passt")]
    Watch(#[source] io::Error),
    /// The device.
    #[error("network interface `{name}`")]
    Nic {
        /// Its name.
        name: String,
        /// The reason.
        #[source]
        source: NetError,
    },
}

/// Which interface is in which of the VM's slots.
#[derive(Debug, Default)]
pub(super) struct Nics {
    slots: BTreeMap<String, usize>,
}

impl Nics {
    /// Plugs in a NIC for each of `interfaces` and notes its device.
    pub(super) fn plug_all(
        &mut self,
        vm: &MicroVm,
        interfaces: &mut [Interface],
        links: Vec<OwnedFd>,
        kind: LinkKind,
    ) -> Result<(), PlugError> {
        let links = sort(interfaces.len(), links, kind)?;
        for (interface, link) in interfaces.iter_mut().zip(links) {
            self.plug(vm, interface, link)?;
        }
        Ok(())
    }

    /// Plugs in a NIC for `interface` and notes its device; its slot.
    fn plug(
        &mut self,
        vm: &MicroVm,
        interface: &mut Interface,
        link: NicLink,
    ) -> Result<usize, PlugError> {
        let name = &interface.name;
        let mac = <[u8; 6]>::try_from(interface.mac.as_slice());
        let (Ok(mac), Ok(mtu)) = (mac, u16::try_from(interface.mtu)) else {
            return Err(PlugError::Link {
                name: name.clone(),
                length: interface.mac.len(),
                mtu: interface.mtu,
            });
        };
        let slots = vm.nic_slots();
        let mut empty = slots.iter().enumerate().filter(|(_, slot)| slot.is_empty());
        let (number, slot) = empty.next().ok_or_else(|| PlugError::Full {
            name: name.clone(),
            room: slots.len(),
        })?;
        interface.device = device(slot.index());
        slot.plug(NicConfig { link, mac, mtu })
            .map_err(|source| PlugError::Nic {
                name: name.clone(),
                source,
            })?;
        self.slots.insert(name.clone(), number);
        Ok(number)
    }

    /// Empties a slot.
    fn unplug(&mut self, vm: &MicroVm, number: usize) {
        self.slots.retain(|_, slot| *slot != number);
        if let Some(slot) = vm.nic_slots().get(number) {
            slot.unplug();
        }
    }
}

/// The link of each of `count` interfaces, all of one kind.
fn sort(count: usize, mut links: Vec<OwnedFd>, kind: LinkKind) -> Result<Vec<NicLink>, PlugError> {
    let wrong = PlugError::Count {
        interfaces: count,
        links: links.len(),
    };
    if count == 0 || links.is_empty() {
        return match (count, links.len()) {
            (0, 0) => Ok(Vec::new()),
            _ => Err(wrong),
        };
    }
    let (taps, vhosts) = match kind {
        LinkKind::Sockets if links.len() == count => {
            return Ok(links.into_iter().map(NicLink::Stream).collect());
        }
        LinkKind::TapsAndVhosts if links.len().is_multiple_of(2 * count) => {
            let vhosts = links.split_off(links.len() / 2);
            (links, vhosts)
        }
        LinkKind::Taps if links.len().is_multiple_of(count) => (links, Vec::new()),
        _ => return Err(wrong),
    };
    let pairs = taps.len() / count;
    let mut taps = taps.into_iter();
    let mut vhosts = vhosts.into_iter();
    let mut next = || {
        let queues = taps.by_ref().take(pairs).map(|tap| TapQueue {
            tap,
            vhost: vhosts.next(),
        });
        NicLink::Tap(queues.collect())
    };
    Ok((0..count).map(|_| next()).collect())
}

impl Monitor {
    /// A client brings an interface.
    pub(super) fn plug(
        &mut self,
        client: ClientId,
        mut interface: Interface,
        kind: LinkKind,
    ) -> Result<(), AgentFault> {
        let links = self.clients.take_descriptors(client);
        let refused = if self.phase == Phase::Running {
            let link = sort(1, links, kind).map(|mut links| links.pop());
            let plugged = link.and_then(|link| match link {
                Some(link) => self.nics.plug(&self.vm, &mut interface, link),
                None => Err(PlugError::Count {
                    interfaces: 1,
                    links: 0,
                }),
            });
            match plugged {
                Ok(slot) => {
                    let body = RequestBody::AddInterface(Box::new(interface));
                    return self.request(body, Waiting::Plug(client, slot));
                }
                Err(error) => report::chain(&error),
            }
        } else {
            NOT_RUNNING.to_owned()
        };
        self.clients.answer(client, Err(refusal(refused)));
        Ok(())
    }

    /// The agent has set it up, or not.
    pub(super) fn plugged(
        &mut self,
        client: ClientId,
        slot: usize,
        result: Result<Reply, AgentError>,
    ) {
        if result.is_err() {
            self.nics.unplug(&self.vm, slot);
        }
        self.clients.answer(client, result);
    }

    /// A client takes an interface away.
    pub(super) fn unplug(&mut self, client: ClientId, name: &str) -> Result<(), AgentFault> {
        let number = self.nics.slots.get(name).copied();
        let slot = number.and_then(|number| self.vm.nic_slots().get(number));
        let refused = match (self.phase, number, slot) {
            (Phase::Running, Some(number), Some(slot)) => {
                let device = device(slot.index());
                let body = RequestBody::RemoveInterface { device };
                return self.request(body, Waiting::Unplug(client, number));
            }
            (Phase::Running, ..) => format!("the guest has no network interface `{name}`"),
            _ => NOT_RUNNING.to_owned(),
        };
        self.clients.answer(client, Err(refusal(refused)));
        Ok(())
    }

    /// The agent has let go of it, or not.
    pub(super) fn unplugged(
        &mut self,
        client: ClientId,
        slot: usize,
        result: Result<Reply, AgentError>,
    ) {
        self.nics.unplug(&self.vm, slot);
        self.clients.answer(client, result);
    }
}

const NOT_RUNNING: &str = "the container is not running";

fn refusal(message: String) -> AgentError {
    AgentError {
        kind: ErrorKind::Refused,
        message,
        errno: 0,
    }
}

/// A slot's device, as the agent is told.
fn device(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}
