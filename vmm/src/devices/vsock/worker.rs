//! The thread that serves the device: it waits for the guest's doorbells, the host's descriptors
//! and the handles' commands, and sleeps while there are none.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token as Source, Waker};

use crate::sys::thread;
use crate::virtio::ActiveQueue;

use super::endpoint::Endpoint;
use super::handle::{Acceptor, Token, VsockHandle};
use super::muxer::Muxer;
use super::queues::Queues;
use super::{VsockConfig, VsockError};

const COMMAND: Source = Source(usize::MAX);
const DOORBELL: Source = Source(usize::MAX - 1);

/// Events taken from epoll at once.
const EVENTS: usize = 128;

/// Passes that a guest that has ended is listened to for the last time: more than its queue holds.
const LAST_PASSES: usize = 16;

/// What the thread is asked to do. Every command is answered when it is done.
#[derive(Debug)]
pub(super) enum Command {
    Listen {
        port: u32,
        acceptor: Acceptor,
        reply: SyncSender<Result<(), VsockError>>,
    },
    Attach {
        token: Token,
        endpoint: Endpoint,
        reply: SyncSender<Result<(), VsockError>>,
    },
    Release {
        token: Token,
        reply: SyncSender<()>,
    },
    Activate {
        queues: Box<Queues>,
        reply: SyncSender<io::Result<()>>,
    },
    Deactivate {
        reply: SyncSender<()>,
    },
    GuestEnded {
        reply: SyncSender<()>,
    },
    Stop {
        reply: SyncSender<()>,
    },
}

/// Starts the thread.
pub(super) fn start(config: &VsockConfig) -> Result<(JoinHandle<()>, VsockHandle), VsockError> {
    let poll = Poll::new().map_err(VsockError::Poll)?;
    let waker = Waker::new(poll.registry(), COMMAND).map_err(VsockError::Poll)?;
    let registry = poll.registry().try_clone().map_err(VsockError::Poll)?;
    let (sender, commands) = channel();
    let worker = Worker {
        poll,
        commands,
        muxer: Muxer::new(registry, config.guest_cid.into(), config.stream_port),
        queues: None,
        stopped: false,
    };
    let thread = thread::spawn("vsock", move || worker.run()).map_err(VsockError::Thread)?;
    let handle = VsockHandle::new(sender, Arc::new(waker), config.stream_port);
    Ok((thread, handle))
}

#[derive(Debug)]
struct Worker {
    poll: Poll,
    commands: Receiver<Command>,
    muxer: Muxer,
    queues: Option<Box<Queues>>,
    stopped: bool,
}

impl Worker {
    fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS);
        let mut more = false;
        while !self.stopped {
            let timeout = match more {
                true => Some(Duration::ZERO),
                false => self
                    .muxer
                    .deadline()
                    .map(|deadline| deadline.saturating_duration_since(Instant::now())),
            };
            if let Err(error) = self.poll.poll(&mut events, timeout)
                && error.kind() != io::ErrorKind::Interrupted
            {
                // epoll fails only for a descriptor that is none: there is nothing to go on with.
                tracing::error!(%error, "wait for vsock events");
                return;
            }
            for event in &events {
                match event.token() {
                    COMMAND | DOORBELL => {}
                    Source(source) if source & 1 == 0 => self.muxer.input_ready(source >> 1),
                    Source(source) => self
                        .muxer
                        .output_ready(source >> 1, event.is_write_closed()),
                }
            }
            while let Ok(command) = self.commands.try_recv() {
                self.obey(command);
            }
            self.muxer.expire(Instant::now());
            more = match &mut self.queues {
                Some(queues) => queues.pass(&mut self.muxer),
                None => false,
            };
        }
    }

    fn obey(&mut self, command: Command) {
        // A caller that did not wait for the answer does not miss it.
        match command {
            Command::Listen {
                port,
                acceptor,
                reply,
            } => {
                let _ = reply.send(self.muxer.listen(port, acceptor));
            }
            Command::Attach {
                token,
                endpoint,
                reply,
            } => {
                let _ = reply.send(self.muxer.attach(token, endpoint));
            }
            Command::Release { token, reply } => {
                self.muxer.release(&token);
                let _ = reply.send(());
            }
            Command::Activate { queues, reply } => {
                let _ = reply.send(self.activate(queues));
            }
            Command::Deactivate { reply } => {
                self.deactivate();
                let _ = reply.send(());
            }
            Command::GuestEnded { reply } => {
                if let Some(queues) = &mut self.queues {
                    let mut passes = 0..LAST_PASSES;
                    while passes.next().is_some() && queues.pass(&mut self.muxer) {}
                }
                self.deactivate();
                let _ = reply.send(());
            }
            Command::Stop { reply } => {
                self.deactivate();
                self.stopped = true;
                let _ = reply.send(());
            }
        }
    }

    fn activate(&mut self, queues: Box<Queues>) -> io::Result<()> {
        for queue in [&queues.receive, &queues.transmit] {
            // Edge-triggered: every write is an event, and the counter need not be read.
            self.poll.registry().register(
                &mut SourceFd(&doorbell(queue)),
                DOORBELL,
                Interest::READABLE,
            )?;
        }
        self.queues = Some(queues);
        Ok(())
    }

    fn deactivate(&mut self) {
        if let Some(queues) = self.queues.take() {
            for queue in [&queues.receive, &queues.transmit] {
                let registry = self.poll.registry();
                if let Err(error) = registry.deregister(&mut SourceFd(&doorbell(queue))) {
                    tracing::warn!(%error, "forget a vsock doorbell");
                }
            }
        }
        self.muxer.hang_up_all();
    }
}

fn doorbell(queue: &ActiveQueue) -> i32 {
    queue.doorbell.as_raw_fd()
}
