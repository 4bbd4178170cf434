//! The host's side of a test: boots the stand-in, speaks the protocol, holds the streams.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Child;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use krun_gpu_protocol::{
    AgentError, CONTROL_PORT, Capabilities, Event, GuestMessage, Limits, Mount, MountFlags,
    MountSource, Process, Reply, Request, RequestBody, STREAM_PORT, Stdio, StreamToken,
    TerminalSize, User, VERSION, Workload, frame,
};
use tempfile::TempDir;

use crate::machine;

/// Everything takes less, even under emulation.
const PATIENCE: Duration = Duration::from_secs(60);

static TOKENS: AtomicU64 = AtomicU64::new(1);

/// A booted stand-in.
pub(crate) struct Guest {
    pub(crate) folder: TempDir,
    child: Child,
    control: UnixStream,
    streams: UnixListener,
    waiting: HashMap<StreamToken, UnixStream>,
    events: Vec<Event>,
    replies: HashMap<u64, Result<Reply, AgentError>>,
    next: u64,
}

/// How a session ended.
#[derive(Debug, PartialEq)]
pub(crate) struct Outcome {
    pub(crate) status: u8,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Guest {
    /// Boots one and takes its hello.
    pub(crate) fn boot() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("krun-gpu-agent-")
            .tempdir()
            .unwrap();
        let listen = |port: u32| UnixListener::bind(folder.path().join(port.to_string())).unwrap();
        let (control, streams) = (listen(CONTROL_PORT), listen(STREAM_PORT));
        let child = machine::start(folder.path());
        let (control, _) = control.accept().unwrap();
        control.set_read_timeout(Some(PATIENCE)).unwrap();
        match frame::read(&control).unwrap().unwrap() {
            GuestMessage::Hello {
                version,
                release,
                uptime_us,
            } => {
                assert_eq!(version, VERSION);
                assert!(!release.is_empty());
                assert!(uptime_us > 0);
            }
            other => panic!("{other:?} instead of a hello"),
        }
        Self {
            folder,
            child,
            control,
            streams,
            waiting: HashMap::new(),
            events: Vec::new(),
            replies: HashMap::new(),
            next: 1,
        }
    }

    /// Boots, prepares and starts.
    pub(crate) fn with(workload: &Workload) -> Self {
        let mut guest = Self::boot();
        guest
            .ask(RequestBody::Prepare(Box::new(workload.clone())))
            .unwrap();
        assert_eq!(
            guest.ask(RequestBody::Start {
                interfaces: Vec::new()
            }),
            Ok(Reply::Started { pid: 1 })
        );
        guest
    }

    /// Sends a request and returns its id.
    pub(crate) fn send(&mut self, body: RequestBody) -> u64 {
        let id = self.next;
        self.next += 1;
        frame::write(&self.control, &Request { id, body }).unwrap();
        id
    }

    /// Waits for the answer of a request.
    pub(crate) fn answer(&mut self, id: u64) -> Result<Reply, AgentError> {
        loop {
            if let Some(result) = self.replies.remove(&id) {
                return result;
            }
            self.listen();
        }
    }

    /// Sends a request and waits for its answer.
    pub(crate) fn ask(&mut self, body: RequestBody) -> Result<Reply, AgentError> {
        let id = self.send(body);
        self.answer(id)
    }

    fn listen(&mut self) {
        match frame::read(&self.control).unwrap() {
            Some(GuestMessage::Reply { id, result }) => drop(self.replies.insert(id, result)),
            Some(GuestMessage::Event(event)) => self.events.push(event),
            other => panic!("{other:?} from the guest"),
        }
    }

    /// Waits for a session's end.
    pub(crate) fn exited(&mut self, wanted: u64) -> (u8, bool) {
        let mut seen = 0;
        loop {
            for event in &self.events[seen..] {
                if let Event::Exited {
                    session,
                    status,
                    oom_killed,
                } = event
                    && *session == wanted
                {
                    return (*status, *oom_killed);
                }
            }
            seen = self.events.len();
            self.listen();
        }
    }

    /// What was said unasked so far.
    pub(crate) fn events(&self) -> &[Event] {
        &self.events
    }

    /// The connection that starts with `token`.
    pub(crate) fn stream(&mut self, token: StreamToken) -> UnixStream {
        loop {
            if let Some(stream) = self.waiting.remove(&token) {
                return stream;
            }
            let (mut stream, _) = self.streams.accept().unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut bytes = [0; 16];
            stream.read_exact(&mut bytes).unwrap();
            self.waiting.insert(StreamToken(bytes), stream);
        }
    }

    /// Feeds `input`, reads both outputs to their end, and waits for the session's.
    pub(crate) fn finish(&mut self, session: u64, stdio: &Stdio, input: &[u8]) -> Outcome {
        let Stdio::Pipes {
            stdin: Some(stdin),
            stdout: Some(stdout),
            stderr: Some(stderr),
        } = stdio
        else {
            panic!("three pipes expected");
        };
        let mut stdin = self.stream(*stdin);
        let (stdout, stderr) = (self.stream(*stdout), self.stream(*stderr));
        let input = input.to_vec();
        let writer = thread::spawn(move || {
            // The process may end without having read it.
            drop(stdin.write_all(&input));
            drop(stdin.shutdown(Shutdown::Write));
        });
        let readers = [stdout, stderr].map(|mut stream| {
            thread::spawn(move || {
                let mut bytes = Vec::new();
                stream.read_to_end(&mut bytes).unwrap();
                String::from_utf8(bytes).unwrap()
            })
        });
        let [stdout, stderr] = readers.map(|reader| reader.join().unwrap());
        writer.join().unwrap();
        let (status, _) = self.exited(session);
        Outcome {
            status,
            stdout,
            stderr,
        }
    }

