//! startContainer hooks: run in the container by the workload's first process, after `Start` and
//! before the workload's program.
//!
//! Called by `session/init`.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};

use krun_gpu_protocol::Hook;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// What can go wrong with a hook.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HookError {
    /// It cannot be run or waited for.
    #[error("run the startContainer hook `{path}`")]
    Run {
        /// Its path.
        path: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// It failed.
    #[error("the startContainer hook `{path}` failed: {status}")]
    Status {
        /// Its path.
        path: String,
        /// Its exit status.
        status: ExitStatus,
    },
    /// It took too long and was killed.
    #[error("the startContainer hook `{path}` did not end within {seconds} s")]
    Timeout {
        /// Its path.
        path: String,
        /// Its limit.
        seconds: u32,
    },
}

/// Runs the hooks in order, with `state` on their standard input. One that fails ends the list.
pub(crate) fn run(hooks: &[Hook], state: &str, environment: &[String]) -> Result<(), HookError> {
    hooks
        .iter()
        .try_for_each(|hook| one(hook, state, environment))
}

fn one(hook: &Hook, state: &str, environment: &[String]) -> Result<(), HookError> {
    let failed = |source| HookError::Run {
        path: hook.path.clone(),
        source,
    };
    let mut command = Command::new(&hook.path);
    if let [name, arguments @ ..] = hook.args.as_slice() {
        command.arg0(name).args(arguments);
    }
    command
        .env_clear()
        .envs(
            hook.env
                .as_deref()
                .unwrap_or(environment)
                .iter()
                .filter_map(|variable| variable.split_once('=')),
        )
        .stdin(Stdio::from(input(state).map_err(failed)?));
    let mut child = command.spawn().map_err(failed)?;
    if let Some(seconds) = hook.timeout.filter(|seconds| *seconds > 0)
        && !ends_within(&child, seconds).map_err(failed)?
    {
        child.kill().and_then(|()| child.wait()).map_err(failed)?;
        return Err(HookError::Timeout {
            path: hook.path.clone(),
            seconds,
        });
    }
    let status = child.wait().map_err(failed)?;
    if status.success() {
        Ok(())
    } else {
        Err(HookError::Status {
            path: hook.path.clone(),
            status,
        })
    }
}

/// The state in a file of memory: a hook that does not read it breaks no pipe.
fn input(state: &str) -> io::Result<File> {
    let mut file = File::from(memfd_create("state", MemfdFlags::CLOEXEC)?);
    file.write_all(state.as_bytes())?;
    file.rewind()?;
    Ok(file)
}

fn ends_within(child: &Child, seconds: u32) -> io::Result<bool> {
    let pid = Pid::from_child(child);
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    let timeout = Timespec {
        tv_sec: i64::from(seconds),
        tv_nsec: 0,
    };
    let mut descriptors = [PollFd::from_borrowed_fd(pidfd.as_fd(), PollFlags::IN)];
    Ok(poll(&mut descriptors, Some(&timeout))? > 0)
}
