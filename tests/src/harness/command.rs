//! Shell scripts, run with a time limit, their streams kept apart.

use std::fmt;
use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use rustix::process::{Pid, Signal, kill_process_group};

/// How long a script may take at least.
const LEAST_LIMIT: Duration = Duration::from_secs(300);

/// How many times as long as the control, a container under crun, a script may take. Machines that
/// emulate ours differ by a factor of three; the longest cases take 60 times as long as it.
const LIMIT_OVER_CONTROL: u32 = 150;

/// How often a long script's time is told: xtask kills a test VM that is silent for longer.
const HEARTBEAT: Duration = Duration::from_secs(100);

/// The control; the shortest of three is taken.
const CONTROL: &str = "podman run --rm --runtime crun --network none localhost/busybox true";

/// How long a script may take on this machine, once the control was run.
static LIMIT: OnceLock<Duration> = OnceLock::new();

/// Shell functions that every script can use. `$RUNTIME` is the runtime under test, and `$LIMIT`
/// the seconds that a script may take, for [`sh`] and [`sh_with`].
const PRELUDE: &str = r#"
run() { podman run --rm --runtime "$RUNTIME" --network none "$@"; }
create_detached() { podman run -d --runtime "$RUNTIME" --network none "$@"; }
BB=localhost/busybox
# The host's own programs in a container.
tools="-v /usr:/usr:ro -v /usr/lib:/lib:ro -v /usr/lib64:/lib64:ro"
"#;

/// Podman collects no garbage: its processes end soon, and under emulation that is a tenth of their
/// time, of which they take most of a case's.
const ENVIRONMENT: [(&str, &str); 1] = [("GOGC", "off")];

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
        .env("RUNTIME", runtime)
        .envs(ENVIRONMENT)
        .env("LIMIT", limit().as_secs().to_string());
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
        .envs(ENVIRONMENT)
        .env("HOME", "/home/user")
        .env("USER", "user")
        .env("XDG_RUNTIME_DIR", "/run/user/1000")
        .current_dir("/");
    collect(command, script)
}

/// How long a script may take.
pub(crate) fn limit() -> Duration {
    LIMIT.get().copied().unwrap_or(LEAST_LIMIT)
}

/// Finds out how quick this machine is; the image of the control must be there.
pub(crate) fn settle_limit() -> Result<(), Failed> {
    if LIMIT.get().is_some() {
        return Ok(());
    }
    let mut shortest = Duration::MAX;
    for _ in 0..3 {
        let started = Instant::now();
        let control = sh(CONTROL)?;
        if control.status != 0 {
            return Err(Failed::from(format!("{CONTROL}: {control}")));
        }
        shortest = shortest.min(started.elapsed());
    }
    let limit = LEAST_LIMIT.max(shortest * LIMIT_OVER_CONTROL);
    eprintln!("a container under crun takes {shortest:.1?}; a script may take {limit:.0?}");
    LIMIT.get_or_init(|| limit);
    Ok(())
}

fn collect(mut command: Command, script: &str) -> Result<Output, Failed> {
    let limit = limit();
    let failed =
        |action: &str, error: std::io::Error| Failed::from(format!("{action} {script:?}: {error}"));
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(|error| failed("spawn", error))?;
    let (stdout, stderr) = (
        Drain::of(child.stdout.take()),
        Drain::of(child.stderr.take()),
    );
    let started = Instant::now();
    let mut heartbeats = 0;
    let status = loop {
        if let Some(status) = child
            .try_wait()
            .map_err(|error| failed("wait for", error))?
        {
            break status;
        }
        let elapsed = started.elapsed();
        if elapsed > HEARTBEAT * (heartbeats + 1) {
            heartbeats += 1;
            eprintln!("the script goes on after {elapsed:.0?}");
        }
        if elapsed > limit {
            if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
                // The group may be gone by now; then there is nothing to kill.
                let _ = kill_process_group(group, Signal::KILL);
            }
            let _ = child.wait();
            return Err(Failed::from(format!(
                "{script:?} did not end within {limit:.0?}\nstdout: {}\nstderr: {}",
                stdout.so_far(),
                stderr.so_far()
            )));
        }
        thread::sleep(Duration::from_millis(10));
    };
    Ok(Output {
        status: status
            .code()
            .unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
        stdout: stdout.all(),
        stderr: stderr.all(),
    })
}

/// A stream that a thread reads to its end.
struct Drain {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Drain {
    fn of(stream: Option<impl Read + Send + 'static>) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let reader = stream.map(|mut stream| {
            let bytes = Arc::clone(&bytes);
            thread::spawn(move || {
                let mut buffer = [0; 4096];
                // What was read before an error is still worth showing.
                while let Ok(length @ 1..) = stream.read(&mut buffer) {
                    bytes
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .extend(buffer.iter().take(length));
                }
            })
        });
        Self { bytes, reader }
    }

    /// What came until now, as text.
    fn so_far(&self) -> String {
        let bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// What came until the stream's end, as text.
    fn all(mut self) -> String {
        if let Some(reader) = self.reader.take() {
            // A reader that panicked read what it could.
            let _ = reader.join();
        }
        self.so_far()
    }
}
