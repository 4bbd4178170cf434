//! Our binaries, built by the host's Rust toolchain inside the tree, so against its libraries:
//! what is tested is what is installed.

use std::{path::PathBuf, process::Command};

use super::{BuildError, Builder, target};
use crate::{process, progress};

const GUEST_TARGET: &str = "x86_64-unknown-linux-gnu";

/// Builds the runtime, the tests and the agent.
pub(super) fn build(builder: &Builder<'_>) -> Result<(), BuildError> {
    progress::step("krun-gpu", "building");
    let mut release = cargo(builder, "build", &[])?;
    release.args([
        "--release",
        "--package=krun-gpu",
        "--package=krun-gpu-tests",
        "--package=krun-gpu-compute",
        "--package=krun-gpu-vmm",
        "--bins",
        "--example=vtest",
        "--example=vtest_inside",
    ]);
    process::run_logged(&mut release, &builder.cache.log("build"))?;
    progress::step("guest agent", "building");
    // Static, since it is alone in the initramfs. The flags hold for the named target only, so
    // build scripts and macros stay dynamic.
    let flags = [("RUSTFLAGS", "-C target-feature=+crt-static")];
    let mut agent = cargo(builder, "build", &flags)?;
    agent.args([
        "--profile=agent",
        "--package=krun-gpu-agent",
        "--target",
        GUEST_TARGET,
    ]);
    process::run_logged(&mut agent, &builder.cache.log("build-agent"))?;
    Ok(())
}

/// `cargo SUB-COMMAND` in the tree, without a network, with `environment` added.
pub(crate) fn cargo(
    builder: &Builder<'_>,
    subcommand: &str,
    environment: &[(&str, &str)],
) -> Result<Command, BuildError> {
    let sources = builder.sources;
    target::claim(&builder.target(), &sources.checkout)?;
    let tools = sources.sysroot.join("bin");
    let path = format!("{}:/usr/sbin:/usr/bin", tools.display());
    let mut command = builder
        .namespace
        .command("cargo")
        .env("PATH", path)
        .env("CARGO_HOME", &sources.cargo_home)
        .env("CARGO_TARGET_DIR", builder.target())
        .env("CARGO_NET_OFFLINE", "true")
        .directory(&sources.checkout);
    for (name, value) in environment {
        command = command.env(name, value);
    }
    Ok(command.arg(subcommand).finish())
}

/// The agent, once built.
pub(super) fn agent(builder: &Builder<'_>) -> PathBuf {
    let folder = builder.target().join(GUEST_TARGET).join("agent");
    folder.join("krun-gpu-agent")
}
