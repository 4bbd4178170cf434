//! The VM's disks in the workload's surroundings. What stands for them is a directory as sysfs
//! lists them.

use std::fs;

use krun_gpu_protocol::{Disk, RequestBody, Workload};
use libtest_mimic::Trial;

use crate::guest::{Guest, workload};
use crate::trial;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("disks_are_found_by_their_serials", found),
        trial("disk_that_the_guest_has_not_is_an_error", absent),
    ]
}

/// A guest with a loop device and two disks, which its kernel found in the other order.
fn boot() -> Guest {
    let guest = Guest::boot();
    let block = guest.folder.path().join("block");
    for (name, numbers, serial) in [
        ("loop0", "7:0\n", None),
        ("vda", "254:0\n", Some("krun-gpu-1")),
        ("vdb", "254:16\n", Some("krun-gpu-0")),
    ] {
        fs::create_dir_all(block.join(name)).unwrap();
        fs::write(block.join(name).join("dev"), numbers).unwrap();
        if let Some(serial) = serial {
            fs::write(block.join(name).join("serial"), serial).unwrap();
        }
    }
    guest
}

fn with_disks(script: &str, disks: &[(&str, &str)]) -> Workload {
    let disk = |(serial, path): &(&str, &str)| Disk {
        serial: (*serial).into(),
        path: (*path).into(),
        mode: 0o640,
        uid: 3,
        gid: 6,
    };
    Workload {
        disks: disks.iter().map(disk).collect(),
        ..workload(script)
    }
}

fn found() {
    let script = "stat -c '%n %F %a %u:%g %t:%T' /dev/xvda /dev/deep/xvdb /dev/again";
    let disks = [
        ("krun-gpu-0", "/dev/xvda"),
        ("krun-gpu-1", "/dev/deep/xvdb"),
        ("krun-gpu-0", "/dev/again"),
    ];
    let workload = with_disks(script, &disks);
    let mut guest = boot();
    guest
        .ask(RequestBody::Prepare(Box::new(workload.clone())))
        .unwrap();
    guest
        .ask(RequestBody::Start {
            interfaces: Vec::new(),
        })
        .unwrap();
    assert_eq!(
        guest.finish(0, &workload.process.stdio, b"").stdout,
        "/dev/xvda block special file 640 3:6 fe:10\n\
         /dev/deep/xvdb block special file 640 3:6 fe:0\n\
         /dev/again block special file 640 3:6 fe:10\n"
    );
}

fn absent() {
    let workload = with_disks("true", &[("krun-gpu-2", "/dev/xvdc")]);
    let error = boot()
        .ask(RequestBody::Prepare(Box::new(workload)))
        .unwrap_err();
    let message = &error.message;
    assert!(
        message.contains("/dev/xvdc") && message.contains("krun-gpu-2"),
        "{message}"
    );
}
