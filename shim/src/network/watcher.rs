//! `krun-gpu network-watch`: keeps a running container's interfaces as its engine has them.
//!
//! An engine changes a container's network namespace (`podman network connect`, `disconnect`,
//! `reload`) and calls no runtime. The VMM has no rights there, and is not to have any: so `start`
//! leaves this process in the namespace, in the container's cgroup. It hears from the kernel when
//! something changes, waits until the engine is done, joins what has come to a new tap and asks
//! the monitor to plug it in, or to unplug what has gone.
//!
//! It keeps CAP_NET_ADMIN alone and ends with the VMM, whose control connection it holds. The guest
//! has no way to it but the answers of a VMM that it has taken over.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use caps::{CapSet, Capability};
use clap::Args;
use krun_gpu_netlink::{Link, Netlink, NetlinkError, Watch};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns};

use super::{Joined, Manner, NetworkError, TAP_PREFIX, join_one, passt, redirect, together};
use crate::control::{Connection, ControlError, Reply, Request};
use crate::descriptors;
use crate::report;
use crate::state::ProcessIdentity;

/// The sub-command's name.
const COMMAND: &str = "network-watch";

/// An engine has made an interface when nothing has changed for so many milliseconds: addresses
/// come before it is up, routes after.
const QUIET: u16 = 400;

/// So long is waited for a gateway, which not every network has: a busy machine may be late.
const MADE: Duration = Duration::from_secs(2);

/// Options of `network-watch`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The pairs of queues that each of its NICs can have.
    #[arg(long)]
    pairs: u8,
    /// The interfaces that the guest has.
    names: Vec<String>,
}

