//! `cargo xtask test`.

use std::process::ExitCode;

use clap::Args;

use super::{CommandError, Workshop};

/// x
#[derive(Args, Debug)]
pub(super) struct Test {}

impl Test {
    pub(super) fn run(self) -> Result<ExitCode, CommandError> {
        let _workshop = Workshop::open()?;
        Ok(ExitCode::SUCCESS)
    }
}
