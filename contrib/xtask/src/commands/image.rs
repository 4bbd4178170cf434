//! `cargo xtask image`: the guest's kernel and initramfs.

use std::process::ExitCode;

use clap::Args;

use super::{CommandError, Workshop};

/// Build the guest image: the kernel, and the initramfs with the agent.
#[derive(Args, Debug)]
pub(super) struct Image {}

impl Image {
    pub(super) fn run(self) -> Result<ExitCode, CommandError> {
        let workshop = Workshop::open()?;
        let products = workshop.builder().build()?;
        println!("{}", products.kernel.display());
        println!("{}", products.initramfs.display());
        println!("{}", products.initramfs_gpu.display());
        Ok(ExitCode::SUCCESS)
    }
}
