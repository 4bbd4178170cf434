//! The container's own process: its start, signals to it, its end, and the end of the VMM with it.

use std::os::fd::OwnedFd;
use std::thread;
use std::time::{Duration, Instant};

use krun_gpu_protocol::{AgentError, ErrorKind, Interface, Reply, RequestBody, WORKLOAD_SESSION};

use super::agent::AgentFault;
use super::clients::ClientId;
use super::network::PlugError;
use super::signals::is_deadly;
use super::streams::say;
use super::{Monitor, Waiting, console_tail};
use crate::control;
use crate::network::LinkKind;
use crate::report;
use crate::trace;

/// Exit status of a VMM whose guest failed.
const GUEST_FAILED: i32 = 255;

/// How long an ended guest's last messages may take to come out of the muxer.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How long a failed guest's output may still take to be written.
const LAST_OUTPUT: Duration = Duration::from_secs(2);

/// Where the workload is in its life.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Phase {
    /// Everything is there but the process.
    Prepared,
    /// `start` was sent.
    Starting,
    /// The process runs.
    Running,
    /// The process ended; its output is being written.
    Ended(u8),
}

impl Phase {
    pub(super) fn is_ended(self) -> bool {
        matches!(self, Self::Ended(_))
    }
}

impl Monitor {
    /// `start` was called, with a link for each of these interfaces.
    pub(super) fn start(
        &mut self,
        (client, tell): (ClientId, bool),
        mut interfaces: Vec<Interface>,
        kind: LinkKind,
        notices: &[String],
    ) -> Result<(), AgentFault> {
        let refusal = |message: String| AgentError {
            kind: ErrorKind::Refused,
            message,
            errno: 0,
        };
        let links = self.clients.take_descriptors(client);
        if self.phase != Phase::Prepared {
            let refusal = refusal("the container was started already".to_owned());
            self.clients.answer(client, Err(refusal));
            return Ok(());
        }
        let watched = links.first().filter(|_| kind == LinkKind::Sockets);
        let watched = watched.map(OwnedFd::try_clone).transpose();
        let plugged = watched.map_err(PlugError::Watch).and_then(|watched| {
            self.passt = watched;
            self.nics.plug_all(&self.vm, &mut interfaces, links, kind)
        });
        if let Err(error) = plugged {
            let refusal = refusal(report::chain(&error));
            self.clients.answer(client, Err(refusal));
            return Ok(());
        }
        for notice in notices {
            say(&self.error, notice);
        }
        let id = self.agent.send(RequestBody::Start { interfaces })?;
        self.pending.insert(id, Waiting::Start(client, tell));
        self.phase = Phase::Starting;
        Ok(())
    }

    /// The agent answered to it.
    pub(super) fn started(
        &mut self,
        client: ClientId,
        tell: bool,
        result: Result<Reply, AgentError>,
    ) {
        match &result {
            Ok(_) => {
                trace::mark("workload_started");
                self.phase = Phase::Running;
            }
            Err(error) => {
                if tell {
                    // `start` is told as well, but Podman shows the user the container's output.
                    say(&self.error, &error.message);
                }
                self.phase = Phase::Ended(match error.kind {
                    ErrorKind::NotFound => 127,
                    ErrorKind::NotExecutable => 126,
                    ErrorKind::NoSession | ErrorKind::Refused | ErrorKind::Failed => 1,
                });
            }
        }
        self.clients.answer(client, result);
        if self.phase.is_ended() {
            // No stream of a process that never ran will ever end.
            self.exit_now();
        }
    }

    /// Somebody sent us a signal.
    pub(super) fn signal_workload(&mut self, signal: i32) -> Result<(), AgentFault> {
        match self.phase {
            Phase::Prepared if is_deadly(signal) => exit(128 + signal),
            Phase::Prepared | Phase::Ended(_) => Ok(()),
            Phase::Starting | Phase::Running => {
                if signal == libc::SIGWINCH {
                    // `run` passes on what its caller's terminal raised.
                    self.resize()?;
                }
                let id = self.agent.send(RequestBody::Signal {
                    session: WORKLOAD_SESSION,
                    signal,
                    all: false,
                })?;
                self.pending.insert(id, Waiting::Nobody);
                Ok(())
            }
        }
    }

