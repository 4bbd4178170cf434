//! Control connections: `start`, `exec`, and every command that asks something of a running VM.
//!
//! A connection that asked for an `exec` is that session's: it lives until the session has ended
//! and its output was written, or until the client is gone, which ends the session.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use krun_gpu_protocol::{AgentError, ErrorKind, Process, Reply, RequestBody, WORKLOAD_SESSION};

use super::agent::AgentFault;
use super::streams::{Joined, StandardStreams, say};
use super::workload::Phase;
use super::{Monitor, Waiting};
use crate::control::{self, Channel, Request};

/// A connection's number.
pub(super) type ClientId = u64;

/// A connection.
#[derive(Debug)]
pub(super) struct Client {
    channel: Channel,
    session: Option<Session>,
}

/// An `exec` session.
#[derive(Debug)]
struct Session {
    number: u64,
    streams: Joined,
    /// Its process' status, once that has ended.
    ended: Option<u8>,
}

/// All connections.
#[derive(Debug, Default)]
pub(super) struct Clients {
    list: BTreeMap<ClientId, Client>,
    last: ClientId,
}

impl Client {
    /// Outputs of a session whose process has ended.
    pub(super) fn ending_outputs(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let ending = self
            .session
            .as_ref()
            .filter(|session| session.ended.is_some());
        ending.into_iter().flat_map(|session| {
            session.streams.outputs().map(|output| {
                // SAFETY: the eventfd is owned by the session, so it is open as long as the
                // borrow lives.
                unsafe { BorrowedFd::borrow_raw(output.done.as_raw_fd()) }
            })
        })
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }
}

impl Clients {
    pub(super) fn iter(&self) -> impl Iterator<Item = (ClientId, &Client)> {
        self.list.iter().map(|(id, client)| (*id, client))
    }

    /// The session of a client's.
    fn session(&self, id: ClientId) -> Option<&Session> {
        self.list.get(&id)?.session.as_ref()
    }

    /// Passes an agent's reply on.
    pub(super) fn answer(&mut self, id: ClientId, result: Result<Reply, AgentError>) {
        let reply = match result {
            Ok(Reply::Statistics(statistics)) => control::Reply::Statistics(statistics),
            Ok(Reply::Processes(processes)) => control::Reply::Processes(processes),
            Ok(Reply::Done | Reply::Started { .. }) => control::Reply::Done,
            Err(error) => control::Reply::Failed(error),
        };
        self.send(id, &reply);
    }

    fn send(&mut self, id: ClientId, reply: &control::Reply) {
        if let Some(client) = self.list.get(&id)
            && client.channel.send(reply).is_err()
            && client.session.is_none()
        {
            self.list.remove(&id);
        }
    }

    /// The descriptors that a client sent.
    pub(super) fn take_descriptors(&mut self, id: ClientId) -> Vec<OwnedFd> {
        self.list
            .get_mut(&id)
            .map(|client| client.channel.take_descriptors())
            .unwrap_or_default()
    }

    /// A last message to everybody.
    pub(super) fn all_answer(&self, reply: &control::Reply) {
        for client in self.list.values().filter(|client| client.session.is_some()) {
            // Whoever is gone needs no answer.
            let _ = client.channel.send(reply);
        }
    }

    /// A session's process ended.
    pub(super) fn session_ended(&mut self, number: u64, status: u8) {
        let sessions = self
            .list
            .values_mut()
            .filter_map(|client| client.session.as_mut());
        for session in sessions.filter(|session| session.number == number) {
            session.ended = Some(status);
        }
    }
}

impl Monitor {
    /// Takes a new connection.
    pub(super) fn accept(&mut self) {
        // A client that is gone again is no client.
        let accepted = self
            .control
            .accept()
            .and_then(|(stream, _)| Channel::new(stream));
        if let Ok(channel) = accepted {
            self.clients.last += 1;
            let client = Client {
                channel,
                session: None,
            };
            self.clients.list.insert(self.clients.last, client);
        }
    }

    /// Reads what a client sent.
    pub(super) fn serve(&mut self, id: ClientId) -> Result<(), AgentFault> {
        loop {
            let Some(client) = self.clients.list.get_mut(&id) else {
                return Ok(());
            };
            // Only the container's owner gets here: a broken frame is as good as an end.
            let open = client.channel.fill().unwrap_or(false);
            let request = client.channel.next::<Request>().unwrap_or(None);
            match request {
                Some(request) => self.serve_request(id, request)?,
                None if open => return Ok(()),
                None => return self.client_left(id),
            }
        }
    }

