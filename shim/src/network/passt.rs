//! passt: the NIC of a container whose network others use too.
//!
//! A VM cannot have another's sockets, and taking a shared interface's frames would take them from
//! those who live there. So for `--network host`, another container's network and the further
//! containers of a pod a passt(1) runs in that namespace: it opens ordinary sockets there for what
//! the guest sends, and leads configured ports to the guest. It shows the namespace's address,
//! routes and MTU to the guest, which has a second name for what listens in the namespace:
//! [`LOOPBACK`] is its 127.0.0.1, [`OWN`] its own address.
//!
//! passt runs below its own seccomp filter, without rights and files, in the container's cgroup. It
//! is our child for a moment only: it ends when its socket, whose other end the VMM holds, does.

use std::env;
use std::fs::{self, File};
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use krun_gpu_netlink::{Link, Netlink};
use krun_gpu_protocol::{Address, Interface, Route};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, bind, socketpair};

use super::ports::Ports;
use super::{LinkKind, Network, NetworkError, TAP_PREFIX, interface};
use crate::state::ProcessIdentity;

/// The namespace's loopback, as the guest calls it.
pub(crate) const LOOPBACK: Ipv4Addr = Ipv4Addr::new(169, 254, 77, 2);

/// The namespace's own address, which in the guest is the guest's.
const OWN: Ipv4Addr = Ipv4Addr::new(169, 254, 77, 3);

/// The guest's address where the namespace has none. passt gives its guest this one there, and sends
/// to no other, whatever `--address` says, until the guest has sent something (`conf_ip4_local`).
const GUEST: Ipv4Addr = Ipv4Addr::new(169, 254, 2, 1);

/// Our interface's name where the namespace has none beside loopback.
const NAME: &str = "passt0";

/// passt's largest MTU: what goes over the host's links, its sockets decide.
const MTU: u32 = 65_520;

/// `RT_SCOPE_UNIVERSE` and `RT_SCOPE_LINK`.
const UNIVERSE: u8 = 0;
const LINK_SCOPE: u8 = 253;

/// `RTPROT_BOOT`.
const PROTOCOL: u8 = 3;

/// passt sends to all until its guest has spoken, and Linux takes no TCP that was sent to all. So the
/// guest announces itself, below /proc/sys/net.
const ANNOUNCE: &str = "ipv4/conf/{}/arp_notify";

/// What the VMM's end of the socket is called in its namespace, before the container's id: who
/// comes next finds it in /proc/net/unix.
const MARK: &str = "krun-gpu-passt/";

/// What it says of how it starts, and means no harm by.
const REMARKS: [&str; 2] = ["AVX2", "Started as root"];

/// The program, on the way in PATH or where distributions have it.
pub(crate) fn find() -> Result<PathBuf, NetworkError> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/bin".into(), "/usr/local/bin".into()])
        .map(|directory| directory.join("passt"))
        .find(|program| program.is_file())
        .ok_or(NetworkError::NoPasst)
}

/// Whether a VM has a passt in this thread's namespace.
pub(super) fn is_here() -> bool {
    fs::read_to_string("/proc/thread-self/net/unix")
        .is_ok_and(|sockets| sockets.contains(&format!("@{MARK}")))
}

/// Starts one in this thread's namespace for the container `id`, in the cgroup of the process `vmm`.
pub(super) fn join_here(
    id: &str,
    vmm: Option<i32>,
    ports: &Ports,
) -> Result<Network, NetworkError> {
    let program = find()?;
    let interface = guest_interface(&mut Netlink::open()?)?;
    let failed = |source| NetworkError::StartPasst(source);
    let (ours, passts) = socketpair(
        AddressFamily::Unix,
        SockType::Stream,
        None,
        SockFlag::SOCK_CLOEXEC,
    )
    .map_err(|error| failed(error.into()))?;
    UnixAddr::new_abstract(format!("{MARK}{id}").as_bytes())
        .and_then(|name| bind(ours.as_raw_fd(), &name))
        .map_err(|error| failed(error.into()))?;
    let mut command = Command::new(program);
    command.args(arguments(&interface, ports, passts.as_raw_fd()));
    let process = spawn(command, &passts, vmm)?;
    Ok(Network {
        interfaces: vec![interface],
        links: vec![ours],
        kind: LinkKind::Sockets,
        passt: Some(process),
        ..Network::default()
    })
}

