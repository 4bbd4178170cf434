//! virtio-vsock (virtio 1.2, section 5.10): stream connections from the guest to the host.
//!
//! The VM's builder makes the [`Vsock`] and plugs it into the transport; the host's monitor keeps
//! the [`VsockHandle`]. There is no vsock on the host: the muxer ends every connection in this
//! process, on a pair of Unix sockets ([`VsockHandle::listen`]) or directly on descriptors of the
//! host ([`VsockHandle::attach`]), with no copy of the bytes on their way between guest memory and
//! descriptor unless an output takes no more.
//!
//! One thread serves everything, from before the guest boots on. Its parts:
//!
//! - [`queues`](self) moves packets between the virtqueues and the muxer, many per interrupt;
//! - the muxer knows the connections, the listeners and the attached streams;
//! - a connection keeps its protocol state, its credit and at most 256 KiB for its output;
//! - an endpoint is the host's side, read and written as `sys::stream` says.
//!
//! What the guest can do: open at most 1024 connections, to ports that somebody listens on or to
//! the stream port, where a connection has 10 seconds to name a stream; fill each one's buffer
//! once; lose a connection by breaking the protocol. Its packets' lengths are looked up in guest
//! memory, never trusted. Datagrams and seqpacket are not offered. The event queue is accepted and
//! never used: connections are only lost when the device is reset, and the driver that resets it
//! knows that.

mod connection;
mod credit;
mod endpoint;
mod handle;
mod muxer;
mod packet;
mod queues;
mod receive;
mod relay;
#[cfg(test)]
mod tests;
mod worker;

use std::io;
use std::thread::JoinHandle;

use virtio_bindings::bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX;
use virtio_bindings::virtio_ids::VIRTIO_ID_VSOCK;
use virtio_queue::QueueT;

use crate::virtio::{ActivateError, Activation, ActiveQueue, VirtioDevice, copy_config};

pub use endpoint::EndpointError;
pub use handle::{Attached, Token, VsockHandle, VsockListener};
use queues::Queues;
use worker::Command;

/// Sizes of the receive, transmit and event queue. Linux fills the receive queue with pages: these
/// hold twice a socket's buffer.
const QUEUE_SIZES: [u16; 3] = [128, 128, 16];

const NAME: &str = "vsock";
const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;

/// `VIRTIO_VSOCK_F_STREAM`.
const FEATURE_STREAM: u64 = 1;
const FEATURE_EVENT_IDX: u64 = 1 << VIRTIO_RING_F_EVENT_IDX;

/// What a vsock device is made of.
#[derive(Clone, Copy, Debug)]
pub struct VsockConfig {
    /// The guest's context id, at least 3.
    pub guest_cid: u32,
    /// The port whose connections begin with a token.
    pub stream_port: u32,
}

/// What can go wrong with the muxer, apart from the guest.
#[derive(Debug, thiserror::Error)]
pub enum VsockError {
    /// The context id is reserved.
    #[error(
        "vsock guest_cid {guest_cid} is reserved: it must be 3 or more and not {}",
        u32::MAX
    )]
    GuestCid {
        /// The context id.
        guest_cid: u32,
    },
    /// There is a listener, or it is the stream port.
    #[error("vsock port {port} is taken")]
    PortTaken {
        /// The port.
        port: u32,
    },
    /// The token is attached already.
    #[error("a vsock stream is attached already under this token")]
    TokenTaken,
    /// The host's side of a stream could not be had.
    #[error("set up the host's end of a vsock stream")]
    Endpoint {
        /// The reason.
        #[source]
        source: Box<EndpointError>,
    },
    /// There is no eventfd to be had.
    #[error("make an eventfd for vsock")]
    Event(#[source] io::Error),
    /// There is no epoll to be had.
    #[error("set up the vsock thread's poll")]
    Poll(#[source] io::Error),
    /// The thread did not start.
    #[error("start the vsock thread")]
    Thread(#[source] io::Error),
    /// The thread could not be woken.
    #[error("wake the vsock thread")]
    Wake(#[source] io::Error),
    /// The device is gone.
    #[error("the vsock device has stopped")]
    Stopped,
}

/// The device.
#[derive(Debug)]
pub struct Vsock {
    guest_cid: u32,
    handle: VsockHandle,
    thread: Option<JoinHandle<()>>,
}

impl Vsock {
    /// Makes the device and starts its thread.
    pub fn new(config: VsockConfig) -> Result<(Self, VsockHandle), VsockError> {
        let guest_cid = config.guest_cid;
        if guest_cid < 3 || guest_cid == u32::MAX {
            return Err(VsockError::GuestCid { guest_cid });
        }
        let (thread, handle) = worker::start(&config)?;
        let device = Self {
            guest_cid,
            handle: handle.clone(),
            thread: Some(thread),
        };
        Ok((device, handle))
    }
}

impl VirtioDevice for Vsock {
    fn device_type(&self) -> u32 {
        VIRTIO_ID_VSOCK
    }

    fn queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn features(&self) -> u64 {
        FEATURE_STREAM | FEATURE_EVENT_IDX
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        let config = u64::from(self.guest_cid).to_le_bytes();
        copy_config(&config, offset, data);
    }

    fn activate(&mut self, mut activation: Activation) -> Result<(), ActivateError> {
        let event_idx = activation.features & FEATURE_EVENT_IDX != 0;
        let mut take = |index| -> Result<ActiveQueue, ActivateError> {
            let mut queue = activation.take(NAME, index)?;
            queue.queue.set_event_idx(event_idx);
            Ok(queue)
        };
        let receive = take(RECEIVE)?;
        let transmit = take(TRANSMIT)?;
        let queues = Queues::new(activation.memory, activation.interrupt, receive, transmit);
        let host = |source| ActivateError::Host {
            device: NAME,
            action: "hand the queues to the vsock thread",
            source,
        };
        self.handle
            .call(|reply| Command::Activate {
                queues: Box::new(queues),
                reply,
            })
            .map_err(|error| host(io::Error::other(error)))?
            .map_err(host)
    }

    fn reset(&mut self) {
        if let Err(error) = self.handle.call(|reply| Command::Deactivate { reply }) {
            tracing::warn!(%error, "reset the vsock device");
        }
    }
}

impl Drop for Vsock {
    fn drop(&mut self) {
        // A thread that does not answer is gone already.
        let _ = self.handle.call(|reply| Command::Stop { reply });
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the vsock thread panicked");
        }
    }
}
