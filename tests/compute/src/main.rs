//! A Vulkan compute program: it checks the first device that the Vulkan loader names, or measures
//! it. The integration tests run it in containers, and natively for comparison.
//!
//! Every sub-command prints the device first and ends with status 1 when a result is wrong.

mod bench;
mod check;
mod endless;
mod error;
mod gpu;
mod memory;
mod submits;

use std::{error::Error as _, process::ExitCode};

use clap::{Parser, Subcommand};
use error::Error;
use gpu::Gpu;

/// Check or measure a Vulkan device's compute queue.
#[derive(Debug, Parser)]
#[command(name = "krun-gpu-compute")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Copy, Debug, Subcommand)]
enum Command {
    /// A dispatch whose every element is verified, and timeline semaphores.
    Check,
    /// Submit a kernel that counts, and verify the count.
    Submits {
        /// How often.
        #[arg(default_value_t = 1000)]
        times: u32,
    },
    /// Allocate, fill, verify and free memory, 64 MiB at a time.
    Blobs {
        /// MiB in all.
        #[arg(default_value_t = 2048)]
        mebibytes: usize,
    },
    /// Dispatch for ever.
    DispatchForever,
    /// Print medians in microseconds, one `name value` to a line.
    Bench,
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprint!("krun-gpu-compute: {error}");
            let mut source = error.source();
            while let Some(cause) = source {
                eprint!(": {cause}");
                source = cause.source();
            }
            eprintln!();
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<(), Error> {
    let gpu = Gpu::open()?;
    println!("device {gpu}");
    match command {
        Command::Check => check::run(&gpu),
        Command::Submits { times } => submits::run(&gpu, times),
        Command::Blobs { mebibytes } => memory::run(&gpu, mebibytes),
        Command::DispatchForever => endless::run(&gpu),
        Command::Bench => bench::run(&gpu),
    }
}
