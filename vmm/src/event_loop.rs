//! The event loop: one thread (`loop`) that serves the devices with little to do (console, rng,
//! balloon). It sleeps in the kernel until a doorbell rings.
//!
//! Called by devices in `activate` ([`LoopHandle::watch`]) and `reset` (dropping the [`Watch`]).
//! A guest can ring doorbells as often as it likes: each handler bounds the work that it does in
//! one call, so that one device cannot starve the others.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token, Waker};

use crate::sys;

const WAKER: Token = Token(0);

/// The loop's thread; it ends when this is dropped.
#[derive(Debug)]
pub struct EventLoop {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// What devices keep of the loop. Cheap to clone.
#[derive(Clone, Debug)]
pub struct LoopHandle {
    shared: Arc<Shared>,
}

/// A descriptor being watched. Dropping it waits for a running handler and drops the handler.
/// It must not be dropped inside a handler.
#[derive(Debug)]
pub struct Watch {
    shared: Arc<Shared>,
    token: Token,
}

struct Shared {
    registry: Registry,
    waker: Waker,
    stop: AtomicBool,
    next: AtomicUsize,
    // Handlers run under this lock, so a `Watch` that has taken it knows that none is running.
    watched: Mutex<HashMap<Token, Watched>>,
}

struct Watched {
    descriptor: OwnedFd,
    handler: Box<dyn FnMut() + Send>,
}

impl EventLoop {
    /// Starts the thread.
    pub fn start() -> io::Result<Self> {
        let mut poll = Poll::new()?;
        let shared = Arc::new(Shared {
            registry: poll.registry().try_clone()?,
            waker: Waker::new(poll.registry(), WAKER)?,
            stop: AtomicBool::new(false),
            next: AtomicUsize::new(WAKER.0 + 1),
            watched: Mutex::new(HashMap::new()),
        });
        let served = Arc::clone(&shared);
        let thread = sys::thread::spawn("loop", move || served.serve(&mut poll))?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// A handle for a device.
    pub fn handle(&self) -> LoopHandle {
        LoopHandle {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl Drop for EventLoop {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        if self.shared.waker.wake().is_ok()
            && let Some(thread) = self.thread.take()
        {
            // A handler that panicked has said so already.
            let _ = thread.join();
        }
    }
}

impl LoopHandle {
    /// Calls `handler` in the loop's thread whenever `descriptor` becomes readable, and once at
    /// first if it is readable now. Readiness is reported per event (edge): for an eventfd that
    /// is once per write, and the handler need not read it. A handler that stops early rings its
    /// own doorbell to be called again.
    pub fn watch(
        &self,
        descriptor: OwnedFd,
        handler: impl FnMut() + Send + 'static,
    ) -> io::Result<Watch> {
        let token = Token(self.shared.next.fetch_add(1, Ordering::Relaxed));
        let mut watched = self.shared.lock();
        self.shared.registry.register(
            &mut SourceFd(&descriptor.as_raw_fd()),
            token,
            Interest::READABLE,
        )?;
        watched.insert(
            token,
            Watched {
                descriptor,
                handler: Box::new(handler),
            },
        );
        Ok(Watch {
            shared: Arc::clone(&self.shared),
            token,
        })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let removed = {
            let mut watched = self.shared.lock();
            let removed = watched.remove(&self.token);
            if let Some(entry) = &removed {
                // Fails only for a descriptor that is not registered, and this one is.
                let _ = self
                    .shared
                    .registry
                    .deregister(&mut SourceFd(&entry.descriptor.as_raw_fd()));
            }
            removed
        };
        drop(removed);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, HashMap<Token, Watched>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, poll: &mut Poll) {
        let mut events = Events::with_capacity(16);
        while !self.stop.load(Ordering::SeqCst) {
            match poll.poll(&mut events, None) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    tracing::error!(%error, "the event loop cannot wait for events");
                    return;
                }
            }
            for event in &events {
                if let Some(entry) = self.lock().get_mut(&event.token()) {
                    (entry.handler)();
                }
            }
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Shared")
            .field("watched", &self.lock().len())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::FromRawFd;
    use std::os::fd::IntoRawFd;
    use std::sync::mpsc;
    use std::time::Duration;

    use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

    use super::*;

    fn owned(eventfd: &EventFd) -> OwnedFd {
        let raw = eventfd.try_clone().expect("dup").into_raw_fd();
        // SAFETY: the descriptor was just duplicated and given up by its owner.
        unsafe { OwnedFd::from_raw_fd(raw) }
    }

    #[test]
    fn handlers_run_per_write_until_the_watch_is_dropped() {
        let event_loop = EventLoop::start().expect("loop");
        let doorbell = EventFd::new(EFD_NONBLOCK).expect("eventfd");
        let (sender, receiver) = mpsc::channel();
        let watch = event_loop
            .handle()
            .watch(owned(&doorbell), move || {
                sender.send(()).expect("receiver lives");
            })
            .expect("watch");
        for _ in 0..3 {
            doorbell.write(1).expect("ring");
            receiver
                .recv_timeout(Duration::from_secs(5))
                .expect("handler called");
        }
        drop(watch);
        doorbell.write(1).expect("ring");
        // The handler, and its sender with it, is gone.
        assert_eq!(
            receiver.recv_timeout(Duration::from_secs(5)),
            Err(mpsc::RecvTimeoutError::Disconnected)
        );
    }
}
