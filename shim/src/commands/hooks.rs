//! Hooks that run after the sandbox was built: poststart and poststop, on the host.
//!
//! libcontainer runs the earlier ones. runtime-spec, config.md "POSIX-platform Hooks".

use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use oci_spec::runtime::Hook;

/// What became of a hook.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HookError {
    /// It did not start or could not be waited for.
    #[error("run {}", path.display())]
    Run {
        /// The hook.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// It failed.
    #[error("{} failed: {status}", path.display())]
    Failed {
        /// The hook.
        path: PathBuf,
        /// Its exit status or signal.
        status: ExitStatus,
    },
    /// It took too long.
    #[error("{} took longer than {seconds} seconds", path.display())]
    Timeout {
        /// The hook.
        path: PathBuf,
        /// Its limit.
        seconds: u64,
    },
}

/// Runs `hook` with the container's `state` on its standard input.
pub(crate) fn run(hook: &Hook, state: &str) -> Result<(), HookError> {
    let path = hook.path();
    let failed = |source| HookError::Run {
        path: path.clone(),
        source,
    };
    let mut command = Command::new(path);
    if let Some((name, arguments)) = hook.args().as_ref().and_then(|args| args.split_first()) {
        command.arg0(name).args(arguments);
    }
    let variables = hook.env().iter().flatten();
    command
        .env_clear()
        .envs(variables.filter_map(|variable| variable.split_once('=')))
        .stdin(Stdio::piped())
        .stdout(Stdio::null());
    let mut child = command.spawn().map_err(failed)?;
    if let Some(mut input) = child.stdin.take() {
        // A hook that does not read its input closes the pipe; that is its right.
        let _ = input.write_all(state.as_bytes());
    }
    let limit = hook
        .timeout()
        .and_then(|seconds| u64::try_from(seconds).ok());
    let status = match limit {
        None => child.wait().map_err(failed)?,
        Some(seconds) => match wait(&mut child, Duration::from_secs(seconds)).map_err(failed)? {
            Some(status) => status,
            None => {
                return Err(HookError::Timeout {
                    path: path.clone(),
                    seconds,
                });
            }
        },
    };
    if status.success() {
        return Ok(());
    }
    Err(HookError::Failed {
        path: path.clone(),
        status,
    })
}

/// Waits for `child`, and kills it when `limit` is over.
fn wait(child: &mut Child, limit: Duration) -> io::Result<Option<ExitStatus>> {
    let until = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= until {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(10));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hook(text: &str) -> Hook {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn hooks_read_the_state_and_may_fail_or_hang() {
        let check = r#"{"path": "/bin/sh", "args": ["sh", "-c", "test \"$(cat)\" = \"$S\""],
                        "env": ["S={}", "PATH=/bin:/usr/bin"]}"#;
        run(&hook(check), "{}").unwrap();
        assert!(matches!(
            run(&hook(check), "[]"),
            Err(HookError::Failed { .. })
        ));
        let deaf = r#"{"path": "/bin/sh", "args": ["sh", "-c", "exec <&-"]}"#;
        run(&hook(deaf), &"x".repeat(1 << 20)).unwrap();
        let slow =
            r#"{"path": "/bin/sh", "args": ["sh", "-c", "while :; do :; done"], "timeout": 1}"#;
        assert!(matches!(
            run(&hook(slow), ""),
            Err(HookError::Timeout { .. })
        ));
    }
}
