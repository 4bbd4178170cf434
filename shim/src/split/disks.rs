//! The row of block devices in `linux.devices`: each is a disk of the VM's (virtio-blk), with a
//! node in the container at the path, with the mode and owner that the specification gives.
//!
//! Which device it is the number says; what the container may do to it, the last rule of
//! `linux.resources.devices` that matches, as under cgroup v2. Without the right to write, the
//! disk is read-only: the host's kernel and the guest's see to it.

use krun_gpu_protocol::{DeviceKind, Disk as GuestDisk};
use krun_gpu_vmm::layout::MOST_DEVICES;
use oci_spec::runtime::{LinuxDeviceType, LinuxResources};

use super::SplitError;
use super::devices::Wanted;
use super::facts::Facts;
use crate::network::MOST_INTERFACES;

/// The VM's other devices, beside its network interfaces: console, vsock, file system, random
/// numbers, balloon, GPU.
const OTHER_DEVICES: usize = 6;

/// Block devices that a VM has places for, an interrupt line each.
const MOST_DISKS: usize = MOST_DEVICES - OTHER_DEVICES - MOST_INTERFACES as usize;

const TOO_MANY: &str = "a container in a VM has room for 5 block devices";
const _: () = assert!(MOST_DISKS == 5, "the message names the number");

/// A block device of the host's that is a disk of the VM's.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Disk {
    /// The field that asks for it.
    pub(crate) field: String,
    /// Its path in the container.
    pub(crate) path: String,
    /// Its major number on the host.
    pub(crate) major: u32,
    /// Its minor number on the host.
    pub(crate) minor: u32,
    /// The container may not write it.
    pub(crate) read_only: bool,
    /// By what the guest tells it from others.
    pub(crate) serial: String,
}

/// Whether a disk of the VM's is to stand for this device. `all_allowed`: it is there because all
/// of the host's are.
pub(super) fn is_disk(wanted: &Wanted, all_allowed: bool, facts: &dyn Facts) -> bool {
    let device = &wanted.device;
    device.kind == DeviceKind::Block
        && wanted.is_listed
        && !all_allowed
        && facts.has_device(device.kind, device.major, device.minor)
}

/// Both halves: the disks, and their nodes. One disk may have several nodes.
pub(super) fn split(
    wanted: Vec<Wanted>,
    resources: Option<&LinuxResources>,
) -> Result<(Vec<Disk>, Vec<GuestDisk>), SplitError> {
    let mut disks: Vec<Disk> = Vec::new();
    let mut nodes = Vec::new();
    for Wanted { field, device, .. } in wanted {
        let number = (device.major, device.minor);
        let known = disks.iter().find(|disk| (disk.major, disk.minor) == number);
        let serial = match known {
            Some(disk) => disk.serial.clone(),
            None => {
                let refuse = |reason| SplitError::Device {
                    field: field.clone(),
                    path: device.path.clone(),
                    reason,
                };
                if disks.len() == MOST_DISKS {
                    return Err(refuse(TOO_MANY));
                }
                if !is_allowed(resources, number, 'r') {
                    return Err(refuse(
                        "linux.resources.devices does not let it be read, and a VM reads its disks",
                    ));
                }
                let serial = format!("krun-gpu-{}", disks.len());
                disks.push(Disk {
                    field,
                    path: device.path.clone(),
                    major: device.major,
                    minor: device.minor,
                    read_only: !is_allowed(resources, number, 'w'),
                    serial: serial.clone(),
                });
                serial
            }
        };
        nodes.push(GuestDisk {
            serial,
            path: device.path,
            mode: device.mode,
            uid: device.uid,
            gid: device.gid,
        });
    }
    Ok((disks, nodes))
}

