//! Engines change a running container's network without a word to its runtime (`podman network
//! connect`). A VM's network is that of its start: here the user is told so.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::BorrowedFd;

use krun_gpu_netlink::{LinkEvent, LinkWatch, NetlinkError};
use krun_gpu_protocol::Interface;

use crate::network::TAP_PREFIX;

/// The interfaces of the container's network namespace.
#[derive(Debug)]
pub(super) struct Links {
    watch: LinkWatch,
    /// Those that the guest has, and those that were spoken of.
    known: BTreeSet<String>,
}

impl Links {
    /// Watches from now on; the guest has these interfaces.
    pub(super) fn new(interfaces: &[Interface]) -> Result<Self, NetlinkError> {
        Ok(Self {
            watch: LinkWatch::open()?,
            known: interfaces
                .iter()
                .map(|interface| interface.name.clone())
                .collect(),
        })
    }

    /// What to tell the user.
    pub(super) fn news(&mut self) -> io::Result<Vec<String>> {
        let mut news = Vec::new();
        for event in self.watch.events()? {
            match event {
                LinkEvent::Changed(link)
                    if link.up
                        && !link.loopback
                        && !link.name.starts_with(TAP_PREFIX)
                        && self.known.insert(link.name.clone()) =>
                {
                    news.push(format!(
                        "network interface `{}` came after the start: the container's VM has it \
                         only when it is started again",
                        link.name
                    ));
                }
                LinkEvent::Removed(link) if self.known.remove(&link.name) => {
                    news.push(format!(
                        "network interface `{}` was taken away: nothing comes through it any more",
                        link.name
                    ));
                }
                LinkEvent::Changed(_) | LinkEvent::Removed(_) => {}
            }
        }
        Ok(news)
    }

    /// Readable when there may be news.
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.watch.descriptor()
    }
}
