//! The table, row by row, on the configuration that Podman 5.4 writes.

use std::io;
use std::path::{Path, PathBuf};

use krun_gpu_protocol::{DeviceKind, Mount, MountFlags, MountSource, Propagation};
use serde_json::{Value, json};

use super::facts::{DeviceNode, Facts, Node};
use super::{Split, split};
use crate::bundle;
use crate::config::Config;
use crate::report;

/// Written by `podman create --memory 256m --cpus 1.5 -v DIR:/d:ro --tmpfs /t:size=8m
/// --shm-size 4m --ulimit nofile=321:654 --hostname h --network none`, with long paths cut.
const PODMAN: &str = include_str!("podman.json");

/// A host with four processors and 8 GiB, whose image has `/t`.
struct Made;

impl Facts for Made {
    fn node(&self, path: &Path) -> io::Result<Node> {
        let device = |major, minor| {
            Node::Device(DeviceNode {
                kind: DeviceKind::Character,
                major,
                minor,
                mode: 0o660,
                uid: 0,
                gid: 44,
            })
        };
        match path.to_str().unwrap_or_default() {
            "/dev/dri/card0" => Ok(device(226, 0)),
            "/dev/dri/renderD128" => Ok(device(226, 128)),
            "/dev/strange" => Ok(device(240, 7)),
            "/nowhere" => Err(io::Error::from_raw_os_error(libc::ENOENT)),
            name if name.ends_with("/hosts") => Ok(Node::File),
            _ => Ok(Node::Directory),
        }
    }

    fn directory(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        Ok(vec![path.join("card0"), path.join("renderD128")])
    }

    fn tmpfs_size(&self, _: &Path) -> io::Result<Option<u64>> {
        Ok(Some(4 << 20))
    }

    fn has_device(&self, _: DeviceKind, major: u32, _: u32) -> bool {
        major == 8
    }

    fn image_has_directory(&self, destination: &Path) -> bool {
        destination == Path::new("/t")
    }

    fn end_of_links(&self, destination: &Path) -> io::Result<Option<PathBuf>> {
        Ok((destination == Path::new("/dangling")).then(|| "/at/the/end".into()))
    }

    fn has_selinux(&self) -> bool {
        false
    }

    fn nests(&self) -> bool {
        true
    }

    fn processors(&self) -> usize {
        4
    }

    fn memory(&self) -> Option<u64> {
        Some(8 << 30)
    }
}

pub(super) fn divide(change: impl FnOnce(&mut Value)) -> Result<Split, String> {
    divide_with(&Config::default(), change)
}

/// The same with a configuration of the host's.
pub(super) fn divide_with(host: &Config, change: impl FnOnce(&mut Value)) -> Result<Split, String> {
    let mut config: Value = serde_json::from_str(PODMAN).unwrap();
    change(&mut config);
    let text = serde_json::to_vec(&config).unwrap();
    let spec =
        bundle::parse(Path::new("config.json"), &text).map_err(|error| report::chain(&error))?;
    split(&spec, Path::new("/rootfs"), host, &Made).map_err(|error| report::chain(&error))
}

fn guest<'a>(split: &'a Split, destination: &str) -> &'a Mount {
    let mut mounts = split.workload.mounts.iter();
    mounts
        .find(|mount| mount.destination == destination)
        .unwrap()
}

/// The type of the host's mount at `destination`.
fn host(split: &Split, destination: &str) -> Option<String> {
    let mounts = split.host.mounts().iter().flatten();
    let mut mounts = mounts.filter(|mount| mount.destination() == Path::new(destination));
    mounts.next().and_then(|mount| mount.typ().clone())
}

#[test]
fn the_process_is_the_guests() {
    let split = divide(|_| {}).unwrap();
    let process = &split.workload.process;
    assert_eq!(process.args, ["sh"]);
    assert_eq!(process.cwd, "/");
    assert!(
        process
            .env
            .iter()
            .any(|variable| variable.starts_with("PATH="))
    );
    let nofile = process
        .rlimits
        .iter()
        .find(|limit| limit.resource == 7)
        .unwrap();
    assert_eq!((nofile.soft, nofile.hard), (321, 654));
    // CAP_CHOWN is number 0, CAP_SYS_ADMIN number 21.
    let bounding = process.capabilities.unwrap().bounding;
    assert!(bounding & 1 != 0 && bounding & 1 << 21 == 0);
    assert!(process.seccomp.is_some());

    let vmm = split.host.process().as_ref().unwrap();
    assert_eq!(vmm.args().as_deref().unwrap(), ["krun-gpu"]);
    assert_eq!(vmm.cwd(), Path::new("/"));
    assert_eq!(vmm.no_new_privileges(), Some(true));
    assert_eq!(vmm.user().uid(), 0);
}

