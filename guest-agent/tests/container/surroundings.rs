//! What `Prepare` builds: mounts, devices, masks, names, kernel parameters, hooks.

use std::os::unix::fs::MetadataExt;

use krun_gpu_protocol::{
    Device, DeviceKind, ErrorKind, Hook, MountFlags, MountSource, RequestBody,
};
use libtest_mimic::Trial;

use crate::guest::{Guest, guest_mount, host_mount, run, shell, workload};
use crate::trial;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("mounts_read_as_under_crun", mount_table),
        trial("host_mounts_get_their_flags", host_mounts),
        trial("host_mounts_below_a_guest_tmpfs", below_a_tmpfs),
        trial("host_mounts_over_standard_nodes", over_nodes),
        trial("tmpfs_takes_the_mode_and_the_content", tmpfs_copy_up),
        trial("read_only_root_and_tmpfs", read_only),
        trial("standard_devices", standard_devices),
        trial("more_devices", more_devices),
        trial("masked_and_read_only_paths", masks),
        trial("names_and_kernel_parameters", names),
        trial("bad_surroundings_name_their_field", bad_surroundings),
        trial("hooks_get_the_state", hooks),
        trial("a_failing_hook_stops_the_start", failing_hook),
        trial("a_slow_hook_is_killed", slow_hook),
    ]
}

fn mount_table() {
    let text = shell("cut -d' ' -f1-4 /proc/mounts").stdout;
    let mounts: Vec<&str> = text.lines().skip(1).collect();
    let flags = "nosuid,nodev,noexec,relatime";
    let expected = [
        format!("proc /proc proc rw,{flags}"),
        "tmpfs /dev tmpfs rw,nosuid,size=65536k,mode=755".into(),
        "devpts /dev/pts devpts rw,nosuid,noexec,relatime,gid=5,mode=620,ptmxmode=666".into(),
        format!("mqueue /dev/mqueue mqueue rw,{flags}"),
        format!("tmpfs /dev/shm tmpfs rw,{flags},size=65536k"),
        format!("sysfs /sys sysfs ro,{flags}"),
    ];
    // Some kernels add options of their own, such as inode64.
    for (mount, expected) in mounts.iter().zip(&expected) {
        assert!(mount.starts_with(expected), "{mount} is not {expected}");
    }
    assert!(
        mounts[6].starts_with(&format!("cgroup /sys/fs/cgroup cgroup2 ro,{flags}")),
        "{text}"
    );
    assert_eq!(mounts.len(), 7, "{text}");
}

fn host_mounts() {
    let mut workload = workload(
        "grep -E ' (/etc/hostname|/usr/share) ' /proc/self/mountinfo | cut -d' ' -f4-6; cat /etc/hostname",
    );
    workload.mounts.push(host_mount(
        "/usr/share",
        MountFlags::READ_ONLY | MountFlags::NO_DEV | MountFlags::NO_EXEC | MountFlags::RECURSIVE,
    ));
    workload.mounts.push(host_mount(
        "/etc/hostname",
        MountFlags::READ_ONLY | MountFlags::NO_ATIME,
    ));
    let outcome = run(&workload);
    let name = std::fs::read_to_string("/etc/hostname").unwrap();
    assert_eq!(
        outcome.stdout,
        format!(
            "/usr/share /usr/share ro,nodev,noexec,relatime\n/etc/hostname /etc/hostname ro,noatime\n{name}"
        ),
        "{outcome:?}"
    );
}

fn below_a_tmpfs() {
    let mut workload = workload(
        "ls -A /etc; ls -A /usr; cmp /etc/passwd /usr/share/../../etc/passwd && ls /usr/share | wc -l",
    );
    workload.process.args[2] =
        "echo /etc/*; for f in /etc/passwd; do read line < $f; echo $line; done".into();
    workload.mounts.push(guest_mount(
        "tmpfs",
        "/etc",
        "mode=755",
        MountFlags::empty(),
    ));
    workload
        .mounts
        .push(host_mount("/etc/passwd", MountFlags::READ_ONLY));
    workload
        .mounts
        .push(host_mount("/etc/apt", MountFlags::READ_ONLY));
    let outcome = run(&workload);
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap();
    let first = passwd.lines().next().unwrap();
    assert_eq!(
        outcome.stdout,
        format!("/etc/apt /etc/passwd\n{first}\n"),
        "{outcome:?}"
    );
}

/// Files that the host shows elsewhere; the nodes' mode and owner are not for them.
fn over_nodes() {
    let mut workload = workload("cat /dev/zero; stat -c '%F %a' /dev/zero /dev/null");
    let mut mount = host_mount("/dev/zero", MountFlags::READ_ONLY);
    mount.source = MountSource::Host {
        exported_at: "/etc/shadow".into(),
    };
    workload.mounts.push(mount);
    let outcome = run(&workload);
    let shadow = std::fs::read_to_string("/etc/shadow").unwrap();
    let mode = std::fs::metadata("/etc/shadow").unwrap().mode() & 0o7777;
    assert_eq!(
        outcome.stdout,
        format!("{shadow}regular file {mode:o}\ncharacter special file 666\n"),
        "{outcome:?}"
    );
}

