//! The network half of the surroundings: the interfaces that an engine gave the container, which
//! the guest shows under the same names. Numbers without a comment are rtnetlink's.

use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};

/// One interface.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Interface {
    /// The number of its NIC among the VM's virtio devices.
    pub device: u32,
    /// Its name in the container.
    pub name: String,
    /// Its address on the link.
    pub mac: Vec<u8>,
    /// Its MTU.
    pub mtu: u32,
    /// Its own kernel parameters: a path below /proc/sys/net with `{}` for its name, and the
    /// value, in order.
    pub parameters: Vec<(String, String)>,
    /// Its addresses.
    pub addresses: Vec<Address>,
    /// Routes through it, apart from those that its addresses make.
    pub routes: Vec<Route>,
    /// Its permanent neighbours.
    pub neighbours: Vec<Neighbour>,
}

/// An address.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Address {
    /// The address.
    pub ip: IpAddr,
    /// The other end, on a point-to-point link.
    pub peer: Option<IpAddr>,
    /// Length of its network's prefix.
    pub prefix: u8,
    /// The network's broadcast address.
    pub broadcast: Option<Ipv4Addr>,
    /// Its scope.
    pub scope: u8,
    /// No route comes with it.
    pub no_prefix_route: bool,
    /// Metric of the route that comes with it.
    pub metric: Option<u32>,
}

/// A route of the main table.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Route {
    /// The network that it leads to.
    pub destination: IpAddr,
    /// Length of its prefix.
    pub prefix: u8,
    /// The next hop, unless the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// The gateway is on the link, whatever the addresses say.
    pub on_link: bool,
    /// Preferred source address.
    pub source: Option<IpAddr>,
    /// Its metric.
    pub metric: Option<u32>,
    /// MTU of its path.
    pub mtu: Option<u32>,
    /// Who made it.
    pub protocol: u8,
    /// Its scope.
    pub scope: u8,
}

/// A permanent neighbour.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Neighbour {
    /// Its address.
    pub ip: IpAddr,
    /// Its address on the link.
    pub mac: Vec<u8>,
}