    /// Tells the guest its terminal's size.
    pub(super) fn resize(&mut self) -> Result<(), AgentFault> {
        if self.phase.is_ended() {
            return Ok(());
        }
        if let Some(size) = self.streams.size() {
            let id = self.agent.send(RequestBody::Resize {
                session: WORKLOAD_SESSION,
                size,
            })?;
            self.pending.insert(id, Waiting::Nobody);
        }
        Ok(())
    }

    /// Whoever had the terminal's master is gone.
    pub(super) fn hung_up(&mut self) {
        match self.phase {
            Phase::Prepared => exit(128 + libc::SIGHUP),
            // The guest's kernel tells the workload.
            Phase::Starting | Phase::Running | Phase::Ended(_) => self.streams.hang_up(),
        }
    }

    /// The agent's last message.
    pub(super) fn workload_ended(&mut self, status: u8, oom: bool) -> Result<(), AgentFault> {
        if self.phase == Phase::Prepared {
            return Err(AgentFault::Unexpected(
                "end of a workload that was not started",
            ));
        }
        trace::mark("workload_exited");
        if oom {
            self.reports.out_of_memory();
        }
        self.phase = Phase::Ended(status);
        Ok(())
    }

    /// Ends the process once the workload has ended and all its output was written.
    pub(super) fn finish_if_done(&mut self) {
        if self.phase.is_ended() && self.streams.is_done() {
            self.exit_now();
        }
    }

    fn exit_now(&self) -> ! {
        trace::mark("end");
        match self.phase {
            Phase::Ended(status) => exit(status.into()),
            Phase::Prepared | Phase::Starting | Phase::Running => exit(GUEST_FAILED),
        }
    }

    /// The VM ended by itself. The agent's last words may still be on their way.
    pub(super) fn vm_ended(&mut self) -> Result<(), AgentFault> {
        self.vm_ended = true;
        // The muxer is gone only when the VM is, and it is ours.
        let _ = self.vm.vsock().guest_ended();
        let until = Instant::now() + LAST_WORDS;
        while !self.phase.is_ended() && Instant::now() < until {
            match self.agent.fill().and_then(|()| self.take_messages()) {
                // The muxer closes the connection once everything is through.
                Ok(()) => thread::sleep(Duration::from_millis(1)),
                Err(AgentFault::Closed) => break,
                Err(fault) => return Err(fault),
            }
        }
        if !self.phase.is_ended() {
            self.guest_failed(None);
        }
        Ok(())
    }

    /// The guest failed: says how, with its last console lines, and ends the process.
    pub(super) fn guest_failed(&mut self, fault: Option<&AgentFault>) -> ! {
        let _ = self.vm.vsock().guest_ended();
        let reason = match (self.vm.exit_reason(), fault) {
            (Some(reason), _) => reason.to_string(),
            (None, Some(fault)) => report::chain(fault),
            (None, None) => "the VM ended".to_owned(),
        };
        let until = Instant::now() + LAST_OUTPUT;
        while !self.streams.is_done() && Instant::now() < until {
            thread::sleep(Duration::from_millis(5));
        }
        self.reports.console(&self.vm.console());
        let console = console_tail(&self.vm);
        say(&self.error, &format!("the guest failed: {reason}{console}"));
        self.clients.all_answer(&control::Reply::Ended(137));
        exit(GUEST_FAILED)
    }
}

/// Ends the process at once, all its threads with it. The guest's memory needs no tidying.
fn exit(status: i32) -> ! {
    // SAFETY: plain system call.
    unsafe { libc::_exit(status) }
}
