//! Network interfaces.

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoKind, LinkAttribute, LinkFlags, LinkInfo,
    LinkLayerType, LinkMessage,
};

use crate::connection::{Netlink, NetlinkError};

/// An interface.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Link {
    /// Its number.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its address on the link.
    pub address: Vec<u8>,
    /// Its MTU.
    pub mtu: u32,
    /// It is up.
    pub up: bool,
    /// It is the loopback interface.
    pub loopback: bool,
    /// Its frames are Ethernet's.
    pub ethernet: bool,
    /// It is a tun or tap, whose other end is a process.
    pub tun: bool,
}

/// Changes of an interface; what is `None` stays.
#[derive(Clone, Debug, Default)]
pub struct LinkChange {
    /// Its name.
    pub name: Option<String>,
    /// Its MTU.
    pub mtu: Option<u32>,
    /// Up or down.
    pub up: Option<bool>,
    /// Whether the kernel makes an IPv6 address of its own when the interface comes up.
    pub own_address: Option<bool>,
}

impl Netlink {
    /// Every interface.
    pub fn links(&mut self) -> Result<Vec<Link>, NetlinkError> {
        let request = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let links = self.dump("list the network interfaces", request)?;
        let read = links.iter().filter_map(|message| match message {
            RouteNetlinkMessage::NewLink(message) => Some(read(message)),
            _ => None,
        });
        Ok(read.collect())
    }

    /// The interface with this name.
    pub fn link(&mut self, name: &str) -> Result<Link, NetlinkError> {
        let mut links = self.links()?.into_iter();
        links
            .find(|link| link.name == name)
            .ok_or_else(|| NetlinkError::NoLink {
                name: name.to_owned(),
            })
    }

    /// Changes an interface.
    pub fn set_link(&mut self, index: u32, change: LinkChange) -> Result<(), NetlinkError> {
        let doing = format!("change network interface {index}: {change:?}");
        let mut message = LinkMessage::default();
        message.header.index = index;
        if let Some(up) = change.up {
            message.header.change_mask = LinkFlags::Up;
            if up {
                message.header.flags = LinkFlags::Up;
            }
        }
        message
            .attributes
            .extend(change.name.map(LinkAttribute::IfName));
        message
            .attributes
            .extend(change.mtu.map(LinkAttribute::Mtu));
        message.attributes.extend(change.own_address.map(|own| {
            let mode = match own {
                true => In6AddrGenMode::Eui64,
                false => In6AddrGenMode::None,
            };
            LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(
                mode,
            )])])
        }));
        self.change(doing, RouteNetlinkMessage::SetLink(message), 0)
    }
}

fn read(message: &LinkMessage) -> Link {
    let header = &message.header;
    let mut link = Link {
        index: header.index,
        name: String::new(),
        address: Vec::new(),
        mtu: 0,
        up: header.flags.contains(LinkFlags::Up),
        loopback: header.flags.contains(LinkFlags::Loopback),
        ethernet: header.link_layer_type == LinkLayerType::Ether,
        tun: false,
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Address(address) => link.address.clone_from(address),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::LinkInfo(infos) => {
                link.tun = infos.contains(&LinkInfo::Kind(InfoKind::Tun));
            }
            _ => {}
        }
    }
    link
}
