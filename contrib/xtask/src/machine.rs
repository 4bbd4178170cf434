//! Where the integration tests and the demo run: in the test VM, or in the tree on this machine's
//! own kernel when its /dev/kvm runs an ordinary kernel.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::Stdio,
};

use crate::{
    build::Products,
    commands::{CommandError, Workshop},
    process::{self, ProcessError},
    progress,
    vm::{self, Status, Streams, VmOptions},
};

/// What `krun-gpu check` must find good on a machine that is used directly.
const NEEDED: [&str; 2] = ["KVM", "cgroups"];

/// What to run.
pub(crate) struct Job {
    /// The command and its arguments.
    pub(crate) command: Vec<OsString>,
    /// Processors, if it is a VM.
    pub(crate) cpus: u8,
    /// Folders of this machine to show at their own names, if it is a VM.
    pub(crate) shares: Vec<PathBuf>,
    /// Where its output goes.
    pub(crate) streams: Streams,
}

/// Where to run it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Machine {
    /// The test VM.
    Vm,
    /// This machine.
    Direct,
}

impl Machine {
    /// This machine if the runtime's own probe says that it will do, unless `force_vm`.
    pub(crate) fn choose(
        workshop: &Workshop,
        products: &Products,
        force_vm: bool,
    ) -> Result<Self, CommandError> {
        if force_vm {
            return Ok(Self::Vm);
        }
        let detail = match probe(workshop, products)? {
            Ok(detail) => {
                progress::step(
                    "this machine",
                    format!("{detail}; using this machine directly"),
                );
                return Ok(Self::Direct);
            }
            Err(detail) => detail,
        };
        progress::step("this machine", format!("{detail}; using the test VM"));
        Ok(Self::Vm)
    }

    /// Runs `job` with `stage` installed.
    pub(crate) fn run(
        self,
        workshop: &Workshop,
        stage: &Path,
        job: Job,
    ) -> Result<Status, CommandError> {
        match self {
            Self::Vm => {
                progress::step("test VM", "booting");
                let options = VmOptions {
                    cpus: job.cpus,
                    shares: job.shares,
                    ..VmOptions::new(job.command)
                };
                workshop.vm(stage, options, job.streams)
            }
            Self::Direct => direct(workshop, stage, job),
        }
    }
}

/// What `krun-gpu check` says about [`NEEDED`]: what is right with it, or what is wrong.
fn probe(workshop: &Workshop, products: &Products) -> Result<Result<String, String>, CommandError> {
    let mut command = workshop
        .namespace
        .command(&products.runtime.to_string_lossy())
        .args(["check", "--json"])
        .finish();
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|source| ProcessError::Run {
            program: process::name(&command),
            source,
        })?;
    let report: serde_json::Value =
        serde_json::from_slice(&output.stdout).map_err(CommandError::Check)?;
    let mut good = Vec::new();
    for name in NEEDED {
        let item = report["items"]
            .as_array()
            .and_then(|items| items.iter().find(|item| item["name"] == name))
            .ok_or(CommandError::CheckWithout(name))?;
        let detail = item["detail"].as_str().unwrap_or_default().to_owned();
        if item["verdict"] != "ok" {
            return Ok(Err(detail));
        }
        good.push(detail);
    }
    Ok(Ok(good.join(", ")))
}

/// Runs `job` in the tree on this machine's kernel, in namespaces that end with it.
fn direct(workshop: &Workshop, stage: &Path, job: Job) -> Result<Status, CommandError> {
    vm::show_root(&workshop.namespace, &workshop.sources.checkout, stage)?;
    let mut command = workshop
        .namespace
        .command("unshare")
        .args([
            "--mount",
            "--pid",
            "--net",
            "--uts",
            "--ipc",
            "--fork",
            "--kill-child",
        ])
        .args(["--", "/mnt/root/srv/direct"])
        .args(&job.command)
        .finish();
    let program = process::name(&command);
    let failed = |source| ProcessError::Run {
        program: program.clone(),
        source,
    };
    let status = match job.streams {
        Streams::Ours => command.status().map_err(failed)?,
        Streams::Collected(mut output) => {
            let mut child = command
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .spawn()
                .map_err(failed)?;
            if let Some(mut stdout) = child.stdout.take() {
                std::io::copy(&mut stdout, &mut output).map_err(failed)?;
            }
            child.wait().map_err(failed)?
        }
    };
    // unshare ends as its child did; by a signal only if it was itself killed.
    Ok(Status(
        status
            .code()
            .and_then(|code| u8::try_from(code).ok())
            .unwrap_or(255),
    ))
}
