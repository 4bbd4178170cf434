//! `check`: can this machine run krun-gpu, and if not, why and what to do.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use clap::Args;
use krun_gpu_vmm::devices::gpu::virgl::{Library, find_opengl};
use serde::Serialize;

use crate::config::{self, Config, GpuPolicy};
use crate::gpu::probe::Probe;
use crate::gpu::{self, Choice, GpuError, render_server};
use crate::host::{self, Cgroups};
use crate::install;
use crate::network;
use crate::report;

/// Options of `check`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// How an item stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    /// Good.
    Ok,
    /// Containers run without it.
    Missing,
    /// No container runs without it.
    Failed,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Item {
    name: &'static str,
    verdict: Verdict,
    /// What was found, or what is wrong and what to do.
    detail: String,
}

impl Item {
    fn new(name: &'static str, bad: Verdict, found: Result<String, String>) -> Self {
        let (verdict, detail) = match found {
            Ok(detail) => (Verdict::Ok, detail),
            Err(detail) => (bad, detail),
        };
        Self {
            name,
            verdict,
            detail,
        }
    }
}

/// Runs the command: status 0 if containers can run here.
pub(crate) fn run(options: &Options) -> io::Result<u8> {
    let items = look();
    let failed = items.iter().any(|item| item.verdict == Verdict::Failed);
    let mut output = io::stdout().lock();
    if options.json {
        let report = serde_json::json!({"ok": !failed, "items": items});
        serde_json::to_writer_pretty(&mut output, &report)?;
        writeln!(output)?;
        return Ok(u8::from(failed));
    }
    for Item {
        name,
        verdict,
        detail,
    } in &items
    {
        let mark = match verdict {
            Verdict::Ok => "ok",
            Verdict::Missing => "missing",
            Verdict::Failed => "FAILED",
        };
        writeln!(output, "{mark:<8} {name}: {detail}")?;
    }
    let summary = if failed {
        "This machine cannot run krun-gpu containers yet."
    } else {
        "This machine can run krun-gpu containers."
    };
    writeln!(output, "{summary}")?;
    Ok(u8::from(failed))
}

fn look() -> Vec<Item> {
    let config = Config::load(Path::new(config::PATH));
    let policy = config
        .as_ref()
        .map(|config| config.gpu.clone())
        .unwrap_or_default();
    let wants_vhost = config.as_ref().is_ok_and(|config| config.vhost_net);
    let paths = |with_gpu| match &config {
        Ok(config) => install::paths(config, with_gpu),
        Err(_) => install::paths(&Config::default(), with_gpu),
    };
    let (kernel, initramfs) = paths(false);
    let (_, gpu_initramfs) = paths(true);
    let mut items = vec![
        Item::new(
            "configuration",
            Verdict::Failed,
            config
                .map(|_| format!("{} is absent or valid", config::PATH))
                .map_err(|error| report::chain(&error)),
        ),
        Item::new("KVM", Verdict::Failed, kvm()),
        Item::new("guest kernel", Verdict::Failed, file(&kernel)),
        Item::new("guest initramfs", Verdict::Failed, file(&initramfs)),
        Item::new("cgroups", Verdict::Failed, cgroups()),
        Item::new("user namespaces", Verdict::Missing, user_namespaces()),
        Item::new("network", Verdict::Missing, tun()),
        Item::new(
            "network: vhost-net",
            Verdict::Missing,
            vhost_net(wants_vhost),
        ),
        Item::new("network: passt", Verdict::Missing, passt()),
    ];
    gpu::use_driver_files(&policy);
    items.push(Item::new(
        "GPU: guest initramfs",
        Verdict::Missing,
        file(&gpu_initramfs),
    ));
    items.extend(gpu_items(&policy));
    items
}

/// Opens the device and lets it run a few instructions: some machines have one that cannot run
/// an ordinary kernel.
fn kvm() -> Result<String, String> {
    let device = install::KVM;
    let kvm = install::open_kvm(Path::new(device)).map_err(|error| report::chain(&error))?;
    match krun_gpu_vmm::probe(&kvm) {
        Ok(()) => Ok(format!("{device} runs a guest")),
        Err(error) => Err(format!(
            "{device} is there but cannot run an ordinary kernel ({}); if this machine is a VM, \
             its host must give it hardware-assisted nested virtualization",
            report::chain(&error)
        )),
    }
}

fn file(path: &Path) -> Result<String, String> {
    match File::open(path) {
        Ok(_) => Ok(path.display().to_string()),
        Err(error) => Err(format!(
            "{}: {}; `cargo xtask install` puts it there",
            path.display(),
            report::io_words(&error)
        )),
    }
}

