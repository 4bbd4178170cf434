//! The container's network: each interface that an engine put into the container's network
//! namespace is joined to a tap, whose other end is a NIC of the VM.
//!
//! `start` calls [`join`], since an engine may set the namespace up between `create` and `start`;
//! the monitor plugs the taps in and the guest's agent takes over names, addresses and routes.
//! `delete` calls [`part`]. Frames are passed on by the kernel's traffic control (`redirect`), so
//! the engine's interfaces, with their firewall rules and their neighbours, stay as they are.
//!
//! Nothing here comes from the guest. The work is done in a thread that enters the namespace.

mod interface;
mod local;
mod namespace;
mod redirect;
mod tap;

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use krun_gpu_netlink::{Link, Netlink, NetlinkError};
use krun_gpu_protocol::Interface;
use serde::{Deserialize, Serialize};

use self::namespace::Namespace;
pub(crate) use self::tap::DEVICE as TUN;
use crate::host;
use crate::state::Container;

/// Network interfaces that a container can have beside loopback: its VM boots with a slot for
/// each. An empty slot costs the guest three accesses to its registers.
pub(crate) const MOST_INTERFACES: u8 = 8;

/// What our taps' names begin with.
pub(crate) const TAP_PREFIX: &str = "krun-";

/// What can go wrong with a container's network.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NetworkError {
    /// The namespace cannot be reached.
    #[error("enter the container's network namespace")]
    Namespace(#[source] io::Error),
    /// Its interfaces cannot be read or changed.
    #[error("join the container's network")]
    Netlink(#[from] NetlinkError),
    /// There are too many.
    #[error(
        "the container has {count} network interfaces beside loopback, its VM has room for \
         {MOST_INTERFACES}"
    )]
    TooMany {
        /// How many there are.
        count: usize,
    },
    /// Somebody else redirects its frames.
    #[error(
        "network interface `{name}` of the container has an ingress qdisc: something else \
         handles its frames"
    )]
    Taken {
        /// Its name.
        name: String,
    },
    /// There is no tap to be had.
    #[error("make a tap with /dev/net/tun for network interface `{name}`")]
    Tap {
        /// The interface's name.
        name: String,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// A kernel parameter cannot be read.
    #[error("read {} of the container's network namespace", path.display())]
    Parameter {
        /// Its file.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// The thread in the namespace.
    #[error("start a thread for the container's network namespace")]
    Thread(#[source] io::Error),
}

/// A container's network, joined.
#[derive(Debug, Default)]
pub(crate) struct Network {
    /// The guest's interfaces; their devices are not chosen yet.
    pub(crate) interfaces: Vec<Interface>,
    /// A tap for each of them.
    pub(crate) taps: Vec<OwnedFd>,
    /// What the user should know of it.
    pub(crate) notice: Option<String>,
    /// What is left in the namespace when the VM is gone.
    pub(crate) record: Option<NetworkRecord>,
}

/// What `delete` has to take out of a network namespace that is still there.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct NetworkRecord {
    /// The namespace.
    namespace: namespace::Identity,
    /// The interfaces that were joined.
    interfaces: Vec<String>,
}

impl Network {
    /// No network, and why the user finds none.
    fn absent(notice: String) -> Self {
        Self {
            notice: Some(notice),
            ..Self::default()
        }
    }
}

/// Joins the network of the container whose VMM is the process `pid`. `None` if it has loopback
/// alone, and a notice if it has more than its VM can have.
pub(crate) fn join(container: &Container, pid: i32) -> Result<Network, NetworkError> {
    if container.record.placeholder {
        // The pod's network is for those that come next.
        return Ok(Network::default());
    }
    let path = PathBuf::from(format!("/proc/{pid}/ns/net"));
    let namespace = Namespace::open(&path).map_err(NetworkError::Namespace)?;
    if namespace.is_ours().map_err(NetworkError::Namespace)? {
        return Ok(Network::absent(
            "the container shares the host's network, which its VM cannot: it has loopback only"
                .to_owned(),
        ));
    }
    if let Some(neighbour) = container.record.network.as_deref().and_then(neighbour) {
        return Ok(Network::absent(format!(
            "the container shares the network of process {neighbour}, which its VM cannot: it has \
             loopback only"
        )));
    }
    let identity = namespace.identity();
    let takes_addresses = host::is_rootless();
    namespace.enter(move || join_here(identity, takes_addresses))?
}

/// Takes our filters off interfaces that outlived the VM.
pub(crate) fn part(record: &NetworkRecord, path: &Path) -> Result<(), NetworkError> {
    let Ok(namespace) = Namespace::open(path) else {
        // It is gone, and everything in it.
        return Ok(());
    };
    if namespace.identity() != record.namespace {
        return Ok(());
    }
    let names = record.interfaces.clone();
    namespace.enter(move || part_here(&names))?
}

/// A live process whose network `path` is, and which may use it: other than a pod's placeholder and
/// a VMM, of which our taps tell. Podman writes /proc/PID/ns/net there when one container uses the
/// network of another.
fn neighbour(path: &Path) -> Option<String> {
    let pid = path
        .strip_prefix("/proc")
        .ok()?
        .to_str()?
        .strip_suffix("/ns/net")?;
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    let name = name.trim();
    (!matches!(name, "catatonit" | "krun-gpu")).then(|| format!("{pid} ({name})"))
}

fn join_here(
    namespace: namespace::Identity,
    takes_addresses: bool,
) -> Result<Network, NetworkError> {
    let mut netlink = Netlink::open()?;
    let links = netlink.links()?;
    if links.iter().any(|link| link.name.starts_with(TAP_PREFIX)) {
        return Ok(Network::absent(
            "another container's VM has the network that the container shares: this one has \
             loopback only"
                .to_owned(),
        ));
    }
    let (joined, others): (Vec<Link>, Vec<Link>) = links
        .into_iter()
        .filter(|link| link.up && !link.loopback)
        .partition(|link| link.ethernet);
    if joined.len() > usize::from(MOST_INTERFACES) {
        return Err(NetworkError::TooMany {
            count: joined.len(),
        });
    }
    let mut network = Network {
        notice: others.first().map(|link| {
            format!(
                "network interface `{}` is no Ethernet: the container's VM goes without it",
                link.name
            )
        }),
        ..Network::default()
    };
    let names: Vec<String> = joined.iter().map(|link| link.name.clone()).collect();
    for (number, link) in joined.iter().enumerate() {
        match join_one(&mut netlink, number, link, takes_addresses) {
            Ok((interface, tap)) => {
                network.interfaces.push(interface);
                network.taps.push(tap);
            }
            Err(error) => {
                // The taps go with their descriptors; the first failure is the one to tell.
                let done = names.get(..number).unwrap_or_default();
                let _ = part_here(done);
                return Err(error);
            }
        }
    }
    network.record = (!names.is_empty()).then_some(NetworkRecord {
        namespace,
        interfaces: names,
    });
    Ok(network)
}

fn join_one(
    netlink: &mut Netlink,
    number: usize,
    link: &Link,
    takes_addresses: bool,
) -> Result<(Interface, OwnedFd), NetworkError> {
    let mut interface = interface::read(netlink, link)?;
    let name = format!("{TAP_PREFIX}{number}");
    let (descriptor, tap) = tap::make(netlink, &name, link)?;
    redirect::between(netlink, link, &tap)?;
    if takes_addresses && let Err(error) = local::lead_to_guest(netlink, link, &tap, &mut interface)
    {
        let _ = redirect::remove(netlink, link);
        return Err(error);
    }
    Ok((interface, descriptor))
}

fn part_here(names: &[String]) -> Result<(), NetworkError> {
    let mut netlink = Netlink::open()?;
    for link in netlink.links()? {
        if names.contains(&link.name) {
            redirect::remove(&mut netlink, &link)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_namespace_of_a_process_has_a_neighbour() {
        let own = format!("/proc/{}/ns/net", std::process::id());
        let found = neighbour(Path::new(&own)).unwrap();
        assert!(found.starts_with(&std::process::id().to_string()));
        for path in [
            "/run/netns/netns-1",
            "/proc/1234567890/ns/net",
            "/proc/1/ns/ipc",
        ] {
            assert_eq!(neighbour(Path::new(path)), None, "{path}");
        }
    }
}
