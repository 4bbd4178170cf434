//! What the examples share: a GPU with a render server of their own, and how they end.

use std::error::Error;
use std::num::NonZeroU64;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::process::{Command, ExitCode};

use krun_gpu_vmm::devices::gpu::virgl::Library;
use krun_gpu_vmm::devices::gpu::{GpuConfig, OpenGl};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::thread::set_current_timer_slack;

/// The status that `main` ends with; an error is printed with its causes, after `program`.
pub(super) fn end(program: &str, result: Result<ExitCode, Box<dyn Error>>) -> ExitCode {
    result.unwrap_or_else(|error| {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            message.push_str(&format!(": {cause}"));
            source = cause.source();
        }
        eprintln!("{program}: {message}");
        ExitCode::FAILURE
    })
}

/// A GPU whose render server is a child of this process; it ends with its socket.
pub(super) fn gpu(
    program: &Path,
    host_root: Option<OwnedFd>,
    memory_limit: u64,
) -> Result<GpuConfig, Box<dyn Error>> {
    let (ours, theirs) = socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?;
    // The child's copy of its end is open across exec; the original is closed here.
    fcntl_setfd(&theirs, FdFlags::empty())?;
    // The child inherits how late its sleeps may end; ours are as before.
    set_current_timer_slack(NonZeroU64::new(1))?;
    let server = Command::new(program)
        .arg("--socket-fd")
        .arg(theirs.as_raw_fd().to_string())
        .spawn();
    set_current_timer_slack(None)?;
    server?;
    Ok(GpuConfig {
        library: Library::load()?,
        render_server: ours,
        opengl: OpenGl::No,
        host_root,
        window: 8 << 30,
        memory_limit,
    })
}
