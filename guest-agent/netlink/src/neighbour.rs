//! Neighbours that somebody entered by hand.

use std::net::IpAddr;

use krun_gpu_protocol::Neighbour;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::RouteType;

use crate::address::family;
use crate::connection::{Netlink, NetlinkError};

impl Netlink {
    /// The permanent neighbours of an interface.
    pub fn neighbours(&mut self, index: u32) -> Result<Vec<Neighbour>, NetlinkError> {
        let request = RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default());
        let list = self.dump("list the neighbours", request)?;
        let read = list.iter().filter_map(|message| match message {
            RouteNetlinkMessage::NewNeighbour(message)
                if message.header.ifindex == index
                    && message.header.state == NeighbourState::Permanent =>
            {
                read(message)
            }
            _ => None,
        });
        Ok(read.collect())
    }

    /// Enters a permanent neighbour.
    pub fn add_neighbour(&mut self, index: u32, neighbour: &Neighbour) -> Result<(), NetlinkError> {
        let doing = format!("add the neighbour {}", neighbour.ip);
        let message = RouteNetlinkMessage::NewNeighbour(write(index, neighbour));
        self.change(doing, message, NLM_F_CREATE | NLM_F_REPLACE)
    }
}

fn write(index: u32, neighbour: &Neighbour) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family(neighbour.ip);
    message.header.ifindex = index;
    message.header.state = NeighbourState::Permanent;
    message.header.kind = RouteType::Unicast;
    let destination = match neighbour.ip {
        IpAddr::V4(ip) => NeighbourAddress::Inet(ip),
        IpAddr::V6(ip) => NeighbourAddress::Inet6(ip),
    };
    message.attributes = vec![
        NeighbourAttribute::Destination(destination),
        NeighbourAttribute::LinkLayerAddress(neighbour.mac.clone()),
    ];
    message
}

fn read(message: &NeighbourMessage) -> Option<Neighbour> {
    let (mut ip, mut mac) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => {
                ip = Some(IpAddr::V4(*v4));
            }
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => {
                ip = Some(IpAddr::V6(*v6));
            }
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = Some(bytes.clone()),
            _ => {}
        }
    }
    Some(Neighbour { ip: ip?, mac: mac? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_neighbour_is_read_as_it_was_written() {
        let neighbour = Neighbour {
            ip: [10, 88, 0, 1].into(),
            mac: vec![2, 0, 0, 0, 0, 1],
        };
        assert_eq!(read(&write(3, &neighbour)), Some(neighbour));
    }
}
