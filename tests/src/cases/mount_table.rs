//! What `/proc/mounts` in the container shows.

use serde_json::json;

use crate::harness::bundle::Bundle;
use crate::harness::{Case, Outcome, ensure};

pub(super) const CASES: &[Case] = &[Case {
    name: "mounts::shown_in_the_table",
    run: shown_in_the_table,
}];

/// Destinations and options.
const MOUNTS: &[(&str, &[&str])] = &[
    ("/t/flags", &["ro", "nosuid", "nodev", "noexec"]),
    ("/t/noatime", &["noatime"]),
    ("/t/nodiratime", &["ro", "nodiratime"]),
    ("/t/plain", &[]),
    ("/t/strict", &["strictatime"]),
];

/// The lines below `/t`, without what belongs to a file system, and how many devices they are.
const SHOWN: &str = r#"rm -rf rootfs/t; $RUNTIME run x </dev/null >table; echo $?
awk '$2 ~ "^/t/" { count = split($4, words, ","); line = $2 " " $3
    for (i = 1; i <= count; i++) if (words[i] ~ "^(ro|rw|nosuid|nodev|noexec|.*atime)$") line = line " " words[i]
    print line }' table | sort
grep ^device table | sort -u | wc -l"#;

/// crun's destinations and flags. A volume's type is `virtiofs` and its device its own; below a
/// tmpfs as Podman makes it, for which the image has no place, the host's stand-in shows
/// (LIMITS.md).
fn shown_in_the_table() -> Outcome {
    let bundle = Bundle::new(&[
        "sh",
        "-c",
        "cat /proc/mounts; /bin/busybox stat -c 'device %d' /t/plain /t/flags",
    ])?;
    let source = bundle.path().join("volume");
    std::fs::create_dir(&source)?;
    bundle.edit(|config| {
        let Some(mounts) = config["mounts"].as_array_mut() else {
            return;
        };
        for (destination, options) in MOUNTS {
            let options = [&["bind"], *options].concat();
            mounts.push(
                json!({"destination": destination, "type": "bind", "source": source, "options": options}),
            );
        }
        mounts.push(json!({"destination": "/t/tmpfs", "type": "tmpfs", "source": "tmpfs",
            "options": ["nosuid", "noexec", "noatime", "size=1m", "tmpcopyup"]}));
    })?;
    let (crun, ours) = (bundle.sh("crun", SHOWN)?, bundle.sh("krun-gpu", SHOWN)?);
    let mut expected = String::new();
    for line in crun.stdout.lines() {
        match line.split_once(' ') {
            Some(("/t/tmpfs", _)) => {
                expected += &format!("{line}\n/t/tmpfs virtiofs rw relatime\n");
            }
            Some((destination, rest)) => {
                let flags = rest.split_once(' ').map_or("", |(_, flags)| flags);
                expected += &format!("{destination} virtiofs {flags}\n");
            }
            None if expected.is_empty() => expected += &format!("{line}\n"),
            None => expected += "2\n",
        }
    }
    let describe = || format!("--- crun: {crun}\n--- krun-gpu: {ours}");
    let lines = crun.stdout.lines().count();
    ensure(
        lines == MOUNTS.len() + 3 && crun.stdout.ends_with("\n1\n"),
        describe,
    )?;
    ensure(
        ours.stdout == expected && expected.starts_with("0\n"),
        describe,
    )
}
