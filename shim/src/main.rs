//! `krun-gpu`: an OCI container runtime that gives every container a microVM of its own.
//!
//! Podman, conmon, buildah, containerd and people call it as they call `crun`. This file reads the
//! command line, hands over to the sub-command, and reports a failure once.

mod bundle;
mod cli;
mod commands;
mod config;
mod control;
mod descriptors;
mod disks;
mod gpu;
mod host;
mod install;
mod monitor;
mod network;
mod report;
mod sandbox;
mod split;
mod state;
mod terminal;
mod time;
mod trace;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    descriptors::close_inherited();
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no failure; a wrong command line is one, with crun's status.
            let _ = error.print();
            return ExitCode::from(u8::from(error.use_stderr()));
        }
    };
    trace::install(&cli.global);
    match commands::run(&cli) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            report::failure(&cli.global, &error);
            ExitCode::from(error.status())
        }
    }
}
