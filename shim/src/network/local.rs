//! Ports that an ordinary user's engine publishes.
//!
//! pasta and Podman's port forwarder open a socket inside the container's network namespace and
//! connect it to the container's own address, which never leaves that namespace. So the address
//! moves to the guest: the namespace loses it, and gets a route to it through the tap. The
//! guest finds the way back by a neighbour of its own. Nothing is translated.
//!
//! Only a user's engine does so, and its namespaces end with the container; others stay as they
//! were.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use krun_gpu_netlink::{Link, Netlink};
use krun_gpu_protocol::{Address, Interface, Neighbour, Route};

use super::{NetworkError, redirect};

/// Who the guest hears from: addresses of the link alone, beside those that pasta uses.
const HERE: Ipv4Addr = Ipv4Addr::new(169, 254, 77, 1);
const HERE6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0x6b72, 0x756e, 0x6770, 0x7501);

/// `RTPROT_BOOT`, what ip(8) writes without being told.
const PROTOCOL: u8 = 3;

/// `RT_SCOPE_UNIVERSE` and `RT_SCOPE_LINK`.
const UNIVERSE: u8 = 0;
const LINK: u8 = 253;

/// Moves the addresses of `link` to the guest behind `tap`.
pub(super) fn lead_to_guest(
    netlink: &mut Netlink,
    link: &Link,
    tap: &Link,
    interface: &mut Interface,
) -> Result<(), NetworkError> {
    redirect::keep_own(netlink, tap)?;
    let addresses = interface.addresses.clone();
    let moved: Vec<&Address> = addresses
        .iter()
        .filter(|address| address.scope == UNIVERSE)
        .collect();
    for (here, prefix) in [(IpAddr::V4(HERE), 32), (IpAddr::V6(HERE6), 128)] {
        let of_family = |address: &&&Address| address.ip.is_ipv4() == here.is_ipv4();
        if moved.iter().any(|address| of_family(&address)) {
            netlink.add_address(tap.index, &own(here, prefix))?;
            interface.neighbours.push(Neighbour {
                ip: here,
                mac: tap.address.clone(),
            });
            if here.is_ipv4() {
                interface.routes.insert(0, host_route(here, None));
            }
        }
        for address in moved.iter().filter(of_family) {
            netlink.remove_address(link.index, address)?;
            let guest = Neighbour {
                ip: address.ip,
                mac: link.address.clone(),
            };
            netlink.add_neighbour(tap.index, &guest)?;
            netlink.add_route(tap.index, &host_route(address.ip, Some(here)))?;
        }
    }
    Ok(())
}

fn own(ip: IpAddr, prefix: u8) -> Address {
    Address {
        ip,
        peer: None,
        prefix,
        broadcast: None,
        scope: LINK,
        no_prefix_route: true,
        metric: None,
    }
}

fn host_route(ip: IpAddr, source: Option<IpAddr>) -> Route {
    Route {
        destination: ip,
        prefix: if ip.is_ipv4() { 32 } else { 128 },
        gateway: None,
        on_link: false,
        source,
        metric: None,
        mtu: None,
        protocol: PROTOCOL,
        scope: if ip.is_ipv4() { LINK } else { UNIVERSE },
    }
}
