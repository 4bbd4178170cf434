//! The same server inside the program that it serves:
//! `LD_PRELOAD=libvtest_inside.so KRUN_GPU_VTEST_DRIVER=MANIFEST PROGRAM`, where the manifest is a
//! Venus driver's.
//!
//! Some blobs have no descriptor that another process can map: only a Vulkan driver can (NVIDIA's
//! without DRM, lavapipe's without udmabuf). For a guest they are placed in the window. Here the
//! program is the guest: it gets a descriptor that stands for the blob, and its `mmap` of that is
//! the blob's place in the window (`tokens`). The host's Vulkan driver serves this thread and
//! the Venus driver all others (`environment`).
//!
//! It must be this process: one that forks goes without.

mod client;
#[allow(dead_code, reason = "a library has no status to end with")]
#[path = "../common/mod.rs"]
mod common;
mod device;
mod environment;
mod server;
mod stream;
mod tokens;

use std::error::Error;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::{env, fs, process, thread};

use server::{MEMORY, Server};

const DRIVER: &str = "KRUN_GPU_VTEST_DRIVER";
const RENDER_SERVER_VARIABLE: &str = "KRUN_GPU_VTEST_RENDER_SERVER";

/// Where the program connects to the server.
static SOCKET: OnceLock<PathBuf> = OnceLock::new();

/// The dynamic linker calls what is here before `main`.
#[used]
#[unsafe(link_section = ".init_array")]
static BEGIN: extern "C" fn() = begin;

/// And this when the program ends.
#[used]
#[unsafe(link_section = ".fini_array")]
static END: extern "C" fn() = end;

extern "C" fn begin() {
    if let Err(error) = start() {
        eprintln!("vtest_inside: {error}");
        process::exit(1);
    }
}

extern "C" fn end() {
    if let Some(socket) = SOCKET.get() {
        let _ = fs::remove_file(socket);
    }
}

fn start() -> Result<(), Box<dyn Error>> {
    let driver = env::var(DRIVER).map_err(|_| format!("{DRIVER} names no Venus driver"))?;
    let render_server = env::var_os(RENDER_SERVER_VARIABLE);
    let render_server = PathBuf::from(render_server.unwrap_or(server::RENDER_SERVER.into()));
    let socket = env::temp_dir().join(format!("krun-gpu-vtest-{}", process::id()));
    let socket = SOCKET.get_or_init(|| socket);
    // SAFETY: the program has no other thread yet, or none that a preloaded library would know.
    unsafe {
        // The render server is a process of its own.
        env::remove_var("LD_PRELOAD");
        env::set_var("VN_DEBUG", "vtest");
        env::set_var("VTEST_SOCKET_NAME", socket);
    }
    let (ready, started) = sync_channel(1);
    thread::Builder::new()
        .name("vtest".to_owned())
        .spawn(move || {
            environment::stay_on_the_host();
            if let Err(error) = serve(&render_server, socket, &ready) {
                let message = error.to_string();
                if ready.send(Err(message.clone())).is_err() {
                    eprintln!("vtest_inside: {message}");
                }
            }
        })?;
    started.recv()??;
    environment::serve_others_with(driver)?;
    Ok(())
}

fn serve(
    render_server: &Path,
    socket: &Path,
    ready: &SyncSender<Result<(), String>>,
) -> Result<(), Box<dyn Error>> {
    let gpu = common::gpu(render_server, None, MEMORY)?;
    let mut server = Server::start(gpu, |control, blob| match blob.address {
        Some(address) => tokens::make(address, blob.size),
        None => device::descriptor(control, blob),
    })?;
    let listener = UnixListener::bind(socket)?;
    ready.send(Ok(()))?;
    server.serve(&listener, false)
}
