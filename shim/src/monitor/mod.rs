//! The monitor: the thread of a VMM that talks to the guest's agent, to other calls of
//! `krun-gpu`, and to whoever sends signals, and ends the process with the workload's status.
//!
//! [`boot`] makes one; [`Monitor::spawn`] lets it run until the end. Everything happens in one
//! loop over descriptors (`run`); what it does is in `workload` (the container's own process and
//! its end) and `clients` (control connections and `exec` sessions). The guest decides what its
//! messages hold and when they come; a message that makes no sense ends the VM.

mod agent;
mod boot;
mod clients;
mod network;
mod reports;
mod signals;
mod streams;
mod workload;

use std::collections::HashMap;
use std::convert::Infallible;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::thread::JoinHandle;

use krun_gpu_protocol::{Event, GuestMessage, WORKLOAD_SESSION};
use krun_gpu_vmm::MicroVm;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use self::agent::{Agent, AgentFault};
pub(crate) use self::boot::{MonitorError, boot};
use self::clients::{ClientId, Clients};
use self::network::Nics;
pub(crate) use self::reports::Reports;
use self::signals::{Notice, Signals};
pub(crate) use self::streams::StandardStreams;
use self::streams::{Joined, say};
use self::workload::Phase;
use crate::gpu::render_server;

/// Stack of the monitor's thread in bytes.
const STACK: usize = 256 << 10;

/// Lines of the guest's console that an error shows.
const CONSOLE_LINES: usize = 20;

/// The state of a running VMM.
#[derive(Debug)]
pub(crate) struct Monitor {
    vm: MicroVm,
    agent: Agent,
    signals: Signals,
    control: UnixListener,
    clients: Clients,
    /// Who waits for the reply to which request.
    pending: HashMap<u64, Waiting>,
    /// The workload's streams, until its end.
    streams: Joined,
    /// The container's standard error, for the monitor's own words.
    error: File,
    reports: Reports,
    /// The lifeline of the GPU's render server, while that runs.
    render_server: Option<OwnedFd>,
    /// A passt's socket, while that runs.
    passt: Option<OwnedFd>,
    /// The guest's network interfaces.
    nics: Nics,
    phase: Phase,
    /// The VM ended, and the muxer knows.
    vm_ended: bool,
    /// The number of the last session.
    last_session: u64,
}

/// Who waits for a reply of the agent's.
#[derive(Clone, Copy, Debug)]
enum Waiting {
    /// The call of `start`, and whether a failure is told on the container's standard error.
    Start(ClientId, bool),
    /// A call of `exec`, for its session.
    Exec(ClientId),
    /// A client that gets the agent's answer.
    Client(ClientId),
    /// The one who plugged a NIC into this slot.
    Plug(ClientId, usize),
    /// The one who wants this slot emptied.
    Unplug(ClientId, usize),
    /// Nobody.
    Nobody,
}

/// Which descriptor the loop found something at.
#[derive(Clone, Copy, Debug)]
enum Ready {
    Agent,
    Exit,
    Signals,
    Control,
    Client(ClientId),
    Output,
    RenderServer,
    Passt,
}