    /// Runs `process` in a session of its own.
    pub(crate) fn exec(&mut self, session: u64, process: &Process) -> Result<Outcome, AgentError> {
        self.ask(RequestBody::Exec {
            session,
            process: Box::new(process.clone()),
        })?;
        Ok(self.finish(session, &process.stdio, b""))
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        machine::remove(&mut self.child, self.folder.path());
    }
}

/// Runs `workload` to its end.
pub(crate) fn run(workload: &Workload) -> Outcome {
    Guest::with(workload).finish(0, &workload.process.stdio, b"")
}

/// Runs a shell script as the workload.
pub(crate) fn shell(script: &str) -> Outcome {
    run(&workload(script))
}

/// A token that no other stream has.
pub(crate) fn token() -> StreamToken {
    let number = TOKENS.fetch_add(1, Ordering::Relaxed);
    StreamToken((u128::from(number) << 64 | 0x5eed).to_le_bytes())
}

/// Three pipes.
pub(crate) fn pipes() -> Stdio {
    Stdio::Pipes {
        stdin: Some(token()),
        stdout: Some(token()),
        stderr: Some(token()),
    }
}

/// A terminal of 24 lines.
pub(crate) fn terminal() -> (Stdio, StreamToken) {
    let stream = token();
    let size = TerminalSize {
        rows: 24,
        columns: 80,
    };
    (Stdio::Terminal { stream, size }, stream)
}

/// Podman's default capabilities.
pub(crate) const DEFAULT_CAPABILITIES: u64 =
    0x8004_25fb & !(1 << 13) & !(1 << 27) & !(1 << 29) | (1 << 31);

/// A shell script as a process of root's.
pub(crate) fn process(script: &str) -> Process {
    Process {
        args: ["/bin/sh", "-c", script].map(String::from).into(),
        env: vec![
            "PATH=/usr/local/bin:/usr/bin:/bin".into(),
            "TERM=xterm".into(),
        ],
        cwd: "/".into(),
        user: User::default(),
        capabilities: Some(Capabilities {
            bounding: DEFAULT_CAPABILITIES,
            effective: DEFAULT_CAPABILITIES,
            inheritable: 0,
            permitted: DEFAULT_CAPABILITIES,
            ambient: 0,
        }),
        rlimits: Vec::new(),
        no_new_privileges: false,
        oom_score_adj: None,
        seccomp: None,
        io_priority: None,
        scheduler: None,
        personality: None,
        stdio: pipes(),
    }
}

/// A file system of the guest's.
pub(crate) fn guest_mount(kind: &str, destination: &str, data: &str, flags: MountFlags) -> Mount {
    Mount {
        destination: destination.into(),
        source: MountSource::Guest {
            kind: kind.into(),
            source: kind.into(),
            data: data.into(),
            copy_up: false,
        },
        flags,
        propagation: None,
    }
}

/// A mount of the host's.
pub(crate) fn host_mount(destination: &str, flags: MountFlags) -> Mount {
    Mount {
        destination: destination.into(),
        source: MountSource::Host {
            exported_at: destination.into(),
        },
        flags,
        propagation: None,
    }
}

/// A shell script as a workload with the mounts that Podman writes.
pub(crate) fn workload(script: &str) -> Workload {
    let plain = MountFlags::NO_SUID | MountFlags::NO_EXEC;
    let strict = plain | MountFlags::NO_DEV;
    Workload {
        hostname: Some("krun-test".into()),
        domainname: None,
        root_readonly: false,
        root_propagation: None,
        mounts: vec![
            guest_mount("proc", "/proc", "", strict),
            guest_mount(
                "tmpfs",
                "/dev",
                "mode=755,size=65536k",
                MountFlags::NO_SUID | MountFlags::STRICT_ATIME,
            ),
            guest_mount(
                "devpts",
                "/dev/pts",
                "newinstance,ptmxmode=0666,mode=0620,gid=5",
                plain,
            ),
            guest_mount("mqueue", "/dev/mqueue", "", strict),
            guest_mount("tmpfs", "/dev/shm", "mode=1777,size=65536k", strict),
            guest_mount("sysfs", "/sys", "", strict | MountFlags::READ_ONLY),
            guest_mount(
                "cgroup",
                "/sys/fs/cgroup",
                "",
                strict | MountFlags::READ_ONLY,
            ),
        ],
        devices: Vec::new(),
        disks: Vec::new(),
        gpu: None,
        masked_paths: Vec::new(),
        readonly_paths: Vec::new(),
        sysctl: Vec::new(),
        limits: Limits::default(),
        start_container_hooks: Vec::new(),
        state: r#"{"id":"test"}"#.into(),
        process: process(script),
        realtime_ns: 0,
    }
}
