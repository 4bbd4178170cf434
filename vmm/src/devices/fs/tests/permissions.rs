//! Owners, modes, access control lists and extended attributes.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

use fuse_backend_rs::abi::fuse_abi::{
    EntryOut, GetxattrIn, MkdirIn, Opcode, SetattrIn, WRITE_KILL_PRIV,
};
use fuse_backend_rs::api::filesystem::{ROOT_ID, SetattrValid};
use tempfile::tempdir;
use vm_memory::ByteValued;

use super::{Guest, ROOT, is_root};

#[test]
fn new_files_belong_to_whoever_makes_them() {
    if !is_root("new_files_belong_to_whoever_makes_them") {
        return;
    }
    let directory = tempdir().unwrap();
    let host = directory.path();
    // Writable for a group that the guest's process has as a supplementary one.
    fs::create_dir(host.join("staff")).unwrap();
    chown(host.join("staff"), None, Some(50)).unwrap();
    fs::set_permissions(host.join("staff"), fs::Permissions::from_mode(0o2775)).unwrap();
    let mut guest = Guest::new(host);
    let staff = guest.walk(&[c"staff"]);
    guest.by = (1000, 1001);
    guest.create(staff, c"file", 0o666, 0o027).unwrap();
    let mkdir = MkdirIn {
        mode: 0o777,
        umask: 0o022,
    };
    guest
        .ask::<EntryOut>(Opcode::Mkdir, staff, &[mkdir.as_slice(), b"dir\0"])
        .unwrap();
    guest
        .ask::<EntryOut>(Opcode::Symlink, ROOT_ID, &[b"link\0target\0"])
        .unwrap();
    guest.by = ROOT;
    guest.create(ROOT_ID, c"roots", 0o644, 0).unwrap();

    let owned = |path: &str| {
        let of = fs::symlink_metadata(host.join(path)).unwrap();
        (of.uid(), of.gid(), of.mode() & 0o7777)
    };
    assert_eq!(owned("staff/file"), (1000, 50, 0o640));
    assert_eq!(owned("staff/dir"), (1000, 50, 0o2755));
    assert_eq!(owned("link"), (1000, 1001, 0o777));
    assert_eq!(owned("roots"), (0, 0, 0o644));
}

#[test]
fn an_id_that_is_none_is_refused() {
    if !is_root("an_id_that_is_none_is_refused") {
        return;
    }
    let directory = tempdir().unwrap();
    let mut guest = Guest::new(directory.path());
    for by in [(u32::MAX, 0), (0, u32::MAX)] {
        guest.by = by;
        assert_eq!(guest.create(ROOT_ID, c"file", 0o600, 0), Err(libc::EINVAL));
    }
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn writing_takes_set_id_bits_where_it_should() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("tool");
    fs::write(&path, "tool").unwrap();
    let mut guest = Guest::new(directory.path());
    let node = guest.walk(&[c"tool"]);
    let fh = guest.open(node, libc::O_RDWR).unwrap().fh;
    let set = || fs::set_permissions(&path, fs::Permissions::from_mode(0o6755)).unwrap();
    let mode = || fs::metadata(&path).unwrap().mode() & 0o7777;
    set();
    if is_root("that root's writes leave set-id bits alone") {
        guest.write((node, fh), 0, b"x", (0, 0)).unwrap();
        assert_eq!(mode(), 0o6755);
    }
    guest
        .write((node, fh), 0, b"x", (WRITE_KILL_PRIV, 0))
        .unwrap();
    assert_eq!(mode(), 0o755);
    set();
    let valid = (SetattrValid::SIZE | SetattrValid::KILL_SUIDGID).bits();
    let body = SetattrIn {
        valid,
        size: 1,
        ..Default::default()
    };
    guest
        .call(Opcode::Setattr, node, &[body.as_slice()], 104)
        .unwrap();
    assert_eq!(mode(), 0o755);
}

#[test]
fn extended_attributes_are_those_of_the_host() {
    let directory = tempdir().unwrap();
    let host = directory.path();
    fs::write(host.join("f"), "").unwrap();
    let mut guest = Guest::new(host);
    let node = guest.walk(&[c"f"]);
    match guest.set_attribute(node, c"user.colour", b"blue") {
        Err(libc::EOPNOTSUPP) => return eprintln!("left out: no user attributes here"),
        result => result.unwrap(),
    }
    assert_eq!(guest.attribute(node, c"user.colour", 100).unwrap(), b"blue");
    assert_eq!(guest.attribute(node, c"user.colour", 0).unwrap()[0], 4);
    assert_eq!(guest.attribute(node, c"user.colour", 2), Err(libc::ERANGE));
    assert_eq!(guest.attribute(node, c"user.none", 100), Err(libc::ENODATA));
    assert_eq!(
        guest.set_attribute(node, c"trusted.x", b""),
        Err(libc::EOPNOTSUPP)
    );
    assert_eq!(
        guest.attribute(node, c"security.selinux", 9),
        Err(libc::EOPNOTSUPP)
    );
    if is_root("that the host's own attributes are hidden") {
        rustix::fs::setxattr(
            host.join("f"),
            c"trusted.secret",
            b"x",
            rustix::fs::XattrFlags::empty(),
        )
        .unwrap();
    }
    let mut list = |size| {
        let body = GetxattrIn { size, padding: 0 };
        guest.call(Opcode::Listxattr, node, &[body.as_slice()], size.max(8))
    };
    assert_eq!(list(100).unwrap(), b"user.colour\0");
    assert_eq!(list(0).unwrap()[0], 12);
    assert_eq!(list(5), Err(libc::ERANGE));
    assert_eq!(
        guest.tell(Opcode::Removexattr, node, &[b"user.colour\0"]),
        Ok(())
    );
    let left = rustix::fs::getxattr(host.join("f"), c"user.colour", &mut [0u8; 9]);
    assert_eq!(left.unwrap_err(), rustix::io::Errno::NODATA);
}

#[test]
fn a_default_access_control_list_overrides_the_umask() {
    let directory = tempdir().unwrap();
    let mut guest = Guest::new(directory.path());
    // Version 2; user, group and other, each with all permissions.
    let list = [&2u32.to_le_bytes()[..], &acl(1, 7), &acl(4, 7), &acl(32, 7)].concat();
    match guest.set_attribute(ROOT_ID, c"system.posix_acl_default", &list) {
        Err(libc::EOPNOTSUPP) => return eprintln!("left out: no access control lists here"),
        result => result.unwrap(),
    }
    guest.create(ROOT_ID, c"file", 0o666, 0o077).unwrap();
    let mode = fs::metadata(directory.path().join("file")).unwrap().mode();
    assert_eq!(mode & 0o777, 0o666);
}

/// An entry of an access control list, as an extended attribute has it.
fn acl(tag: u16, permissions: u16) -> [u8; 8] {
    let mut entry = [0xff; 8];
    entry[0..2].copy_from_slice(&tag.to_le_bytes());
    entry[2..4].copy_from_slice(&permissions.to_le_bytes());
    entry
}