fn tmpfs_copy_up() {
    let mut workload = workload(
        "stat -c '%a %u' /var/tmp /etc/apt /etc/shadow; readlink /etc/mtab; touch /etc/apt/new; stat -c %Y /etc/passwd; ls /etc/apt/apt.conf.d | wc -l",
    );
    workload.mounts.push(guest_mount(
        "tmpfs",
        "/var/tmp",
        "size=1m",
        MountFlags::empty(),
    ));
    let mut copied = guest_mount("tmpfs", "/etc", "", MountFlags::empty());
    if let MountSource::Guest { copy_up, .. } = &mut copied.source {
        *copy_up = true;
    }
    workload.mounts.push(copied);
    let expected = {
        use std::os::unix::fs::MetadataExt;
        let stat = |path: &str| std::fs::metadata(path).unwrap();
        let mode = |path: &str| format!("{:o} {}", stat(path).mode() & 0o7777, stat(path).uid());
        format!(
            "{}\n{}\n{}\n{}\n{}\n{}\n",
            mode("/var/tmp"),
            mode("/etc/apt"),
            mode("/etc/shadow"),
            std::fs::read_link("/etc/mtab").unwrap().display(),
            stat("/etc/passwd").mtime(),
            std::fs::read_dir("/etc/apt/apt.conf.d").unwrap().count()
        )
    };
    let outcome = run(&workload);
    assert_eq!(outcome.stdout, expected, "{outcome:?}");
}

fn read_only() {
    let mut workload = workload(
        "touch /x 2>&1; touch /mnt/x 2>&1; ls /mnt; cut -d' ' -f5,6 /proc/self/mountinfo | cut -d, -f1 | grep -E '^(/|/mnt) '",
    );
    workload.root_readonly = true;
    workload
        .mounts
        .push(guest_mount("tmpfs", "/mnt", "", MountFlags::READ_ONLY));
    workload
        .mounts
        .push(host_mount("/etc/hosts", MountFlags::READ_ONLY));
    workload.devices.push(Device {
        path: "/mnt/nodes/zero".into(),
        kind: DeviceKind::Character,
        major: 1,
        minor: 5,
        mode: 0o600,
        uid: 0,
        gid: 0,
    });
    let outcome = run(&workload);
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    assert!(lines[0].contains("Read-only file system"), "{outcome:?}");
    assert!(lines[1].contains("Read-only file system"), "{outcome:?}");
    assert_eq!(&lines[2..], ["nodes", "/ ro", "/mnt ro"], "{outcome:?}");
}

fn standard_devices() {
    let outcome = shell(
        "cd /dev; for n in null zero full random urandom tty; do stat -c '%n %a %t:%T' $n; done; \
         for l in ptmx fd stdin stdout stderr core; do echo $l $(readlink $l); done; \
         echo x > null; head -c 3 zero | od -An -tx1; ls -A | wc -l",
    );
    assert_eq!(
        outcome.stdout,
        "null 666 1:3\nzero 666 1:5\nfull 666 1:7\nrandom 666 1:8\nurandom 666 1:9\ntty 666 5:0\n\
         ptmx pts/ptmx\nfd /proc/self/fd\nstdin /proc/self/fd/0\nstdout /proc/self/fd/1\n\
         stderr /proc/self/fd/2\ncore /proc/kcore\n 00 00 00\n15\n",
        "{outcome:?}"
    );
}

fn more_devices() {
    let mut workload =
        workload("stat -c '%n %F %a %u:%g %t:%T' /dev/fuse /dev/sub/loop0 /dev/pipe /dev/null");
    let device = |path: &str, kind, major, minor, mode, uid, gid| Device {
        path: path.into(),
        kind,
        major,
        minor,
        mode,
        uid,
        gid,
    };
    workload.devices = vec![
        device("/dev/fuse", DeviceKind::Character, 10, 229, 0o666, 0, 0),
        device("/dev/sub/loop0", DeviceKind::Block, 7, 0, 0o660, 5, 6),
        device("/dev/pipe", DeviceKind::Fifo, 0, 0, 0o622, 1, 2),
        device("/dev/null", DeviceKind::Character, 1, 3, 0o600, 0, 3),
    ];
    let outcome = run(&workload);
    assert_eq!(
        outcome.stdout,
        "/dev/fuse character special file 666 0:0 a:e5\n/dev/sub/loop0 block special file 660 5:6 7:0\n\
         /dev/pipe fifo 622 1:2 0:0\n/dev/null character special file 600 0:3 1:3\n",
        "{outcome:?}"
    );
}

