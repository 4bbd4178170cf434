//! The GPU's rows, on the configuration that Podman writes.

use std::path::Path;

use krun_gpu_protocol::{GpuAccess, GpuDriver};
use serde_json::{Value, json};

use super::Split;
use super::tests::{divide, divide_with};
use crate::config::{Config, GpuPolicy};

/// Podman's annotations, and one of ours.
fn annotated(name: &'static str, value: &'static str) -> impl FnOnce(&mut Value) {
    move |config| config["annotations"][name] = json!(value)
}

fn nodes(config: &mut Value) {
    config["linux"]["devices"] = json!([
        {"path": "/dev/dri/card1", "type": "c", "major": 226, "minor": 1,
         "fileMode": 432, "uid": 0, "gid": 44},
        {"path": "/dev/dri/renderD129", "type": "c", "major": 226, "minor": 129,
         "fileMode": 438, "uid": 0, "gid": 105},
        {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}
    ]);
}

#[test]
fn without_a_request_there_is_none() {
    let split = divide(|_| {}).unwrap();
    assert!(split.gpu.is_none() && split.workload.gpu.is_none());
}

#[test]
fn nodes_ask_for_one_and_say_who_may_use_it() {
    let split = divide(nodes).unwrap();
    let gpu = split.workload.gpu.unwrap();
    let card = GpuAccess {
        mode: 0o660,
        uid: 0,
        gid: 44,
    };
    let render = GpuAccess {
        mode: 0o666,
        uid: 0,
        gid: 105,
    };
    assert_eq!((gpu.card, gpu.render), (Some(card), Some(render)));
    assert_eq!(gpu.driver, GpuDriver::Newest);
    // The guest makes the others alone.
    let paths: Vec<&str> = split
        .workload
        .devices
        .iter()
        .map(|device| device.path.as_str())
        .collect();
    assert_eq!(paths, ["/dev/fuse"]);
    let host = split.gpu.unwrap();
    assert_eq!(
        host.nodes,
        [
            Path::new("/dev/dri/card1"),
            Path::new("/dev/dri/renderD129")
        ]
    );
    // Podman's limit of 256 MiB; a window as large as the made-up host's memory.
    assert_eq!((host.memory, host.window), (256 << 20, 8 << 30));
}

#[test]
fn what_a_gpu_needs_on_the_host_is_added_to_the_cgroups_limits() {
    let limits = |change: fn(&mut Value)| {
        let split = divide(change).unwrap();
        let linux = split.host.linux().clone().unwrap();
        let resources = linux.resources().clone().unwrap();
        let memory = resources.memory().unwrap().limit().unwrap();
        (memory, resources.pids().unwrap().limit())
    };
    let few: fn(&mut Value) = |config| {
        config["linux"]["resources"]["pids"]["limit"] = json!(100);
    };
    let with: fn(&mut Value) = |config| {
        config["linux"]["resources"]["pids"]["limit"] = json!(100);
        nodes(config);
    };
    let ((plain, few), (more, many)) = (limits(few), limits(with));
    assert_eq!(more - plain, (256 << 20) + (512 << 20));
    assert!(few == 100 && many > 1000, "{few} {many}");
}

#[test]
fn rootless_podmans_mounts_ask_for_one_and_are_no_mounts() {
    let bind = |source: &'static str| {
        divide(move |config| {
            let mounts = config["mounts"].as_array_mut().unwrap();
            mounts.push(
                json!({"destination": source, "type": "bind", "source": source,
                               "options": ["slave", "nosuid", "noexec", "rw", "rbind"]}),
            );
        })
        .unwrap()
    };
    let access = Some(GpuAccess {
        mode: 0o660,
        uid: 0,
        gid: 44,
    });
    for (source, has_card) in [("/dev/dri/renderD128", false), ("/dev/dri", true)] {
        let split = bind(source);
        let gpu = split.workload.gpu.unwrap();
        assert_eq!(gpu.render, access, "{source}");
        assert_eq!(gpu.card.is_some(), has_card, "{source}");
        let below = |path: &Path| path.starts_with("/dev/dri");
        let mut host = split.host.mounts().iter().flatten();
        assert!(!host.any(|mount| below(mount.destination())), "{source}");
        let mut guest = split.workload.mounts.iter();
        assert!(
            !guest.any(|mount| below(Path::new(&mount.destination))),
            "{source}"
        );
    }
}

