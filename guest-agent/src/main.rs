//! `/init` of the guest.
//!
//! Started by the kernel as PID 1. Whatever happens ends in a reboot, which ends the VM; what
//! went wrong is on the console, whose last lines the host reports.

use std::process::ExitCode;

use krun_gpu_agent::boot::{self, BootError};
use krun_gpu_agent::{Agent, AgentFault, Transport, chain};
use krun_gpu_protocol::HOST_CID;

#[derive(Debug, thiserror::Error)]
enum InitError {
    #[error("boot the guest")]
    Boot(#[from] BootError),
    #[error("run the guest")]
    Run(#[from] AgentFault),
}

fn main() -> ExitCode {
    let uptime = boot::uptime_us();
    // Started by mistake on a host, it must not reboot that.
    if !rustix::process::getpid().is_init() {
        eprintln!("krun-gpu-agent: runs as PID 1 of a guest only");
        return ExitCode::FAILURE;
    }
    if let Err(error) = run(uptime) {
        eprintln!("krun-gpu-agent: {}", chain(&error));
    }
    let error = boot::reboot();
    eprintln!("krun-gpu-agent: reboot: {}", chain(&error));
    ExitCode::FAILURE
}

fn run(uptime_us: u64) -> Result<(), InitError> {
    let transport = Transport::Vsock { cid: HOST_CID };
    // The host prepares its requests while the guest mounts its file systems.
    let control = boot::hello(&transport, uptime_us)?;
    let surroundings = boot::surroundings()?;
    Ok(Agent::new(transport, control, surroundings)?.run()?)
}
