//! `cargo xtask bench`.

use std::process::ExitCode;

use clap::Args;

use super::{CommandError, Workshop};

/// x
#[derive(Args, Debug)]
pub(super) struct Bench {}

impl Bench {
    pub(super) fn run(self) -> Result<ExitCode, CommandError> {
        let _workshop = Workshop::open()?;
        Ok(ExitCode::SUCCESS)
    }
}
