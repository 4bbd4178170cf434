//! Addresses of interfaces.

use std::net::IpAddr;

use krun_gpu_protocol::Address;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::connection::{Netlink, NetlinkError};

impl Netlink {
    /// The addresses of an interface.
    pub fn addresses(&mut self, index: u32) -> Result<Vec<Address>, NetlinkError> {
        let request = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        let list = self.dump("list the addresses", request)?;
        let read = list.iter().filter_map(|message| match message {
            RouteNetlinkMessage::NewAddress(message) if message.header.index == index => {
                read(message)
            }
            _ => None,
        });
        Ok(read.collect())
    }

    /// Gives an interface an address, which nobody else on the link is asked about.
    pub fn add_address(&mut self, index: u32, address: &Address) -> Result<(), NetlinkError> {
        let doing = format!("add the address {}/{}", address.ip, address.prefix);
        let message = RouteNetlinkMessage::NewAddress(write(index, address));
        self.change(doing, message, NLM_F_CREATE | NLM_F_EXCL)
    }

    /// Takes an address away.
    pub fn remove_address(&mut self, index: u32, address: &Address) -> Result<(), NetlinkError> {
        let doing = format!("remove the address {}/{}", address.ip, address.prefix);
        let message = RouteNetlinkMessage::DelAddress(write(index, address));
        self.change(doing, message, 0)
    }
}

fn write(index: u32, address: &Address) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family(address.ip);
    message.header.prefix_len = address.prefix;
    message.header.scope = address.scope.into();
    message.header.index = index;
    message.header.flags = AddressHeaderFlags::Permanent;
    let mut flags = AddressFlags::Permanent;
    if address.ip.is_ipv6() {
        flags |= AddressFlags::Nodad;
    }
    if address.no_prefix_route {
        flags |= AddressFlags::Noprefixroute;
    }
    let attributes = &mut message.attributes;
    attributes.push(AddressAttribute::Local(address.ip));
    attributes.push(AddressAttribute::Address(
        address.peer.unwrap_or(address.ip),
    ));
    attributes.extend(address.broadcast.map(AddressAttribute::Broadcast));
    attributes.push(AddressAttribute::Flags(flags));
    attributes.extend(address.metric.map(AddressAttribute::RoutePriority));
    message
}

fn read(message: &AddressMessage) -> Option<Address> {
    let (mut local, mut other, mut broadcast, mut metric) = (None, None, None, None);
    let mut no_prefix_route = false;
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(ip) => local = Some(*ip),
            AddressAttribute::Address(ip) => other = Some(*ip),
            AddressAttribute::Broadcast(ip) => broadcast = Some(*ip),
            AddressAttribute::RoutePriority(value) => metric = Some(*value),
            AddressAttribute::Flags(flags) => {
                no_prefix_route = flags.contains(AddressFlags::Noprefixroute);
            }
            _ => {}
        }
    }
    // IPv6 has the attribute for a local address only where there is a peer.
    let ip = local.or(other)?;
    Some(Address {
        ip,
        peer: other.filter(|other| *other != ip),
        prefix: message.header.prefix_len,
        broadcast,
        scope: message.header.scope.into(),
        no_prefix_route,
        metric,
    })
}

pub(crate) fn family(ip: IpAddr) -> AddressFamily {
    match ip {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_as_it_was_written() {
        for address in [
            Address {
                ip: [10, 88, 0, 2].into(),
                peer: None,
                prefix: 16,
                broadcast: Some([10, 88, 255, 255].into()),
                scope: 0,
                no_prefix_route: false,
                metric: None,
            },
            Address {
                ip: [0xfe80, 0, 0, 0, 0, 0, 0, 1].into(),
                peer: None,
                prefix: 64,
                broadcast: None,
                scope: 253,
                no_prefix_route: true,
                metric: Some(7),
            },
            Address {
                ip: [192, 0, 2, 1].into(),
                peer: Some([192, 0, 2, 2].into()),
                prefix: 32,
                broadcast: None,
                scope: 0,
                no_prefix_route: false,
                metric: None,
            },
        ] {
            assert_eq!(read(&write(3, &address)), Some(address));
        }
    }
}
