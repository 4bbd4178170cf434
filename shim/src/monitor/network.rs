//! NICs: the taps that `start` brings are plugged into the VM's slots.

use std::os::fd::OwnedFd;

use krun_gpu_protocol::Interface;
use krun_gpu_vmm::MicroVm;
use krun_gpu_vmm::devices::net::{NetError, NicConfig};

/// Why a NIC cannot be plugged in.
#[derive(Debug, thiserror::Error)]
pub(super) enum PlugError {
    /// `start` sent something else.
    #[error("{interfaces} network interfaces came with {taps} taps; a VM has room for {room}")]
    Count {
        /// Interfaces.
        interfaces: usize,
        /// Taps.
        taps: usize,
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
    taps: Vec<OwnedFd>,
) -> Result<(), PlugError> {
    let slots = vm.nic_slots();
    if interfaces.len() != taps.len() || taps.len() > slots.len() {
        return Err(PlugError::Count {
            interfaces: interfaces.len(),
            taps: taps.len(),
            room: slots.len(),
        });
    }
    for ((interface, tap), slot) in interfaces.iter_mut().zip(taps).zip(slots) {
        let mac = <[u8; 6]>::try_from(interface.mac.as_slice());
        let (Ok(mac), Ok(mtu)) = (mac, u16::try_from(interface.mtu)) else {
            return Err(PlugError::Link {
                name: interface.name.clone(),
                length: interface.mac.len(),
                mtu: interface.mtu,
            });
        };
        interface.device = u32::try_from(slot.index()).unwrap_or(u32::MAX);
        slot.plug(NicConfig { tap, mac, mtu })
            .map_err(|source| PlugError::Nic {
                name: interface.name.clone(),
                source,
            })?;
    }
    Ok(())
}