impl Monitor {
    #[expect(
        clippy::too_many_arguments,
        reason = "the boot's one call, part by part"
    )]
    fn new(
        vm: MicroVm,
        agent: Agent,
        signals: Signals,
        streams: Joined,
        error: File,
        control: UnixListener,
        reports: Reports,
        render_server: Option<OwnedFd>,
        last_session: u64,
    ) -> Self {
        Self {
            vm,
            agent,
            signals,
            control,
            clients: Clients::default(),
            pending: HashMap::new(),
            streams,
            error,
            reports,
            render_server,
            passt: None,
            nics: Nics::default(),
            phase: Phase::Prepared,
            vm_ended: false,
            last_session,
        }
    }

    /// Runs the monitor in a thread of its own until the process ends.
    pub(crate) fn spawn(self) -> Result<JoinHandle<Infallible>, MonitorError> {
        std::thread::Builder::new()
            .name("monitor".to_owned())
            .stack_size(STACK)
            .spawn(move || self.run())
            .map_err(|source| MonitorError::Host {
                action: "start the monitor's thread",
                source,
            })
    }

    fn run(mut self) -> Infallible {
        // An engine may have set the size while the guest booted.
        if let Err(fault) = self.resize() {
            self.guest_failed(Some(&fault));
        }
        loop {
            let ready = self.wait();
            if let Err(fault) = self.handle(&ready) {
                self.guest_failed(Some(&fault));
            }
            self.finish_if_done();
        }
    }

    /// Waits until something happens; what.
    fn wait(&self) -> Vec<Ready> {
        let mut watched: Vec<(Ready, BorrowedFd<'_>)> =
            vec![(Ready::Signals, self.signals.as_fd())];
        // It stays readable once it is.
        if !self.vm_ended {
            watched.push((Ready::Exit, self.vm.exited()));
        }
        if self.phase.is_ended() {
            watched.extend(outputs(&self.streams));
        } else {
            watched.push((Ready::Agent, self.agent.as_fd()));
            watched.push((Ready::Control, self.control.as_fd()));
        }
        if let Some(lifeline) = &self.render_server {
            watched.push((Ready::RenderServer, lifeline.as_fd()));
        }
        if let Some(passt) = &self.passt {
            watched.push((Ready::Passt, passt.as_fd()));
        }
        for (id, client) in self.clients.iter() {
            watched.push((Ready::Client(id), client.as_fd()));
            watched.extend(
                client
                    .ending_outputs()
                    .map(|output| (Ready::Output, output)),
            );
        }
        let mut list: Vec<PollFd<'_>> = watched
            .iter()
            .map(|(what, descriptor)| {
                let events = match what {
                    // What it sends is the NIC's; here its end counts, which is always told.
                    Ready::Passt => PollFlags::empty(),
                    _ => PollFlags::POLLIN,
                };
                PollFd::new(*descriptor, events)
            })
            .collect();
        // EINTR and the like find nothing ready; the loop comes back.
        if poll(&mut list, PollTimeout::NONE).is_err() {
            return Vec::new();
        }
        watched
            .iter()
            .zip(&list)
            .filter(|(_, polled)| polled.any().unwrap_or(false))
            .map(|((what, _), _)| *what)
            .collect()
    }

    fn handle(&mut self, ready: &[Ready]) -> Result<(), AgentFault> {
        for what in ready {
            match *what {
                Ready::Agent => {
                    self.agent.fill()?;
                    self.take_messages()?;
                }
                Ready::Exit => self.vm_ended()?,
                Ready::Signals => {
                    while let Some(notice) = self.signals.next() {
                        match notice {
                            Notice::Sent(signal) => self.signal_workload(signal)?,
                            Notice::Resized => self.resize()?,
                            Notice::HungUp => self.hung_up(),
                        }
                    }
                }
                Ready::Control => self.accept(),
                Ready::Client(id) => self.serve(id)?,
                Ready::Output => {}
                Ready::RenderServer => self.render_server_ended(),
                Ready::Passt => self.passt_ended(),
            }
        }
        self.end_sessions();
        Ok(())
    }

    /// The guest has lost its GPU, and lives on.
    fn render_server_ended(&mut self) {
        let Some(lifeline) = self.render_server.take() else {
            return;
        };
        let words = render_server::read_line(File::from(lifeline));
        let how = words.ok().flatten();
        say(
            &self.error,
            &format!(
                "the GPU's render server is gone: {}; the container goes on without its GPU",
                how.as_deref().unwrap_or("its supervisor ended")
            ),
        );
    }

    /// The guest has lost its network, and lives on.
    fn passt_ended(&mut self) {
        self.passt = None;
        say(
            &self.error,
            "passt, which is the container's network, is gone: the container goes on without it",
        );
    }

    fn take_messages(&mut self) -> Result<(), AgentFault> {
        while !self.phase.is_ended() {
            match self.agent.next()? {
                None => break,
                Some(GuestMessage::Reply { id, result }) => {
                    let waiting = self
                        .pending
                        .remove(&id)
                        .ok_or(AgentFault::Unexpected("reply to nothing"))?;
                    match waiting {
                        Waiting::Start(client, tell) => self.started(client, tell, result),
                        Waiting::Exec(client) => self.exec_replied(client, result)?,
                        Waiting::Client(client) => self.clients.answer(client, result),
                        Waiting::Plug(client, slot) => self.plugged(client, slot, result),
                        Waiting::Unplug(client, slot) => self.unplugged(client, slot, result),
                        Waiting::Nobody => {}
                    }
                }
                Some(GuestMessage::Event(event)) => self.happened(event)?,
                Some(GuestMessage::Hello { .. }) => {
                    return Err(AgentFault::Unexpected("second greeting"));
                }
            }
        }
        Ok(())
    }

    fn happened(&mut self, event: Event) -> Result<(), AgentFault> {
        match event {
            Event::OutOfMemory => Ok(()),
            Event::Exited {
                session: WORKLOAD_SESSION,
                status,
                oom_killed,
            } => self.workload_ended(status, oom_killed),
            Event::Exited {
                session, status, ..
            } => {
                self.clients.session_ended(session, status);
                Ok(())
            }
        }
    }
}

fn outputs(streams: &Joined) -> impl Iterator<Item = (Ready, BorrowedFd<'_>)> {
    use std::os::fd::AsRawFd;
    streams.outputs().map(|output| {
        // SAFETY: the eventfd is owned by `streams`, so it is open as long as the borrow lives.
        let descriptor = unsafe { BorrowedFd::borrow_raw(output.done.as_raw_fd()) };
        (Ready::Output, descriptor)
    })
}

/// What the guest's console said last, for an error's end.
fn console_tail(vm: &MicroVm) -> String {
    let console = vm.console();
    let text = String::from_utf8_lossy(&console);
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    let first = lines.len().saturating_sub(CONSOLE_LINES);
    let mut tail = String::new();
    for line in lines.iter().skip(first).filter(|line| !line.is_empty()) {
        tail.push_str("\n  guest: ");
        // Nothing that a guest says may act on the reader's terminal.
        tail.extend(line.chars().filter(|character| !character.is_control()));
    }
    tail
}
