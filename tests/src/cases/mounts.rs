//! Mounts of every kind that Podman makes, their options and their places.

use crate::harness::{Case, Outcome, ensure, same};

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
        name: "mounts::id_mapped",
        run: id_mapped,
    },
    Case {
        name: "mounts::overlay",
        run: overlay,
    },
    Case {
        name: "mounts::nested",
        run: nested,
    },
    Case {
        name: "mounts::secrets",
        run: secrets,
    },
    Case {
        name: "mounts::devices",
        run: devices,
    },
    Case {
        name: "mounts::device_kvm",
        run: device_kvm,
    },
    Case {
        name: "mounts::vm_in_a_container",
        run: vm_in_a_container,
    },
];

/// `script` with a directory `$d` of the host.
pub(super) fn in_directory(script: &str) -> String {
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

fn secrets() -> Outcome {
    same(&in_directory(
        r#"printf 'hush' | podman secret create s1 - >/dev/null; run --secret s1 --secret s1,type=env,target=ENVS --secret s1,target=/x/y,uid=1000,gid=1000,mode=0400 -u 1000 $BB sh -c 'cat /run/secrets/s1; echo $ENVS; cat /x/y; stat -c "%a %u %g" /x/y /run/secrets/s1; echo a > /run/secrets/s1'; podman secret rm s1 >/dev/null"#,
    ))
    .map(drop)
}

fn devices() -> Outcome {
    same(&in_directory(
        r#"run --device /dev/fuse --device /dev/net/tun $BB sh -c 'ls -l /dev/fuse /dev/net/tun | awk "{print \$1,\$3,\$4,\$5,\$6,\$10}"; dd if=/dev/fuse of=/dev/null count=1 2>&1 | head -n 1'; run --device /dev/net/tun --cap-add NET_ADMIN $BB sh -c 'ip tuntap add tap9 mode tap && ip link show tap9 | head -n 1 | cut -d: -f2'"#,
    ))
    .map(drop)
}

fn device_kvm() -> Outcome {
    same(&in_directory(
        r#"run --device /dev/kvm $BB sh -c 'ls -l /dev/kvm | awk "{print \$1,\$5,\$6}"; exec 3<>/dev/kvm && echo opened; grep -c -E "svm|vmx" /proc/cpuinfo | sed "s/[1-9].*/some/"'"#,
    ))
    .map(drop)
}

/// `check` runs a guest of its own in 64-bit mode, here in the container. (It sees no Vulkan driver,
/// which would take longer to look at than the VM.)
fn vm_in_a_container() -> Outcome {
    let ours = same(
        r#"tools="-v /usr/local:/usr/local:ro -v /usr/lib:/usr/lib:ro -v /usr/lib:/lib:ro -v /usr/lib64:/lib64:ro"
           run --device /dev/kvm $tools $BB /usr/local/bin/krun-gpu check --json | jq -r '.items[] | select(.name == "KVM") | .verdict, .detail'"#,
    )?;
    ensure(ours.stdout == "ok\n/dev/kvm runs a guest\n", || {
        ours.to_string()
    })
}

/// Several mappings, and a volume whose owners are mapped back: files are the container's root's.
fn id_mapped() -> Outcome {
    let ours = same(
        "mapped='--uidmap 0:10000:500 --uidmap 500:20000:500 --gidmap 0:10000:5000'
        run $mapped -v ids:/v:idmap $BB sh -c 'id -u; touch /v/x /tmp/y; chown 600:0 /v/x; stat -c \"%u %g\" /v/x /tmp/y'
        stat -c '%u %g' $(podman volume inspect ids --format '{{.Mountpoint}}')/x; podman volume rm ids >/dev/null",
    )?;
    ensure(ours.stdout == "0\n600 0\n0 0\n600 0\n", || ours.to_string())
}