#[test]
fn what_the_guest_alone_applies_is_not_in_the_host_half() {
    let split = divide(|config| {
        config["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1"});
    })
    .unwrap();
    let linux = split.host.linux().as_ref().unwrap();
    assert!(linux.seccomp().is_none() && linux.devices().is_none());
    assert!(linux.masked_paths().is_none() && linux.readonly_paths().is_none());
    assert!(linux.sysctl().is_none() && split.host.hostname().is_none());
    assert_eq!(split.workload.hostname.as_deref(), Some("h"));
    assert_eq!(split.workload.sysctl[0].0, "net.ipv4.ip_forward");
    assert!(
        split
            .workload
            .masked_paths
            .contains(&"/proc/kcore".to_owned())
    );
}

#[test]
fn a_kernels_own_file_systems_are_mounted_in_the_guest() {
    let split = divide(|_| {}).unwrap();
    for (destination, kind) in [
        ("/proc", "proc"),
        ("/sys", "sysfs"),
        ("/dev", "tmpfs"),
        ("/dev/pts", "devpts"),
        ("/dev/mqueue", "mqueue"),
        ("/sys/fs/cgroup", "cgroup2"),
    ] {
        let MountSource::Guest { kind: found, .. } = &guest(&split, destination).source else {
            panic!("{destination} is the host's");
        };
        assert_eq!(found, kind);
        // Only procfs is real on the host, for the VMM itself.
        let stand_in = if kind == "proc" { "proc" } else { "tmpfs" };
        assert_eq!(host(&split, destination).as_deref(), Some(stand_in));
    }
}

#[test]
fn volumes_are_real_mounts_with_their_flags_on_both_sides() {
    let split = divide(|_| {}).unwrap();
    let volume = guest(&split, "/d");
    assert!(
        matches!(&volume.source, MountSource::Host { exported_at } if *exported_at == volume.destination)
    );
    assert!(volume.flags.contains(MountFlags::READ_ONLY));
    assert_eq!(volume.propagation, Some((Propagation::Private, true)));
    assert_eq!(host(&split, "/d").as_deref(), Some("bind"));
    assert!(
        split
            .propagation
            .contains(&("/d".into(), Propagation::Private, true))
    );
    let MountSource::Host { exported_at } = &guest(&split, "/etc/hosts").source else {
        panic!("the guest's");
    };
    assert_eq!(exported_at, "/etc/hosts");
}

#[test]
fn only_the_guests_mounts_are_unbindable() {
    let split = divide(|config| {
        config["linux"]["rootfsPropagation"] = json!("runbindable");
        let mounts = config["mounts"].as_array_mut().unwrap();
        mounts.push(
            json!({"destination": "/u", "type": "bind", "source": "/x/hosts",
            "options": ["bind", "unbindable"]}),
        );
    })
    .unwrap();
    let linux = split.host.linux().as_ref().unwrap();
    assert_eq!(linux.rootfs_propagation().as_deref(), Some("private"));
    assert_eq!(
        split.workload.root_propagation,
        Some(Propagation::Unbindable)
    );
    assert_eq!(
        guest(&split, "/u").propagation,
        Some((Propagation::Unbindable, false))
    );
    let exported = ("/u".into(), Propagation::Private, false);
    assert!(split.propagation.contains(&exported));
}

#[test]
fn what_is_bound_below_proc_is_exported_elsewhere() {
    let split = divide(|config| {
        let mounts = config["mounts"].as_array_mut().unwrap();
        mounts.push(json!({"destination": "/proc/cpuinfo", "type": "bind", "source": "/x/hosts"}));
    })
    .unwrap();
    let MountSource::Host { exported_at } = &guest(&split, "/proc/cpuinfo").source else {
        panic!("the guest's");
    };
    assert_eq!(host(&split, "/proc/cpuinfo"), None);
    assert_eq!(host(&split, exported_at).as_deref(), Some("bind"));
}

