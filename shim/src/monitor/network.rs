//! NICs: the taps and sockets that `start` brings are plugged into the VM's slots.

use std::io;
use std::os::fd::OwnedFd;

use krun_gpu_protocol::Interface;
use krun_gpu_vmm::MicroVm;
use krun_gpu_vmm::devices::net::{NetError, NicConfig, NicLink};

/// Why a NIC cannot be plugged in.
#[derive(Debug, thiserror::Error)]
pub(super) enum PlugError {
    /// `start` sent something else.
    #[error("{interfaces} network interfaces came with {links} links; a VM has room for {room}")]
    Count {
        /// Interfaces.
        interfaces: usize,
        /// Taps or sockets.
        links: usize,
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

/// Plugs in a NIC for each of `interfaces` and notes its device.
pub(super) fn plug(
    vm: &MicroVm,
    interfaces: &mut [Interface],
    links: Vec<OwnedFd>,
    passt: bool,
) -> Result<(), PlugError> {
    let slots = vm.nic_slots();
    if interfaces.len() != links.len() || links.len() > slots.len() {
        return Err(PlugError::Count {
            interfaces: interfaces.len(),
            links: links.len(),
            room: slots.len(),
        });
    }
    for ((interface, link), slot) in interfaces.iter_mut().zip(links).zip(slots) {
        let mac = <[u8; 6]>::try_from(interface.mac.as_slice());
        let (Ok(mac), Ok(mtu)) = (mac, u16::try_from(interface.mtu)) else {
            return Err(PlugError::Link {
                name: interface.name.clone(),
                length: interface.mac.len(),
                mtu: interface.mtu,
            });
        };
        let link = match passt {
            true => NicLink::Stream(link),
            false => NicLink::Tap(link),
        };
        interface.device = u32::try_from(slot.index()).unwrap_or(u32::MAX);
        slot.plug(NicConfig { link, mac, mtu })
            .map_err(|source| PlugError::Nic {
                name: interface.name.clone(),
                source,
            })?;
    }
    Ok(())
}
