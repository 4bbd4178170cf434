//! The agent's loop: one poll over the control connection, SIGCHLD, the workload's OOM events
//! and every session's channel and streams.
//!
//! Started by `main` after `boot`. Requests are answered in `control`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use krun_gpu_protocol::frame::{self, FrameError};
use krun_gpu_protocol::{
    AgentError, ErrorKind, Event, GuestMessage, Reply, Request, WORKLOAD_SESSION,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::Pid;

use crate::driver::Driver;
use crate::reaper::Reaper;
use crate::session::{Message, Received, Session};
use crate::transport::Transport;
use crate::workload::Surroundings;
use crate::workload::cgroup::Cgroup;

/// How long other sessions' last bytes may hold up the workload's end.
const STRAGGLERS: Duration = Duration::from_secs(2);

/// How long the host has to end the VM after the workload's end.
const FAREWELL: Duration = Duration::from_secs(5);

/// What ends the agent.
#[derive(Debug, thiserror::Error)]
pub enum AgentFault {
    /// Signals.
    #[error("take SIGCHLD as a descriptor")]
    Signals(#[source] Errno),
    /// The loop's poll.
    #[error("poll {count} descriptors")]
    Poll {
        /// How many.
        count: usize,
        /// Why it failed.
        #[source]
        source: Errno,
    },
    /// The control connection.
    #[error("speak with the host")]
    Control(#[from] FrameError),
}

/// How far the workload is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Phase {
    /// Nothing was asked for.
    Empty,
    /// `Prepare` was taken.
    Prepared,
    /// `Start` was taken.
    Started,
    /// Its process has ended; other sessions may write out until then.
    Ended(Instant),
    /// `Exited` was sent; the host has until then.
    Over(Instant),
}

/// PID 1.
#[derive(Debug)]
pub struct Agent {
    pub(crate) transport: Transport,
    control: File,
    reaper: Reaper,
    pub(crate) surroundings: Surroundings,
    pub(crate) phase: Phase,
    pub(crate) cgroup: Option<Cgroup>,
    /// The workload's `cpu.max`, which its preparations are not held to.
    pub(crate) quota: Option<(Option<u64>, u64)>,
    pub(crate) driver: Option<Driver>,
    /// Kernel parameters of interfaces, which `Start` makes.
    pub(crate) interface_parameters: Vec<(String, String)>,
    pub(crate) sessions: BTreeMap<u64, Session>,
    oom_kills: u64,
}

/// What one turn of the loop has to look at.
#[derive(Debug, Default)]
struct Ready {
    control: bool,
    children: bool,
    memory: bool,
    sessions: BTreeSet<u64>,
}

impl Agent {
    /// An agent on a `control` connection that has said hello.
    pub fn new(
        transport: Transport,
        control: OwnedFd,
        surroundings: Surroundings,
    ) -> Result<Self, AgentFault> {
        Ok(Self {
            transport,
            control: control.into(),
            reaper: Reaper::new().map_err(AgentFault::Signals)?,
            surroundings,
            phase: Phase::Empty,
            cgroup: None,
            quota: None,
            driver: None,
            interface_parameters: Vec::new(),
            sessions: BTreeMap::new(),
            oom_kills: 0,
        })
    }

    /// Serves the host until it is gone, or until it has had time to take the workload's end.
    pub fn run(mut self) -> Result<(), AgentFault> {
        loop {
            let ready = self.wait()?;
            if ready.control {
                match frame::read::<Request>(&self.control)? {
                    Some(request) => self.request(request)?,
                    None => return Ok(()),
                }
            }
            for id in &ready.sessions {
                self.hear(*id)?;
                if let Some(session) = self.sessions.get_mut(id) {
                    session.stdio.pump();
                }
            }
            if ready.children {
                for (pid, status) in self.reaper.reap() {
                    self.ended(pid, status)?;
                }
            }
            if ready.memory || ready.children {
                self.count_oom_kills()?;
            }
            self.bury()?;
            if matches!(self.phase, Phase::Over(deadline) if deadline <= Instant::now()) {
                return Ok(());
            }
        }
    }

    fn wait(&self) -> Result<Ready, AgentFault> {
        let mut descriptors = vec![
            PollFd::new(&self.control, PollFlags::IN),
            PollFd::new(&self.reaper, PollFlags::IN),
        ];
        let events = self.cgroup.as_ref().and_then(Cgroup::events);
        if let Some(events) = events {
            descriptors.push(PollFd::from_borrowed_fd(events, PollFlags::PRI));
        }
        let fixed = descriptors.len();
        let mut ranges = Vec::with_capacity(self.sessions.len());
        for (id, session) in &self.sessions {
            if let Some(channel) = &session.channel {
                descriptors.push(PollFd::from_borrowed_fd(channel.as_fd(), PollFlags::IN));
            }
            session.stdio.poll(&mut descriptors);
            ranges.push((*id, descriptors.len()));
        }
        let timeout = match self.phase {
            Phase::Ended(deadline) | Phase::Over(deadline) => {
                let left = deadline.saturating_duration_since(Instant::now());
                Timespec::try_from(left + Duration::from_millis(1)).ok()
            }
            _ => None,
        };
        match poll(&mut descriptors, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(source) => {
                let count = descriptors.len();
                return Err(AgentFault::Poll { count, source });
            }
        }
        let is_ready = |index: usize| {
            let descriptor = descriptors.get(index);
            descriptor.is_some_and(|descriptor| !descriptor.revents().is_empty())
        };
        let mut ready = Ready {
            control: is_ready(0),
            children: is_ready(1),
            memory: events.is_some() && is_ready(2),
            sessions: BTreeSet::new(),
        };
        let mut start = fixed;
        for (id, end) in ranges {
            if (start..end).any(is_ready) {
                ready.sessions.insert(id);
            }
            start = end;
        }
        Ok(ready)
    }

    /// Sends one message to the host.
    pub(crate) fn say(&self, message: &GuestMessage) -> Result<(), AgentFault> {
        frame::write(&self.control, message).map_err(AgentFault::from)
    }

    /// Answers a request.
    pub(crate) fn reply(
        &self,
        id: u64,
        result: Result<Reply, AgentError>,
    ) -> Result<(), AgentFault> {
        self.say(&GuestMessage::Reply { id, result })
    }

    /// Takes what a session's child reports.
    fn hear(&mut self, id: u64) -> Result<(), AgentFault> {
        while let Some(session) = self.sessions.get_mut(&id) {
            let Some(channel) = &session.channel else {
                return Ok(());
            };
            // A channel that fails is as good as ended: the child cannot say more.
            match channel.receive(false).unwrap_or(Received::End) {
                Received::Nothing => return Ok(()),
                Received::Message(Message::Terminal, Some(master)) => {
                    let taken = session.stdio.set_terminal(master);
                    let connected = match (taken, self.phase) {
                        (Ok(()), Phase::Started) => session.stdio.connect(&self.transport),
                        (taken, _) => taken,
                    };
                    if let Err(error) = connected {
                        session.failure = Some(crate::failure::report(ErrorKind::Failed, &error));
                    }
                }
                Received::Message(Message::Prepared, _) => {
                    if let Some(request) = session.request.take() {
                        let result = self.limit_cpu();
                        self.reply(request, result)?;
                    }
                }
                Received::Message(Message::Executing { pid }, _) => session.inner_pid = Some(pid),
                Received::Message(Message::Failed(error), _) => session.failure = Some(error),
                Received::Message(Message::Start | Message::Terminal, _) => {}
                Received::End => {
                    session.channel = None;
                    let result = match (&session.failure, session.inner_pid) {
                        (Some(error), _) => Err(error.clone()),
                        (None, Some(pid)) => Ok(Reply::Started { pid }),
                        (None, None) => Err(AgentError {
                            kind: ErrorKind::Failed,
                            message: "the process ended before its program ran".into(),
                            errno: 0,
                        }),
                    };
                    if let Some(request) = session.request.take() {
                        if let Err(error) = &result {
                            session.failure = Some(error.clone());
                        }
                        self.reply(request, result)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Notes a reaped child. What it reported before its end is heard first.
    fn ended(&mut self, pid: Pid, status: u8) -> Result<(), AgentFault> {
        let found = self
            .sessions
            .iter()
            .find_map(|(id, session)| (session.pid == pid).then_some(*id));
        let Some(id) = found else {
            return Ok(());
        };
        self.hear(id)?;
        if let Some(session) = self.sessions.get_mut(&id) {
            session.ended(status);
        }
        if id == WORKLOAD_SESSION {
            self.phase = Phase::Ended(Instant::now() + STRAGGLERS);
        }
        Ok(())
    }

    fn count_oom_kills(&mut self) -> Result<(), AgentFault> {
        let Some(cgroup) = &mut self.cgroup else {
            return Ok(());
        };
        let kills = cgroup.oom_kills();
        if kills > self.oom_kills {
            self.oom_kills = kills;
            self.say(&GuestMessage::Event(Event::OutOfMemory))?;
        }
        Ok(())
    }

    /// Reports the sessions that are over; the workload's after all others.
    fn bury(&mut self) -> Result<(), AgentFault> {
        let late = matches!(self.phase, Phase::Ended(deadline) if deadline <= Instant::now());
        let over: Vec<u64> = self
            .sessions
            .iter()
            .rev()
            .filter(|(id, session)| {
                session.is_over() || (late && **id != WORKLOAD_SESSION && session.status.is_some())
            })
            .map(|(id, _)| *id)
            .collect();
        for id in over {
            if id == WORKLOAD_SESSION {
                if self.sessions.len() > 1 {
                    continue;
                }
                // What the workload wrote must be on the host when it hears of the end.
                rustix::fs::sync();
                self.phase = Phase::Over(Instant::now() + FAREWELL);
            }
            let Some(session) = self.sessions.remove(&id) else {
                continue;
            };
            // A session that never ran was answered with an error.
            if session.failure.is_some() {
                continue;
            }
            self.say(&GuestMessage::Event(Event::Exited {
                session: id,
                status: session.status.unwrap_or(255),
                oom_killed: self.oom_kills > session.oom_kills,
            }))?;
        }
        Ok(())
    }

    /// The OOM kills so far, for a session that begins.
    pub(crate) fn oom_kills(&self) -> u64 {
        self.oom_kills
    }
}
