//! The row of `linux.devices` and of bind mounts whose source is a device (so does rootless
//! Podman write `--device`).
//!
//! A device number means something else in the guest's kernel than in the host's. Numbers that
//! are the same everywhere are made in the guest; a device of the host's that the guest has not
//! is refused by name. A GPU's nodes are the row of [`super::gpu`], block devices that of
//! [`super::disks`]. /dev/kvm lets the guest's CPUs
//! run VMs of their own. `--privileged` asks for every device of the host at once and is recognised
//! by its rule for all devices, an ordinary user's by the walls that are gone: there, what the guest
//! has not is left out.

use std::path::Path;

use krun_gpu_protocol::{Device, DeviceKind};
use oci_spec::runtime::{Capability, Linux, LinuxDevice, LinuxDeviceType, LinuxResources, Process};

use super::SplitError;
use super::facts::{DeviceNode, Facts, Node};

/// The number of /dev/kvm.
const KVM: (u32, u32) = (10, 232);

/// Character devices of the guest's kernel, by number.
const GUEST_DEVICES: [(u32, u32); 14] = [
    (1, 1),    // mem
    (1, 3),    // null
    (1, 5),    // zero
    (1, 7),    // full
    (1, 8),    // random
    (1, 9),    // urandom
    (1, 11),   // kmsg
    (5, 0),    // tty
    (5, 1),    // console
    (5, 2),    // ptmx
    (10, 183), // hwrng
    (10, 200), // net/tun
    (10, 229), // fuse
    KVM,
];

/// A device that a container asks for.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    /// The field that asks.
    pub(super) field: String,
    /// The node to make.
    pub(super) device: Device,
    /// It is listed in `linux.devices`, and no bind mount.
    pub(super) is_listed: bool,
}

impl Wanted {
    /// Reads `linux.devices[index]`.
    pub(super) fn read(index: usize, device: &LinuxDevice) -> Result<Self, SplitError> {
        let field = format!("linux.devices[{index}]");
        let number = |name: &str, value: i64| {
            u32::try_from(value).map_err(|_| SplitError::Number {
                field: format!("{field}.{name}"),
                value,
            })
        };
        let path = super::utf8(|| format!("{field}.path"), device.path())?;
        if !device.path().is_absolute() {
            return Err(SplitError::Device {
                reason: "its path is not absolute",
                field,
                path,
            });
        }
        let kind = match device.typ() {
            LinuxDeviceType::C | LinuxDeviceType::U => DeviceKind::Character,
            LinuxDeviceType::B => DeviceKind::Block,
            LinuxDeviceType::P => DeviceKind::Fifo,
            LinuxDeviceType::A => {
                return Err(SplitError::Device {
                    reason: "type `a` is no kind of device",
                    field,
                    path,
                });
            }
        };
        Ok(Self {
            device: Device {
                path,
                kind,
                major: number("major", device.major())?,
                minor: number("minor", device.minor())?,
                mode: device.file_mode().unwrap_or(0o666) & 0o7777,
                uid: device.uid().unwrap_or(0),
                gid: device.gid().unwrap_or(0),
            },
            field,
            is_listed: true,
        })
    }

    /// A node of the host's that a mount puts at `path`.
    pub(super) fn found(field: String, path: String, node: DeviceNode) -> Self {
        Self {
            field,
            is_listed: false,
            device: Device {
                path,
                kind: node.kind,
                major: node.major,
                minor: node.minor,
                mode: node.mode,
                uid: node.uid,
                gid: node.gid,
            },
        }
    }
}

/// The nodes that the guest makes out of those that are wanted.
pub(super) fn guest_devices(
    wanted: Vec<Wanted>,
    all_allowed: bool,
    facts: &dyn Facts,
) -> Result<Vec<Device>, SplitError> {
    let mut devices = Vec::new();
    for Wanted { field, device, .. } in wanted {
        let reason = match refusal(&device, facts) {
            None => {
                devices.push(device);
                continue;
            }
            Some(reason) => reason,
        };
        if !all_allowed {
            return Err(SplitError::Device {
                reason,
                field,
                path: device.path,
            });
        }
        tracing::warn!("{field}: {} is left out: {reason}", device.path);
    }
    Ok(devices)
}

/// Why the guest cannot have this device.
fn refusal(device: &Device, facts: &dyn Facts) -> Option<&'static str> {
    let number = (device.major, device.minor);
    match device.kind {
        DeviceKind::Fifo => None,
        DeviceKind::Character if number == KVM && !facts.nests() => {
            Some("the host's KVM does not nest (parameter `nested` of kvm_amd or kvm_intel)")
        }
        DeviceKind::Character if GUEST_DEVICES.contains(&number) => None,
        DeviceKind::Block if facts.has_device(device.kind, device.major, device.minor) => Some(
            "a block device goes into the container's VM when linux.devices lists it (`--device` of \
             root's Podman), not all at once and not as a bind mount",
        ),
        kind => (facts.has_device(kind, device.major, device.minor) || is_on_host(device, facts))
            .then_some("a device of the host cannot be passed into the container's VM"),
    }
}

/// Whether this is /dev/kvm.
pub(super) fn is_kvm(device: &Device) -> bool {
    device.kind == DeviceKind::Character && (device.major, device.minor) == KVM
}

/// Whether the host has this node at the same path: then an engine took it from there. A number
/// that means nothing on the host does no harm in the guest.
fn is_on_host(device: &Device, facts: &dyn Facts) -> bool {
    matches!(facts.node(Path::new(&device.path)), Ok(Node::Device(node))
        if (node.kind, node.major, node.minor) == (device.kind, device.major, device.minor))
}

/// Whether the resources allow every device, as `--privileged` writes them.
pub(super) fn allows_all(resources: Option<&LinuxResources>) -> bool {
    let rules = resources.and_then(|resources| resources.devices().as_ref());
    rules.into_iter().flatten().any(|rule| {
        let all_kinds = matches!(rule.typ(), None | Some(LinuxDeviceType::A));
        let any = |number: Option<i64>| number.is_none_or(|number| number < 0);
        let access = rule.access().as_deref().unwrap_or("rwm");
        rule.allow()
            && all_kinds
            && any(rule.major())
            && any(rule.minor())
            && "rwm".chars().all(|letter| access.contains(letter))
    })
}

/// Whether the container is as an ordinary user's `--privileged` has it: Podman writes no rule for
/// devices there, but a bind mount of each, and leaves every other wall out.
pub(super) fn has_no_walls(linux: &Linux, process: Option<&Process>) -> bool {
    let shows_all = |paths: &Option<Vec<String>>| paths.as_ref().is_none_or(Vec::is_empty);
    let bounding = process
        .and_then(|process| process.capabilities().as_ref())
        .and_then(|capabilities| capabilities.bounding().as_ref());
    linux.seccomp().is_none()
        && shows_all(linux.masked_paths())
        && shows_all(linux.readonly_paths())
        && bounding.is_some_and(|set| {
            [
                Capability::SysAdmin,
                Capability::SysModule,
                Capability::SysRawio,
            ]
            .iter()
            .all(|capability| set.contains(capability))
        })
}

/// Whether this is one of the standard nodes, which the agent makes by itself.
pub(super) fn is_standard(path: &Path) -> bool {
    [
        "null", "zero", "full", "random", "urandom", "tty", "ptmx", "console",
    ]
    .iter()
    .any(|name| path == Path::new("/dev").join(name))
}
