//! The guest's network interfaces, as the host says that the container's are.
//!
//! Called by `control` at `Start`, and when an engine changes a running container's networks. The
//! NICs are plugged in by then, in slots that the guest's kernel found empty when it booted: their
//! driver is bound first. Where it is unbound, the slot is as good as new.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use krun_gpu_netlink::{LinkChange, Netlink, NetlinkError};
use krun_gpu_protocol::Interface;

/// The transport's driver, in sysfs.
const DRIVER: &str = "/sys/bus/platform/drivers/virtio-mmio";

/// What can go wrong with an interface.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NetworkError {
    /// The kernel found no NIC.
    #[error("bind the driver of network interface `{name}` to {device}")]
    Bind {
        /// The interface.
        name: String,
        /// Its device.
        device: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The kernel keeps it.
    #[error("unbind the driver of a network interface from {device}")]
    Unbind {
        /// Its device.
        device: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The driver made no interface.
    #[error("find network interface `{name}` in `{}`", path.display())]
    Find {
        /// The interface.
        name: String,
        /// Where it was looked for.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// A kernel parameter of the interface's.
    #[error("write `{value}` to `{}` for network interface `{name}`", path.display())]
    Parameter {
        /// The interface.
        name: String,
        /// The parameter's file.
        path: PathBuf,
        /// The value.
        value: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// Its settings.
    #[error("set network interface `{name}` up")]
    Settings {
        /// The interface.
        name: String,
        /// What failed.
        #[source]
        source: NetlinkError,
    },
}

/// Brings another interface up; if it cannot be as it should, there is none.
pub(crate) fn add(interface: &Interface) -> Result<(), NetworkError> {
    set_up(interface).inspect_err(|_| {
        // The first failure is the one to tell.
        let _ = remove(interface.device);
    })
}

/// Takes the interface of a device away, and with it its addresses and routes.
pub(crate) fn remove(device: u32) -> Result<(), NetworkError> {
    let device = name_of(device);
    fs::write(format!("{DRIVER}/unbind"), &device)
        .map_err(|source| NetworkError::Unbind { device, source })
}

/// Brings one interface up with all that it has.
pub(crate) fn set_up(interface: &Interface) -> Result<(), NetworkError> {
    let name = &interface.name;
    let device = name_of(interface.device);
    fs::write(format!("{DRIVER}/bind"), &device).map_err(|source| NetworkError::Bind {
        name: name.clone(),
        device: device.clone(),
        source,
    })?;
    let path = Path::new("/sys/bus/platform/devices").join(&device);
    let first_name = find(&path).map_err(|source| NetworkError::Find {
        name: name.clone(),
        path,
        source,
    })?;
    let settings = |source| NetworkError::Settings {
        name: name.clone(),
        source,
    };
    let mut netlink = Netlink::open().map_err(settings)?;
    let index = netlink.link(&first_name).map_err(settings)?.index;
    let change = LinkChange {
        name: Some(name.clone()),
        mtu: Some(interface.mtu),
        // It has all of its addresses from the host.
        own_address: Some(false),
        up: None,
    };
    netlink.set_link(index, change).map_err(settings)?;
    parameters(interface)?;
    // First, as engines do it: what `arp_notify` announces is there when the link comes up.
    for address in &interface.addresses {
        netlink.add_address(index, address).map_err(settings)?;
    }
    let up = LinkChange {
        up: Some(true),
        ..LinkChange::default()
    };
    netlink.set_link(index, up).map_err(settings)?;
    for neighbour in &interface.neighbours {
        netlink.add_neighbour(index, neighbour).map_err(settings)?;
    }
    for route in &interface.routes {
        match netlink.add_route(index, route) {
            // An address brought it along.
            Err(error) if error.errno() == Some(libc::EEXIST) => {}
            result => result.map_err(settings)?,
        }
    }
    Ok(())
}

/// What the kernel calls a virtio device.
fn name_of(device: u32) -> String {
    format!("virtio-mmio.{device}")
}

/// The name that the kernel gave the interface of a device.
fn find(device: &Path) -> io::Result<String> {
    for entry in fs::read_dir(device)? {
        let nets = entry?.path().join("net");
        if let Some(net) = fs::read_dir(nets).ok().and_then(|mut nets| nets.next()) {
            return Ok(net?.file_name().to_string_lossy().into_owned());
        }
    }
    Err(io::ErrorKind::NotFound.into())
}

fn parameters(interface: &Interface) -> Result<(), NetworkError> {
    for (below, value) in &interface.parameters {
        let path = Path::new("/proc/sys/net").join(below.replace("{}", &interface.name));
        fs::write(&path, value).map_err(|source| NetworkError::Parameter {
            name: interface.name.clone(),
            path,
            value: value.clone(),
            source,
        })?;
    }
    Ok(())
}
