//! One connection: what the guest has said, what it has still to be told, and the bytes on the
//! way to the host.
//!
//! Each direction ends on its own: the guest's by a shutdown of sending, the host's by the end of
//! `input`. A guest that breaks the rules gets a [`Broken`] connection, which the muxer resets.

use std::collections::VecDeque;

use vm_memory::VolatileSlice;

use super::credit::{Credit, CreditViolation};
use super::endpoint::{Done, Input, Output};
use super::handle::Token;
use super::packet::{Header, Operation, Shutdown};
use crate::devices::buffers::Buffers;

/// Both ends' port numbers.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct Ports {
    pub(super) guest: u32,
    pub(super) host: u32,
}

/// The guest broke the protocol on this connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Broken;

impl From<CreditViolation> for Broken {
    fn from(_: CreditViolation) -> Self {
        Broken
    }
}

/// How far a connection has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Stage {
    /// Its token has not yet come.
    Token,
    /// Its token is not attached yet.
    Waiting(Token),
    /// It is joined to an end on the host.
    Joined(Option<Token>),
}

/// What a connection has to say to the guest next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Next {
    /// A packet without data.
    Control(Operation, Shutdown),
    /// At most this many bytes of data, should the input have any.
    Data(u32),
}

/// A connection. The muxer joins, schedules and removes it.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) ports: Ports,
    pub(super) stage: Stage,
    pub(super) credit: Credit,
    /// Bytes from the guest that the output has not taken; within the credit given.
    backlog: VecDeque<u8>,
    pub(super) input: Option<Input>,
    pub(super) output: Option<Output>,
    pub(super) done: Option<Done>,
    /// What the guest has given up.
    pub(super) heard: Shutdown,
    /// What we have given up, and what of that the guest was told.
    given_up: Shutdown,
    told: Shutdown,
    respond: bool,
    update: bool,
    /// The guest's side is over: only the backlog is left.
    pub(super) gone: bool,
    /// It is in the muxer's list of connections that have something to say.
    pub(super) listed: bool,
}

impl Connection {
    /// The connection that `request` opens.
    pub(super) fn new(ports: Ports, request: &Header) -> Result<Self, Broken> {
        let mut credit = Credit::default();
        credit.learn(request.buf_alloc.get(), request.fwd_cnt.get())?;
        Ok(Self {
            ports,
            stage: Stage::Token,
            credit,
            backlog: VecDeque::new(),
            input: None,
            output: None,
            done: None,
            heard: Shutdown::default(),
            given_up: Shutdown::default(),
            told: Shutdown::default(),
            respond: true,
            update: false,
            gone: false,
            listed: false,
        })
    }

    /// Takes a packet in; `payload` is as long as its header says.
    pub(super) fn receive(
        &mut self,
        operation: Operation,
        header: &Header,
        payload: Buffers<'_>,
    ) -> Result<(), Broken> {
        self.credit
            .learn(header.buf_alloc.get(), header.fwd_cnt.get())?;
        match operation {
            Operation::Data => self.data(payload),
            Operation::Shutdown => {
                self.heard = self.heard.or(Shutdown::from_flags(header.flags.get()));
                Ok(())
            }
            Operation::CreditUpdate => Ok(()),
            Operation::CreditRequest => {
                self.update = true;
                Ok(())
            }
            // The muxer takes resets; the others make no sense on a connection.
            Operation::Request | Operation::Response | Operation::Reset => Err(Broken),
        }
    }

    fn data(&mut self, payload: Buffers<'_>) -> Result<(), Broken> {
        // Nobody may send before it was accepted, nor after it said that it would not.
        if self.respond || self.heard.send {
            return Err(Broken);
        }
        let length = u32::try_from(payload.len()).map_err(|_| Broken)?;
        self.credit.receive(length)?;
        let mut rest = payload;
        if self.backlog.is_empty()
            && let Some(output) = &mut self.output
            && !rest.is_empty()
        {
            match output.write(rest.pieces()) {
                Ok(written) => {
                    self.forward(written);
                    (_, rest) = rest.split_at(written).map_err(|_| Broken)?;
                }
                Err(error) => self.output_failed(&error),
            }
        }
        if !rest.is_empty() {
            self.keep(&rest);
            // Epoll tells of a change only, so the output is to be found unwilling, not just full.
            self.flush();
        }
        Ok(())
    }

