//! From a built VM to a prepared workload: starts the guest, waits for its agent, and tells it
//! what it will run.
//!
//! Everything that comes from the guest here is awaited with a limit, and the VM's own end and
//! the caller's signals are watched meanwhile.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use krun_gpu_protocol::{
    AgentError, CONTROL_PORT, GuestMessage, RequestBody, VERSION, WORKLOAD_SESSION, Workload,
};
use krun_gpu_vmm::devices::vsock::{VsockError, VsockListener};
use krun_gpu_vmm::{MicroVm, StartError};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::agent::{Agent, AgentFault};
use super::signals::{Notice, Signals, is_deadly};
use super::streams::{Joined, StandardStreams};
use super::{Monitor, Reports, console_tail};
use crate::{time, trace};

/// How long the guest has for its kernel's boot, and for its preparations.
const PATIENCE: Duration = Duration::from_secs(120);

/// Why a VM did not come up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MonitorError {
    /// Its vCPUs.
    #[error("start the VM")]
    Start(#[from] StartError),
    /// Its vsock.
    #[error("connect to the guest")]
    Vsock(#[from] VsockError),
    /// Something of the host's.
    #[error("{action}")]
    Host {
        /// What was being done.
        action: &'static str,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// The VM ended.
    #[error("the guest did not start: {reason}{console}")]
    Ended {
        /// How.
        reason: String,
        /// What it said last, on lines of their own.
        console: String,
    },
    /// The agent.
    #[error("{fault}{console}")]
    Agent {
        /// What is wrong with it.
        fault: AgentFault,
        /// What the guest said last, on lines of their own.
        console: String,
    },
    /// The agent could not prepare the workload.
    #[error(transparent)]
    Prepare(AgentError),
    /// The caller gave up.
    #[error("stopped by signal {0}")]
    Signal(i32),
}

/// Boots `vm` and prepares `workload` in it.
pub(crate) fn boot(
    mut vm: MicroVm,
    mut workload: Workload,
    streams: StandardStreams,
    control: UnixListener,
    reports: Reports,
    render_server: Option<OwnedFd>,
) -> Result<Monitor, MonitorError> {
    let host = |action| move |source| MonitorError::Host { action, source };
    let signals = Signals::new().map_err(host("read signals"))?;
    let listener = vm.vsock().listen(CONTROL_PORT)?;
    let error = streams.for_reports().map_err(host("keep standard error"))?;
    let joined = Joined::new(vm.vsock(), streams)?;
    workload.process.stdio = joined.stdio();
    vm.start()?;
    trace::mark("vcpus_started");

    let mut waiting = Waiting {
        vm: &vm,
        signals: &signals,
        until: Instant::now() + PATIENCE,
        waiting_for: "its kernel boots",
    };
    let mut agent = waiting.connection(&listener)?;
    // One guest, one agent: whatever else connects is refused.
    drop(listener);
    match waiting.message(&mut agent)? {
        GuestMessage::Hello {
            version: VERSION, ..
        } => {}
        GuestMessage::Hello { version, .. } => {
            return Err(waiting.fault(AgentFault::Version {
                theirs: version,
                ours: VERSION,
            }));
        }
        _ => return Err(waiting.fault(AgentFault::Unexpected("message before its greeting"))),
    }
    trace::mark("agent_hello");

    waiting.until = Instant::now() + PATIENCE;
    waiting.waiting_for = "it prepares the workload";
    workload.realtime_ns = time::realtime_ns();
    let prepare = RequestBody::Prepare(Box::new(workload));
    let id = agent.send(prepare).map_err(|fault| waiting.fault(fault))?;
    match waiting.message(&mut agent)? {
        GuestMessage::Reply {
            id: replied,
            result,
        } if replied == id => {
            result.map_err(MonitorError::Prepare)?;
        }
        _ => return Err(waiting.fault(AgentFault::Unexpected("message while preparing"))),
    }
    Ok(Monitor::new(
        vm,
        agent,
        signals,
        joined,
        error,
        control,
        reports,
        render_server,
        WORKLOAD_SESSION,
    ))
}

/// What is watched while the guest is waited for.
struct Waiting<'a> {
    vm: &'a MicroVm,
    signals: &'a Signals,
    until: Instant,
    waiting_for: &'static str,
}

impl Waiting<'_> {
    /// Waits for the agent's connection.
    fn connection(&self, listener: &VsockListener) -> Result<Agent, MonitorError> {
        self.readable(listener.as_fd())?;
        let connect = || Agent::new(listener.accept()?);
        connect().map_err(|source| self.fault(AgentFault::Io(source)))
    }

    /// Waits for the agent's next message.
    fn message(&self, agent: &mut Agent) -> Result<GuestMessage, MonitorError> {
        loop {
            match agent.next() {
                Ok(Some(message)) => return Ok(message),
                Ok(None) => {}
                // The VM's own end says more than the connection's.
                Err(AgentFault::Closed) if self.vm.exit_reason().is_some() => {
                    return Err(self.ended());
                }
                Err(fault) => return Err(self.fault(fault)),
            }
            self.readable(agent.as_fd())?;
            agent.fill().map_err(|fault| self.fault(fault))?;
        }
    }

    fn readable(&self, descriptor: BorrowedFd<'_>) -> Result<(), MonitorError> {
        loop {
            let left = self.until.saturating_duration_since(Instant::now());
            let mut watched = [
                PollFd::new(descriptor, PollFlags::POLLIN),
                PollFd::new(self.vm.exited(), PollFlags::POLLIN),
                PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            ];
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            match poll(&mut watched, timeout) {
                Ok(0) => {
                    return Err(self.fault(AgentFault::Silent {
                        seconds: PATIENCE.as_secs(),
                        waiting_for: self.waiting_for,
                    }));
                }
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(error) => {
                    return Err(MonitorError::Host {
                        action: "wait for the guest",
                        source: error.into(),
                    });
                }
            }
            let ready = watched.map(|watched| watched.any().unwrap_or(false));
            while let Some(signal) = self.signals.next() {
                match signal {
                    Notice::Sent(signal) if is_deadly(signal) => {
                        return Err(MonitorError::Signal(signal));
                    }
                    Notice::HungUp => return Err(MonitorError::Signal(libc::SIGHUP)),
                    // The monitor looks at the size when it begins.
                    Notice::Sent(_) | Notice::Resized => {}
                }
            }
            match ready {
                [true, ..] => return Ok(()),
                [_, true, _] => return Err(self.ended()),
                _ => {}
            }
        }
    }

    fn ended(&self) -> MonitorError {
        let reason = self.vm.exit_reason();
        MonitorError::Ended {
            reason: reason.map_or_else(|| "the VM ended".to_owned(), |reason| reason.to_string()),
            console: console_tail(self.vm),
        }
    }

    fn fault(&self, fault: AgentFault) -> MonitorError {
        MonitorError::Agent {
            fault,
            console: console_tail(self.vm),
        }
    }
}
