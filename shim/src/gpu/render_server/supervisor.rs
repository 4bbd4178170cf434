//! `krun-gpu gpu-server`: confines a render server, and ends it with the VM.
//!
//! The server and its processes are alone in a pid namespace, so that killing the server, which is
//! that namespace's first process, kills them all. The kernel kills it when this process ends, and
//! this process kills it when the lifeline closes: when `create` has failed, or the VMM is gone.
//! So nothing is left behind, whoever is killed. System V's shared memory and queues, which have
//! owners as files have, are its own as well.

use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use clap::Args;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getegid, geteuid};

use super::confinement::{self, ConfinementError};
use super::filter::{self, FilterError};
use super::{GO, LINE};
use crate::descriptors;
use crate::report;
use crate::state::ProcessIdentity;

/// The sub-command's name.
pub(crate) const COMMAND: &str = "gpu-server";

/// Options of `gpu-server`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The render server.
    program: PathBuf,
    /// Files and directories that its drivers read, beside a distribution's own.
    read_paths: Vec<PathBuf>,
}

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SupervisorError {
    /// A step.
    #[error("{0}")]
    Step(&'static str, #[source] io::Error),
    /// What it may reach.
    #[error(transparent)]
    Confinement(#[from] ConfinementError),
    /// What it may ask of the kernel.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// The program.
    #[error("run {}", path.display())]
    Run {
        /// The program.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
}

/// Runs the sub-command: standard input is the lifeline, standard output the server's socket.
/// What goes wrong is told on the lifeline.
pub(crate) fn run(options: &Options) -> io::Result<()> {
    let mut lifeline = UnixStream::from(descriptors::duplicate_standard(0)?);
    let mut go = [0];
    if lifeline.read(&mut go)? != 1 || go[0] != GO {
        return Ok(());
    }
    let words = match start(options) {
        Ok(mut server) => {
            lifeline.write_all(b"\n")?;
            watch(&mut server, &lifeline)?
        }
        Err(error) => Some(report::chain(&error)),
    };
    if let Some(words) = words {
        let line: String = words.replace('\n', " ").chars().take(LINE / 4).collect();
        // Who would have read it may be gone by now.
        let _ = writeln!(lifeline, "{line}");
    }
    Ok(())
}

fn start(options: &Options) -> Result<Child, SupervisorError> {
    let step = |what| move |source| SupervisorError::Step(what, source);
    let socket = descriptors::duplicate_standard(1).map_err(step("take the server's socket"))?;
    let null = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")
        .map_err(step("open /dev/null"))?;
    descriptors::silence_standard(&null).map_err(step("let go of the standard streams"))?;
    nix::unistd::setsid().map_err(|error| step("leave the caller's session")(error.into()))?;
    new_namespaces().map_err(step(
        "make a pid and an IPC namespace (`sysctl user.max_pid_namespaces` and \
         `user.max_ipc_namespaces` must not be 0, nor `user.max_user_namespaces` for an ordinary \
         user)",
    ))?;
    // The server sleeps 10 us between two looks at a guest's ring, and as long again as this.
    nix::sys::prctl::set_timerslack(1)
        .map_err(|error| step("have its sleeps end on time")(error.into()))?;
    confinement::confine(&options.program, &options.read_paths)?;
    filter::load()?;
    spawn(&options.program, socket).map_err(|source| SupervisorError::Run {
        path: options.program.clone(),
        source,
    })
}

/// The next child is the first process of a new pid namespace. An ordinary user may make one in a
/// user namespace alone, in which everything stays as it is.
fn new_namespaces() -> io::Result<()> {
    let own = CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWIPC;
    match unshare(own) {
        Err(nix::errno::Errno::EPERM) => {}
        result => return Ok(result?),
    }
    let (user, group) = (geteuid(), getegid());
    unshare(CloneFlags::CLONE_NEWUSER | own)?;
    fs::write("/proc/self/uid_map", format!("{user} {user} 1"))?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/gid_map", format!("{group} {group} 1"))
}

fn spawn(program: &Path, socket: OwnedFd) -> io::Result<Child> {
    let number = socket.as_raw_fd();
    let mut command = Command::new(program);
    command
        .arg("--socket-fd")
        .arg(number.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    // SAFETY: two system calls between fork and exec, with no memory of the parent's.
    unsafe {
        command.pre_exec(move || {
            // It dies with its supervisor, and keeps its socket.
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) < 0
                || libc::fcntl(number, libc::F_SETFD, 0) < 0
            {
                return Err(io::Error::last_os_error());
            }
            Ok(())
        });
    }
    command.spawn()
}

/// Waits for the end of the server, or of those who need it; what to say of the server's.
fn watch(server: &mut Child, lifeline: &UnixStream) -> io::Result<Option<String>> {
    let pid = i32::try_from(server.id()).unwrap_or(-1);
    let process = ProcessIdentity::of(pid)?.open()?;
    if let Some(process) = &process {
        loop {
            let mut watched = [
                PollFd::new(process.as_fd(), PollFlags::POLLIN),
                PollFd::new(lifeline.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut watched, PollTimeout::NONE) {
                Ok(_) => {}
                Err(nix::errno::Errno::EINTR) => continue,
                Err(error) => return Err(error.into()),
            }
            if watched[0].any().unwrap_or(false) {
                break;
            }
            if watched[1].any().unwrap_or(false) {
                // Nobody says anything on it any more: it was closed.
                server.kill()?;
                server.wait()?;
                return Ok(None);
            }
        }
    }
    Ok(Some(ending(server.wait()?)))
}

/// How a server ended, in words.
fn ending(status: ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(signal), _) => format!("it was killed by signal {signal}"),
        (None, code) => format!("it ended with status {}", code.unwrap_or(-1)),
    }
}
