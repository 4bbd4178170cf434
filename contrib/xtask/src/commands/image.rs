//! `cargo xtask image`: the guest's kernel and initramfs.

use std::process::ExitCode;

use clap::Args;

use super::{CommandError, Workshop};
use crate::images;

/// Build the guest image: the kernel, and the initramfs with the agent.
#[derive(Args, Debug)]
pub(super) struct Image {
    /// Make the container images that the tests use, too.
    #[arg(long)]
    containers: bool,
}

impl Image {
    pub(super) fn run(self) -> Result<ExitCode, CommandError> {
        let workshop = Workshop::open()?;
        if self.containers {
            for image in images::all() {
                println!("{}", image.make(&workshop.builder())?.display());
            }
        }
        let products = workshop.builder().build()?;
        println!("{}", products.kernel.display());
        println!("{}", products.initramfs.display());
        println!("{}", products.initramfs_gpu.display());
        Ok(ExitCode::SUCCESS)
    }
}
