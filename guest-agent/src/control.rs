//! The host's requests.
//!
//! Called by the agent's loop with each decoded frame. Everything that can take time goes on in
//! a child, and its reply follows when the child reports.

use krun_gpu_protocol::{
    AgentError, ErrorKind, GpuDriver, Interface, Limits, Process, Reply, Request, RequestBody,
    TerminalSize, WORKLOAD_SESSION, Workload,
};
use rustix::io::Errno;

use crate::agent::{Agent, AgentFault, Phase};
use crate::clock;
use crate::driver::{Driver, DriverError};
use crate::failure::report;
use crate::network::{self, NetworkError};
use crate::process_list;
use crate::session::{Message, Session, start_exec, start_init};
use crate::statistics;
use crate::workload::Surroundings;
use crate::workload::cgroup::Cgroup;
use crate::workload::{sysctl, validate};

/// A request that is refused or fails at once.
#[derive(Debug, thiserror::Error)]
enum RequestError {
    #[error("{request} came when the workload was {phase:?}")]
    Phase { request: &'static str, phase: Phase },
    #[error("session {session} is not there")]
    NoSession { session: u64 },
    #[error("session {session} exists already")]
    SessionExists { session: u64 },
    #[error("session {session} has no terminal")]
    NoTerminal { session: u64 },
    #[error("send signal {signal} to session {session}")]
    Signal {
        session: u64,
        signal: i32,
        #[source]
        source: Errno,
    },
    #[error("resize the terminal of session {session}")]
    Resize {
        session: u64,
        #[source]
        source: Errno,
    },
    #[error("set the guest's clock")]
    Clock(#[source] Errno),
    #[error("tell the workload's first process to start")]
    Start(#[source] Errno),
}

type Answer = Result<Option<Reply>, AgentError>;

impl Agent {
    /// Handles one request. A reply that takes time is sent later.
    pub(crate) fn request(&mut self, request: Request) -> Result<(), AgentFault> {
        let id = request.id;
        let answer = match request.body {
            RequestBody::Prepare(workload) => self.prepare(id, *workload),
            RequestBody::Start { interfaces } => self.start(id, &interfaces),
            RequestBody::Exec { session, process } => self.exec(id, session, *process),
            RequestBody::Signal {
                session,
                signal,
                all,
            } => self.signal(session, signal, all),
            RequestBody::Resize { session, size } => self.resize(session, size),
            RequestBody::EndSession { session } => self.end_session(session),
            RequestBody::Statistics => statistics::read(self.cgroup.as_ref())
                .map(Some)
                .map_err(|error| report(ErrorKind::Failed, &error)),
            RequestBody::Limit(limits) => self.set_limits(&limits).map(Some),
            RequestBody::Processes => self.processes(),
            RequestBody::AddInterface(interface) => {
                self.change_network("AddInterface", || network::add(&interface))
            }
            RequestBody::RemoveInterface { device } => {
                self.change_network("RemoveInterface", || network::remove(device))
            }
        };
        match answer {
            Ok(None) => Ok(()),
            Ok(Some(reply)) => self.reply(id, Ok(reply)),
            Err(error) => self.reply(id, Err(error)),
        }
    }

    fn prepare(&mut self, id: u64, mut workload: Workload) -> Answer {
        self.expect("Prepare", Phase::Empty)?;
        validate::workload(&workload).map_err(|error| report(ErrorKind::Refused, &error))?;
        let failed = |error: &(dyn std::error::Error + 'static)| report(ErrorKind::Failed, error);
        self.choose_driver(&mut workload)
            .map_err(|error| failed(&error))?;
        clock::set(workload.realtime_ns).map_err(|error| failed(&RequestError::Clock(error)))?;
        self.interface_parameters = sysctl::take_interfaces(&mut workload.sysctl);
        self.quota = workload.limits.cpu_max.take();
        let cgroup = Cgroup::create(&self.surroundings.cgroups).map_err(|error| failed(&error))?;
        cgroup
            .limit(&workload.limits)
            .map_err(|error| failed(&error))?;
        let session = start_init(&workload, &self.surroundings, &cgroup, id)
            .map_err(|error| failed(&error))?;
        self.sessions.insert(WORKLOAD_SESSION, session);
        self.cgroup = Some(cgroup);
        self.phase = Phase::Prepared;
        Ok(None)
    }

    /// Settles whose Vulkan driver the workload gets.
    fn choose_driver(&mut self, workload: &mut Workload) -> Result<(), DriverError> {
        let Some(gpu) = &mut workload.gpu else {
            return Ok(());
        };
        let Surroundings { view, driver, .. } = &self.surroundings;
        self.driver = Driver::choose(gpu.driver, view, driver)?;
        gpu.driver = match &self.driver {
            Some(Driver::Bundled) => GpuDriver::Bundled,
            Some(Driver::Image(_)) => GpuDriver::Image,
            None => GpuDriver::None,
        };
        if let Some(driver) = &self.driver {
            driver.announce(&mut workload.process.env);
        }
        Ok(())
    }

    fn start(&mut self, id: u64, interfaces: &[Interface]) -> Answer {
        self.expect("Start", Phase::Prepared)?;
        for interface in interfaces {
            network::set_up(interface).map_err(|error| report(ErrorKind::Failed, &error))?;
        }
        sysctl::apply(&self.interface_parameters)
            .map_err(|error| report(ErrorKind::Failed, &error))?;
        let transport = self.transport.clone();
        let session = self.session(WORKLOAD_SESSION)?;
        session
            .stdio
            .connect(&transport)
            .map_err(|error| report(ErrorKind::Failed, &error))?;
        let told = match &session.channel {
            Some(channel) => channel.send(&Message::Start, None),
            None => Err(Errno::PIPE),
        };
        told.map_err(|error| report(ErrorKind::Failed, &RequestError::Start(error)))?;
        session.request = Some(id);
        self.phase = Phase::Started;
        Ok(None)
    }

    fn exec(&mut self, id: u64, number: u64, mut process: Process) -> Answer {
        self.expect("Exec", Phase::Started)?;
        validate::process(&process).map_err(|error| report(ErrorKind::Refused, &error))?;
        if self.sessions.contains_key(&number) {
            let error = RequestError::SessionExists { session: number };
            return Err(report(ErrorKind::Refused, &error));
        }
        let failed = |error: &(dyn std::error::Error + 'static)| report(ErrorKind::Failed, error);
        let (Some(workload), Some(cgroup)) = (self.sessions.get(&WORKLOAD_SESSION), &self.cgroup)
        else {
            let session = WORKLOAD_SESSION;
            let error = RequestError::NoSession { session };
            return Err(report(ErrorKind::NoSession, &error));
        };
        if let Some(driver) = &self.driver {
            driver.announce(&mut process.env);
        }
        let mut session =
            start_exec(&process, workload, cgroup, id).map_err(|error| failed(&error))?;
        session.oom_kills = self.oom_kills();
        let connected = session.stdio.connect(&self.transport);
        let session = self.sessions.entry(number).or_insert(session);
        if let Err(error) = connected {
            // The process is there: it is ended, and its end answers the request.
            session.failure = Some(failed(&error));
            let _ = session.kill_group();
        }
        Ok(None)
    }

    fn signal(&mut self, number: u64, signal: i32, all: bool) -> Answer {
        let failed = |source| {
            let error = RequestError::Signal {
                session: number,
                signal,
                source,
            };
            report(ErrorKind::Failed, &error)
        };
        let session = self.session(number)?;
        if !all {
            return match session.signal(signal) {
                Ok(()) => Ok(Some(Reply::Done)),
                Err(Errno::SRCH) => Err(no_session(number)),
                Err(error) => Err(failed(error)),
            };
        }
        match &self.cgroup {
            Some(cgroup) => cgroup
                .signal(signal)
                .map(|()| Some(Reply::Done))
                .map_err(|error| report(ErrorKind::Failed, &error)),
            None => Err(no_session(number)),
        }
    }

    fn resize(&mut self, number: u64, size: TerminalSize) -> Answer {
        match self.session(number)?.resize(size) {
            Ok(true) => Ok(Some(Reply::Done)),
            Ok(false) => {
                let error = RequestError::NoTerminal { session: number };
                Err(report(ErrorKind::Refused, &error))
            }
            Err(source) => {
                let error = RequestError::Resize {
                    session: number,
                    source,
                };
                Err(report(ErrorKind::Failed, &error))
            }
        }
    }

    /// Holds the prepared workload to its CPU quota.
    pub(crate) fn limit_cpu(&mut self) -> Result<Reply, AgentError> {
        let cpu_max = self.quota.take();
        self.set_limits(&Limits {
            cpu_max,
            ..Limits::default()
        })
    }

    fn set_limits(&self, limits: &Limits) -> Result<Reply, AgentError> {
        let cgroup = self.cgroup.as_ref();
        cgroup
            .ok_or_else(|| no_session(WORKLOAD_SESSION))?
            .limit(limits)
            .map(|()| Reply::Done)
            .map_err(|error| report(ErrorKind::Failed, &error))
    }

    fn processes(&self) -> Answer {
        let cgroup = self.cgroup.as_ref();
        cgroup
            .ok_or_else(|| no_session(WORKLOAD_SESSION))?
            .processes()
            .map(|pids| Some(Reply::Processes(process_list::read(&pids))))
            .map_err(|error| report(ErrorKind::Failed, &error))
    }

    fn change_network(
        &self,
        request: &'static str,
        change: impl FnOnce() -> Result<(), NetworkError>,
    ) -> Answer {
        self.expect(request, Phase::Started)?;
        change()
            .map(|()| Some(Reply::Done))
            .map_err(|error| report(ErrorKind::Failed, &error))
    }

    fn end_session(&mut self, number: u64) -> Answer {
        if number == WORKLOAD_SESSION {
            return Err(no_session(number));
        }
        self.session(number)?.kill_group().map_err(|source| {
            let error = RequestError::Signal {
                session: number,
                signal: libc::SIGKILL,
                source,
            };
            report(ErrorKind::Failed, &error)
        })?;
        Ok(Some(Reply::Done))
    }

    fn session(&mut self, number: u64) -> Result<&mut Session, AgentError> {
        let session = self.sessions.get_mut(&number);
        session
            .filter(|session| session.status.is_none())
            .ok_or_else(|| no_session(number))
    }

    fn expect(&self, request: &'static str, phase: Phase) -> Result<(), AgentError> {
        if self.phase == phase {
            return Ok(());
        }
        let error = RequestError::Phase {
            request,
            phase: self.phase,
        };
        Err(report(ErrorKind::Refused, &error))
    }
}

fn no_session(session: u64) -> AgentError {
    report(ErrorKind::NoSession, &RequestError::NoSession { session })
}
