//! The GPU's rows: who asks for one, who may use its nodes in the guest, and its sizes.
//!
//! Three ways lead here: DRM nodes among `linux.devices` (rootful Podman, and our CDI device),
//! bind mounts at or below /dev/dri (rootless Podman), and the annotation `io.krun-gpu.gpu`. No
//! node of the host's goes into the container: the guest's virtio-gpu has its own, which get the
//! owner, group and mode of those that were asked for.

use std::path::PathBuf;

use krun_gpu_protocol::{Device, DeviceKind, Gpu as GuestGpu, GpuAccess, GpuDriver};

use super::SplitError;
use super::annotations::{Annotations, bad};
use super::devices::Wanted;
use super::facts::Facts;
use crate::config::Config;

/// Major number of DRM nodes.
const DRM: u32 = 226;

/// Minor numbers of primary nodes (`card0`) and of render nodes (`renderD128`).
const CARDS: std::ops::Range<u32> = 0..64;
const RENDERS: std::ops::Range<u32> = 128..192;

/// Nodes that nobody described: the VM is the container's own, so all of its users may use them.
const OPEN: GpuAccess = GpuAccess {
    mode: 0o666,
    uid: 0,
    gid: 0,
};

/// The window's sizes in bytes: address space, of which no memory is taken.
const LEAST_WINDOW: u64 = 64 << 20;
const MOST_WINDOW: u64 = 1 << 40;

/// The window is this large without a wish, when the host has less memory or more of it.
const DEFAULT_WINDOW: std::ops::RangeInclusive<u64> = 8 << 30..=64 << 30;

/// What the render server and the host's Vulkan driver need beside the guest's blobs, in bytes.
const SERVER_OVERHEAD: u64 = 512 << 20;

/// The values of an annotation that is on or off.
const YES_OR_NO: [(&str, bool); 4] = [("true", true), ("1", true), ("false", false), ("0", false)];
const NEITHER: &str = "its value must be `true` or `false`";

/// A virtio-gpu of the VM, as the host sees it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Gpu {
    /// Bytes of the window through which the guest sees host memory, a power of two.
    pub(crate) window: u64,
    /// Bytes of host memory that the guest may hold.
    pub(crate) memory: u64,
    /// OpenGL is asked for, and allowed.
    pub(crate) virgl: bool,
    /// The host's nodes that were asked for; those that exist must be open to us.
    pub(crate) nodes: Vec<PathBuf>,
}

impl Gpu {
    /// Host memory that comes with the GPU, in bytes: what the VM's cgroup is widened by.
    pub(super) fn overhead(&self) -> u64 {
        self.memory.saturating_add(SERVER_OVERHEAD)
    }
}

/// Whether a device is a node of a GPU's.
pub(super) fn is_node(device: &Device) -> bool {
    device.kind == DeviceKind::Character && device.major == DRM
}

/// Both halves of the GPU that a container with these `nodes` asks for. `all_devices`: the nodes
/// are there because all of the host's are.
pub(super) fn split(
    annotations: Annotations<'_>,
    config: &Config,
    nodes: &[Wanted],
    all_devices: bool,
    memory_limit: Option<u64>,
    facts: &dyn Facts,
) -> Result<Option<(Gpu, GuestGpu)>, SplitError> {
    let wish = annotations.word("io.krun-gpu.gpu", &YES_OR_NO, NEITHER)?;
    let driver = annotations.word(
        "io.krun-gpu.driver",
        &[
            ("image", GpuDriver::Image),
            ("bundled", GpuDriver::Bundled),
            ("none", GpuDriver::None),
        ],
        "its value must be `image`, `bundled` or `none`",
    )?;
    let virgl = virgl(annotations, config)?;
    let window = window(annotations, config, facts)?;
    let memory = annotations
        .number(&["io.krun-gpu.gpu-memory"])?
        .or(config.gpu.memory_mib)
        .map(|mebibytes| mebibytes.saturating_mul(1 << 20));
    if wish.is_none() && all_devices && !nodes.is_empty() {
        tracing::warn!(
            "a privileged container gets no GPU by itself: add --annotation io.krun-gpu.gpu=true"
        );
        return Ok(None);
    }
    if !wish.unwrap_or(!nodes.is_empty()) {
        return Ok(None);
    }
    let access = |minors: &std::ops::Range<u32>| {
        let mut found = nodes
            .iter()
            .map(|wanted| &wanted.device)
            .filter(|device| minors.contains(&device.minor))
            .map(|device| GpuAccess {
                mode: device.mode,
                uid: device.uid,
                gid: device.gid,
            });
        if nodes.is_empty() {
            Some(OPEN)
        } else {
            found.next()
        }
    };
    let guest = GuestGpu {
        card: access(&CARDS),
        render: access(&RENDERS),
        driver: driver.unwrap_or_default(),
    };
    let host = Gpu {
        window,
        // What the container may use at all it may use on the GPU.
        memory: memory
            .or(memory_limit)
            .or_else(|| facts.memory())
            .unwrap_or(window),
        virgl,
        nodes: nodes.iter().filter_map(host_node).collect(),
    };
    Ok(Some((host, guest)))
}

/// Whether OpenGL is to be served as well.
fn virgl(annotations: Annotations<'_>, config: &Config) -> Result<bool, SplitError> {
    const NAME: &str = "io.krun-gpu.virgl";
    let wish = annotations.word(NAME, &YES_OR_NO, NEITHER)?;
    if wish == Some(true) && !config.gpu.virgl {
        return Err(bad(
            NAME,
            "true",
            "the host does not allow OpenGL to be drawn in the VMM's process: `virgl = true` in \
             the section [gpu] of /etc/krun-gpu/config.toml does",
        ));
    }
    Ok(wish.unwrap_or(false))
}

/// Where the host has the node with this number.
fn host_node(wanted: &Wanted) -> Option<PathBuf> {
    let minor = wanted.device.minor;
    if CARDS.contains(&minor) {
        Some(format!("/dev/dri/card{minor}").into())
    } else if RENDERS.contains(&minor) {
        Some(format!("/dev/dri/renderD{minor}").into())
    } else {
        None
    }
}

fn window(
    annotations: Annotations<'_>,
    config: &Config,
    facts: &dyn Facts,
) -> Result<u64, SplitError> {
    const NAME: &str = "io.krun-gpu.gpu-window";
    let wish = annotations.number(&[NAME])?.or(config.gpu.window_mib);
    let Some(mebibytes) = wish else {
        let host = facts.memory().unwrap_or(0);
        let size = host.checked_next_power_of_two().unwrap_or(u64::MAX);
        return Ok(size.clamp(*DEFAULT_WINDOW.start(), *DEFAULT_WINDOW.end()));
    };
    let bytes = mebibytes.saturating_mul(1 << 20);
    if !bytes.is_power_of_two() || !(LEAST_WINDOW..=MOST_WINDOW).contains(&bytes) {
        return Err(bad(
            NAME,
            &mebibytes.to_string(),
            "its value must be a power of two from 64 to 1048576 (MiB)",
        ));
    }
    Ok(bytes)
}
