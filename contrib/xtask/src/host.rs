//! The machine that xtask runs on: who we are, the Rust toolchain that runs us, the checkout, and
//! the one Debian package that everything else grows from.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    cache::Cache,
    process::{self, ProcessError},
    progress,
};

/// Why this machine cannot do the task.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HostError {
    /// Not root.
    #[error(
        "this task mounts file systems and changes roots, which takes root; \
         you are user {uid} (try: sudo -E env PATH=\"$PATH\" cargo xtask ...)"
    )]
    NotRoot { uid: u32 },
    /// A variable that `cargo run` sets is not there.
    #[error("{0} is not set; run this as `cargo xtask`")]
    NotUnderCargo(&'static str),
    /// The toolchain is a part of the host's /usr, so it cannot be shown inside another Debian.
    #[error("the Rust toolchain at {0} is a distribution's; install one with rustup")]
    Toolchain(PathBuf),
    /// A path cannot be resolved.
    #[error("resolve {path}")]
    Resolve {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// A program failed.
    #[error(transparent)]
    Process(#[from] ProcessError),
}

/// Fails unless we are root.
pub(crate) fn require_root() -> Result<(), HostError> {
    let uid = rustix::process::geteuid();
    if uid.is_root() {
        return Ok(());
    }
    Err(HostError::NotRoot { uid: uid.as_raw() })
}

/// The checkout and the toolchain, as cargo told us.
#[derive(Clone, Debug)]
pub(crate) struct Sources {
    /// The workspace's root.
    pub(crate) checkout: PathBuf,
    /// The toolchain's root; `bin/cargo` is in it.
    pub(crate) sysroot: PathBuf,
    /// Where cargo keeps the crates' sources.
    pub(crate) cargo_home: PathBuf,
}

impl Sources {
    /// Finds them by the environment that `cargo run` sets.
    pub(crate) fn find() -> Result<Self, HostError> {
        let manifest = variable("CARGO_MANIFEST_DIR")?;
        let checkout = resolve(&manifest.join("../.."))?;
        let cargo = resolve(&variable("CARGO")?)?;
        let sysroot = cargo.ancestors().nth(2).unwrap_or(&cargo).to_owned();
        if !sysroot.join("lib/rustlib").is_dir() || sysroot.starts_with("/usr") {
            return Err(HostError::Toolchain(sysroot));
        }
        let cargo_home = match env::var_os("CARGO_HOME") {
            Some(path) => PathBuf::from(path),
            None => variable("HOME")?.join(".cargo"),
        };
        Ok(Self {
            checkout,
            sysroot,
            cargo_home: resolve(&cargo_home)?,
        })
    }

    /// Downloads the crates that the workspace needs, so that builds can go on without a network.
    pub(crate) fn fetch(&self, cache: &Cache) -> Result<(), HostError> {
        let mut fetch = Command::new(self.sysroot.join("bin/cargo"));
        fetch
            .args(["fetch", "--target", "x86_64-unknown-linux-gnu"])
            .current_dir(&self.checkout);
        process::run_logged(&mut fetch, &cache.log("fetch"))?;
        Ok(())
    }
}

/// Installs mmdebstrap unless it is there, and with it the newest keys of Debian's archive.
pub(crate) fn require_mmdebstrap(cache: &Cache) -> Result<(), HostError> {
    if fs::metadata("/usr/bin/mmdebstrap").is_ok() {
        return Ok(());
    }
    install(cache, &["mmdebstrap", "debian-archive-keyring"])
}

/// Installs these packages of Debian's unless all of them are there.
pub(crate) fn require_packages(cache: &Cache, packages: &[&str]) -> Result<(), HostError> {
    let log = cache.log("dpkg");
    let mut query = Command::new("dpkg-query");
    query.args(["--show"]).args(packages);
    match process::run_logged(&mut query, &log) {
        Ok(()) => Ok(()),
        Err(ProcessError::Failed { .. }) => install(cache, packages),
        Err(error) => Err(error.into()),
    }
}

fn install(cache: &Cache, packages: &[&str]) -> Result<(), HostError> {
    progress::step(
        "host packages",
        format!("installing {}", packages.join(", ")),
    );
    let log = cache.log("apt");
    process::run_logged(Command::new("apt-get").arg("update"), &log)?;
    let mut install = Command::new("apt-get");
    install
        .args(["install", "--yes", "--no-install-recommends"])
        .args(packages)
        .env("DEBIAN_FRONTEND", "noninteractive");
    process::run_logged(&mut install, &log)?;
    Ok(())
}

fn variable(name: &'static str) -> Result<PathBuf, HostError> {
    env::var_os(name)
        .map(PathBuf::from)
        .ok_or(HostError::NotUnderCargo(name))
}

fn resolve(path: &Path) -> Result<PathBuf, HostError> {
    path.canonicalize().map_err(|source| HostError::Resolve {
        path: path.to_owned(),
        source,
    })
}