#[test]
fn podmans_shared_memory_is_a_tmpfs_of_the_guest_with_its_size() {
    let split = divide(|_| {}).unwrap();
    let MountSource::Guest {
        kind, source, data, ..
    } = &guest(&split, "/dev/shm").source
    else {
        panic!("/dev/shm is the host's");
    };
    assert_eq!((kind.as_str(), source.as_str()), ("tmpfs", "shm"));
    assert_eq!(data, "mode=1777,size=4194304");
}

#[test]
fn a_tmpfs_that_copies_up_leaves_the_images_directory_visible() {
    let split = divide(|_| {}).unwrap();
    let MountSource::Guest { data, copy_up, .. } = &guest(&split, "/t").source else {
        panic!("/t is the host's");
    };
    assert!(*copy_up && data.contains("size=8m"));
    assert_eq!(host(&split, "/t"), None);
}

#[test]
fn limits_are_both_sides_and_the_vm_is_sized_after_them() {
    let split = divide(|_| {}).unwrap();
    let limit = 256 << 20;
    assert_eq!(split.workload.limits.memory_max, Some(limit));
    assert_eq!(
        split.workload.limits.cpu_max,
        Some((Some(150_000), 100_000))
    );
    assert_eq!(split.machine.vcpus, 2);
    assert!(split.machine.memory > limit && split.machine.memory % (2 << 20) == 0);
    let linux = split.host.linux().as_ref().unwrap();
    let memory = linux.resources().as_ref().unwrap().memory().unwrap();
    assert!(memory.limit().unwrap() > i64::try_from(split.machine.memory).unwrap());
}

#[test]
fn annotations_size_the_vm() {
    let with =
        |name: &str, value: &str| divide(|config| config["annotations"][name] = json!(value));
    assert_eq!(with("io.krun-gpu.cpus", "3").unwrap().machine.vcpus, 3);
    assert_eq!(
        with("krun.ram_mib", "1000").unwrap().machine.memory,
        1000 << 20
    );
    for (name, value) in [
        ("io.krun-gpu.cpus", "many"),
        ("krun.cpus", "0"),
        ("io.krun-gpu.memory", "-5"),
        ("io.krun-gpu.colour", "red"),
    ] {
        let error = with(name, value).unwrap_err();
        assert!(error.contains(name) && error.contains(value), "{error}");
    }
}

#[test]
fn what_another_kernel_has_is_said_to_be_unshared() {
    let with = |kind: &str, value: Value| {
        let split = divide(|config| {
            let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
            namespaces.retain(|namespace| namespace["type"] != kind);
            if value.is_object() {
                namespaces.push(value);
            }
        });
        split.unwrap().notices
    };
    assert!(with("none", Value::Null).is_empty());
    let host = with("pid", Value::Null);
    assert!(host.len() == 1 && host[0].contains("processes"), "{host:?}");
    assert_eq!(
        with("pid", json!({"type": "pid", "path": "/proc/1/ns/pid"})),
        host
    );
    let ipc = with("ipc", Value::Null);
    assert!(ipc.len() == 1 && ipc[0].contains("IPC"), "{ipc:?}");
    let pods = json!({"type": "ipc", "path": "/proc/1/ns/ipc"});
    assert!(with("ipc", pods).is_empty());
}

#[test]
fn a_file_over_a_dangling_link_or_a_standard_node_has_a_place_of_its_own() {
    let with = |destination: &str, source: &str| {
        divide(|config| {
            let mounts = config["mounts"].as_array_mut().unwrap();
            mounts.push(
                json!({"destination": destination, "type": "bind", "source": source,
                               "options": ["rbind"]}),
            );
        })
    };
    let exported = |split: &Split, destination: &str| match &guest(split, destination).source {
        MountSource::Host { exported_at } => exported_at.clone(),
        other => panic!("{other:?}"),
    };
    let link = with("/dangling", "/etc/hosts").unwrap();
    assert_eq!(exported(&link, "/at/the/end"), "/at/the/end");
    assert_eq!(host(&link, "/at/the/end").as_deref(), Some("bind"));
    let error = with("/dangling", "/directory").unwrap_err();
    assert!(error.contains("`/dangling`: No such file"), "{error}");
    let null = with("/dev/null", "/etc/hosts").unwrap();
    let aside = exported(&null, "/dev/null");
    assert!(aside.starts_with("/dev/.krun-gpu-mounts/"), "{aside}");
    assert_eq!(host(&null, &aside).as_deref(), Some("bind"));
    assert_eq!(host(&null, "/dev/null"), None);
}

