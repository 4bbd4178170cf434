//! Threads that serve a virtqueue each: the frame of the devices whose requests wait for files.
//!
//! Called by fs and block. The rings are the guest's: a queue whose indices make no sense is left
//! alone until the device is reset.
//!
//! The threads are made with the device and not when the guest's driver starts it, because that happens
//! on a vCPU's thread, whose system call filter does not let files be opened. An idle one sleeps,
//! in the mailbox while its queue is not in use and on the doorbell while it is.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags, poll};
use virtio_queue::{DescriptorChain, QueueOwnedT, QueueT};
use vm_memory::GuestMemoryMmap;
use vmm_sys_util::eventfd::EventFd;

use crate::memory::GuestMemory;
use crate::virtio::device::{ActiveQueue, Interrupt};

/// Does what a chain asks for and returns how many bytes it wrote into it.
pub(super) trait Serve {
    fn serve(&mut self, memory: &GuestMemoryMmap, chain: &DescriptorChain<&GuestMemoryMmap>)
    -> u32;
}

/// A queue for a worker to serve until it is told to stop.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) queue: ActiveQueue,
    pub(super) memory: GuestMemory,
    pub(super) interrupt: Interrupt,
    pub(super) event_idx: bool,
}

/// A thread and what it is doing.
#[derive(Debug)]
pub(super) struct Worker {
    mailbox: Option<Sender<(Job, Arc<AtomicBool>)>>,
    /// One message for each job that ended.
    ended: Receiver<()>,
    current: Option<Current>,
    thread: Option<JoinHandle<()>>,
}

/// How to stop the job that a worker has.
#[derive(Debug)]
struct Current {
    stop: Arc<AtomicBool>,
    doorbell: EventFd,
}

impl Worker {
    /// Starts a thread and waits until it has made what serves its requests.
    pub(super) fn start<S: Serve>(
        name: String,
        prepare: impl FnOnce() -> io::Result<S> + Send + 'static,
    ) -> io::Result<Self> {
        let (mailbox, jobs) = mpsc::channel::<(Job, Arc<AtomicBool>)>();
        let (end, ended) = mpsc::channel();
        let (tell, ready) = mpsc::sync_channel(1);
        let thread = std::thread::Builder::new()
            .name(name.clone())
            .spawn(move || {
                let mut server = match prepare() {
                    Ok(server) => server,
                    Err(error) => {
                        // Whoever waits for it is not gone.
                        let _ = tell.send(Err(error));
                        return;
                    }
                };
                let _ = tell.send(Ok(()));
                for (job, stop) in jobs {
                    run(&name, &mut server, job, &stop);
                    if end.send(()).is_err() {
                        break;
                    }
                }
            })?;
        let gone = |_| Err(io::ErrorKind::BrokenPipe.into());
        ready.recv().unwrap_or_else(gone)?;
        Ok(Self {
            mailbox: Some(mailbox),
            ended,
            current: None,
            thread: Some(thread),
        })
    }

    /// Gives the worker a queue. It must have none.
    pub(super) fn assign(&mut self, job: Job) -> io::Result<()> {
        let stop = Arc::new(AtomicBool::new(false));
        let doorbell = job.queue.doorbell.try_clone()?;
        let sent = self
            .mailbox
            .as_ref()
            .is_some_and(|mailbox| mailbox.send((job, stop.clone())).is_ok());
        if !sent {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.current = Some(Current { stop, doorbell });
        Ok(())
    }

    /// Takes the queue away. On return the thread does not touch guest memory.
    pub(super) fn stop(&mut self) {
        if let Some(current) = self.current.take() {
            current.stop.store(true, Ordering::Release);
            // Fails only if the counter is full, and then the doorbell is readable already.
            let _ = current.doorbell.write(1);
            // Fails only if the thread is gone, and then it does not touch memory either.
            let _ = self.ended.recv();
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop();
        drop(self.mailbox.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Serves a queue until `stop` is set and the doorbell rung.
fn run(name: &str, server: &mut impl Serve, mut job: Job, stop: &AtomicBool) {
    job.queue.queue.set_event_idx(job.event_idx);
    while !stop.load(Ordering::Acquire) {
        if let Err(error) = drain(server, &mut job, stop) {
            // The guest broke its ring. Nothing more comes from it until a reset.
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "{name}: stopped serving a queue"
            );
            while !stop.load(Ordering::Acquire) && wait(&job.queue.doorbell).is_ok() {}
            return;
        }
        if stop.load(Ordering::Acquire) {
            return;
        }
        if let Err(error) = wait(&job.queue.doorbell) {
            tracing::error!(%error, "{name}: cannot wait for the guest");
            return;
        }
    }
}

/// Serves everything that is in the queue, and leaves it asking for a notification.
fn drain(
    server: &mut impl Serve,
    job: &mut Job,
    stop: &AtomicBool,
) -> Result<(), virtio_queue::Error> {
    let memory: &GuestMemoryMmap = &job.memory;
    let queue = &mut job.queue.queue;
    loop {
        queue.disable_notification(memory)?;
        while let Some(chain) = queue.iter(memory)?.next() {
            if stop.load(Ordering::Acquire) {
                return Ok(());
            }
            let written = server.serve(memory, &chain);
            queue.add_used(memory, chain.head_index(), written)?;
            // With event indices the guest asks for one interrupt and then not again before it
            // has looked at the ring, so this signals once for a batch and still without delay.
            if queue.needs_notification(memory)? {
                job.interrupt.signal_used();
            }
        }
        if !queue.enable_notification(memory)? {
            return Ok(());
        }
    }
}

/// Sleeps until the doorbell is rung, and takes the ring.
fn wait(doorbell: &EventFd) -> io::Result<()> {
    use std::os::fd::{AsRawFd, BorrowedFd};
    // SAFETY: `doorbell` owns its descriptor and is borrowed for this call.
    let borrowed = unsafe { BorrowedFd::borrow_raw(doorbell.as_raw_fd()) };
    loop {
        match poll(
            &mut [PollFd::from_borrowed_fd(borrowed, PollFlags::IN)],
            None,
        ) {
            Ok(_) => break,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    doorbell.read().map(drop)
}
