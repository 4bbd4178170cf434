//! The muxer: which connections there are, and where each one goes on the host.
//!
//! Driven by the worker's thread alone. The guest opens connections: to ports that somebody
//! listens on, and to the stream port, where 16 bytes say which attached stream is meant. Their
//! number, the time that they may stay without a token, and the bytes held for each are limited.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::Registry;

use super::VsockError;
use super::connection::{Connection, Next, Ports, Stage};
use super::endpoint::{Endpoint, EndpointError, Input, Output};
use super::handle::{Acceptor, Token};
use super::packet::{HOST_CID, Header, Operation, Shutdown, TYPE_STREAM};
use crate::devices::buffers::Buffers;

/// Connections that exist at once.
const MAX_CONNECTIONS: usize = 1024;

/// Connections to the stream port that are not joined yet.
const MAX_UNJOINED: usize = 64;

/// How long one of those is kept.
const UNJOINED_FOR: Duration = Duration::from_millis(if cfg!(test) { 500 } else { 10_000 });

/// Resets kept for a guest that offers no buffer for them; then it is no longer listened to.
const MAX_RESETS: usize = 128;

/// The number of a connection, never used twice.
pub(super) type Id = usize;

/// All connections, listeners and attached streams.
#[derive(Debug)]
pub(super) struct Muxer {
    registry: Arc<Registry>,
    guest_cid: u64,
    stream_port: u32,
    listeners: HashMap<u32, Acceptor>,
    /// Attached and not joined.
    attached: HashMap<Token, Endpoint>,
    connections: HashMap<Id, Connection>,
    by_ports: HashMap<Ports, Id>,
    /// Connections whose token is known: waiting or joined.
    by_token: HashMap<Token, Id>,
    /// Connections in the stages before joined, oldest first, and when each one came.
    unjoined: BTreeMap<Id, Instant>,
    /// Connections that have something to say to the guest, in turn.
    talkative: VecDeque<Id>,
    resets: VecDeque<Header>,
    next_id: Id,
}

/// What the guest shall get next.
#[derive(Clone, Copy, Debug)]
pub(super) enum Turn {
    /// This reset.
    Reset(Header),
    /// What this connection has to say.
    Connection(Id, Next),
}

impl Muxer {
    pub(super) fn new(registry: Registry, guest_cid: u64, stream_port: u32) -> Self {
        Self {
            registry: Arc::new(registry),
            guest_cid,
            stream_port,
            listeners: HashMap::new(),
            attached: HashMap::new(),
            connections: HashMap::new(),
            by_ports: HashMap::new(),
            by_token: HashMap::new(),
            unjoined: BTreeMap::new(),
            talkative: VecDeque::new(),
            resets: VecDeque::new(),
            next_id: 0,
        }
    }

    /// Sends the connections to `port` to `acceptor`.
    pub(super) fn listen(&mut self, port: u32, acceptor: Acceptor) -> Result<(), VsockError> {
        if self.listeners.get(&port).is_some_and(Acceptor::is_open) {
            return Err(VsockError::PortTaken { port });
        }
        self.listeners.insert(port, acceptor);
        Ok(())
    }

    /// Joins the stream `token` to `endpoint`, now or when it comes.
    pub(super) fn attach(&mut self, token: Token, endpoint: Endpoint) -> Result<(), VsockError> {
        let waiting = self.by_token.get(&token).copied();
        if let Some(id) = waiting
            && self.unjoined.contains_key(&id)
        {
            self.join(id, endpoint, Some(token))
                .map_err(|source| VsockError::Endpoint {
                    source: Box::new(source),
                })?;
            self.settle(id);
            return Ok(());
        }
        if waiting.is_some() || self.attached.contains_key(&token) {
            return Err(VsockError::TokenTaken);
        }
        self.attached.insert(token, endpoint);
        Ok(())
    }

    /// Closes the stream `token`, wherever it is.
    pub(super) fn release(&mut self, token: &Token) {
        self.attached.remove(token);
        if let Some(id) = self.by_token.get(token).copied() {
            self.reset(id);
        }
    }

    /// Takes a packet in. `payload` is as long as the header says.
    pub(super) fn receive(&mut self, header: &Header, payload: Buffers<'_>) {
        if header.src_cid.get() != self.guest_cid {
            return;
        }
        let ports = Ports {
            guest: header.src_port.get(),
            host: header.dst_port.get(),
        };
        let to_us = header.dst_cid.get() == HOST_CID && header.kind.get() == TYPE_STREAM;
        let id = self.by_ports.get(&ports).copied().filter(|_| to_us);
        match (Operation::from_number(header.op.get()), id) {
            (Some(Operation::Reset), None) => {}
            (Some(Operation::Reset), Some(id)) => self.hang_up(id),
            (Some(Operation::Request), None) if to_us => self.open(ports, header),
            (_, None) => self.resets.push_back(Header::reset_for(header)),
            (None, Some(id)) => self.reset(id),
            (Some(operation), Some(id)) => {
                let Some(connection) = self.connections.get_mut(&id) else {
                    return;
                };
                match connection.receive(operation, header, payload) {
                    Ok(()) => {
                        self.find_token(id);
                        self.settle(id);
                    }
                    Err(_) => self.reset(id),
                }
            }
        }
    }

