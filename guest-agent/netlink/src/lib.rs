//! Interfaces, addresses, routes and neighbours over rtnetlink(7).
//!
//! The host reads what an engine made in a container's network namespace, the agent makes the
//! same in the guest, with the forms of the agent protocol in between. [`Netlink`] is a blocking
//! connection to the namespace of the thread that opened it; what it sends and gets are messages
//! of `netlink-packet-route`.

mod address;
mod connection;
mod link;
mod neighbour;
mod route;
mod watch;

pub use connection::{Netlink, NetlinkError};
pub use link::{Link, LinkChange};
pub use watch::Watch;
