//! Mounts beneath the exported directory, and a `/proc` that goes away. Each test has a mount
//! namespace of its own, which needs root.

use std::ffi::CStr;
use std::fs;
use std::path::Path;

use fuse_backend_rs::abi::fuse_abi::{
    ATTR_SUBMOUNT, EntryOut, Kstatfs, LinkIn, Opcode, OpenOut, ReadIn, Rename2In, SetattrIn,
};
use fuse_backend_rs::api::filesystem::{ROOT_ID, SetattrValid};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_change,
    mount_remount, unmount,
};
use rustix::thread::UnshareFlags;
use tempfile::tempdir;
use vm_memory::ByteValued;

use super::{Guest, is_root};

/// Runs a test on a thread with a mount namespace of its own, on a directory that is there until
/// the namespace is gone.
fn in_namespace(name: &str, test: impl FnOnce(&Path) + Send) {
    if !is_root(name) {
        return;
    }
    let directory = tempdir().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // SAFETY: only this new thread is affected, and it uses no path of another's.
            unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }.unwrap();
            mount_change(
                "/",
                MountPropagationFlags::REC | MountPropagationFlags::PRIVATE,
            )
            .unwrap();
            test(directory.path());
        });
    });
}

fn mount_tmpfs(target: &Path) {
    // A size that no other file system has.
    let data: &CStr = c"size=1m";
    mount("test", target, "tmpfs", MountFlags::empty(), data).unwrap();
}

fn is_submount(entry: &EntryOut) -> bool {
    entry.attr.flags & ATTR_SUBMOUNT != 0
}

#[test]
fn mounts_are_announced() {
    in_namespace("mounts_are_announced", |host| {
        let elsewhere = tempdir().unwrap();
        for name in ["tmpfs", "bind", "plain"] {
            fs::create_dir(host.join(name)).unwrap();
        }
        fs::write(host.join("file"), "").unwrap();
        fs::write(host.join("same"), "contents").unwrap();
        mount_tmpfs(&host.join("tmpfs"));
        fs::create_dir(host.join("tmpfs/inner")).unwrap();
        // The same file system as the directory's: only the mount differs.
        fs::create_dir(elsewhere.path().join("inner")).unwrap();
        mount_bind(elsewhere.path(), host.join("bind")).unwrap();
        mount_bind(host.join("same"), host.join("file")).unwrap();

        let mut guest = Guest::new(host);
        for (name, submount) in [(c"tmpfs", true), (c"bind", true), (c"plain", false)] {
            let entry = guest.lookup(ROOT_ID, name).unwrap();
            assert_eq!(is_submount(&entry), submount, "{name:?}");
            if submount {
                let inner = guest.lookup(entry.nodeid, c"inner").unwrap();
                assert!(!is_submount(&inner));
            }
        }
        // Two names for one file on two mounts: two files for the guest, or it would have one
        // inode with the flags of whichever mount came first.
        let (file, same) = (guest.walk(&[c"file"]), guest.walk(&[c"same"]));
        assert_ne!(file, same);
        let open = guest.open(file, libc::O_RDONLY).unwrap();
        assert_eq!(guest.read(file, open.fh, 0, 8).unwrap(), b"contents");

        let tmpfs = guest.walk(&[c"tmpfs"]);
        let mut blocks = |node| {
            guest
                .ask::<Kstatfs>(Opcode::Statfs, node, &[])
                .unwrap()
                .blocks
        };
        assert_ne!(blocks(tmpfs), blocks(ROOT_ID));
        let body = Rename2In {
            newdir: tmpfs,
            flags: 0,
            padding: 0,
        };
        let renamed = guest.tell(
            Opcode::Rename2,
            ROOT_ID,
            &[body.as_slice(), b"same\0moved\0"],
        );
        assert_eq!(renamed, Err(libc::EXDEV));
    });
}

