//! The container's network: each interface that an engine put into the container's network
//! namespace is joined to a tap, whose other end is a NIC of the VM.
//!
//! `start` calls [`join`], since an engine may set the namespace up between `create` and `start`;
//! the monitor plugs the taps in and the guest's agent takes over names, addresses and routes.
//! While the container runs, [`watcher`] does so with what the engine changes.
//! `delete` calls [`part`]. Frames are passed on by the kernel's traffic control (`redirect`), so
//! the engine's interfaces, with their firewall rules and their neighbours, stay as they are.
//!
//! Nothing here comes from the guest. The work is done in a thread that enters the namespace.

mod interface;
mod local;
mod namespace;
mod passt;
mod ports;
mod redirect;
mod tap;
pub(crate) mod watcher;

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use krun_gpu_netlink::{Link, Netlink, NetlinkError};
use krun_gpu_protocol::Interface;
use serde::{Deserialize, Serialize};

use self::namespace::Namespace;
pub(crate) use self::passt::find as find_passt;
pub(crate) use self::ports::Ports;
pub(crate) use self::tap::{DEVICE as TUN, VHOST, open_vhost};
use crate::config::{self, Config, ConfigError};
use crate::host;
use crate::state::{Container, ProcessIdentity};

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
    /// A shared network needs it.
    #[error(
        "the container shares a network with others, for which its VM needs passt: install passt \
         (Debian, Ubuntu, Fedora), or use a network of its own"
    )]
    NoPasst,
    /// It did not start.
    #[error("start passt for the container's network")]
    StartPasst(#[source] io::Error),
    /// It said why it did not.
    #[error("start passt for the container's network: {0}")]
    PasstSaid(String),
    /// The host's configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The thread in the namespace.
    #[error("start a thread for the container's network namespace")]
    Thread(#[source] io::Error),
}

/// What leads from a VM's NICs to the container's network.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) enum LinkKind {
    /// Taps.
    #[default]
    Taps,
    /// Taps, one descriptor for each pair of queues of a NIC and the same number for each NIC, and
    /// after the last one a vhost-net for each of them.
    TapsAndVhosts,
    /// Sockets of passt's.
    Sockets,
}

/// How interfaces are joined on this host.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner {
    /// Their addresses move to the guest.
    takes_addresses: bool,
    /// The host's kernel moves frames, where it can.
    vhost: bool,
    /// Pairs of queues of each NIC.
    pairs: u8,
}

impl Manner {
    /// This host's and its configuration's, for a VM with room for so many pairs of queues.
    pub(crate) fn here(pairs: u8) -> Result<Self, NetworkError> {
        Ok(Self {
            takes_addresses: host::is_rootless(),
            vhost: Config::load(Path::new(config::PATH))?.vhost_net,
            pairs,
        })
    }
}

/// A container's network, joined.
#[derive(Debug, Default)]
pub(crate) struct Network {
    /// The guest's interfaces; their devices are not chosen yet.
    pub(crate) interfaces: Vec<Interface>,
    /// What leads to them.
    pub(crate) links: Vec<OwnedFd>,
    /// What that is.
    pub(crate) kind: LinkKind,
    /// The passt at the other end.
    pub(crate) passt: Option<ProcessIdentity>,
    /// What the user should know of it.
    pub(crate) notice: Option<String>,
    /// What is left in the namespace when the VM is gone.
    pub(crate) record: Option<NetworkRecord>,
    /// The namespace, if what is changed there later concerns the guest.
    pub(crate) watched: Option<File>,
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
    let identity = namespace.identity();
    let is_host = namespace.is_ours().map_err(NetworkError::Namespace)?;
    let record = &container.record;
    let ports = record.ports.clone();
    let id = record.id.to_string();
    let cgroup_of = record.cgroup.as_ref().map(|_| pid);
    if is_host {
        // An ordinary user's root could not enter it, and is there.
        return passt::join_here(&id, cgroup_of, &ports.unwrap_or_default());
    }
    let shared = has_neighbours(record.network.as_deref(), identity, pid);
    let manner = Manner::here(record.pairs())?;
    let file = namespace.file().map_err(NetworkError::Namespace)?;
    let (mut network, is_own) = namespace.enter(move || {
        if has_tap()? {
            return Ok((Network::absent(TAKEN.to_owned()), false));
        }
        if shared || ports.is_some() || passt::is_here() {
            let network = passt::join_here(&id, cgroup_of, &ports.unwrap_or_default())?;
            return Ok::<_, NetworkError>((network, false));
        }
        Ok((join_here(identity, manner)?, true))
    })??;
    // An engine that made the namespace may put the first interface there later; where it has none
    // made (`none`), nobody can.
    let may_change = is_own && (network.record.is_some() || record.network.is_some());
    network.watched = may_change.then_some(file);
    Ok(network)
}

