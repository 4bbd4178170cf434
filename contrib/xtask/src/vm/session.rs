//! One run of the VM: its processes, the relays between its ports and our streams, and the exit
//! status that its command reports on the port `control`.

use std::{
    env, fs,
    io::{self, BufRead, BufReader, Read, Write},
    net::Shutdown,
    os::unix::{ffi::OsStrExt, net::UnixStream},
    path::Path,
    process::{Child, ExitCode, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use super::{
    Vm, VmError, qemu,
    serial::{Port, PortKind},
    terminal::{self, RawTerminal},
    write,
};
use crate::process::{self, ProcessError};

/// How the command ended, as a shell says it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Status(pub(crate) u8);

impl From<Status> for ExitCode {
    fn from(status: Status) -> Self {
        Self::from(status.0)
    }
}

/// How long tests may be silent: a processor of the emulated machine was seen to wait for ever for
/// an interrupt, and nothing in such a VM ends by itself. The test program tells of a script that takes
/// long (tests/src/harness/command.rs, `HEARTBEAT`).
const LONGEST_SILENCE: Duration = Duration::from_secs(300);

/// When the command last wrote something.
#[derive(Clone, Debug)]
struct LastWord(Arc<Mutex<Instant>>);

impl LastWord {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }

    fn spoken(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn silence(&self) -> Duration {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .elapsed()
    }

    /// Kills `qemu` once the silence is too long, in a thread that ends when the sender is dropped.
    fn watch(self, qemu: Pid) -> mpsc::Sender<()> {
        let (sender, ended) = mpsc::channel();
        thread::spawn(move || {
            while ended.recv_timeout(Duration::from_secs(5)) == Err(RecvTimeoutError::Timeout) {
                if self.silence() > LONGEST_SILENCE {
                    eprintln!("the test VM said nothing for {LONGEST_SILENCE:?}: it is killed");
                    // It may have ended this very moment; it is not reaped before we are told.
                    let _ = kill_process(qemu, Signal::KILL);
                    return;
                }
            }
        });
        sender
    }
}

/// A process that ends with us.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Where the command's output goes.
pub(crate) enum Streams {
    /// Our own streams; a terminal when we have one.
    Ours,
    /// Standard output to this, and no input.
    Collected(Box<dyn Write + Send>),
}

/// Runs `vm` to its end. Its kernel's console goes to the file `log`.
pub(super) fn run(vm: &Vm<'_>, streams: Streams, log: &Path) -> Result<Status, VmError> {
    if let Some(folder) = log.parent() {
        fs::create_dir_all(folder).map_err(|source| VmError::File {
            path: folder.to_owned(),
            source,
        })?;
    }
    let (control_port, control) = Port::new("control", PortKind::Stream)?;
    let mut lines = Lines {
        ports: Vec::new(),
        relays: Vec::new(),
        raw: None,
        last_word: LastWord::new(),
    };
    let watched = matches!(streams, Streams::Collected(_));
    match streams {
        Streams::Ours if RawTerminal::wanted() => lines.terminal(vm, &control)?,
        Streams::Ours => {
            lines.input(io::stdin())?;
            lines.output("stdout", io::stdout())?;
            lines.output("stderr", io::stderr())?;
        }
        Streams::Collected(output) => {
            lines.input(io::empty())?;
            lines.output("stdout", output)?;
            lines.output("stderr", io::stderr())?;
        }
    }
    let Lines {
        mut ports,
        relays,
        raw,
        last_word,
    } = lines;
    ports.push(control_port);
    let mut running = Vec::new();
    for file_system in &vm.file_systems {
        running.push(Running(file_system.serve(vm.namespace)?));
    }
    let mut command = qemu::command(vm, ports, log)?;
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let qemu = command.spawn().map_err(|source| ProcessError::Run {
        program: process::name(&command),
        source,
    })?;
    let mut qemu = Running(qemu);
    // Our copies of QEMU's ends, so that the streams end when QEMU does.
    drop(command);
    let pid = i32::try_from(qemu.0.id()).ok().and_then(Pid::from_raw);
    let watch = pid.filter(|_| watched).map(|pid| last_word.watch(pid));
    let status = exit_status(BufReader::new(control));
    drop(watch);
    // The machine is off once its command has reported, and all that was written is in our
    // sockets.
    let ended = qemu.0.wait();
    for relay in relays {
        // A relay that panicked has said so.
        let _ = relay.join();
    }
    drop(raw);
    status.map(Status).ok_or_else(|| VmError::Died {
        qemu: ended.map_or_else(|error| error.to_string(), |ended| ended.to_string()),
        console: process::tail(log, 40),
    })
}

/// The ports that carry the command's streams, and what we do with our ends.
#[derive(Debug)]
struct Lines {
    ports: Vec<Port>,
    relays: Vec<thread::JoinHandle<()>>,
    raw: Option<RawTerminal>,
    last_word: LastWord,
}

impl Lines {
    fn terminal(&mut self, vm: &Vm<'_>, control: &UnixStream) -> Result<(), VmError> {
        let kind = env::var_os("TERM").unwrap_or_else(|| "linux".into());
        write(&vm.run_file("terminal"), kind.as_bytes())?;
        let stream = self.port("terminal", PortKind::Terminal)?;
        self.raw = Some(RawTerminal::new()?);
        send(io::stdin(), clone(&stream)?);
        let last_word = self.last_word.clone();
        self.relays.push(receive(stream, io::stdout(), last_word));
        let control = clone(control)?;
        thread::spawn(move || terminal::report_size(control));
        Ok(())
    }

    fn input(&mut self, input: impl Read + Send + 'static) -> Result<(), VmError> {
        send(input, self.port("stdin", PortKind::Stream)?);
        Ok(())
    }

    fn output(
        &mut self,
        name: &'static str,
        output: impl Write + Send + 'static,
    ) -> Result<(), VmError> {
        let stream = self.port(name, PortKind::Stream)?;
        let last_word = self.last_word.clone();
        self.relays.push(receive(stream, output, last_word));
        Ok(())
    }

    fn port(&mut self, name: &'static str, kind: PortKind) -> Result<UnixStream, VmError> {
        let (port, stream) = Port::new(name, kind)?;
        self.ports.push(port);
        Ok(stream)
    }
}

/// The number in the line `exit N`; `None` when the port ends without one.
fn exit_status(control: impl BufRead) -> Option<u8> {
    control
        .lines()
        .map_while(Result::ok)
        .find_map(|line| line.trim().strip_prefix("exit ")?.parse().ok())
}

/// Sends what comes from `input` to the guest, in a thread that ends with the process. The
/// socket stays open after the end of the input: QEMU would drop what it has not read yet.
fn send(mut input: impl Read + Send + 'static, mut stream: UnixStream) {
    thread::spawn(move || {
        // Either side may be gone; then there is nobody to send for.
        let _ = io::copy(&mut input, &mut stream);
        let _ = stream.shutdown(Shutdown::Write);
        loop {
            thread::park();
        }
    });
}

/// Writes what comes from the guest to `output`, until the port ends.
fn receive(
    mut stream: UnixStream,
    mut output: impl Write + Send + 'static,
    last_word: LastWord,
) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(length @ 1..) = stream.read(&mut buffer) {
            last_word.spoken();
            let written = output
                .write_all(&buffer[..length])
                .and_then(|()| output.flush());
            if written.is_err() {
                // Nobody reads any more. The guest's writes end in nothing from here on.
                return;
            }
        }
    })
}

fn clone(stream: &UnixStream) -> Result<UnixStream, VmError> {
    stream
        .try_clone()
        .map_err(|error| VmError::Stream("copy a port's descriptor", error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_is_the_number_after_exit() {
        assert_eq!(exit_status(&b"exit 42\n"[..]), Some(42));
        assert_eq!(exit_status(&b"noise\r\nexit 0\r\n"[..]), Some(0));
        assert_eq!(exit_status(&b""[..]), None);
        assert_eq!(exit_status(&b"exit soon\n"[..]), None);
    }
}