fn arguments(interface: &Interface, ports: &Ports, socket: i32) -> Vec<String> {
    let mut arguments: Vec<String> = [
        "--quiet",
        "--no-dhcp",
        "--no-dhcpv6",
        "--no-ra",
        "--no-map-gw",
        "--dns",
        "none",
        "--search",
        "none",
    ]
    .map(str::to_owned)
    .into();
    let mut option = |name: &str, value: String| arguments.extend([name.to_owned(), value]);
    option("--fd", socket.to_string());
    option("--map-host-loopback", LOOPBACK.to_string());
    option("--map-guest-addr", OWN.to_string());
    option("--mtu", MTU.to_string());
    let global = |wanted: fn(&IpAddr) -> bool| {
        let addresses = interface.addresses.iter().map(|address| address.ip);
        addresses.into_iter().find(wanted)
    };
    let first4 = global(IpAddr::is_ipv4);
    let first6 = global(|ip| matches!(ip, IpAddr::V6(ip) if !ip.is_unicast_link_local()));
    for address in [first4, first6].into_iter().flatten() {
        option("--address", address.to_string());
    }
    for (name, list) in [("--tcp-ports", &ports.tcp), ("--udp-ports", &ports.udp)] {
        let list = if list.is_empty() { "none" } else { list };
        option(name, list.to_owned());
    }
    arguments
}

/// Runs `command`, which goes to the background when it is ready.
fn spawn(
    mut command: Command,
    socket: &OwnedFd,
    vmm: Option<i32>,
) -> Result<ProcessIdentity, NetworkError> {
    let cgroup = vmm.map(cgroup_of).transpose();
    let cgroup = cgroup.map_err(NetworkError::StartPasst)?.flatten();
    let socket = socket.as_raw_fd();
    command
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let cgroup_descriptor = cgroup.as_ref().map(AsRawFd::as_raw_fd);
    // SAFETY: system calls alone between fork and exec, on descriptors that outlive the spawn.
    unsafe {
        command.pre_exec(move || {
            if let Some(cgroup) = cgroup_descriptor
                && libc::write(cgroup, c"0".as_ptr().cast(), 1) < 0
            {
                return Err(io::Error::last_os_error());
            }
            if libc::fcntl(socket, libc::F_SETFD, 0) < 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(())
        });
    }
    // What it leaves in the background becomes our child, so that we learn its pid.
    adopt(true)?;
    let result = run(command);
    let process = result.and_then(|()| daemon().map_err(NetworkError::StartPasst));
    adopt(false)?;
    process
}

fn run(mut command: Command) -> Result<(), NetworkError> {
    let mut child = command.spawn().map_err(NetworkError::StartPasst)?;
    let mut words = String::new();
    if let Some(mut error) = child.stderr.take() {
        // The one in the background has closed it.
        error
            .read_to_string(&mut words)
            .map_err(NetworkError::StartPasst)?;
    }
    match child.wait().map_err(NetworkError::StartPasst)?.success() {
        true => Ok(()),
        false => {
            let lines: Vec<&str> = words
                .lines()
                .filter(|line| !REMARKS.iter().any(|remark| line.contains(remark)))
                .collect();
            Err(NetworkError::PasstSaid(lines.join("; ")))
        }
    }
}

fn adopt(on: bool) -> Result<(), NetworkError> {
    nix::sys::prctl::set_child_subreaper(on).map_err(|error| NetworkError::StartPasst(error.into()))
}

/// The child of ours that is called passt.
fn daemon() -> io::Result<ProcessIdentity> {
    for task in fs::read_dir("/proc/self/task")? {
        let children = fs::read_to_string(task?.path().join("children"))?;
        for pid in children.split_whitespace() {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            if name.starts_with("passt")
                && let Ok(pid) = pid.parse()
            {
                return ProcessIdentity::of(pid);
            }
        }
    }
    Err(io::Error::new(
        io::ErrorKind::NotFound,
        "it is not in the background",
    ))
}

/// The list of processes of the cgroup that the process `pid` is in; `None` on a host without
/// cgroup v2.
pub(super) fn cgroup_of(pid: i32) -> io::Result<Option<File>> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    let Some(path) = text.lines().find_map(|line| line.strip_prefix("0::/")) else {
        return Ok(None);
    };
    let list = PathBuf::from("/sys/fs/cgroup")
        .join(path)
        .join("cgroup.procs");
    File::options().write(true).open(list).map(Some)
}

