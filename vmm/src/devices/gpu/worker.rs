//! The GPU's thread: it waits for doorbells, signalled fences and the device's messages.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};

use super::control::{Control, QueueKind};
use super::fences::Fences;
use super::queue::{Buffer, CommandBuffer, Served};
use super::renderer::Fence;
use super::virgl::SignalSink;
use crate::memory::GuestMemory;
use crate::virtio::{ActiveQueue, Interrupt};

/// The waker's token.
pub(super) const MESSAGE: Token = Token(0);
const DOORBELL: Token = Token(1);

/// What the thread is told. A reply is sent when the thing is done.
#[derive(Debug)]
pub(super) enum Message {
    Activate {
        queues: Box<Queues>,
        reply: SyncSender<io::Result<()>>,
    },
    Deactivate {
        reply: SyncSender<()>,
    },
    Signalled(Fence),
    Stop,
}

/// What an active device has of the guest.
#[derive(Debug)]
pub(super) struct Queues {
    control: Served,
    cursor: Option<Served>,
    memory: GuestMemory,
    interrupt: Interrupt,
    fences: Fences<Buffer>,
}

impl Queues {
    pub(super) fn new(
        control: ActiveQueue,
        cursor: Option<ActiveQueue>,
        memory: GuestMemory,
        interrupt: Interrupt,
    ) -> Self {
        Self {
            control: Served::new(control, QueueKind::Control),
            cursor: cursor.map(|queue| Served::new(queue, QueueKind::Cursor)),
            memory,
            interrupt,
            fences: Fences::new(),
        }
    }

    fn doorbells(&self) -> impl Iterator<Item = i32> {
        [Some(&self.control), self.cursor.as_ref()]
            .into_iter()
            .flatten()
            .map(|served| served.doorbell().as_raw_fd())
    }
}

/// Wakes the thread with a signalled fence, from any thread.
pub(super) fn signal_sink(messages: Sender<Message>, waker: Arc<Waker>) -> SignalSink {
    Arc::new(move |fence| {
        // Without a thread nobody waits. Waking fails only if its counter is full.
        if messages.send(Message::Signalled(fence)).is_ok() {
            let _ = waker.wake();
        }
    })
}

#[derive(Debug)]
pub(super) struct Worker {
    poll: Poll,
    inbox: Receiver<Message>,
    control: Control,
    buffer: CommandBuffer,
    queues: Option<Box<Queues>>,
    stopped: bool,
}

impl Worker {
    pub(super) fn new(poll: Poll, inbox: Receiver<Message>, control: Control) -> Self {
        Self {
            poll,
            inbox,
            control,
            buffer: CommandBuffer::default(),
            queues: None,
            stopped: false,
        }
    }

    pub(super) fn run(mut self) {
        let mut events = Events::with_capacity(4);
        let mut more = false;
        while !self.stopped {
            let timeout = more.then_some(Duration::ZERO);
            if let Err(error) = self.poll.poll(&mut events, timeout)
                && error.kind() != io::ErrorKind::Interrupted
            {
                tracing::error!(%error, "gpu: wait for events");
                return;
            }
            while let Ok(message) = self.inbox.try_recv() {
                self.obey(message);
            }
            more = self.serve();
        }
    }

    fn obey(&mut self, message: Message) {
        match message {
            Message::Activate { queues, reply } => {
                let _ = reply.send(self.activate(queues));
            }
            Message::Deactivate { reply } => {
                self.deactivate();
                let _ = reply.send(());
            }
            Message::Signalled(fence) => {
                if let Some(queues) = &mut self.queues {
                    let done = queues.fences.signal(fence);
                    queues
                        .control
                        .finish(&queues.memory, &queues.interrupt, done);
                }
            }
            Message::Stop => {
                self.deactivate();
                self.stopped = true;
            }
        }
    }

    /// Serves the queues for a while; whether there is more to do.
    fn serve(&mut self) -> bool {
        let Some(queues) = &mut self.queues else {
            return false;
        };
        let Queues {
            control,
            cursor,
            memory,
            interrupt,
            fences,
        } = &mut **queues;
        let mut more = false;
        for served in [Some(control), cursor.as_mut()].into_iter().flatten() {
            more |= served.pass(
                &mut self.control,
                &mut self.buffer,
                memory,
                interrupt,
                fences,
            );
        }
        more
    }

    fn activate(&mut self, queues: Box<Queues>) -> io::Result<()> {
        for doorbell in queues.doorbells() {
            // Edge-triggered: every write is an event, and the counter need not be read.
            self.poll.registry().register(
                &mut SourceFd(&doorbell),
                DOORBELL,
                Interest::READABLE,
            )?;
        }
        self.queues = Some(queues);
        Ok(())
    }

    fn deactivate(&mut self) {
        if let Some(queues) = self.queues.take() {
            for doorbell in queues.doorbells() {
                if let Err(error) = self.poll.registry().deregister(&mut SourceFd(&doorbell)) {
                    tracing::warn!(%error, "gpu: forget a doorbell");
                }
            }
        }
        self.control.reset();
    }
}
