//! Serves Mesa's Venus driver from the GPU device with no guest: `vtest --socket PATH`.
//!
//! Mesa's drivers speak vtest, the protocol of virglrenderer's own test server, when they are
//! told to (`VN_DEBUG=vtest VTEST_SOCKET_NAME=PATH`). This server turns it into virtio-gpu
//! commands and carries them out with the code that serves guests. Memory goes to the client as
//! a descriptor, so blobs that only a Vulkan driver can map end the client's connection.

mod client;
#[path = "../common/mod.rs"]
mod common;
mod device;
mod stream;

use std::collections::HashMap;
use std::error::Error;
use std::io::Read;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use rustix::event::{PollFd, PollFlags, poll};

use client::Client;
use device::Device;

/// Serve Mesa's Venus driver from the GPU device, without a guest.
#[derive(Debug, Parser)]
struct Arguments {
    /// Where clients connect
    #[arg(long)]
    socket: PathBuf,
    /// virglrenderer's render server
    #[arg(long, default_value = "/usr/libexec/virgl_render_server")]
    render_server: PathBuf,
    /// End when the last client has gone
    #[arg(long)]
    once: bool,
}

fn main() -> ExitCode {
    let served = serve(&Arguments::parse());
    common::end("vtest", served.map(|()| ExitCode::SUCCESS))
}

fn serve(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let (mut wakened, waker) = UnixStream::pair()?;
    wakened.set_nonblocking(true)?;
    let gpu = common::gpu(&arguments.render_server, None, 8 << 30)?;
    let mut device = Device::start(gpu, waker)?;
    let listener = UnixListener::bind(&arguments.socket)?;
    let mut clients: HashMap<u32, Client> = HashMap::new();
    let mut served = 0;
    while served == 0 || !clients.is_empty() || !arguments.once {
        let mut ids: Vec<u32> = clients.keys().copied().collect();
        let ready: Vec<bool> = {
            let mut fds = vec![
                PollFd::new(&listener, PollFlags::IN),
                PollFd::new(&wakened, PollFlags::IN),
            ];
            let sockets = ids.iter().filter_map(|id| clients.get(id));
            fds.extend(sockets.map(|client| PollFd::new(client, PollFlags::IN)));
            poll(&mut fds, None)?;
            fds.iter().map(|fd| !fd.revents().is_empty()).collect()
        };
        let mut ready = ready.into_iter();
        let (connecting, signalled) = (ready.next(), ready.next());
        if signalled == Some(true) {
            let _ = wakened.read(&mut [0; 64]);
            for fence in device.signalled() {
                clients.values_mut().for_each(|client| client.signal(fence));
            }
        }
        ids.retain(|_| ready.next() == Some(true));
        for id in ids {
            let Some(client) = clients.get_mut(&id) else {
                continue;
            };
            if let Err(error) = client.serve(&mut device) {
                if error.kind() != std::io::ErrorKind::UnexpectedEof {
                    eprintln!("vtest: client {id}: {error}");
                }
                client.end(&mut device);
                clients.remove(&id);
            }
        }
        if connecting == Some(true) {
            let (socket, _) = listener.accept()?;
            served += 1;
            clients.insert(served, Client::new(served, socket));
        }
    }
    Ok(())
}
