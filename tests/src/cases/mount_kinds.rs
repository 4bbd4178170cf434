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
    Case {
        name: "mounts::over_nodes",
        run: over_nodes,
    },
    Case {
        name: "mounts::on_dangling_links",
        run: on_dangling_links,
    },
    Case {
        name: "mounts::followed_by_the_host",
        run: followed_by_the_host,
    },
    Case {
        name: "mounts::what_is_mounted_below",
        run: what_is_mounted_below,
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
    let ours = same(
        r#"run --tmpfs /t:ro,size=1k,mode=1770 $BB sh -c 'stat -c "%a %u %g" /t; touch /t/x; grep "^tmpfs /t " /proc/mounts | cut -d" " -f1,3,4 | sed "s/,inode64//"'
           run --mount type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=0700,noexec $BB sh -c 'stat -c "%a %u" /t; grep "^tmpfs /t " /proc/mounts | cut -d" " -f1,3,4 | sed "s/,inode64//"'
           run --mount type=tmpfs,dst=/etc,notmpcopyup $BB ls /etc"#,
    )?;
    let shown = ["1770 0 0\n", "tmpfs tmpfs ro,", "700 0\n", "noexec"];
    ensure(
        shown.iter().all(|words| ours.stdout.contains(words)),
        || ours.to_string(),
    )
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

/// Files over standard nodes; they stay as they are on the host. (Under crun they become root's, and
/// what the container prints is written into them.)
fn over_nodes() -> Outcome {
    let ours = sh(&in_directory(
        r#"echo f > $d/f; chmod 640 $d/f; chown 3:6 $d/f
           run -v $d/f:/dev/null -v $d/f:/dev/zero:ro $BB sh -c 'head -n 9 /dev/null /dev/zero; stat -c "%a %u:%g" /dev/null'
           stat -c '%a %u:%g' $d/f"#,
    ))?;
    let shown = ours.stdout.matches("<==\nf\n").count();
    ensure(
        shown == 2 && ours.stdout.ends_with("640 3:6\n640 3:6\n"),
        || ours.to_string(),
    )
}

/// Where the image has a link that leads nowhere yet, or in a circle.
fn on_dangling_links() -> Outcome {
    let ours = same(&in_directory(
        r#"echo f > $d/f; mkdir -p $d/root/bin; cp /bin/busybox $d/root/bin
           for name in sh cat true; do ln -s busybox $d/root/bin/$name; done
           ln -s /no/such/end $d/root/dangling; ln -s second $d/root/first; ln -s third $d/root/second; ln -s circle $d/root/circle
           run -v $d/f:/dangling -v $d/f:/first:ro --rootfs $d/root sh -c 'cat /dangling /no/such/end /third; echo g > /dangling'; cat $d/f
           run -v $d/f:/circle --rootfs $d/root true 2>/dev/null; echo $?
           rm -rf $d/root/no; run -v $d:/dangling --rootfs $d/root true 2>/dev/null; echo $?"#,
    ))?;
    ensure(ours.stdout == "f\nf\nf\ng\n126\n127\n", || ours.to_string())
}

/// A mount of the host's appears in a volume that follows it, and goes; the file server may hold
/// it until it is told with `-l`. What the guest mounts stays the guest's (LIMITS.md).
fn followed_by_the_host() -> Outcome {
    let ours = sh(&in_directory(
        r#"mount --bind $d $d; mount --make-shared $d; mkdir $d/in $d/guests
           create_detached --privileged --name r -v $d:/v:rshared $BB sleep 1000 >/dev/null
           mount -t tmpfs t $d/in; echo hello > $d/in/f; until podman exec r cat /v/in/f 2>/dev/null; do sleep 0.2; done
           umount $d/in 2>/dev/null; echo $?; umount -l $d/in; while podman exec r cat /v/in/f >/dev/null 2>&1; do sleep 0.2; done
           podman exec r sh -c 'mount -t tmpfs t /v/guests; grep -c /v/guests /proc/mounts'; grep -c $d/guests /proc/self/mountinfo
           podman rm -f -t 0 r >/dev/null; umount -l $d"#,
    ))?;
    ensure(ours.stdout == "hello\n32\n1\n0\n", || ours.to_string())
}

/// With the mounts below it or without them, and `:z` where there is no SELinux.
fn what_is_mounted_below() -> Outcome {
    let ours = same(&in_directory(
        r#"mkdir $d/below; mount -t tmpfs none $d/below; touch $d/below/in; list="ls -R /v"
           run -v $d:/v:z $BB $list; run -v $d:/v:rbind $BB $list; run -v $d:/v:bind $BB $list
           run --mount type=bind,src=$d,dst=/v,bind-nonrecursive $BB $list; umount $d/below"#,
    ))?;
    ensure(ours.stdout.matches("in\n").count() == 2, || {
        ours.to_string()
    })
}