/// Why it ends before the VMM.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WatchError {
    /// A step.
    #[error("{0}")]
    Step(&'static str, #[source] io::Error),
    /// Its rights.
    #[error("keep CAP_NET_ADMIN alone: {0}")]
    Rights(String),
    /// The interfaces.
    #[error("watch the container's network interfaces")]
    Netlink(#[from] NetlinkError),
    /// How they are joined.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The monitor.
    #[error(transparent)]
    Control(#[from] ControlError),
}

/// Starts the watcher of the network namespace `namespace`, in which the guest has the interfaces
/// `names`, with room for `pairs` pairs of queues, in the cgroup of the process `vmm`.
pub(crate) fn spawn(
    connection: &Connection,
    namespace: File,
    names: &[String],
    pairs: u8,
    vmm: Option<i32>,
) -> io::Result<ProcessIdentity> {
    let cgroup = vmm.map(passt::cgroup_of).transpose()?.flatten();
    let cgroup_descriptor = cgroup.as_ref().map(AsRawFd::as_raw_fd);
    let mut command = Command::new("/proc/self/exe");
    command
        .arg0("krun-gpu")
        .arg(COMMAND)
        .arg(format!("--pairs={pairs}"))
        .arg("--")
        .args(names)
        .stdin(Stdio::from(connection.as_fd().try_clone_to_owned()?))
        .stdout(Stdio::from(namespace))
        .stderr(Stdio::null())
        .current_dir("/");
    // SAFETY: a system call between fork and exec, on a descriptor that outlives the spawn.
    unsafe {
        command.pre_exec(move || {
            if let Some(cgroup) = cgroup_descriptor
                && libc::write(cgroup, c"0".as_ptr().cast(), 1) < 0
            {
                return Err(io::Error::last_os_error());
            }
            Ok(())
        });
    }
    let child = command.spawn()?;
    ProcessIdentity::of(i32::try_from(child.id()).unwrap_or(-1))
}

/// Runs the sub-command: standard input is a control connection, standard output the namespace.
/// Why it ends early is told on the container's standard error.
pub(crate) fn run(options: &Options) -> io::Result<()> {
    let connection = Connection::from(descriptors::duplicate_standard(0)?);
    let result = Watcher::new(&connection, options).and_then(|mut watcher| {
        let result = watcher.run();
        watcher.leave();
        result
    });
    if let Err(error) = result {
        let text = format!(
            "{}: the container keeps the network that it has",
            report::chain(&error)
        );
        // The one who would say it may be gone.
        let _ = connection.send(&Request::Notice(text), &[]);
    }
    Ok(())
}

struct Watcher<'a> {
    connection: &'a Connection,
    netlink: Netlink,
    watch: Watch,
    manner: Manner,
    /// The interfaces that the guest has, or cannot have, by their numbers.
    known: BTreeMap<u32, Known>,
    /// When the others were first seen.
    seen: BTreeMap<u32, Instant>,
}

struct Known {
    link: Link,
    place: Place,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Place {
    /// `start` gave it to the guest.
    Early,
    /// We did.
    Late,
    /// The guest could not have it.
    Outside,
}

impl<'a> Watcher<'a> {
    fn new(connection: &'a Connection, options: &Options) -> Result<Self, WatchError> {
        let step = |what| move |source| WatchError::Step(what, source);
        let namespace = descriptors::duplicate_standard(1).map_err(step("take the namespace"))?;
        let null = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/null")
            .map_err(step("open /dev/null"))?;
        descriptors::silence_standard(&null).map_err(step("let go of the standard streams"))?;
        nix::unistd::setsid().map_err(|error| step("leave the caller's session")(error.into()))?;
        setns(namespace, CloneFlags::CLONE_NEWNET)
            .map_err(|error| step("enter the container's network namespace")(error.into()))?;
        let manner = Manner::here(options.pairs)?;
        keep_rights()?;
        let watch = Watch::open()?;
        let mut netlink = Netlink::open()?;
        let links = netlink.links()?.into_iter();
        let is_early = |link: &Link| options.names.contains(&link.name);
        let known = links.filter(is_early).map(|link| {
            let place = Place::Early;
            (link.index, Known { link, place })
        });
        Ok(Self {
            connection,
            watch,
            manner,
            known: known.collect(),
            seen: BTreeMap::new(),
            netlink,
        })
    }

    /// Until the VMM ends.
    fn run(&mut self) -> Result<(), WatchError> {
        // Something may have changed since `start` looked.
        let mut settling = true;
        loop {
            let mut watched = [
                PollFd::new(self.watch.descriptor(), PollFlags::POLLIN),
                PollFd::new(self.connection.as_fd(), PollFlags::POLLIN),
            ];
            let timeout = match settling {
                true => PollTimeout::from(QUIET),
                false => PollTimeout::NONE,
            };
            let found = match poll(&mut watched, timeout) {
                Err(nix::errno::Errno::EINTR) => continue,
                found => found.map_err(|error| WatchError::Step("wait", error.into()))?,
            };
            // The monitor says nothing unasked.
            if watched[1].any().unwrap_or(true) {
                return Ok(());
            }
            settling = match found {
                0 => match self.follow() {
                    Err(WatchError::Control(ControlError::Ended)) => return Ok(()),
                    result => result?,
                },
                _ => {
                    self.watch.clear().map_err(|error| {
                        WatchError::Step("hear of the container's network interfaces", error)
                    })?;
                    true
                }
            };
        }
    }

    /// Makes the guest's interfaces those of the namespace. Whether to look again soon.
    fn follow(&mut self) -> Result<bool, WatchError> {
        let links = self.netlink.links()?;
        let is_there = |index: &u32| links.iter().any(|link| link.index == *index);
        let gone: Vec<u32> = self
            .known
            .keys()
            .copied()
            .filter(|index| !is_there(index))
            .collect();
        for index in gone {
            if let Some(Known { link, place }) = self.known.remove(&index)
                && place != Place::Outside
                && let Err(reason) = self.ask(&Request::Unplug(link.name.clone()), &[])?
            {
                self.tell(
                    &format!("was taken away and not from the VM: {reason}"),
                    &link,
                )?;
            }
        }
        self.seen.retain(|index, _| is_there(index));
        let mut again = false;
        for link in links {
            let ours = link.name.starts_with(TAP_PREFIX);
            if !link.up || link.loopback || ours || self.known.contains_key(&link.index) {
                continue;
            }
            if !self.is_made(&link)? {
                again = true;
                continue;
            }
            let place = match self.join(&link)? {
                Ok(()) => Place::Late,
                Err(reason) => {
                    self.tell(&format!("came and the VM goes without it: {reason}"), &link)?;
                    Place::Outside
                }
            };
            self.known.insert(link.index, Known { link, place });
        }
        Ok(again)
    }

    /// Whether an interface has all that it will have.
    fn is_made(&mut self, link: &Link) -> Result<bool, WatchError> {
        let seen = self.seen.entry(link.index).or_insert_with(Instant::now);
        if seen.elapsed() >= MADE {
            return Ok(true);
        }
        let routes = self.netlink.routes(link.index)?;
        Ok(routes.iter().any(|route| route.gateway.is_some()))
    }

    /// Gives the guest another interface; or why not.
    fn join(&mut self, link: &Link) -> Result<Result<(), String>, WatchError> {
        if !link.ethernet {
            return Ok(Err("it is no Ethernet".to_owned()));
        }
        let number = self.free_number()?;
        let Joined {
            interface,
            taps,
            vhosts,
        } = match join_one(&mut self.netlink, number, link, self.manner) {
            Ok(joined) => joined,
            // It went while we looked: that is heard of, too.
            Err(error) => return Ok(Err(report::chain(&error))),
        };
        let (links, kind) = together(taps, vhosts);
        let interface = Box::new(interface);
        let result = self.ask(&Request::Plug { interface, kind }, &links)?;
        drop(links);
        if result.is_err() {
            // Its reason is the one to tell.
            let _ = redirect::remove(&mut self.netlink, link);
        }
        Ok(result)
    }

    /// The number of the next tap.
    fn free_number(&mut self) -> Result<usize, WatchError> {
        let links = self.netlink.links()?;
        let is_free = |number: &usize| {
            let name = format!("{TAP_PREFIX}{number}");
            links.iter().all(|link| link.name != name)
        };
        Ok((0..).find(is_free).unwrap_or_default())
    }

    /// Asks the monitor for something; its refusal's reason.
    fn ask(&self, request: &Request, links: &[OwnedFd]) -> Result<Result<(), String>, WatchError> {
        let links: Vec<_> = links.iter().map(AsFd::as_fd).collect();
        self.connection.send(request, &links)?;
        match self.connection.receive()? {
            Reply::Failed(error) => Ok(Err(error.to_string())),
            _ => Ok(Ok(())),
        }
    }

    /// Says what became of an interface.
    fn tell(&self, what: &str, link: &Link) -> Result<(), WatchError> {
        let text = format!("network interface `{}` {what}", link.name);
        self.ask(&Request::Notice(text), &[]).map(|_| ())
    }

    /// Leaves the interfaces as they were; `delete` knows of those that `start` joined.
    fn leave(&mut self) {
        for known in self
            .known
            .values()
            .filter(|known| known.place == Place::Late)
        {
            // They go with their namespace, in most cases before we get here.
            let _ = redirect::remove(&mut self.netlink, &known.link);
        }
    }
}

fn keep_rights() -> Result<(), WatchError> {
    let kept = [Capability::CAP_NET_ADMIN].into_iter().collect();
    for set in [CapSet::Effective, CapSet::Permitted] {
        caps::set(None, set, &kept).map_err(|error| WatchError::Rights(error.to_string()))?;
    }
    Ok(())
}
