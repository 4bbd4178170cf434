//! The GPU: virtio-gpu (virtio 1.2, section 5.7) with contexts, blobs and a host-visible window,
//! for Vulkan by way of Venus and, where the host allows it, OpenGL by way of virgl.
//!
//! The builder makes it from a [`GpuConfig`] and plugs it last. One thread (`gpu`, see `worker`)
//! owns the queues, the renderer and the window. `protocol` parses what the guest sends,
//! `control` does what it asks for, and a [`Renderer`] (virglrenderer, in `virgl`) renders.
//! There are no displays: programs render to memory.
//!
//! What the guest can do: have contexts, which are processes of the render server, and hold host
//! memory in blobs, both up to limits; what it submits to a context is decoded in that process
//! and never here. Numbers that reach memory or the window are checked in `control`. OpenGL is the
//! exception: virglrenderer decodes it, and the host's driver draws, in the GPU's thread, so a
//! fault in either is a way into the VMM.

mod backing;
mod control;
mod fences;
mod protocol;
mod queue;
mod renderer;
#[cfg(any(test, fuzzing))]
#[allow(
    clippy::unwrap_used,
    reason = "a test ends where something is not as it should be"
)]
mod tests;
pub mod virgl;
mod window;
mod worker;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel, sync_channel};
use std::thread::JoinHandle;

use mio::{Poll, Waker};
use virtio_bindings::virtio_ids::VIRTIO_ID_GPU;
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};
use zerocopy::IntoBytes;
use zerocopy::byteorder::little_endian::U32;

use crate::memory::Window;
use crate::sys::thread;
use crate::virtio::{ActivateError, Activation, VirtioDevice, copy_config};

pub use control::{Control, MOST_CONTEXTS, MOST_MAPPED, MOST_RESOURCES, QueueKind, Reply};
pub use renderer::Fence;
use renderer::Renderer;
#[cfg(fuzzing)]
pub use tests::fuzz;
use worker::{Message, Queues, Worker};

const NAME: &str = "gpu";
/// Sizes of the control queue and the cursor queue, as Linux's driver likes them.
const QUEUE_SIZES: [u16; 2] = [256, 16];
const CONTROL: usize = 0;
const CURSOR: usize = 1;
/// Shared memory region of the window (`VIRTIO_GPU_SHM_ID_HOST_VISIBLE`).
const WINDOW_REGION: u8 = 1;

/// VIRGL (there is a renderer), RESOURCE_UUID, RESOURCE_BLOB, CONTEXT_INIT. EDID, bit 1, is for
/// displays.
const FEATURES: u64 = 1 << 0 | 1 << 2 | 1 << 3 | 1 << 4;

/// A Vulkan driver's compilers run in the thread that maps its memory.
const STACK: usize = 8 << 20;

/// Whether OpenGL is served.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OpenGl {
    /// It is not.
    No,
    /// By a GPU; where a rasteriser would draw, the device cannot be made.
    Gpu,
    /// By whatever the host's EGL finds.
    Any,
}

/// What the GPU needs of the host.
#[derive(Debug)]
pub struct GpuConfig {
    /// virglrenderer, loaded where the host's libraries are.
    pub library: virgl::Library,
    /// A SOCK_SEQPACKET socket whose other end is a `virgl_render_server`'s.
    pub render_server: OwnedFd,
    /// Whether to serve OpenGL as well, with the host's driver in this process.
    pub opengl: OpenGl,
    /// The host's root directory, where the Vulkan driver's files are. It becomes that of the
    /// GPU's thread, which gives up its capabilities, and of no other. Without it, blobs that
    /// only a Vulkan driver can map (hosts without dma-bufs) fail unless the driver is found
    /// where this process is.
    pub host_root: Option<OwnedFd>,
    /// Bytes of guest-physical addresses for blobs: a power of two. They take no memory.
    pub window: u64,
    /// Bytes of host memory that the guest may hold in blobs.
    pub memory_limit: u64,
}

/// The device.
#[derive(Debug)]
pub struct Gpu {
    window: (u64, u64),
    capsets: u32,
    messages: Sender<Message>,
    waker: Arc<Waker>,
    thread: Option<JoinHandle<()>>,
}

impl Gpu {
    /// Starts the thread, and the renderer in it.
    pub fn new(config: GpuConfig, window: Window) -> Result<Self, GpuError> {
        let memory_limit = config.memory_limit;
        Self::with(window, memory_limit, |signal| start(config, signal))
    }