/// Whether the last rule for `access` (`r` or `w`) to this block device allows it. Without a rule
/// everything is allowed.
fn is_allowed(
    resources: Option<&LinuxResources>,
    (major, minor): (u32, u32),
    access: char,
) -> bool {
    let rules = resources.and_then(|resources| resources.devices().as_ref());
    let fits = |rule: Option<i64>, number: u32| {
        rule.is_none_or(|rule| rule < 0 || rule == i64::from(number))
    };
    rules
        .into_iter()
        .flatten()
        .rev()
        .find(|rule| {
            matches!(
                rule.typ(),
                None | Some(LinuxDeviceType::A | LinuxDeviceType::B)
            ) && fits(rule.major(), major)
                && fits(rule.minor(), minor)
                && rule.access().as_deref().unwrap_or("rwm").contains(access)
        })
        .is_none_or(|rule| rule.allow())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::Split;
    use super::super::tests::divide;
    use super::*;

    /// Block devices 8:n at these paths, and the rules for devices.
    fn with(devices: &[(&str, u32)], rules: &Value) -> Result<Split, String> {
        divide(|config| {
            let devices: Vec<Value> = devices
                .iter()
                .map(|(path, minor)| {
                    json!({"path": path, "type": "b", "major": 8, "minor": minor,
                           "fileMode": 0o640, "uid": 1, "gid": 6})
                })
                .collect();
            config["linux"]["devices"] = json!(devices);
            config["linux"]["resources"]["devices"] = rules.clone();
        })
    }

    #[test]
    fn a_block_device_is_a_disk_with_its_own_rights() {
        let none = json!({"allow": false, "access": "rwm"});
        let rule = |allow: bool, minor: i64, access: &str| json!({"allow": allow, "type": "b", "major": 8, "minor": minor, "access": access});
        let rules = json!([
            none,
            rule(true, 0, "rwm"),
            rule(true, 1, "r"),
            rule(true, 2, "rw"),
            rule(false, 2, "w"),
            {"allow": true, "type": "c", "major": 8, "minor": 1, "access": "w"},
        ]);
        let devices = [
            ("/dev/xvda", 0),
            ("/dev/xvdb", 1),
            ("/dev/again", 0),
            ("/dev/xvdc", 2),
        ];
        let split = with(&devices, &rules).unwrap();
        let disks: Vec<_> = split
            .disks
            .iter()
            .map(|disk| (disk.minor, disk.read_only, disk.serial.as_str()))
            .collect();
        assert_eq!(
            disks,
            [
                (0, false, "krun-gpu-0"),
                (1, true, "krun-gpu-1"),
                (2, true, "krun-gpu-2")
            ]
        );
        let nodes: Vec<_> = split
            .workload
            .disks
            .iter()
            .map(|node| {
                (
                    node.path.as_str(),
                    node.serial.as_str(),
                    node.mode,
                    node.gid,
                )
            })
            .collect();
        assert_eq!(
            nodes,
            [
                ("/dev/xvda", "krun-gpu-0", 0o640, 6),
                ("/dev/xvdb", "krun-gpu-1", 0o640, 6),
                ("/dev/again", "krun-gpu-0", 0o640, 6),
                ("/dev/xvdc", "krun-gpu-2", 0o640, 6)
            ]
        );
        assert!(split.workload.devices.is_empty());
        // No rules: everything is allowed.
        let split = with(&[("/dev/xvda", 0)], &json!([])).unwrap();
        assert!(!split.disks[0].read_only);
    }

    #[test]
    fn what_a_vm_cannot_have_is_refused_by_name() {
        let writable = json!([{"allow": false}, {"allow": true, "type": "b", "access": "w"}]);
        let error = with(&[("/dev/xvda", 0)], &writable).unwrap_err();
        assert!(
            error.contains("linux.devices[0]: device /dev/xvda"),
            "{error}"
        );
        let paths: Vec<String> = (0..6).map(|index| format!("/dev/d{index}")).collect();
        let six: Vec<(&str, u32)> = paths.iter().map(String::as_str).zip(0..).collect();
        assert_eq!(with(&six[..5], &json!([])).unwrap().disks.len(), 5);
        let error = with(&six, &json!([])).unwrap_err();
        assert!(
            error.contains("/dev/d5") && error.contains(TOO_MANY),
            "{error}"
        );
    }
}
