//! The server: its clients, and the device that they share.

use std::collections::HashMap;
use std::error::Error;
use std::io::{ErrorKind, Read};
use std::os::unix::net::{UnixListener, UnixStream};

use krun_gpu_vmm::devices::gpu::GpuConfig;
use rustix::event::{PollFd, PollFlags, poll};

use super::client::Client;
use super::device::{Device, Share};

/// virglrenderer's render server, where Debian has it.
pub(super) const RENDER_SERVER: &str = "/usr/libexec/virgl_render_server";

/// Bytes that all clients' blobs may have.
pub(super) const MEMORY: u64 = 64 << 30;

/// The device and whom it serves.
pub(super) struct Server {
    device: Device,
    /// Readable when a fence is signalled.
    wakened: UnixStream,
    clients: HashMap<u32, Client>,
}

impl Server {
    /// Starts the renderer in this thread; clients get their blobs by `share`.
    pub(super) fn start(gpu: GpuConfig, share: Share) -> Result<Self, Box<dyn Error>> {
        let (wakened, waker) = UnixStream::pair()?;
        wakened.set_nonblocking(true)?;
        Ok(Self {
            device: Device::start(gpu, share, waker)?,
            wakened,
            clients: HashMap::new(),
        })
    }

    /// Serves whoever connects, for ever or until the last one has gone.
    pub(super) fn serve(
        &mut self,
        listener: &UnixListener,
        once: bool,
    ) -> Result<(), Box<dyn Error>> {
        let mut served = 0;
        while served == 0 || !self.clients.is_empty() || !once {
            let mut ids: Vec<u32> = self.clients.keys().copied().collect();
            let mut ready = self.poll(listener, &ids)?.into_iter();
            let (connecting, signalled) = (ready.next(), ready.next());
            if signalled == Some(true) {
                let _ = self.wakened.read(&mut [0; 64]);
                for fence in self.device.signalled() {
                    let clients = self.clients.values_mut();
                    clients.for_each(|client| client.signal(fence));
                }
            }
            ids.retain(|_| ready.next() == Some(true));
            ids.into_iter().for_each(|id| self.turn(id));
            if connecting == Some(true) {
                let (socket, _) = listener.accept()?;
                served += 1;
                self.clients.insert(served, Client::new(served, socket));
            }
        }
        Ok(())
    }

    /// Waits; whether somebody connects, a fence is signalled, and each of the clients speaks.
    fn poll(&self, listener: &UnixListener, ids: &[u32]) -> rustix::io::Result<Vec<bool>> {
        let mut fds = vec![
            PollFd::new(listener, PollFlags::IN),
            PollFd::new(&self.wakened, PollFlags::IN),
        ];
        let sockets = ids.iter().filter_map(|id| self.clients.get(id));
        fds.extend(sockets.map(|client| PollFd::new(client, PollFlags::IN)));
        poll(&mut fds, None)?;
        Ok(fds.iter().map(|fd| !fd.revents().is_empty()).collect())
    }

    /// One command of a client's, or its end.
    fn turn(&mut self, id: u32) {
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        if let Err(error) = client.serve(&mut self.device) {
            if error.kind() != ErrorKind::UnexpectedEof {
                eprintln!("vtest: client {id}: {error}");
            }
            client.end(&mut self.device);
            self.clients.remove(&id);
        }
    }
}
