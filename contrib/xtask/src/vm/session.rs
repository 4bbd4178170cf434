//! One run of the VM: its processes, the relays between its ports and our streams, and the exit
//! status that its command reports on the port `control`.

use std::{
    fs,
    io::{self, BufRead, BufReader, Read, Write},
    net::Shutdown,
    os::unix::net::UnixStream,
    path::Path,
    process::{Child, ExitCode, Stdio},
    thread,
};

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

/// A process that ends with us.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs `vm` to its end. Its kernel's console goes to the file `log`.
pub(super) fn run(vm: &Vm<'_>, log: &Path) -> Result<Status, VmError> {
    if let Some(folder) = log.parent() {
        fs::create_dir_all(folder).map_err(|source| VmError::File {
            path: folder.to_owned(),
            source,
        })?;
    }
    let is_terminal = RawTerminal::wanted();
    if is_terminal {
        write(&vm.run_file("terminal"), b"")?;
    }
    let (control_port, control) = Port::new("control", PortKind::Stream)?;
    let mut ports = Vec::new();
    let mut relays = Vec::new();
    let mut raw = None;
    if is_terminal {
        let (port, stream) = Port::new("terminal", PortKind::Terminal)?;
        ports.push(port);
        raw = Some(RawTerminal::new()?);
        send(io::stdin(), clone(&stream)?);
        relays.push(receive(stream, io::stdout()));
        let control = clone(&control)?;
        thread::spawn(move || terminal::report_size(control));
    } else {
        let (port, stdin) = Port::new("stdin", PortKind::Stream)?;
        ports.push(port);
        send(io::stdin(), stdin);
        let (port, stream) = Port::new("stdout", PortKind::Stream)?;
        ports.push(port);
        relays.push(receive(stream, io::stdout()));
        let (port, stream) = Port::new("stderr", PortKind::Stream)?;
        ports.push(port);
        relays.push(receive(stream, io::stderr()));
    }
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
    let status = exit_status(BufReader::new(control));
    // The machine is off once its command has reported, and all that was written is in our
    // sockets.
    let _ = qemu.0.wait();
    for relay in relays {
        // A relay that panicked has said so.
        let _ = relay.join();
    }
    drop(raw);
    status.map(Status).ok_or_else(|| VmError::Died {
        console: process::tail(log, 40),
    })
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
) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(length @ 1..) = stream.read(&mut buffer) {
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