fn cgroups() -> Result<String, String> {
    match host::cgroups() {
        Cgroups::V2 => Ok("version 2 at /sys/fs/cgroup".to_owned()),
        Cgroups::V1 => {
            Ok("version 1 at /sys/fs/cgroup, with --cgroup-manager=cgroupfs alone".to_owned())
        }
        Cgroups::Absent => Err("none at /sys/fs/cgroup: mount cgroup v2 there".to_owned()),
    }
}

/// Containers with `--network none` run without it.
fn tun() -> Result<String, String> {
    let device = network::TUN;
    match File::options().read(true).write(true).open(device) {
        Ok(_) => Ok(format!("{device} makes taps")),
        Err(error) => Err(format!(
            "{device}: {}; `modprobe tun` loads its driver, and its mode should be 0666",
            report::io_words(&error)
        )),
    }
}

/// Without it a thread of the VMM moves frames.
fn vhost_net(wanted: bool) -> Result<String, String> {
    let device = network::VHOST;
    match network::open_vhost() {
        Ok(_) if wanted => Ok(format!("{device} moves frames in the host's kernel")),
        Ok(_) => Ok(format!(
            "a thread of the VMM moves frames: {} says vhost_net = false",
            config::PATH
        )),
        Err(error) => Err(format!(
            "{device}: {}; a thread of the VMM moves frames instead. `modprobe vhost_net` loads its \
             driver; an ordinary user needs a place in its group",
            report::io_words(&error)
        )),
    }
}

/// Containers with a network of their own run without it.
fn passt() -> Result<String, String> {
    match network::find_passt() {
        Ok(path) => Ok(format!(
            "{} serves containers that share a network",
            path.display()
        )),
        Err(error) => Err(report::chain(&error)),
    }
}

fn user_namespaces() -> Result<String, String> {
    let number = |path: &str| {
        fs::read_to_string(path)
            .ok()
            .and_then(|text| text.trim().parse::<u64>().ok())
    };
    match number("/proc/sys/user/max_user_namespaces") {
        None => return Err("this kernel has none: rootless Podman will not work".to_owned()),
        Some(0) => {
            return Err("none are allowed: `sysctl user.max_user_namespaces=15000`".to_owned());
        }
        Some(_) => {}
    }
    if number("/proc/sys/kernel/unprivileged_userns_clone") == Some(0) {
        return Err(
            "ordinary users may make none: `sysctl kernel.unprivileged_userns_clone=1`".to_owned(),
        );
    }
    Ok("ordinary users may make them".to_owned())
}

/// What a container that asks for a GPU would get. Others never look for any of it.
fn gpu_items(policy: &GpuPolicy) -> Vec<Item> {
    let detail = |error: &dyn std::error::Error| report::chain(error);
    let library = Library::load().map_err(GpuError::Library);
    let server = render_server::find(policy);
    let probed = Probe::begin_anew()
        .and_then(Probe::finish)
        .map_err(GpuError::from);
    let choice = probed.and_then(Choice::new);
    let items = vec![
        Item::new(
            "GPU: virglrenderer",
            Verdict::Missing,
            library
                .as_ref()
                .map(|_| "it is installed, and new enough".to_owned())
                .map_err(|error| detail(error)),
        ),
        Item::new(
            "GPU: render server",
            Verdict::Missing,
            server
                .map(|path| path.display().to_string())
                .map_err(|error| detail(&error)),
        ),
    ];
    let served = choice.and_then(|choice| {
        if let Ok(library) = &library {
            choice.check_library(library)?;
        }
        Ok(choice)
    });
    let host = match served {
        Ok(choice) if choice.software => Ok(format!(
            "{}; a rasteriser on the processors serves containers (Venus), since this host has no \
             Vulkan driver of a GPU",
            choice.describe()
        )),
        Ok(choice) => Ok(format!("{} serves containers (Venus)", choice.describe())),
        Err(error) => Err(detail(&error)),
    };
    items
        .into_iter()
        .chain([
            Item::new("GPU: Landlock", Verdict::Missing, landlock()),
            Item::new("GPU: host", Verdict::Missing, host),
            Item::new("GPU: OpenGL", Verdict::Missing, opengl(policy)),
        ])
        .collect()
}

/// Containers have it by zink on Venus without this.
fn opengl(policy: &GpuPolicy) -> Result<String, String> {
    if !policy.virgl {
        return Ok(format!(
            "through Vulkan alone (zink): virgl is not allowed by {}",
            config::PATH
        ));
    }
    find_opengl()
        .map(|()| "virgl, for containers with io.krun-gpu.virgl=true".to_owned())
        .map_err(|error| report::chain(&GpuError::Library(error)))
}

/// Without it the render server, which a guest may take over, can read what its user can.
fn landlock() -> Result<String, String> {
    if render_server::has_landlock() {
        return Ok("the render server sees drivers and devices alone".to_owned());
    }
    Err(
        "the kernel has it not turned on, so the render server may read its user's files: boot \
         with `lsm=landlock,...`"
            .to_owned(),
    )
}