/// The guest's interface: the namespace's, which has the default route or else comes first, with
/// routes through it to whatever the namespace reaches.
fn guest_interface(netlink: &mut Netlink) -> Result<Interface, NetworkError> {
    let mut all = Vec::new();
    for link in netlink.links()? {
        if link.up && !link.loopback && !link.name.starts_with(TAP_PREFIX) {
            let interface = interface::read(netlink, &link)?;
            let mut addresses = interface.addresses.iter();
            if addresses.any(|address| address.scope == UNIVERSE) {
                all.push((link, interface));
            }
        }
    }
    let is_default = |route: &Route| route.prefix == 0;
    let best = all
        .iter()
        .enumerate()
        .filter_map(|(index, (_, interface))| {
            let defaults = interface.routes.iter().filter(|route| is_default(route));
            Some((defaults.map(|route| route.metric).min()?, index))
        })
        .min()
        .map_or(0, |(_, index)| index);
    if all.is_empty() {
        return Ok(alone());
    }
    let (link, mut interface) = all.swap_remove(best);
    interface.mtu = MTU;
    interface.parameters.retain(|(below, _)| below != ANNOUNCE);
    interface.parameters.push(announce());
    interface.neighbours.clear();
    interface.mac = mac(&link);
    for route in all.iter().flat_map(|(_, other)| through(other)) {
        let known = interface
            .addresses
            .iter()
            .any(|address| address.prefix == route.prefix && address.ip == route.destination);
        if !known
            && !interface
                .routes
                .iter()
                .any(|own| same_destination(own, &route))
        {
            interface.routes.push(route);
        }
    }
    interface
        .routes
        .extend([LOOPBACK, OWN].map(|ip| on_link(ip.into(), 32)));
    Ok(interface)
}

/// Routes to what another interface of the namespace leads to.
fn through(other: &Interface) -> Vec<Route> {
    let networks = other
        .addresses
        .iter()
        .filter(|address| address.scope == UNIVERSE)
        .map(|address| on_link(network(address), address.prefix));
    let further = other
        .routes
        .iter()
        .filter(|route| route.prefix > 0)
        .map(|route| on_link(route.destination, route.prefix));
    networks.chain(further).collect()
}

fn same_destination(one: &Route, other: &Route) -> bool {
    (one.destination, one.prefix) == (other.destination, other.prefix)
}

/// The network that an address is in.
fn network(address: &Address) -> IpAddr {
    match address.ip {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(address.prefix.min(32)));
            Ipv4Addr::from_bits(ip.to_bits() & mask.unwrap_or(0)).into()
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(address.prefix.min(128)));
            std::net::Ipv6Addr::from_bits(ip.to_bits() & mask.unwrap_or(0)).into()
        }
    }
}

fn on_link(destination: IpAddr, prefix: u8) -> Route {
    Route {
        destination,
        prefix,
        gateway: None,
        on_link: false,
        source: None,
        metric: None,
        mtu: None,
        protocol: PROTOCOL,
        scope: if destination.is_ipv4() {
            LINK_SCOPE
        } else {
            UNIVERSE
        },
    }
}

/// The interface of a namespace that has loopback alone, which others may serve.
fn alone() -> Interface {
    Interface {
        device: 0,
        name: NAME.to_owned(),
        mac: LOCAL_MAC.to_vec(),
        mtu: MTU,
        parameters: vec![announce()],
        addresses: vec![Address {
            ip: GUEST.into(),
            peer: None,
            prefix: 32,
            broadcast: None,
            scope: LINK_SCOPE,
            no_prefix_route: false,
            metric: None,
        }],
        routes: [LOOPBACK, OWN].map(|ip| on_link(ip.into(), 32)).into(),
        neighbours: Vec::new(),
    }
}

fn announce() -> (String, String) {
    (ANNOUNCE.to_owned(), "1".to_owned())
}

/// An address on the link for an interface that is no Ethernet.
const LOCAL_MAC: [u8; 6] = [0x02, 0x6b, 0x72, 0x75, 0x6e, 0x01];

fn mac(link: &Link) -> Vec<u8> {
    match link.ethernet {
        true => link.address.clone(),
        false => LOCAL_MAC.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_those_of_their_addresses() {
        let mut address = alone().addresses.remove(0);
        for (ip, prefix, expected) in [
            ("10.88.77.5", 16, "10.88.0.0"),
            ("10.88.77.5", 32, "10.88.77.5"),
            ("10.88.77.5", 0, "0.0.0.0"),
            ("fd00::1:2", 64, "fd00::"),
        ] {
            address.ip = ip.parse().unwrap();
            address.prefix = prefix;
            assert_eq!(network(&address).to_string(), expected);
        }
    }

    #[test]
    fn ports_and_addresses_are_told() {
        let ports = Ports::parse("80,53/udp").unwrap();
        let text = arguments(&alone(), &ports, 7).join(" ");
        for part in [
            "--fd 7",
            "--tcp-ports 80",
            "--udp-ports 53",
            "--address 169.254.2.1",
            "--map-host-loopback 169.254.77.2",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }
}
