//! What an engine has made of an interface: the settings that the guest takes over.

use std::fs;
use std::io;
use std::path::Path;

use krun_gpu_netlink::{Link, Netlink};
use krun_gpu_protocol::Interface;

use super::NetworkError;

/// Kernel parameters of interfaces that engines set, below /proc/sys/net.
const PARAMETERS: [&str; 6] = [
    "ipv4/conf/{}/arp_notify",
    "ipv4/conf/{}/rp_filter",
    "ipv4/conf/{}/route_localnet",
    "ipv6/conf/{}/disable_ipv6",
    "ipv6/conf/{}/accept_ra",
    "ipv6/conf/{}/autoconf",
];

/// Reads the settings of `link`, in whose namespace this thread is.
pub(super) fn read(netlink: &mut Netlink, link: &Link) -> Result<Interface, NetworkError> {
    let mut parameters = Vec::new();
    for below in PARAMETERS {
        let path = Path::new("/proc/sys/net").join(below.replace("{}", &link.name));
        match fs::read_to_string(&path) {
            Ok(value) => parameters.push((below.to_owned(), value.trim().to_owned())),
            // A kernel without IPv6.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(NetworkError::Parameter { path, source }),
        }
    }
    Ok(Interface {
        device: 0,
        name: link.name.clone(),
        mac: link.address.clone(),
        mtu: link.mtu,
        parameters,
        addresses: netlink.addresses(link.index)?,
        routes: netlink.routes(link.index)?,
        neighbours: netlink.neighbours(link.index)?,
    })
}
