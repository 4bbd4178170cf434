//! Routes of the main table.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use krun_gpu_protocol::Route;
use netlink_packet_core::{NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteMetric, RouteType,
};

use crate::address::family;
use crate::connection::{Netlink, NetlinkError};

/// `RTPROT_KERNEL`: it came with an address.
const BY_KERNEL: u8 = 2;

impl Netlink {
    /// The unicast routes through an interface that did not come with its addresses, in an order
    /// in which they can be made.
    pub fn routes(&mut self, index: u32) -> Result<Vec<Route>, NetlinkError> {
        let mut routes = Vec::new();
        for any in [
            IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        ] {
            let mut request = RouteMessage::default();
            request.header.address_family = family(any);
            let list = self.dump("list the routes", RouteNetlinkMessage::GetRoute(request))?;
            routes.extend(list.iter().filter_map(|message| match message {
                RouteNetlinkMessage::NewRoute(message) => read(message, any, index),
                _ => None,
            }));
        }
        routes.retain(|route| route.protocol != BY_KERNEL);
        // A gateway may be reached by another route only.
        routes.sort_by_key(|route| route.gateway.is_some());
        Ok(routes)
    }

    /// Makes a route through an interface.
    pub fn add_route(&mut self, index: u32, route: &Route) -> Result<(), NetlinkError> {
        let doing = format!("add the route to {}/{}", route.destination, route.prefix);
        let message = RouteNetlinkMessage::NewRoute(write(index, route));
        // Two networks may each have a default route of the same metric: the first is used. IPv6
        // would make one route with two hops of them.
        let flags = match route.destination {
            IpAddr::V4(_) => NLM_F_CREATE | NLM_F_APPEND,
            IpAddr::V6(_) => NLM_F_CREATE | NLM_F_EXCL,
        };
        self.change(doing, message, flags)
    }
}

fn write(index: u32, route: &Route) -> RouteMessage {
    let mut message = RouteMessage::default();
    let header = &mut message.header;
    header.address_family = family(route.destination);
    header.destination_prefix_length = route.prefix;
    header.table = RouteHeader::RT_TABLE_MAIN;
    header.protocol = route.protocol.into();
    header.scope = route.scope.into();
    header.kind = RouteType::Unicast;
    if route.on_link {
        header.flags = RouteFlags::Onlink;
    }
    let attributes = &mut message.attributes;
    if route.prefix > 0 {
        attributes.push(RouteAttribute::Destination(route.destination.into()));
    }
    let gateway = route.gateway.map(RouteAddress::from);
    attributes.extend(gateway.map(RouteAttribute::Gateway));
    let source = route.source.map(RouteAddress::from);
    attributes.extend(source.map(RouteAttribute::PrefSource));
    attributes.extend(route.metric.map(RouteAttribute::Priority));
    let mtu = route.mtu.map(|mtu| vec![RouteMetric::Mtu(mtu)]);
    attributes.extend(mtu.map(RouteAttribute::Metrics));
    attributes.push(RouteAttribute::Oif(index));
    message
}

/// `None` for a route of another table, kind or interface.
fn read(message: &RouteMessage, any: IpAddr, index: u32) -> Option<Route> {
    let header = &message.header;
    let main = u32::from(RouteHeader::RT_TABLE_MAIN);
    let (mut table, mut output) = (u32::from(header.table), None);
    let mut route = Route {
        destination: any,
        prefix: header.destination_prefix_length,
        gateway: None,
        on_link: header.flags.contains(RouteFlags::Onlink),
        source: None,
        metric: None,
        mtu: None,
        protocol: header.protocol.into(),
        scope: header.scope.into(),
    };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Table(number) => table = *number,
            RouteAttribute::Oif(number) => output = Some(*number),
            RouteAttribute::Destination(ip) => route.destination = address(ip)?,
            RouteAttribute::Gateway(ip) => route.gateway = Some(address(ip)?),
            RouteAttribute::PrefSource(ip) => route.source = Some(address(ip)?),
            RouteAttribute::Priority(metric) => route.metric = Some(*metric),
            RouteAttribute::Metrics(metrics) => {
                route.mtu = metrics.iter().find_map(|metric| match metric {
                    RouteMetric::Mtu(mtu) => Some(*mtu),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    let ours = header.kind == RouteType::Unicast
        && !header.flags.contains(RouteFlags::Cloned)
        && table == main
        && output == Some(index);
    ours.then_some(route)
}

fn address(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some(IpAddr::V4(*ip)),
        RouteAddress::Inet6(ip) => Some(IpAddr::V6(*ip)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_is_read_as_it_was_written() {
        let default = Route {
            destination: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            prefix: 0,
            gateway: Some([10, 88, 0, 1].into()),
            on_link: true,
            source: None,
            metric: Some(100),
            mtu: Some(1400),
            protocol: 4,
            scope: 0,
        };
        let network = Route {
            destination: [0xfd00, 0, 0, 0, 0, 0, 0, 0].into(),
            prefix: 64,
            gateway: None,
            on_link: false,
            source: Some([0xfd00, 0, 0, 0, 0, 0, 0, 5].into()),
            metric: None,
            mtu: None,
            protocol: 3,
            scope: 253,
        };
        for (route, any) in [
            (default, IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
            (network, IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
        ] {
            let message = write(3, &route);
            assert_eq!(read(&message, any, 4), None);
            assert_eq!(read(&message, any, 3), Some(route));
        }
    }
}