    fn serve_request(&mut self, id: ClientId, request: Request) -> Result<(), AgentFault> {
        let signal = |session, signal, all| RequestBody::Signal {
            session,
            signal,
            all,
        };
        match request {
            Request::Start {
                interfaces,
                links,
                notices,
                tell,
            } => self.start((id, tell), interfaces, links, &notices),
            Request::Exec(process) => self.exec(id, *process),
            Request::Signal(number) => match self.clients.session(id) {
                Some(session) => {
                    let body = signal(session.number, number, false);
                    self.request(body, Waiting::Nobody)
                }
                None => Ok(()),
            },
            Request::Resize(size) => match self.clients.session(id) {
                Some(session) => {
                    let session = session.number;
                    self.request(RequestBody::Resize { session, size }, Waiting::Nobody)
                }
                None => Ok(()),
            },
            Request::HangUp => {
                if let Some(session) = self.clients.session(id) {
                    session.streams.hang_up();
                }
                Ok(())
            }
            Request::SignalAll(number) => {
                self.request(signal(WORKLOAD_SESSION, number, true), Waiting::Client(id))
            }
            Request::Limit(limits) => self.request(RequestBody::Limit(limits), Waiting::Client(id)),
            Request::Statistics => self.request(RequestBody::Statistics, Waiting::Client(id)),
            Request::Processes => self.request(RequestBody::Processes, Waiting::Client(id)),
            Request::Plug { interface, kind } => self.plug(id, *interface, kind),
            Request::Unplug(name) => self.unplug(id, &name),
            Request::Notice(text) => {
                say(&self.error, &text);
                self.clients.answer(id, Ok(Reply::Done));
                Ok(())
            }
            Request::Pause => {
                self.vm.pause();
                self.clients.answer(id, Ok(Reply::Done));
                Ok(())
            }
            Request::Resume => {
                self.vm.resume();
                self.clients.answer(id, Ok(Reply::Done));
                Ok(())
            }
        }
    }

    pub(super) fn request(
        &mut self,
        body: RequestBody,
        waiting: Waiting,
    ) -> Result<(), AgentFault> {
        let sent = self.agent.send(body)?;
        self.pending.insert(sent, waiting);
        Ok(())
    }

    fn exec(&mut self, id: ClientId, mut process: Process) -> Result<(), AgentFault> {
        let refuse = |message: &str| AgentError {
            kind: ErrorKind::Refused,
            message: message.to_owned(),
            errno: 0,
        };
        let Some(client) = self.clients.list.get_mut(&id) else {
            return Ok(());
        };
        let descriptors = client.channel.take_descriptors();
        let streams = StandardStreams::received(descriptors, &process.stdio);
        let (Phase::Running, Some(streams), None) = (self.phase, streams, &client.session) else {
            let refusal = refuse("the container is not running");
            self.clients.answer(id, Err(refusal));
            return Ok(());
        };
        let streams = match Joined::new(self.vm.vsock(), streams) {
            Ok(streams) => streams,
            Err(error) => {
                let refusal = refuse(&crate::report::chain(&error));
                self.clients.answer(id, Err(refusal));
                return Ok(());
            }
        };
        process.stdio = streams.stdio();
        self.last_session += 1;
        let number = self.last_session;
        client.session = Some(Session {
            number,
            streams,
            ended: None,
        });
        let body = RequestBody::Exec {
            session: number,
            process: Box::new(process),
        };
        self.request(body, Waiting::Exec(id))
    }

    /// The agent answered to an `exec`.
    pub(super) fn exec_replied(
        &mut self,
        id: ClientId,
        result: Result<Reply, AgentError>,
    ) -> Result<(), AgentFault> {
        if result.is_err()
            && let Some(client) = self.clients.list.get_mut(&id)
        {
            client.session = None;
        }
        self.clients.answer(id, result);
        Ok(())
    }

    /// A client closed its connection: its session ends with it.
    fn client_left(&mut self, id: ClientId) -> Result<(), AgentFault> {
        let session = self
            .clients
            .list
            .remove(&id)
            .and_then(|client| client.session);
        match session {
            Some(session) if session.ended.is_none() && !self.phase.is_ended() => self.request(
                RequestBody::EndSession {
                    session: session.number,
                },
                Waiting::Nobody,
            ),
            _ => Ok(()),
        }
    }

    /// Tells the clients of sessions whose process has ended and whose output was written.
    pub(super) fn end_sessions(&mut self) {
        self.clients.list.retain(|_, client| {
            let Some(session) = &mut client.session else {
                return true;
            };
            let Some(status) = session.ended else {
                return true;
            };
            if !session.streams.is_done() {
                return true;
            }
            // Whoever is gone needs no answer.
            let _ = client.channel.send(&control::Reply::Ended(status));
            false
        });
    }
}
