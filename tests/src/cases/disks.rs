//! Block devices of the host's in the container.

use crate::harness::command::sh_as_user;
use crate::harness::{Case, Outcome, ensure, images, same, sh};

pub(super) const CASES: &[Case] = &[
    Case {
        name: "disks::read_and_written",
        run: read_and_written,
    },
    Case {
        name: "disks::file_system",
        run: file_system,
    },
    Case {
        name: "disks::refused",
        run: refused,
    },
    Case {
        name: "disks::not_for_users",
        run: not_for_users,
    },
];

/// `script` with a loop device `$dev` of 16 MiB over the file `$f`. The device must go at the end:
/// it does only when nobody has it open.
fn with_device(script: &str) -> String {
    format!(
        "f=$(mktemp); truncate -s 16M $f; modprobe loop; dev=$(losetup --find --show $f); chmod 640 $dev; chown 3:6 $dev
         sector() {{ dd if=$1 bs=512 skip=$2 count=1 2>/dev/null | tr -d '\\0'; }}
         {script}
         losetup -d $dev; losetup --list | grep -c $f; rm $f"
    )
}

/// Both ways, through a node with the host's mode and owner; `:r` is for reading alone, and so is
/// what the host has made read-only.
fn read_and_written() -> Outcome {
    let ours = same(&with_device(
        r#"look='sector() { dd if=$1 bs=512 skip=$2 count=1 2>/dev/null | tr -d "\0"; }; stat -c "%F %a %u:%g" /dev/xvda; blockdev --getsize64 /dev/xvda; sector /dev/xvda 3'
           echo of the host | dd of=$dev bs=512 seek=3 conv=sync,fsync 2>/dev/null
           run --device $dev:/dev/xvda --device $dev:/dev/again $BB sh -c "$look; echo of the guest | dd of=/dev/xvda bs=512 seek=32767 conv=sync,fsync 2>/dev/null; sector /dev/again 32767; echo x | dd of=/dev/xvda bs=512 seek=32768 conv=sync 2>/dev/null || echo full"
           sector $dev 32767; sector $f 32767
           run --device $dev:/dev/xvda:r $BB sh -c "$look; echo more | dd of=/dev/xvda bs=512 seek=3 conv=sync,fsync 2>/dev/null || echo refused"
           sector $f 3; blockdev --setro $dev
           run --device $dev:/dev/xvda $BB sh -c "$look; echo more | dd of=/dev/xvda bs=512 seek=3 conv=sync,fsync 2>/dev/null || echo refused"
           sector $f 3; blockdev --setrw $dev"#,
    ))?;
    let node = "block special file 640 3:6\n16777216\nof the host\n";
    let expected = format!(
        "{node}of the guest\nfull\nof the guest\nof the guest\n{node}refused\nof the host\n{node}refused\nof the host\n0\n"
    );
    ensure(ours.stdout == expected, || ours.to_string())
}

/// Made on the host, mounted and written in the container, read on the host again; also what a
/// container left mounted at its end.
fn file_system() -> Outcome {
    let ours = same(&with_device(
        r#"mkfs.ext4 -q $dev; m=$(mktemp -d)
           run --cap-add SYS_ADMIN --device $dev:/dev/xvda $BB sh -c 'mkdir /m; mount -t ext4 /dev/xvda /m && dd if=/dev/urandom of=/m/f bs=64k count=50 2>/dev/null; md5sum </m/f >/m/sum; umount /m && echo done'
           e2fsck -fn $dev >/dev/null 2>&1; echo $?
           run --cap-add SYS_ADMIN --device $dev:/dev/xvda $BB sh -c 'mkdir /m; mount -t ext4 /dev/xvda /m; echo left mounted >/m/g'
           mount $dev $m; md5sum <$m/f | cmp - $m/sum && echo same; cat $m/g; umount $m; rmdir $m"#,
    ))?;
    ensure(ours.stdout == "done\n0\nsame\nleft mounted\n0\n", || {
        ours.to_string()
    })
}

/// A disk that two kernels would write, and more of them than there are places for (LIMITS.md).
fn refused() -> Outcome {
    let ours = sh(&with_device(
        "mkfs.ext4 -q $dev; m=$(mktemp -d); mount $dev $m
         run --device $dev:/dev/xvda $BB true; echo $?
         run --device $dev:/dev/xvda:r $BB sh -c 'dd if=/dev/xvda of=/dev/null 2>/dev/null && echo read'
         umount $m; rmdir $m; others=; all=
         for i in 1 2 3 4 5; do o=$(losetup --find --show $f); others=\"$others $o\"; all=\"$all --device $o\"; done
         run --device $dev:/dev/xvda $all $BB true; echo $?
         run $all $BB sh -c 'ls /dev | grep -c loop'
         run --privileged $BB sh -c 'ls /dev | grep -c loop'
         for o in $others; do losetup -d $o; done",
    ))?;
    ensure(ours.stdout == "126\nread\n126\n5\n0\n0\n", || {
        ours.to_string()
    })?;
    for words in [
        "linux.devices[0]: device /dev/xvda: /dev/loop",
        "is busy: it is mounted on the host",
        "room for 5 block devices",
    ] {
        ensure(ours.stderr.contains(words), || ours.to_string())?;
    }
    Ok(())
}

/// An ordinary user's Podman asks for a device by a bind mount, and by `--privileged` for all that
/// there are: the former is refused, the latter leaves disks out (LIMITS.md).
fn not_for_users() -> Outcome {
    images::busybox_of_user()?;
    let made = sh(
        "truncate -s 1M /tmp/disk; modprobe loop; dev=$(losetup --find --show /tmp/disk); chmod 666 $dev; echo $dev",
    )?;
    let device = made.stdout.trim();
    let ours = sh_as_user(
        "krun-gpu",
        &format!(
            "run --device {device}:/dev/xvda $BB true || echo refused
             run --privileged $BB sh -c 'ls /dev | grep -c loop'"
        ),
    );
    sh(&format!("losetup -d {device}; rm /tmp/disk"))?;
    let ours = ours?;
    ensure(
        ours.stdout == "refused\n0\n"
            && ours.stderr.contains("/dev/xvda")
            && ours.stderr.contains("and not as a bind mount"),
        || format!("{device}: {ours}"),
    )
}
