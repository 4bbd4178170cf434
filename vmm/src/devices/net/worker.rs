//! The thread of one pair of a NIC's queues: it waits for frames of the host, for the guest's
//! doorbells and for the device's commands, and sleeps while there are none.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};

use super::counters::Counters;
use super::receive::{Passed, Receive};
use super::transmit::Transmit;
use super::wire::Wire;
use super::{NetError, Rules};
use crate::memory::GuestMemory;
use crate::sys::thread;
use crate::virtio::{ActiveQueue, Interrupt};

const COMMAND: Token = Token(0);
const DOORBELL: Token = Token(1);
const WIRE: Token = Token(2);

/// A pair of queues of a device that its driver has started.
#[derive(Debug)]
pub(super) struct Active {
    pub(super) memory: GuestMemory,
    pub(super) interrupt: Interrupt,
    pub(super) rules: Rules,
    pub(super) receive: ActiveQueue,
    pub(super) transmit: ActiveQueue,
}

#[derive(Debug)]
enum Command {
    Activate(Box<Active>, SyncSender<io::Result<()>>),
    Deactivate(SyncSender<()>),
    Enable(bool, SyncSender<io::Result<()>>),
    Stop,
}

/// The device's hold on its thread.
#[derive(Debug)]
pub(super) struct WorkerHandle {
    commands: Sender<Command>,
    waker: Waker,
    thread: Option<JoinHandle<()>>,
}

impl WorkerHandle {
    /// Starts the thread. Until a driver is there, frames wait in the host's queue.
    pub(super) fn start(wire: Box<dyn Wire>, counters: Arc<Counters>) -> Result<Self, NetError> {
        let poll = Poll::new().map_err(NetError::Poll)?;
        let waker = Waker::new(poll.registry(), COMMAND).map_err(NetError::Poll)?;
        let descriptor = wire.as_fd().as_raw_fd();
        let interest = match wire.holds_up() {
            true => Interest::READABLE | Interest::WRITABLE,
            false => Interest::READABLE,
        };
        poll.registry()
            .register(&mut SourceFd(&descriptor), WIRE, interest)
            .map_err(NetError::Poll)?;
        let (sender, commands) = channel();
        let worker = Worker {
            poll,
            commands,
            wire,
            counters,
            running: None,
            dead: false,
        };
        let thread = thread::spawn("net", move || worker.run()).map_err(NetError::Thread)?;
        Ok(Self {
            commands: sender,
            waker,
            thread: Some(thread),
        })
    }

    /// Hands the queues over.
    pub(super) fn activate(&self, active: Active) -> io::Result<()> {
        self.call(|reply| Command::Activate(Box::new(active), reply))?
    }

    /// Takes the queues away: on return the thread does not touch guest memory.
    pub(super) fn deactivate(&self) -> io::Result<()> {
        self.call(Command::Deactivate)
    }

    /// Lets frames come, or not; see [`Wire::enable`].
    pub(super) fn enable(&self, enabled: bool) -> io::Result<()> {
        self.call(|reply| Command::Enable(enabled, reply))?
    }

    fn call<T>(&self, command: impl FnOnce(SyncSender<T>) -> Command) -> io::Result<T> {
        let gone = || io::Error::other("the NIC's thread has ended");
        let (reply, answer) = sync_channel(1);
        self.commands.send(command(reply)).map_err(|_| gone())?;
        self.waker.wake()?;
        answer.recv().map_err(|_| gone())
    }
}

impl Drop for WorkerHandle {
    fn drop(&mut self) {
        // A thread that does not listen is gone already.
        let _ = self.commands.send(Command::Stop);
        if self.waker.wake().is_ok()
            && let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("a NIC's thread panicked");
        }
    }
}

#[derive(Debug)]
struct Worker {
    poll: Poll,
    commands: Receiver<Command>,
    wire: Box<dyn Wire>,
    counters: Arc<Counters>,
    running: Option<Running>,
    /// The wire was cut.
    dead: bool,
}

#[derive(Debug)]
struct Running {
    memory: GuestMemory,
    interrupt: Interrupt,
    receive: Receive,
    transmit: Transmit,
}

impl Worker {
    fn run(mut self) {
        let mut events = Events::with_capacity(16);
        let mut more = false;
        loop {
            let timeout = more.then_some(Duration::ZERO);
            if let Err(error) = self.poll.poll(&mut events, timeout)
                && error.kind() != io::ErrorKind::Interrupted
            {
                // epoll fails only for a descriptor that is none: there is nothing to go on with.
                tracing::error!(%error, "wait for a NIC's events");
                return;
            }
            while let Ok(command) = self.commands.try_recv() {
                // A caller that did not wait for the answer does not miss it.
                match command {
                    Command::Activate(active, reply) => {
                        let _ = reply.send(self.activate(*active));
                    }
                    Command::Deactivate(reply) => {
                        self.deactivate();
                        let _ = reply.send(());
                    }
                    Command::Enable(enabled, reply) => {
                        let _ = reply.send(self.wire.enable(enabled));
                    }
                    Command::Stop => {
                        self.deactivate();
                        return;
                    }
                }
            }
            // Events are edges: whatever rang, both queues are looked at until they are dry.
            more = self.pass();
        }
    }

    /// Moves frames both ways and interrupts the guest at most once. Returns whether there may
    /// be more to do at once.
    fn pass(&mut self) -> bool {
        let Some(running) = &mut self.running else {
            return false;
        };
        let sent = running.transmit.pass(&running.memory, &*self.wire);
        let received = match self.dead {
            true => Ok(Passed::default()),
            false => running.receive.pass(&running.memory, &*self.wire),
        };
        let received = received.unwrap_or_else(|error| {
            tracing::warn!(%error, "a NIC's host interface is gone");
            self.dead = true;
            Passed::default()
        });
        self.counters.count(&sent, &received);
        if sent.interrupt || received.interrupt {
            running.interrupt.signal_used();
        }
        sent.more || received.more
    }

    fn activate(&mut self, active: Active) -> io::Result<()> {
        self.wire.accept(active.rules.features)?;
        for queue in [&active.receive, &active.transmit] {
            self.poll.registry().register(
                &mut SourceFd(&queue.doorbell.as_raw_fd()),
                DOORBELL,
                Interest::READABLE,
            )?;
        }
        self.running = Some(Running {
            memory: active.memory,
            interrupt: active.interrupt,
            receive: Receive::new(active.receive, active.rules),
            transmit: Transmit::new(active.transmit, active.rules),
        });
        Ok(())
    }

    fn deactivate(&mut self) {
        let Some(running) = self.running.take() else {
            return;
        };
        for queue in [&running.receive.active, &running.transmit.active] {
            let registry = self.poll.registry();
            if let Err(error) = registry.deregister(&mut SourceFd(&queue.doorbell.as_raw_fd())) {
                tracing::warn!(%error, "forget a NIC's doorbell");
            }
        }
    }
}
