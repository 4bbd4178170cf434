//! The sub-commands, one file each, and what they have in common.

mod bench;
mod demo;
mod image;
mod install;
mod test;
mod vm;
mod workshop;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
pub(crate) use workshop::{CommandError, Workshop};

/// The developers' tasks of krun-gpu.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Vm(vm::Vm),
    Image(image::Image),
    Install(install::Install),
    Test(test::Test),
    Demo(demo::Demo),
    Bench(bench::Bench),
}

/// Does what the command line says.
pub(crate) fn run() -> Result<ExitCode, CommandError> {
    match Arguments::parse().command {
        Command::Vm(vm) => vm.run(),
        Command::Image(image) => image.run(),
        Command::Install(install) => install.run(),
        Command::Test(test) => test.run(),
        Command::Demo(demo) => demo.run(),
        Command::Bench(bench) => bench.run(),
    }
}