    /// A packet whose payload is not where its header says.
    pub(super) fn receive_broken(&mut self, header: &Header) {
        let header = Header {
            op: 0.into(),
            ..*header
        };
        self.receive(&header, Buffers::default());
    }

    /// Whether so many answers wait that the guest is to take some before it is listened to again.
    pub(super) fn is_congested(&self) -> bool {
        self.resets.len() >= MAX_RESETS
    }

    fn open(&mut self, ports: Ports, request: &Header) {
        let id = self.next_id;
        let stream = ports.host == self.stream_port;
        let listener = self.listeners.get(&ports.host);
        let room = self.connections.len() < MAX_CONNECTIONS
            && (!stream || self.unjoined.len() < MAX_UNJOINED);
        let known = stream || listener.is_some();
        let connection = match Connection::new(ports, request) {
            Ok(connection) if room && known => connection,
            _ => return self.resets.push_back(Header::reset_for(request)),
        };
        self.next_id += 1;
        let listener = listener.filter(|_| !stream);
        let accepted = match listener {
            None => {
                self.unjoined.insert(id, Instant::now());
                None
            }
            Some(listener) => {
                let endpoint = Endpoint::pair()
                    .inspect_err(|error| tracing::warn!(%error, "refuse a vsock connection"))
                    .ok()
                    .and_then(|(ours, theirs)| listener.hand_over(theirs).then_some(ours));
                if endpoint.is_none() {
                    return self.resets.push_back(Header::reset_for(request));
                }
                endpoint
            }
        };
        self.connections.insert(id, connection);
        self.by_ports.insert(ports, id);
        match accepted.map(|endpoint| self.join(id, endpoint, None)) {
            Some(Err(error)) => {
                tracing::warn!(%error, port = ports.host, "refuse a vsock connection");
                self.reset(id);
            }
            _ => self.settle(id),
        }
    }

