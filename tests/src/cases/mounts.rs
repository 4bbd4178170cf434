//! Mounts of every kind that Podman makes, their options and their places.

use crate::harness::{Case, Outcome, same};

pub(super) const CASES: &[Case] = &[
    Case {
        name: "mounts::flags",
        run: flags,
    },
    Case {
        name: "mounts::owner_changed",
        run: owner_changed,
    },
    Case {
        name: "mounts::overlay",
        run: overlay,
    },
    Case {
        name: "mounts::nested",
        run: nested,
    },
];

/// `script` with a directory `$d` of the host.
fn in_directory(script: &str) -> String {
    format!("d=$(mktemp -d); chmod 755 $d; trap 'rm -rf $d' EXIT\n{script}")
}

fn flags() -> Outcome {
    same(&in_directory(
        r#"cp /bin/busybox $d/sh; run -v $d:/v:ro,nosuid,nodev,noexec $BB sh -c '/v/sh true; grep " /v " /proc/mounts | cut -d" " -f4 | tr , "\n" | grep -E "^(ro|rw|nosuid|nodev|noexec)$"'
           run -v $d:/v:exec,suid,dev $BB sh -c '/v/sh echo ok; grep " /v " /proc/mounts | cut -d" " -f4 | tr , "\n" | grep -E "^(ro|rw|nosuid|nodev|noexec)$"'"#,
    ))
    .map(drop)
}

fn owner_changed() -> Outcome {
    same(&in_directory(
        r#"mkdir $d/a; touch $d/a/f; run -u 1000:1000 -v $d/a:/v:U $BB sh -c 'stat -c "%u %g" /v /v/f; touch /v/g; echo $?'; stat -c '%u %g' $d/a $d/a/f"#,
    ))
    .map(drop)
}

fn overlay() -> Outcome {
    same(&in_directory(
        r#"echo lower > $d/f; run -v $d:/v:O $BB sh -c 'cat /v/f; echo upper > /v/f; touch /v/n; rm /v/f; ls /v'; ls $d; cat $d/f"#,
    ))
    .map(drop)
}

fn nested() -> Outcome {
    same(&in_directory(
        r#"mkdir $d/in; echo i > $d/in/f; run -v $d:/v -v $d/in:/v/deep/x -v $d/in/f:/v/deep/file --tmpfs /v/deep/t -v vol:/v/vol $BB sh -c 'cat /v/deep/x/f /v/deep/file; touch /v/deep/t/a /v/vol/b; find /v | sort'; find $d | sort | sed "s,$d,,"; podman volume rm vol >/dev/null"#,
    ))
    .map(drop)
}