#[test]
fn listings_announce_mounts_too() {
    in_namespace("listings_announce_mounts_too", |host| {
        fs::create_dir(host.join("mnt")).unwrap();
        mount_tmpfs(&host.join("mnt"));
        let mut guest = Guest::new(host);
        let open: OpenOut = guest.ask(Opcode::Opendir, ROOT_ID, &[&[0; 8]]).unwrap();
        let body = ReadIn {
            fh: open.fh,
            size: 4096,
            ..Default::default()
        };
        let page = guest
            .call(Opcode::Readdirplus, ROOT_ID, &[body.as_slice()], 4096)
            .unwrap();
        let known: Vec<EntryOut> = page
            .chunks_exact(128 + 32)
            .map(|chunk| *EntryOut::from_slice(&chunk[..128]).unwrap())
            .filter(|entry| entry.nodeid != 0)
            .collect();
        assert_eq!(known.len(), 1);
        assert!(is_submount(&known[0]));
    });
}

#[test]
fn a_read_only_mount_is_the_hosts_to_keep() {
    in_namespace("a_read_only_mount_is_the_hosts_to_keep", |host| {
        let volume = host.join("volume");
        fs::create_dir(&volume).unwrap();
        fs::write(volume.join("file"), "").unwrap();
        mount_bind(&volume, &volume).unwrap();
        mount_remount(&volume, MountFlags::BIND | MountFlags::RDONLY, c"").unwrap();
        let mut guest = Guest::new(host);
        let parent = guest.walk(&[c"volume"]);
        let file = guest.walk(&[c"volume", c"file"]);
        assert_eq!(guest.create(parent, c"new", 0o600, 0), Err(libc::EROFS));
        assert_eq!(guest.open(file, libc::O_RDWR).unwrap_err(), libc::EROFS);
        assert_eq!(
            guest.tell(Opcode::Unlink, parent, &[b"file\0"]),
            Err(libc::EROFS)
        );
        assert_eq!(guest.set_attribute(file, c"user.a", b"b"), Err(libc::EROFS));
        let chmod = SetattrIn {
            valid: SetattrValid::MODE.bits(),
            ..Default::default()
        };
        let chmod = guest.call(Opcode::Setattr, file, &[chmod.as_slice()], 104);
        assert_eq!(chmod.unwrap_err(), libc::EROFS);
    });
}

#[test]
fn nothing_needs_proc_once_the_device_is_made() {
    in_namespace("nothing_needs_proc_once_the_device_is_made", |host| {
        fs::write(host.join("file"), "contents").unwrap();
        fs::write(host.join("victim"), "").unwrap();
        let mut guest = Guest::new(host);
        unmount("/proc", UnmountFlags::DETACH).unwrap();
        // What the guest could put in its place: every descriptor is a link to another file.
        mount_tmpfs(Path::new("/proc"));
        fs::create_dir_all("/proc/self/fd").unwrap();
        for number in 0..200 {
            let link = format!("/proc/self/fd/{number}");
            std::os::unix::fs::symlink(host.join("victim"), link).unwrap();
        }
        let node = guest.walk(&[c"file"]);
        let fh = guest.open(node, libc::O_RDWR).unwrap().fh;
        assert_eq!(guest.read(node, fh, 0, 100).unwrap(), b"contents");
        let valid = (SetattrValid::MODE | SetattrValid::MTIME | SetattrValid::SIZE).bits();
        let body = SetattrIn {
            valid,
            mode: 0o100_600,
            mtime: 7,
            size: 1,
            ..Default::default()
        };
        guest
            .call(Opcode::Setattr, node, &[body.as_slice()], 104)
            .unwrap();
        let link = [LinkIn { oldnodeid: node }.as_slice(), b"link\0"].concat();
        guest
            .ask::<EntryOut>(Opcode::Link, ROOT_ID, &[&link])
            .unwrap();
        guest.create(ROOT_ID, c"new", 0o600, 0).unwrap();
        match guest.set_attribute(node, c"user.a", b"b") {
            Err(libc::EOPNOTSUPP) => eprintln!("left out: no user attributes here"),
            result => {
                result.unwrap();
                assert_eq!(guest.attribute(node, c"user.a", 10).unwrap(), b"b");
            }
        }
        assert_eq!(fs::read(host.join("link")).unwrap(), b"c");
        let victim = host.join("victim");
        assert!(rustix::fs::listxattr_query(&victim).unwrap_or(0) == 0);
        assert_eq!(fs::metadata(&victim).unwrap().len(), 0);
    });
}