    /// A device whose renderer is made in its thread by `start`, which gets what the renderer
    /// is to call with the fences that are done.
    fn with(
        window: Window,
        memory_limit: u64,
        start: impl FnOnce(virgl::SignalSink) -> Result<Box<dyn Renderer>, GpuError> + Send + 'static,
    ) -> Result<Self, GpuError> {
        let guest = window.guest();
        let poll = Poll::new().map_err(GpuError::Poll)?;
        let waker = Arc::new(Waker::new(poll.registry(), worker::MESSAGE).map_err(GpuError::Poll)?);
        let (messages, inbox) = channel();
        let (ready, started) = sync_channel(1);
        let signal = worker::signal_sink(messages.clone(), Arc::clone(&waker));
        let thread = thread::spawn_with_stack(NAME, STACK, move || {
            let renderer = match start(signal) {
                Ok(renderer) => renderer,
                Err(error) => {
                    let _ = ready.send(Err(error));
                    return;
                }
            };
            let control = Control::new(renderer, window, memory_limit);
            if ready.send(Ok(control.capset_count())).is_ok() {
                Worker::new(poll, inbox, control).run();
            }
        })
        .map_err(GpuError::Thread)?;
        let capsets = started.recv().map_err(|_| GpuError::Ended)??;
        Ok(Self {
            window: (guest.start, guest.length),
            capsets,
            messages,
            waker,
            thread: Some(thread),
        })
    }

    /// Sends the thread a message; an error means that it has ended.
    fn tell(&self, message: Message) -> io::Result<()> {
        self.messages
            .send(message)
            .map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        self.waker.wake()
    }
}

/// Starts virglrenderer in this thread, after this thread has entered the host's mount namespace.
fn start(config: GpuConfig, signal: virgl::SignalSink) -> Result<Box<dyn Renderer>, GpuError> {
    if let Some(root) = config.host_root {
        thread::enter_root(&root).map_err(GpuError::Root)?;
    }
    let GpuConfig {
        library,
        render_server,
        opengl,
        ..
    } = config;
    let virgl = virgl::Virgl::start(library, render_server, opengl, signal)?;
    Ok(Box::new(virgl))
}

impl Control {
    /// A device without a guest, for a server that speaks for its clients. It stays in the
    /// calling thread; `signal` gets fences that are done, in threads of virglrenderer's.
    pub fn start(
        config: GpuConfig,
        window: Window,
        signal: impl Fn(Fence) + Send + Sync + 'static,
    ) -> Result<Self, GpuError> {
        let memory_limit = config.memory_limit;
        let renderer = start(config, Arc::new(signal))?;
        Ok(Self::new(renderer, window, memory_limit))
    }
}

impl VirtioDevice for Gpu {
    fn device_type(&self) -> u32 {
        VIRTIO_ID_GPU
    }

    fn queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn features(&self) -> u64 {
        FEATURES | 1 << VIRTIO_RING_F_EVENT_IDX | 1 << VIRTIO_RING_F_INDIRECT_DESC
    }

    /// `events_read`, `events_clear` and `num_scanouts` are 0, `num_capsets` is the true number:
    /// Linux waits for each set that is announced.
    fn read_config(&self, offset: u64, data: &mut [u8]) {
        let space: [U32; 4] = [0, 0, 0, self.capsets].map(U32::new);
        copy_config(space.as_bytes(), offset, data);
    }

    fn shared_memory(&self, id: u8) -> Option<(u64, u64)> {
        (id == WINDOW_REGION).then_some(self.window)
    }

    fn activate(&mut self, mut activation: Activation) -> Result<(), ActivateError> {
        let control = activation.take(NAME, CONTROL)?;
        let cursor = activation.take(NAME, CURSOR).ok();
        let (reply, answer) = sync_channel(1);
        let queues = Box::new(Queues::new(
            control,
            cursor,
            activation.memory,
            activation.interrupt,
        ));
        let host = |source| ActivateError::Host {
            device: NAME,
            action: "giving the queues to the GPU's thread",
            source,
        };
        self.tell(Message::Activate { queues, reply })
            .map_err(host)?;
        answer
            .recv()
            .unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into()))
            .map_err(host)
    }

    fn reset(&mut self) {
        let (reply, answer) = sync_channel(1);
        // A thread that has ended holds no queues.
        if self.tell(Message::Deactivate { reply }).is_ok() {
            let _ = answer.recv();
        }
    }
}

impl Drop for Gpu {
    fn drop(&mut self) {
        if self.tell(Message::Stop).is_ok()
            && let Some(thread) = self.thread.take()
        {
            // A thread that panicked has said so already.
            let _ = thread.join();
        }
    }
}

/// Why the GPU could not be made.
#[derive(Debug, thiserror::Error)]
pub enum GpuError {
    /// There is no epoll for its thread.
    #[error("preparing the GPU's thread to wait for events")]
    Poll(#[source] io::Error),
    /// There is no thread.
    #[error("starting the GPU's thread")]
    Thread(#[source] io::Error),
    /// The thread cannot see the host's files.
    #[error("entering the host's root directory in the GPU's thread")]
    Root(#[source] io::Error),
    /// The thread ended before it was ready.
    #[error("the GPU's thread ended while it started the renderer")]
    Ended,
    /// The renderer could not be started.
    #[error(transparent)]
    Virgl(#[from] virgl::VirglError),
}