    /// Puts what could not be written into the backlog, or away if there is no output.
    fn keep(&mut self, rest: &Buffers<'_>) {
        if matches!(self.stage, Stage::Joined(_)) && self.output.is_none() {
            self.give_up_receiving();
            self.forward(rest.len());
            return;
        }
        let start = self.backlog.len();
        self.backlog.resize(start + rest.len(), 0);
        let mut copied = 0;
        let (front, back) = self.backlog.as_mut_slices();
        let split = front.len();
        if let Some(target) = front.get_mut(start..) {
            copied = rest.copy_to(0, target);
        }
        if let Some(target) = back.get_mut(start.saturating_sub(split)..) {
            rest.copy_to(copied, target);
        }
    }

    /// Takes the token off the backlog, once it is complete.
    pub(super) fn take_token(&mut self) -> Option<Token> {
        const LENGTH: usize = size_of::<Token>();
        if self.backlog.len() < LENGTH {
            return None;
        }
        let mut token = Token::default();
        for (byte, value) in token.iter_mut().zip(self.backlog.drain(..LENGTH)) {
            *byte = value;
        }
        self.forward(LENGTH);
        Some(token)
    }

    /// Writes the backlog out as far as the output takes it.
    pub(super) fn flush(&mut self) {
        while !self.backlog.is_empty() {
            let Some(output) = &mut self.output else {
                return;
            };
            let (front, back) = self.backlog.as_mut_slices();
            match output.write(&[VolatileSlice::from(front), VolatileSlice::from(back)]) {
                Ok(0) => return,
                Ok(written) => {
                    self.backlog.drain(..written);
                    self.forward(written);
                }
                Err(error) => self.output_failed(&error),
            }
        }
        // It is seldom needed again.
        self.backlog = VecDeque::new();
    }

    /// Whether the host has everything that the guest has sent.
    pub(super) fn is_flushed(&self) -> bool {
        self.backlog.is_empty()
    }

    fn output_failed(&mut self, error: &std::io::Error) {
        tracing::debug!(%error, ports = ?self.ports, "the output of a vsock stream failed");
        self.close_output();
        self.give_up_receiving();
    }

    /// Closes the output and says that it is done; what is left for it is lost.
    pub(super) fn close_output(&mut self) {
        self.output = None;
        self.done = None;
        let lost = self.backlog.len();
        self.backlog = VecDeque::new();
        self.forward(lost);
    }

    /// The guest shall send no more.
    pub(super) fn give_up_receiving(&mut self) {
        self.given_up.receive = true;
    }

    /// The input is at its end.
    pub(super) fn end_input(&mut self) {
        self.input = None;
        self.given_up.send = true;
    }

    /// What to say next; asked again after each answer until there is nothing.
    pub(super) fn next(&self) -> Option<Next> {
        if self.gone {
            return None;
        }
        if self.respond {
            return Some(Next::Control(Operation::Response, Shutdown::default()));
        }
        if self.given_up != self.told {
            return Some(Next::Control(Operation::Shutdown, self.given_up));
        }
        let available = self.credit.available();
        if available > 0 && self.input.as_ref().is_some_and(|input| input.ready) {
            return Some(Next::Data(available));
        }
        if self.update || self.credit.update_due() {
            return Some(Next::Control(Operation::CreditUpdate, Shutdown::default()));
        }
        None
    }

    /// The header of a packet that goes to the guest now, with our counters.
    pub(super) fn header(&mut self, operation: Operation, shutdown: Shutdown) -> Header {
        match operation {
            Operation::Response => self.respond = false,
            Operation::Shutdown => self.told = shutdown,
            _ => {}
        }
        self.update = false;
        Header {
            src_port: self.ports.host.into(),
            dst_port: self.ports.guest.into(),
            op: operation.into(),
            flags: shutdown.flags().into(),
            buf_alloc: super::credit::BUFFER.into(),
            fwd_cnt: self.credit.announce().into(),
            ..Header::default()
        }
    }

    fn forward(&mut self, length: usize) {
        // All lengths here are within one buffer.
        self.credit
            .forward(u32::try_from(length).unwrap_or(u32::MAX));
    }
}