#[test]
fn the_annotation_asks_for_one_or_refuses_it() {
    let split = divide(annotated("io.krun-gpu.gpu", "true")).unwrap();
    let gpu = split.workload.gpu.unwrap();
    assert_eq!(gpu.render.map(|access| access.mode), Some(0o666));
    assert!(gpu.card.is_some() && split.gpu.unwrap().nodes.is_empty());
    let split = divide(|config| {
        nodes(config);
        config["annotations"]["io.krun-gpu.gpu"] = json!("false");
    })
    .unwrap();
    assert!(split.gpu.is_none() && split.workload.gpu.is_none());
}

#[test]
fn a_privileged_container_asks_for_one_by_the_annotation_alone() {
    let privileged = |config: &mut Value| {
        nodes(config);
        config["linux"]["resources"]["devices"] = json!([{"allow": true, "access": "rwm"}]);
    };
    assert!(divide(privileged).unwrap().gpu.is_none());
    let split = divide(|config| {
        privileged(config);
        config["annotations"]["io.krun-gpu.gpu"] = json!("1");
    })
    .unwrap();
    assert!(split.gpu.is_some());
}

#[test]
fn opengl_takes_the_hosts_permission_and_the_containers_wish() {
    let allowed = Config {
        gpu: GpuPolicy {
            virgl: true,
            ..GpuPolicy::default()
        },
        ..Config::default()
    };
    let wish = |value: &'static str| {
        move |config: &mut Value| {
            nodes(config);
            config["annotations"]["io.krun-gpu.virgl"] = json!(value);
        }
    };
    let serves = |split: Split| split.gpu.unwrap().virgl;
    assert!(!serves(divide_with(&allowed, nodes).unwrap()));
    assert!(serves(divide_with(&allowed, wish("true")).unwrap()));
    assert!(!serves(divide_with(&allowed, wish("0")).unwrap()));
    let error = divide(wish("true")).unwrap_err();
    assert!(error.contains("io.krun-gpu.virgl=`true`"), "{error}");
    assert!(error.contains("config.toml"), "{error}");
    assert!(!serves(divide(wish("false")).unwrap()));
}

#[test]
fn settings_count_and_bad_ones_are_named() {
    let gpu = |config: &mut Value| {
        config["annotations"]["io.krun-gpu.gpu"] = json!("true");
        config["annotations"]["io.krun-gpu.driver"] = json!("image");
        config["annotations"]["io.krun-gpu.gpu-window"] = json!("1024");
        config["annotations"]["io.krun-gpu.gpu-memory"] = json!("100");
    };
    let split = divide(gpu).unwrap();
    let host = split.gpu.unwrap();
    assert_eq!((host.window, host.memory), (1 << 30, 100 << 20));
    assert_eq!(split.workload.gpu.unwrap().driver, GpuDriver::Image);
    for (name, value) in [
        ("io.krun-gpu.gpu", "please"),
        ("io.krun-gpu.gpu", ""),
        ("io.krun-gpu.driver", "mine"),
        ("io.krun-gpu.gpu-window", "1000"),
        ("io.krun-gpu.gpu-window", "32"),
        ("io.krun-gpu.gpu-window", "18446744073709551615"),
        ("io.krun-gpu.gpu-memory", "-1"),
        ("io.krun-gpu.virgl", "gles"),
    ] {
        let error = divide(annotated(name, value)).unwrap_err();
        assert!(
            error.contains(&format!("annotation {name}=`")),
            "{value}: {error}"
        );
    }
}
