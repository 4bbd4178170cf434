//! A GPU in the workload's surroundings. What stands for it are a directory as sysfs lists nodes
//! and one as the initramfs holds the driver.

use std::fs;

use krun_gpu_protocol::{Gpu, GpuAccess, GpuDriver, MountFlags, RequestBody, Workload};
use libtest_mimic::Trial;

use crate::guest::{Guest, Outcome, guest_mount, process, workload};
use crate::trial;

const MANIFEST: &str = "/dev/krun-gpu/vulkan/krun_gpu_icd.json";

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial(
            "gpu_nodes_have_the_asked_owner_and_the_guests_numbers",
            nodes,
        ),
        trial("gpu_driver_is_shown_read_only", driver),
        trial("gpu_driver_is_announced_to_run_and_exec", environment),
        trial("gpu_manifest_joins_the_administrators", manifest),
        trial("gpu_driver_none_leaves_the_container_alone", none),
        trial("gpu_that_the_guest_has_not_is_an_error", absent),
        trial("no_gpu_leaves_no_trace", no_gpu),
    ]
}

fn boot() -> Guest {
    let guest = Guest::boot();
    let folder = guest.folder.path();
    for (name, numbers) in [("card0", "226:0\n"), ("renderD128", "226:128\n")] {
        fs::create_dir_all(folder.join("drm").join(name)).unwrap();
        fs::write(folder.join("drm").join(name).join("dev"), numbers).unwrap();
    }
    fs::create_dir(folder.join("vulkan")).unwrap();
    let text = r#"{"ICD": {"api_version": "1.3.1", "library_path": "/x/libvulkan_virtio.so"}}"#;
    fs::write(folder.join("vulkan/krun_gpu_icd.json"), text).unwrap();
    fs::write(folder.join("vulkan/libvulkan_virtio.so"), "driver").unwrap();
    guest
}

fn with_gpu(script: &str, driver: GpuDriver) -> Workload {
    Workload {
        gpu: Some(Gpu {
            card: Some(GpuAccess {
                mode: 0o660,
                uid: 0,
                gid: 44,
            }),
            render: Some(GpuAccess {
                mode: 0o666,
                uid: 7,
                gid: 104,
            }),
            driver,
        }),
        ..workload(script)
    }
}

fn run(workload: &Workload) -> Outcome {
    let mut guest = boot();
    guest
        .ask(RequestBody::Prepare(Box::new(workload.clone())))
        .unwrap();
    guest
        .ask(RequestBody::Start {
            interfaces: Vec::new(),
        })
        .unwrap();
    guest.finish(0, &workload.process.stdio, b"")
}

fn nodes() {
    let script = "ls /dev/dri; stat -c '%n %F %a %u:%g %t:%T' /dev/dri/*";
    let mut workload = with_gpu(script, GpuDriver::Bundled);
    assert_eq!(
        run(&workload).stdout,
        "card0\nrenderD128\n/dev/dri/card0 character special file 660 0:44 e2:0\n\
         /dev/dri/renderD128 character special file 666 7:104 e2:80\n"
    );
    workload.gpu.as_mut().unwrap().card = None;
    assert!(
        run(&workload)
            .stdout
            .starts_with("renderD128\n/dev/dri/renderD128 ")
    );
}

fn driver() {
    let script = "cd /dev/krun-gpu/vulkan; ls; cat libvulkan_virtio.so; echo; touch x 2>&1; \
                  grep krun-gpu /proc/self/mountinfo | cut -d' ' -f5,6";
    let outcome = run(&with_gpu(script, GpuDriver::Bundled));
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    assert_eq!(
        lines[..3],
        ["krun_gpu_icd.json", "libvulkan_virtio.so", "driver"],
        "{outcome:?}"
    );
    assert!(lines[3].contains("Read-only file system"), "{outcome:?}");
    assert!(
        lines[4].starts_with("/dev/krun-gpu/vulkan ro,nosuid,nodev"),
        "{outcome:?}"
    );
}

fn environment() {
    let script = "env | grep ^VK_ | sort";
    let announced = format!("VK_DRIVER_FILES={MANIFEST}\nVK_ICD_FILENAMES={MANIFEST}\n");
    let workload = with_gpu(&format!("{script}; read line"), GpuDriver::Bundled);
    let mut guest = boot();
    guest
        .ask(RequestBody::Prepare(Box::new(workload.clone())))
        .unwrap();
    guest
        .ask(RequestBody::Start {
            interfaces: Vec::new(),
        })
        .unwrap();
    assert_eq!(guest.exec(1, &process(script)).unwrap().stdout, announced);
    let mut own = process(script);
    own.env.push("VK_ICD_FILENAMES=/opt/mine.json".into());
    assert_eq!(
        guest.exec(2, &own).unwrap().stdout,
        "VK_ICD_FILENAMES=/opt/mine.json\n"
    );
    let outcome = guest.finish(0, &workload.process.stdio, b"\n");
    assert_eq!(outcome.stdout, announced);
}

fn manifest() {
    let script = "cd /etc/vulkan/icd.d && ls && grep -c libvulkan_virtio krun_gpu_icd.json && \
                  stat -c %a . krun_gpu_icd.json && echo new > mine.json && cat mine.json";
    let mut workload = with_gpu(script, GpuDriver::Bundled);
    // The test machine's /etc may not have the directory.
    let tmpfs = guest_mount("tmpfs", "/etc/vulkan/icd.d/kept", "", MountFlags::empty());
    let etc = guest_mount("tmpfs", "/etc", "mode=755", MountFlags::empty());
    workload.mounts.extend([etc, tmpfs]);
    let outcome = run(&workload);
    assert_eq!(
        outcome.stdout, "kept\nkrun_gpu_icd.json\n1\n755\n644\nnew\n",
        "{outcome:?}"
    );
}

fn none() {
    let script = "ls /dev/dri; env | grep -c ^VK_; ls -d /dev/krun-gpu; \
                  grep -cE 'krun-gpu|/etc/vulkan' /proc/self/mountinfo";
    let outcome = run(&with_gpu(script, GpuDriver::None));
    assert_eq!(outcome.stdout, "card0\nrenderD128\n0\n0\n", "{outcome:?}");
}

fn absent() {
    let mut guest = Guest::boot();
    let workload = with_gpu("true", GpuDriver::None);
    let error = guest
        .ask(RequestBody::Prepare(Box::new(workload)))
        .unwrap_err();
    let path = guest.folder.path().join("drm/card0/dev");
    assert_eq!(
        error.message,
        format!(
            "find the guest's GPU by `{}`: No such file or directory",
            path.display()
        )
    );
    let mut guest = Guest::boot();
    let workload = with_gpu("true", GpuDriver::Bundled);
    let error = guest
        .ask(RequestBody::Prepare(Box::new(workload)))
        .unwrap_err();
    assert!(
        error
            .message
            .starts_with("read the bundled driver's manifest"),
        "{error:?}"
    );
}

fn no_gpu() {
    let script = "ls -d /dev/dri /dev/krun-gpu; env | grep -c ^VK_; grep -c vulkan /proc/mounts";
    let mut guest = boot();
    let workload = workload(script);
    guest
        .ask(RequestBody::Prepare(Box::new(workload.clone())))
        .unwrap();
    guest
        .ask(RequestBody::Start {
            interfaces: Vec::new(),
        })
        .unwrap();
    let outcome = guest.finish(0, &workload.process.stdio, b"");
    assert_eq!(outcome.stdout, "0\n0\n", "{outcome:?}");
}
