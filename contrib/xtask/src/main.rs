//! `cargo xtask`: the developers' tasks. Each one does all of its own set-up, from the host's
//! packages to the guest's kernel, and says on standard error what it is doing; everything that
//! it makes is kept in a cache outside the checkout, named by the hash of its inputs.

use std::process::ExitCode;

mod build;
mod cache;
mod commands;
mod conformance;
mod host;
mod images;
mod lines;
mod machine;
mod process;
mod progress;
mod tree;
mod vm;

fn main() -> ExitCode {
    match commands::run() {
        Ok(status) => status,
        Err(error) => {
            progress::error(&error);
            ExitCode::FAILURE
        }
    }
}
