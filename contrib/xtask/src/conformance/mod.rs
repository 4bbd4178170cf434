//! opencontainers/runtime-tools' validation suite: 58 programs that call a runtime, built from
//! Debian's source package with the Go of this machine. Called by `cargo xtask test conformance`.
//!
//! `tests/conformance/` holds what builds it and what is expected of each program.

mod expected;
mod score;

use std::{fs, path::PathBuf, process::Command};

pub(crate) use expected::{Expected, ExpectedError, Row};
pub(crate) use score::{Score, Scores};

use crate::{
    build::Builder,
    cache::{CacheError, Inputs},
    host::{self, HostError},
    process::{self, ProcessError},
    progress,
};

const TITLE: &str = "conformance suite";
const NAME: &str = "conformance";

/// What the suite is built with: Go, and the libraries that Debian has as packages.
const PACKAGES: [&str; 4] = [
    "golang-go",
    "golang-github-opencontainers-runtime-tools-dev",
    "golang-github-google-uuid-dev",
    "xz-utils",
];

/// Why there is no suite.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SuiteError {
    /// The cache.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The host's packages.
    #[error(transparent)]
    Host(#[from] HostError),
    /// A script of `tests/conformance`.
    #[error(transparent)]
    Process(#[from] ProcessError),
}

/// The folder that holds the suite, out of the cache or new: `validation/NAME`, `runtimetest` and
/// the root file system that they unpack.
pub(crate) fn make(builder: &Builder<'_>) -> Result<PathBuf, SuiteError> {
    let folder = builder.sources.checkout.join("tests/conformance");
    let scripts = ["fetch.sh", "build.sh", "tap.go"].map(|name| folder.join(name));
    let mut inputs = Inputs::default();
    for script in &scripts {
        inputs = inputs.path(script)?;
    }
    let [fetch, build, tap] = scripts;
    builder.cache.entry(TITLE, NAME, &inputs.hash(), |path| {
        host::require_packages(builder.cache, &PACKAGES)?;
        progress::step(TITLE, "downloading and building");
        let source = path.join("source");
        let log = builder.cache.log(NAME);
        process::run_logged(Command::new(fetch).arg(&source), &log)?;
        let mut command = Command::new(build);
        command.arg(source.join("suite.tar.xz")).arg(tap).arg(path);
        process::run_logged(&mut command, &log)?;
        fs::remove_dir_all(&source).map_err(|error| CacheError::File {
            action: "remove",
            path: source.clone(),
            source: error,
        })?;
        Ok(())
    })
}
