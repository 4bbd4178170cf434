//! Mounts that are not plain directories of the host's: images, globs, tmpfs with options, volumes
//! with contents and with a quota, sockets, pipes and device files; and places below /proc.

use super::mounts::in_directory;
use crate::harness::{Case, Outcome, ensure, images, same, sh};

pub(super) const CASES: &[Case] = &[
    Case {
        name: "mounts::image",
        run: image,
    },
    Case {
        name: "mounts::glob",
        run: glob,
    },
    Case {
        name: "mounts::tmpfs_options",
        run: tmpfs_options,
    },
    Case {
        name: "mounts::volume_with_contents",
        run: volume_with_contents,
    },
    Case {
        name: "mounts::volume_with_quota",
        run: volume_with_quota,
    },
    Case {
        name: "mounts::special_files",
        run: special_files,
    },
    Case {
        name: "mounts::pipes_and_sockets",
        run: pipes_and_sockets,
    },
    Case {
        name: "mounts::below_proc",
        run: below_proc,
    },
];

fn image() -> Outcome {
    same(
        "run --mount type=image,src=$BB,dst=/img $BB sh -c 'cat /img/etc/plain; touch /img/x; echo $?'
         run --mount type=image,src=$BB,dst=/img,rw=true $BB sh -c 'echo w > /img/etc/plain; cat /img/etc/plain'
         run --mount type=image,src=$BB,dst=/img,subpath=/etc $BB cat /img/plain",
    )
    .map(drop)
}

fn glob() -> Outcome {
    same(&in_directory(
        r#"echo 1 > $d/a.conf; echo 2 > $d/b.conf; echo 3 > $d/c
           run --mount "type=glob,src=$d/*.conf,dst=/etc/conf" $BB sh -c 'cat /etc/conf/*; ls /etc/conf'"#,
    ))
    .map(drop)
}

fn tmpfs_options() -> Outcome {
    same(
        r#"run --tmpfs /t:ro,size=1k,mode=1770,noatime $BB sh -c 'stat -c "%a %u %g" /t; touch /t/x; grep "^tmpfs /t " /proc/mounts | cut -d" " -f1,3,4 | sed "s/,inode64//"'
           run --mount type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=0700,noexec $BB sh -c 'stat -c "%a %u" /t; grep "^tmpfs /t " /proc/mounts | cut -d" " -f1,3,4 | sed "s/,inode64//"'
           run --mount type=tmpfs,dst=/etc,notmpcopyup $BB ls /etc"#,
    )
    .map(drop)
}

fn volume_with_contents() -> Outcome {
    same(
        "podman volume create v >/dev/null; trap 'podman volume rm -f v v2 >/dev/null' EXIT
         run -v v:/etc $BB sh -c 'ls /etc; rm /etc/plain'; run -v v:/etc $BB ls /etc
         run -v v2:/etc:nocopy $BB ls /etc",
    )
    .map(drop)
}

fn volume_with_quota() -> Outcome {
    same(
        r#"podman volume create --opt type=tmpfs --opt device=tmpfs --opt o=size=1m,nodev v >/dev/null
           trap 'podman volume rm -f v >/dev/null' EXIT
           run -v v:/v $BB sh -c 'dd if=/dev/zero of=/v/f bs=1M count=2 2>&1 | grep -c "No space"; df -k /v | tail -n 1 | awk "{print \$2}"'"#,
    )
    .map(drop)
}

fn special_files() -> Outcome {
    same(&in_directory(
        r#"chmod 777 $d
           run -v $d:/v $BB sh -c 'mkfifo /v/p; mknod /v/n c 1 3; mknod /v/b b 7 0; ls -l /v | awk "{print \$1}"; echo a > /v/n; echo $?; cat /v/b; echo $?'
           ls -l $d | awk '{print $1}'"#,
    ))
    .map(drop)
}

/// Pipes and sockets in a volume join processes of one kernel (LIMITS.md).
fn pipes_and_sockets() -> Outcome {
    same(&in_directory(
        "run -v $d:/v $BB sh -c 'mkfifo /v/p; echo through > /v/p & cat /v/p'",
    ))?;
    let connect = "import socket; socket.socket(socket.AF_UNIX).connect('/v/s')";
    let ours = sh(&in_directory(&format!(
        "socat UNIX-LISTEN:$d/s,fork EXEC:'echo hello' 2>/dev/null & until [ -S $d/s ]; do sleep 0.1; done
         run -v $d:/v --rootfs {}:O python3 -c \"{connect}\"; echo $?; kill $!",
        images::PYTHON
    )))?;
    ensure(
        ours.stdout == "1\n" && ours.stderr.contains("ConnectionRefusedError"),
        || ours.to_string(),
    )
}

fn below_proc() -> Outcome {
    let ours = same(&in_directory(
        "echo f > $d/f; run -v $d/f:/proc/cpuinfo:ro -v $d/f:/proc/sys/kernel/hostname -v $d:/proc/bus $BB \
         sh -c 'cat /proc/cpuinfo /proc/sys/kernel/hostname; ls /proc/bus; echo x > /proc/cpuinfo; echo $?'
         run -v $d:/proc/nosuch $BB true 2>/dev/null; echo $?",
    ))?;
    ensure(ours.stdout == "f\nf\nf\n1\n127\n", || ours.to_string())
}
