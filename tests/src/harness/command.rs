//! Shell scripts, run with a time limit, their streams kept apart.

use std::fmt;
use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use rustix::process::{Pid, Signal, kill_process_group};

/// No single command of a test takes longer, even under emulation.
const LIMIT: Duration = Duration::from_secs(300);

/// Shell functions that every script can use. `$RUNTIME` is the runtime under test.
const PRELUDE: &str = r#"
run() { podman run --rm --runtime "$RUNTIME" --network none "$@"; }
create_detached() { podman run -d --runtime "$RUNTIME" --network none "$@"; }
BB=localhost/busybox
# The host's own programs in a container.
tools="-v /usr:/usr:ro -v /usr/lib:/lib:ro -v /usr/lib64:/lib64:ro"
"#;

/// Makes the nodes that a machine with a GPU has; Podman insists on them. Nothing is behind them.
pub(crate) const GPU_NODES: &str = "mkdir -p /dev/dri
[ -e /dev/dri/card0 ] || mknod -m 660 /dev/dri/card0 c 226 0
[ -e /dev/dri/renderD128 ] || mknod -m 666 /dev/dri/renderD128 c 226 128
chgrp video /dev/dri/card0
";

/// What a command did.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Output {
    /// Exit status, or 128 plus the signal.
    pub(crate) status: i32,
    /// Standard output as text.
    pub(crate) stdout: String,
    /// Standard error as text.
    pub(crate) stderr: String,
}

impl fmt::Display for Output {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "status {}\nstdout: {}\nstderr: {}",
            self.status, self.stdout, self.stderr
        )
    }
}

/// Runs `script` with `sh`, `$RUNTIME` being `runtime`.
pub(crate) fn sh_with(runtime: &str, script: &str) -> Result<Output, Failed> {
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", &format!("{PRELUDE}{script}")])
        .env("RUNTIME", runtime);
    collect(command, script)
}

/// Runs `script` with krun-gpu as `$RUNTIME`.
pub(crate) fn sh(script: &str) -> Result<Output, Failed> {
    sh_with("krun-gpu", script)
}

/// Runs `script` as the ordinary user of the test VM, with krun-gpu or another `$RUNTIME`.
pub(crate) fn sh_as_user(runtime: &str, script: &str) -> Result<Output, Failed> {
    let mut command = Command::new("setpriv");
    command
        .args([
            "--reuid",
            "1000",
            "--regid",
            "1000",
            "--init-groups",
            "/bin/sh",
            "-c",
        ])
        .arg(format!("{PRELUDE}{script}"))
        .env("RUNTIME", runtime)
        .env("HOME", "/home/user")
        .env("USER", "user")
        .env("XDG_RUNTIME_DIR", "/run/user/1000")
        .current_dir("/");
    collect(command, script)
}

fn collect(mut command: Command, script: &str) -> Result<Output, Failed> {
    let failed =
        |action: &str, error: std::io::Error| Failed::from(format!("{action} {script:?}: {error}"));
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(|error| failed("spawn", error))?;
    let readers = (
        child.stdout.take().map(drain),
        child.stderr.take().map(drain),
    );
    let deadline = Instant::now() + LIMIT;
    let status = loop {
        if let Some(status) = child
            .try_wait()
            .map_err(|error| failed("wait for", error))?
        {
            break status;
        }
        if Instant::now() > deadline {
            if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
                // The group may be gone by now; then there is nothing to kill.
                let _ = kill_process_group(group, Signal::KILL);
            }
            let _ = child.wait();
            return Err(Failed::from(format!(
                "{script:?} did not end within {LIMIT:?}"
            )));
        }
        thread::sleep(Duration::from_millis(10));
    };
    let text = |reader: Option<thread::JoinHandle<Vec<u8>>>| {
        let bytes = reader
            .and_then(|reader| reader.join().ok())
            .unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    Ok(Output {
        status: status
            .code()
            .unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
        stdout: text(readers.0),
        stderr: text(readers.1),
    })
}

fn drain(mut stream: impl Read + Send + 'static) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // What was read before an error is still worth showing.
        let _ = stream.read_to_end(&mut bytes);
        bytes
    })
}