fn masks() {
    let mut workload = workload(
        "cat /proc/timer_list /proc/keys; ls -A /sys/firmware /proc/fs; \
         grep -E ' (/proc/(timer_list|keys|bus|sys|fs)|/sys/firmware) ' /proc/self/mountinfo | cut -d' ' -f4-6; \
         echo 1 > /proc/sys/vm/drop_caches",
    );
    workload.masked_paths = [
        "/proc/timer_list",
        "/proc/keys",
        "/sys/firmware",
        "/proc/fs",
        "/proc/no-such",
    ]
    .map(String::from)
    .into();
    workload.readonly_paths = ["/proc/bus", "/proc/sys", "/no/such"]
        .map(String::from)
        .into();
    let outcome = run(&workload);
    let flags = "ro,nosuid,nodev,noexec,relatime";
    let listing = outcome
        .stdout
        .strip_prefix("/proc/fs:\n\n/sys/firmware:\n")
        .unwrap();
    let mut lines: Vec<&str> = listing.lines().collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "/ /proc/fs ro,relatime",
            "/ /sys/firmware ro,relatime",
            &format!("/bus /proc/bus {flags}"),
            "/null /proc/keys ro,relatime",
            "/null /proc/timer_list ro,relatime",
            &format!("/sys /proc/sys {flags}"),
        ]
        .map(|line: &str| line),
        "{outcome:?}"
    );
    assert!(
        outcome.stderr.contains("Read-only file system"),
        "{outcome:?}"
    );
}

fn names() {
    let mut workload = workload(
        "hostname; cat /proc/sys/kernel/domainname /proc/sys/kernel/msgmax /proc/sys/net/ipv4/ip_forward",
    );
    workload.domainname = Some("example.org".into());
    workload.sysctl = vec![
        ("kernel.msgmax".into(), "12345".into()),
        ("net.ipv4.ip_forward".into(), "1".into()),
    ];
    assert_eq!(run(&workload).stdout, "krun-test\nexample.org\n12345\n1\n");
}

fn bad_surroundings() {
    let prepare = |change: fn(&mut krun_gpu_protocol::Workload)| {
        let mut workload = workload("true");
        change(&mut workload);
        let mut guest = Guest::boot();
        let error = guest
            .ask(RequestBody::Prepare(Box::new(workload)))
            .unwrap_err();
        (error.kind, error.message)
    };
    assert_eq!(
        prepare(|workload| workload.mounts.push(guest_mount(
            "tmpfs",
            "/mnt",
            "size=big",
            MountFlags::empty()
        ))),
        (
            ErrorKind::Failed,
            "mount `/mnt`: tmpfs option `size=big`: Invalid argument".into()
        )
    );
    assert_eq!(
        prepare(|workload| workload.mounts.push(guest_mount(
            "nofs",
            "/mnt",
            "",
            MountFlags::empty()
        ))),
        (
            ErrorKind::Failed,
            "mount `/mnt`: file system type `nofs`: No such device".into()
        )
    );
    assert_eq!(
        prepare(|workload| workload
            .mounts
            .push(host_mount("/no/such", MountFlags::empty()))),
        (
            ErrorKind::Failed,
            "find the host's mount `/no/such` in the exported tree: No such file or directory"
                .into()
        )
    );
    assert_eq!(
        prepare(|workload| workload.sysctl.push(("kernel.no_such".into(), "1".into()))),
        (
            ErrorKind::Failed,
            "write `1` to sysctl `kernel.no_such`: No such file or directory".into()
        )
    );
    assert_eq!(
        prepare(|workload| workload.process.cwd = "tmp".into()),
        (
            ErrorKind::Refused,
            "process.cwd `tmp` is not an absolute path".into()
        )
    );
}

fn hook(script: &str, timeout: Option<u32>) -> Hook {
    Hook {
        path: "/bin/sh".into(),
        args: ["hook", "-c", script].map(String::from).into(),
        env: None,
        timeout,
    }
}

fn hooks() {
    let mut workload = workload("cat /dev/shm/*");
    workload.start_container_hooks = vec![
        hook("cat > /dev/shm/1; echo >> /dev/shm/1", None),
        hook(
            "echo $0 $TERM > /dev/shm/2; kill -0 1 && echo inside >> /dev/shm/2",
            Some(10),
        ),
    ];
    let outcome = run(&workload);
    assert_eq!(
        outcome.stdout, "{\"id\":\"test\"}\nhook xterm\ninside\n",
        "{outcome:?}"
    );
}

fn start_with(hook: Hook) -> String {
    let mut workload = workload("echo never");
    workload.start_container_hooks = vec![hook];
    let mut guest = Guest::boot();
    guest.ask(RequestBody::Prepare(Box::new(workload))).unwrap();
    guest
        .ask(RequestBody::Start {
            interfaces: Vec::new(),
        })
        .unwrap_err()
        .message
}

fn failing_hook() {
    assert_eq!(
        start_with(hook("exit 3", None)),
        "the startContainer hook `/bin/sh` failed: exit status: 3"
    );
}

fn slow_hook() {
    assert_eq!(
        start_with(hook("sleep 100", Some(1))),
        "the startContainer hook `/bin/sh` did not end within 1 s"
    );
}
