//! `cargo xtask install`: onto this machine, or into a package's folder.

use std::{
    env,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;

use super::{CommandError, Workshop};
use crate::build::{Layout, Prefix};

/// Build and install krun-gpu, and register it with Podman. DESTDIR in the environment puts all
/// files below another root, for packages.
#[derive(Args, Debug)]
pub(super) struct Install {
    /// Where programs go; with /usr and /usr/local, configuration goes to /etc.
    #[arg(long, value_name = "DIR", default_value = "/usr/local")]
    prefix: PathBuf,
}

impl Install {
    pub(super) fn run(self) -> Result<ExitCode, CommandError> {
        let workshop = Workshop::open()?;
        let products = workshop.builder().build()?;
        let destination = env::var_os("DESTDIR").map_or_else(|| PathBuf::from("/"), PathBuf::from);
        let roots = Prefix::new(Path::new(&self.prefix), &destination);
        let layout = Layout::new(&products, &workshop.sources.checkout, &roots);
        for path in layout.install()? {
            println!("{}", path.display());
        }
        Ok(ExitCode::SUCCESS)
    }
}
