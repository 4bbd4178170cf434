//! `cargo xtask demo`.

use std::process::ExitCode;

use clap::Args;

use super::{CommandError, Workshop};

/// x
#[derive(Args, Debug)]
pub(super) struct Demo {}

impl Demo {
    pub(super) fn run(self) -> Result<ExitCode, CommandError> {
        let _workshop = Workshop::open()?;
        Ok(ExitCode::SUCCESS)
    }
}