    /// Looks for what an unjoined connection's token means, once it is there.
    fn find_token(&mut self, id: Id) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        if connection.stage != Stage::Token {
            return;
        }
        let Some(token) = connection.take_token() else {
            return;
        };
        if self.by_token.contains_key(&token) {
            return self.reset(id);
        }
        connection.stage = Stage::Waiting(token);
        self.by_token.insert(token, id);
        if let Some(endpoint) = self.attached.remove(&token)
            && let Err(error) = self.join(id, endpoint, Some(token))
        {
            tracing::warn!(%error, "join a vsock stream");
            self.reset(id);
        }
    }

    fn join(
        &mut self,
        id: Id,
        endpoint: Endpoint,
        token: Option<Token>,
    ) -> Result<(), EndpointError> {
        let Some(connection) = self.connections.get_mut(&id) else {
            return Ok(());
        };
        connection.done = endpoint.done;
        if let Some(stream) = endpoint.output {
            let output = Output::new(stream, endpoint.own, &self.registry, output_token(id))?;
            connection.output = Some(output);
        }
        if let Some(stream) = endpoint.input {
            let input = Input::new(stream, endpoint.own, &self.registry, input_token(id))?;
            connection.input = Some(input);
        }
        connection.stage = Stage::Joined(token);
        self.unjoined.remove(&id);
        connection.flush();
        Ok(())
    }

    /// The input of a connection may have something.
    pub(super) fn input_ready(&mut self, id: Id) {
        if let Some(connection) = self.connections.get_mut(&id)
            && let Some(input) = &mut connection.input
        {
            input.ready = true;
            self.settle(id);
        }
    }

    /// The output of a connection may take something, or has hung up.
    pub(super) fn output_ready(&mut self, id: Id, hung_up: bool) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let Some(output) = &mut connection.output else {
            return;
        };
        output.ready = true;
        if hung_up && output.ends_at_hangup() {
            connection.close_output();
            connection.give_up_receiving();
        } else {
            connection.flush();
        }
        self.settle(id);
    }

    /// When the next connection without a token is to be refused.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let (_, since) = self.unjoined.first_key_value()?;
        Some(*since + UNJOINED_FOR)
    }

    /// Refuses the connections that have waited long enough.
    pub(super) fn expire(&mut self, now: Instant) {
        while let Some((&id, since)) = self.unjoined.first_key_value()
            && *since + UNJOINED_FOR <= now
        {
            tracing::debug!("no stream was attached to a vsock connection in time");
            self.reset(id);
        }
    }

    /// The guest's side of all connections is over; what it has sent goes on to the host.
    pub(super) fn hang_up_all(&mut self) {
        self.resets.clear();
        let ids: Vec<Id> = self.by_ports.values().copied().collect();
        for id in ids {
            self.hang_up(id);
        }
    }

    /// What the guest shall get next; the connection it names is first in the list.
    pub(super) fn turn(&mut self) -> Option<Turn> {
        if let Some(reset) = self.resets.front() {
            return Some(Turn::Reset(*reset));
        }
        while let Some(&id) = self.talkative.front() {
            if let Some(connection) = self.connections.get_mut(&id) {
                if let Some(next) = connection.next() {
                    return Some(Turn::Connection(id, next));
                }
                connection.listed = false;
            }
            self.talkative.pop_front();
        }
        None
    }

    /// The reset of the last [`Self::turn`] went out.
    pub(super) fn reset_sent(&mut self) {
        self.resets.pop_front();
    }

    /// Makes the header of a packet without data.
    pub(super) fn control(&mut self, id: Id, operation: Operation, flags: Shutdown) -> Header {
        let header = self
            .connections
            .get_mut(&id)
            .map(|connection| connection.header(operation, flags));
        self.addressed(header.unwrap_or_default())
    }

    /// Fills `target` from a connection's input and makes the header of the packets that carry
    /// it; its length is to be set. `None` when there was nothing; the end becomes a half-close.
    pub(super) fn data(
        &mut self,
        id: Id,
        target: &[vm_memory::VolatileSlice<'_>],
    ) -> Option<(usize, Header)> {
        let connection = self.connections.get_mut(&id)?;
        let length = connection.input.as_mut()?.read(target)?;
        if length == 0 {
            connection.end_input();
            return None;
        }
        connection.credit.send(u32::try_from(length).ok()?);
        let header = connection.header(Operation::Data, Shutdown::default());
        Some((length, self.addressed(header)))
    }

    /// Lets the other connections have their turn before this one's next.
    pub(super) fn rotate(&mut self) {
        if !self.talkative.is_empty() {
            self.talkative.rotate_left(1);
        }
    }

    fn addressed(&self, header: Header) -> Header {
        Header {
            src_cid: HOST_CID.into(),
            dst_cid: self.guest_cid.into(),
            kind: TYPE_STREAM.into(),
            ..header
        }
    }

    /// The guest is done with a connection, in one way or another.
    fn hang_up(&mut self, id: Id) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.gone = true;
            self.by_ports.remove(&connection.ports);
            self.settle(id);
        }
    }

    /// Ends a connection at once: the guest hears a reset, the host's descriptors are closed.
    fn reset(&mut self, id: Id) {
        if let Some(connection) = self.connections.get_mut(&id) {
            if !connection.gone {
                let header = connection.header(Operation::Reset, Shutdown::default());
                let header = self.addressed(header);
                self.resets.push_back(header);
            }
            self.remove(id);
        }
    }

    fn remove(&mut self, id: Id) {
        let Some(connection) = self.connections.remove(&id) else {
            return;
        };
        self.unjoined.remove(&id);
        if self.by_ports.get(&connection.ports) == Some(&id) {
            self.by_ports.remove(&connection.ports);
        }
        if let Stage::Waiting(token) | Stage::Joined(Some(token)) = connection.stage {
            self.by_token.remove(&token);
        }
    }

    /// Draws the conclusions after anything has happened to a connection.
    fn settle(&mut self, id: Id) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let joined = matches!(connection.stage, Stage::Joined(_));
        if connection.gone || connection.heard.receive {
            connection.input = None;
        }
        let complete = (connection.gone || connection.heard.send) && connection.is_flushed();
        if joined && complete && connection.output.is_some() {
            connection.close_output();
        }
        let never = connection.stage == Stage::Token && connection.heard.send;
        if connection.gone && (complete || !joined) {
            self.remove(id);
        } else if never || (joined && complete && connection.heard == Shutdown::BOTH) {
            self.reset(id);
        } else if !connection.listed && connection.next().is_some() {
            connection.listed = true;
            self.talkative.push_back(id);
        }
    }
}

/// epoll's name for a connection's input.
pub(super) fn input_token(id: Id) -> mio::Token {
    mio::Token(id << 1)
}

/// epoll's name for a connection's output.
pub(super) fn output_token(id: Id) -> mio::Token {
    mio::Token(id << 1 | 1)
}