/// For `create`: whether a container in the namespace `network`, or the host's, needs passt for
/// sure, and it is not there.
pub(crate) fn check_passt(
    network: Option<&Path>,
    is_host: bool,
    ports: Option<&Ports>,
) -> Result<(), NetworkError> {
    if is_host || ports.is_some() || network.is_some_and(has_neighbour) {
        passt::find()?;
    }
    Ok(())
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

/// Who a network was taken by.
const TAKEN: &str = "another container's VM has the network that the container shares: this one \
                     has loopback only (annotate both with io.krun-gpu.ports=..., which may be \
                     empty, to let them share it)";

/// Whether others live in a container's network namespace, beside its VMM, the process `vmm`.
/// Podman writes /proc/PID/ns/net into config.json when one container uses the network of another.
fn has_neighbours(network: Option<&Path>, namespace: namespace::Identity, vmm: i32) -> bool {
    let Some(process) = network.filter(|path| owner(path).is_some()) else {
        return false;
    };
    has_neighbour(process)
        || processes().any(|pid| {
            let path = format!("/proc/{pid}/ns/net");
            pid != vmm
                && namespace::Identity::of(Path::new(&path)).is_ok_and(|other| other == namespace)
                && uses_network(pid)
        })
}

/// Whether the process whose network `path` is may use it.
fn has_neighbour(path: &Path) -> bool {
    owner(path).is_some_and(uses_network)
}

/// A live process that may use its network: other than a pod's placeholder and a VMM, whose taps
/// and sockets tell of it.
fn uses_network(pid: i32) -> bool {
    let name = fs::read_to_string(format!("/proc/{pid}/comm"));
    name.is_ok_and(|name| !matches!(name.trim(), "catatonit" | "krun-gpu"))
}

fn owner(path: &Path) -> Option<i32> {
    let below = path.strip_prefix("/proc").ok()?.to_str()?;
    below.strip_suffix("/ns/net")?.parse().ok()
}

fn processes() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Whether a VM takes the frames of this thread's namespace.
fn has_tap() -> Result<bool, NetworkError> {
    let links = Netlink::open()?.links()?;
    Ok(links.iter().any(|link| link.name.starts_with(TAP_PREFIX)))
}

fn join_here(namespace: namespace::Identity, manner: Manner) -> Result<Network, NetworkError> {
    let mut netlink = Netlink::open()?;
    let links = netlink.links()?;
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
    let mut vhosts = Vec::new();
    for (number, link) in joined.iter().enumerate() {
        match join_one(&mut netlink, number, link, manner) {
            Ok(Joined {
                interface,
                taps,
                vhosts: own,
            }) => {
                network.interfaces.push(interface);
                network.links.extend(taps);
                vhosts.extend(own);
            }
            Err(error) => {
                // The taps go with their descriptors; the first failure is the one to tell.
                let done = names.get(..number).unwrap_or_default();
                let _ = part_here(done);
                return Err(error);
            }
        }
    }
    (network.links, network.kind) = together(network.links, vhosts);
    network.record = (!names.is_empty()).then_some(NetworkRecord {
        namespace,
        interfaces: names,
    });
    Ok(network)
}

/// What leads to NICs with these taps and vhost-nets, of which there may be too few.
fn together(mut taps: Vec<OwnedFd>, vhosts: Vec<OwnedFd>) -> (Vec<OwnedFd>, LinkKind) {
    if vhosts.is_empty() || vhosts.len() != taps.len() {
        return (taps, LinkKind::Taps);
    }
    taps.extend(vhosts);
    (taps, LinkKind::TapsAndVhosts)
}

/// An interface that was joined, with a tap's descriptor for each pair of queues.
struct Joined {
    interface: Interface,
    taps: Vec<OwnedFd>,
    vhosts: Vec<OwnedFd>,
}

fn join_one(
    netlink: &mut Netlink,
    number: usize,
    link: &Link,
    manner: Manner,
) -> Result<Joined, NetworkError> {
    let mut interface = interface::read(netlink, link)?;
    let name = format!("{TAP_PREFIX}{number}");
    let (taps, tap) = tap::make(netlink, &name, link, manner.pairs)?;
    redirect::between(netlink, link, &tap)?;
    if manner.takes_addresses
        && let Err(error) = local::lead_to_guest(netlink, link, &tap, &mut interface)
    {
        let _ = redirect::remove(netlink, link);
        return Err(error);
    }
    // Without them, threads of the VMM do their work.
    let vhosts = taps.iter().filter(|_| manner.vhost).map(|_| open_vhost());
    Ok(Joined {
        interface,
        vhosts: vhosts.map_while(Result::ok).collect(),
        taps,
    })
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
        assert!(has_neighbour(Path::new(&own)));
        for path in [
            "/run/netns/netns-1",
            "/proc/1234567890/ns/net",
            "/proc/1/ns/ipc",
        ] {
            assert!(!has_neighbour(Path::new(path)), "{path}");
        }
    }
}
