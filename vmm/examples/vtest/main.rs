//! Serves Mesa's Venus driver from the GPU device with no guest: `vtest --socket PATH`.
//!
//! Mesa's drivers speak vtest, the protocol of virglrenderer's own test server, when they are
//! told to (`VN_DEBUG=vtest VTEST_SOCKET_NAME=PATH`). This server turns it into virtio-gpu
//! commands and carries them out with the code that serves guests. Memory goes to the client as
//! a descriptor, so blobs that only a Vulkan driver can map end the client's connection; for
//! those there is `inside.rs`.

mod client;
#[path = "../common/mod.rs"]
mod common;
mod device;
mod server;
mod stream;

use std::error::Error;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use server::{MEMORY, RENDER_SERVER, Server};

/// Serve Mesa's Venus driver from the GPU device, without a guest.
#[derive(Debug, Parser)]
struct Arguments {
    /// Where clients connect
    #[arg(long)]
    socket: PathBuf,
    /// virglrenderer's render server
    #[arg(long, default_value = RENDER_SERVER)]
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
    let gpu = common::gpu(&arguments.render_server, None, MEMORY)?;
    let mut server = Server::start(gpu, device::descriptor)?;
    let listener = UnixListener::bind(&arguments.socket)?;
    server.serve(&listener, arguments.once)
}
