//! virglrenderer's render server: a process (and one more for each of the guest's Vulkan contexts)
//! that runs the host's Vulkan driver on the guest's commands.
//!
//! It runs in the host's mount view and in the container's cgroup, below a supervisor of ours
//! ([`supervisor`], its own sub-command) that confines it and ends it with the VM, however that
//! ends. Two sockets lead out: the server's own, which goes to the virtio-gpu, and the
//! supervisor's lifeline, whose other end the VMM holds.
//!
//! On the lifeline `create` sends one byte when the supervisor is in its cgroup; the supervisor
//! answers with an empty line when the server runs, and with a line of words whenever it ends.

mod confinement;
mod filter;
mod find;
pub(crate) mod supervisor;

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

pub(crate) use self::confinement::has_landlock;
pub(crate) use self::find::find;
use crate::config::GpuPolicy;
use crate::state::ProcessIdentity;

/// How long the server's start may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// What `create` sends when the supervisor may go on.
const GO: u8 = b'g';

/// Longest line that a supervisor says.
const LINE: usize = 1024;

/// Why there is no render server.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServerError {
    /// It is not installed.
    #[error(
        "virglrenderer's render server is missing: install virgl-server (Debian, Ubuntu) or \
         virglrenderer (elsewhere), or name it in /etc/krun-gpu/config.toml, `[gpu]`, \
         `render_server`; looked for {}",
        join(.0)
    )]
    Missing(Vec<std::path::PathBuf>),
    /// Its supervisor or their sockets.
    #[error("start the GPU's render server")]
    Start(#[source] io::Error),
    /// Its supervisor said why.
    #[error("the GPU's render server did not start: {0}")]
    Said(String),
}

fn join(paths: &[std::path::PathBuf]) -> String {
    let paths: Vec<_> = paths
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    paths.join(", ")
}

/// A supervisor that waits for its go.
#[derive(Debug)]
pub(crate) struct Starting {
    child: Child,
    lifeline: UnixStream,
    socket: OwnedFd,
}

/// A running render server.
#[derive(Debug)]
pub(crate) struct RenderServer {
    /// The server's socket.
    pub(crate) socket: OwnedFd,
    /// The supervisor's.
    pub(crate) lifeline: OwnedFd,
    /// The supervisor.
    pub(crate) identity: ProcessIdentity,
}

impl RenderServer {
    /// Starts the supervisor of the server `program`.
    pub(crate) fn spawn(program: &Path, policy: &GpuPolicy) -> Result<Starting, ServerError> {
        let pair = |kind| {
            socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_CLOEXEC)
                .map_err(|error| ServerError::Start(error.into()))
        };
        let (socket, servers_end) = pair(SockType::SeqPacket)?;
        let (lifeline, supervisors_end) = pair(SockType::Stream)?;
        let readable = policy.driver_files.iter().chain(&policy.read_paths);
        let child = Command::new("/proc/self/exe")
            .arg0("krun-gpu")
            .arg(supervisor::COMMAND)
            .arg(program)
            .args(readable)
            // The guest decides what is compiled; nothing of it stays on the host.
            .env("MESA_SHADER_CACHE_DISABLE", "true")
            .env("__GL_SHADER_DISK_CACHE", "0")
            .stdin(Stdio::from(supervisors_end))
            .stdout(Stdio::from(servers_end))
            .stderr(Stdio::null())
            .current_dir("/")
            .spawn()
            .map_err(ServerError::Start)?;
        Ok(Starting {
            child,
            lifeline: UnixStream::from(lifeline),
            socket,
        })
    }
}

impl Starting {
    /// The supervisor's pid.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Lets it start the server, and waits until that runs.
    pub(crate) fn go(mut self) -> Result<RenderServer, ServerError> {
        match self.start() {
            Ok(identity) => Ok(RenderServer {
                socket: self.socket,
                lifeline: self.lifeline.into(),
                identity,
            }),
            Err(error) => {
                // The server, if there is one, ends with it.
                let _ = self.child.kill();
                let _ = self.child.wait();
                Err(error)
            }
        }
    }

    fn start(&mut self) -> Result<ProcessIdentity, ServerError> {
        let mut lifeline = &self.lifeline;
        lifeline
            .set_read_timeout(Some(PATIENCE))
            .and_then(|()| lifeline.write_all(&[GO]))
            .map_err(ServerError::Start)?;
        match read_line(lifeline).map_err(ServerError::Start)? {
            Some(line) if line.is_empty() => {}
            Some(line) => return Err(ServerError::Said(line)),
            None => return Err(ServerError::Said("its supervisor ended".to_owned())),
        }
        let pid = i32::try_from(self.child.id()).unwrap_or(-1);
        ProcessIdentity::of(pid).map_err(ServerError::Start)
    }
}

/// A line that a supervisor says; `None` when it ended without one.
pub(crate) fn read_line(mut lifeline: impl Read) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    let mut byte = [0];
    while lifeline.read(&mut byte)? == 1 {
        if byte[0] == b'\n' || line.len() == LINE {
            return Ok(Some(String::from_utf8_lossy(&line).into_owned()));
        }
        line.push(byte[0]);
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_and_ends_are_no_lines() {
        let mut text: &[u8] = b"\nsignal 9\nno end";
        assert_eq!(read_line(&mut text).unwrap().as_deref(), Some(""));
        assert_eq!(read_line(&mut text).unwrap().as_deref(), Some("signal 9"));
        assert_eq!(read_line(&mut text).unwrap(), None);
    }
}