#[test]
fn devices_are_the_guests_or_refused_by_name() {
    let with = |path: &str, major: u32, minor: u32| {
        divide(|config| {
            config["linux"]["devices"] =
                json!([{"path": path, "type": "c", "major": major, "minor": minor}]);
        })
    };
    let fuse = with("/dev/fuse", 10, 229).unwrap();
    assert_eq!(fuse.workload.devices[0].path, "/dev/fuse");
    assert!(with("/dev/made-up", 10, 666).is_ok());
    let strange = with("/dev/strange", 240, 7).unwrap_err();
    assert!(
        strange.contains("linux.devices[0]: device /dev/strange"),
        "{strange}"
    );
}

#[test]
fn privileged_containers_get_what_the_guest_has() {
    let split = divide(|config| {
        config["linux"]["devices"] = json!([
            {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229},
            {"path": "/dev/sda", "type": "b", "major": 8, "minor": 0}
        ]);
        config["linux"]["resources"]["devices"] = json!([{"allow": true, "access": "rwm"}]);
    })
    .unwrap();
    let paths: Vec<&str> = split
        .workload
        .devices
        .iter()
        .map(|node| node.path.as_str())
        .collect();
    assert_eq!(paths, ["/dev/fuse"]);
}

#[test]
fn devices_that_are_bind_mounts_are_devices() {
    let error = divide(|config| {
        let mounts = config["mounts"].as_array_mut().unwrap();
        mounts.push(json!({"destination": "/dev/strange", "type": "bind",
                           "source": "/dev/strange", "options": ["bind"]}));
    })
    .unwrap_err();
    assert!(error.contains("device /dev/strange"), "{error}");
}

#[test]
fn an_ordinary_users_privileged_container_goes_without_the_hosts_devices() {
    let strange = json!({"destination": "/dev/strange", "type": "bind",
                         "source": "/dev/strange", "options": ["bind"]});
    let with = |capabilities: Value| {
        let strange = strange.clone();
        divide(move |config| {
            config["mounts"].as_array_mut().unwrap().push(strange);
            for walls in ["maskedPaths", "readonlyPaths", "seccomp"] {
                config["linux"].as_object_mut().unwrap().remove(walls);
            }
            config["process"]["capabilities"] = json!({"bounding": capabilities});
        })
    };
    let all = with(json!(["CAP_SYS_ADMIN", "CAP_SYS_MODULE", "CAP_SYS_RAWIO"])).unwrap();
    assert!(all.workload.devices.is_empty());
    let error = with(json!(["CAP_SYS_ADMIN"])).unwrap_err();
    assert!(error.contains("device /dev/strange"), "{error}");
}

#[test]
fn what_cannot_be_is_refused_by_field() {
    type Change = fn(&mut Value);
    let cases: [(Change, &str); 7] = [
        (
            |config| {
                config["process"]["terminal"] = json!(true);
                config["process"]["consoleSize"] = json!({"height": 70_000, "width": 80});
            },
            "process.consoleSize.height: 70000",
        ),
        (
            |config| config["linux"]["netDevices"] = json!({"eth0": {}}),
            "linux.netDevices `eth0`",
        ),
        (
            |config| config["linux"]["timeOffsets"] = json!({"boottime": {"secs": 1}}),
            "linux.timeOffsets `boottime`",
        ),
        (
            |config| config["linux"]["resources"]["memory"]["limit"] = json!(8 << 20),
            "linux.resources.memory.limit: 8388608",
        ),
        (
            |config| config["vm"] = json!({"kernel": {"path": "/k"}}),
            "vm.kernel.path `/k`",
        ),
        (
            |config| {
                config["mounts"] = json!([{"destination": "/x", "type": "bind",
                    "source": "/nowhere", "options": ["rbind"]}]);
            },
            "mounts[0].source `/nowhere`: No such file or directory",
        ),
        (
            |config| {
                config["mounts"] = json!([{"destination": "/dev", "type": "bind",
                    "source": "/dev", "options": ["rbind"]}]);
            },
            "mounts[0].destination: cannot mount /dev",
        ),
    ];
    for (change, expected) in cases {
        let error = divide(change).unwrap_err();
        assert!(error.contains(expected), "{error:?} lacks {expected:?}");
    }
}
