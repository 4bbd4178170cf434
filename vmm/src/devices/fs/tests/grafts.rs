//! Directories that appear where the exported one has none.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use fuse_backend_rs::abi::fuse_abi::{Opcode, OpenOut, ReadIn};
use fuse_backend_rs::api::filesystem::ROOT_ID;
use tempfile::{TempDir, tempdir};
use vm_memory::ByteValued;

use super::{Fs, FsConfig, Guest};
use crate::devices::fs::{FsError, Graft};

/// A tree with `spare/etc/vulkan/icd.d` to be seen at `/etc/vulkan/icd.d`, and `etc`.
fn host() -> TempDir {
    let host = tempdir().unwrap();
    fs::create_dir_all(host.path().join("spare/etc/vulkan/icd.d")).unwrap();
    fs::write(host.path().join("spare/etc/vulkan/icd.d/mark"), "").unwrap();
    fs::create_dir(host.path().join("etc")).unwrap();
    host
}

fn config(directory: &Path) -> FsConfig {
    FsConfig {
        grafts: vec![Graft {
            base: "/spare".into(),
            path: "/etc/vulkan/icd.d".into(),
        }],
        ..FsConfig::new("test", directory, 1)
    }
}

#[test]
fn a_missing_directory_appears_and_is_not_written_to_its_parent() {
    let host = host();
    let mut guest = Guest::with(&config(host.path()));
    let first = guest.walk(&[c"etc", c"vulkan", c"icd.d"]);
    guest.lookup(first, c"mark").unwrap();
    let etc = guest.walk(&[c"etc"]);
    assert_eq!(guest.lookup(etc, c"other").unwrap_err(), libc::ENOENT);
    assert_eq!(guest.lookup(ROOT_ID, c"vulkan").unwrap_err(), libc::ENOENT);
    // The guest's kernel asks again and again whether it is still the same.
    assert_eq!(guest.walk(&[c"etc", c"vulkan", c"icd.d"]), first);
    let open: OpenOut = guest.ask(Opcode::Opendir, etc, &[&[0; 8]]).unwrap();
    let body = ReadIn {
        fh: open.fh,
        size: 4096,
        ..Default::default()
    };
    let listing = guest.call(Opcode::Readdir, etc, &[body.as_slice()], 4096);
    assert!(!listing.unwrap().windows(6).any(|name| name == b"vulkan"));
    assert_eq!(fs::read_dir(host.path().join("etc")).unwrap().count(), 0);
}

#[test]
fn only_what_is_missing_is_grafted() {
    let host = host();
    fs::create_dir(host.path().join("real")).unwrap();
    symlink("/real", host.path().join("etc/vulkan")).unwrap();
    let mut guest = Guest::with(&config(host.path()));
    let icd = guest.walk(&[c"real", c"icd.d"]);
    guest.lookup(icd, c"mark").unwrap();
    drop(guest);
    fs::create_dir(host.path().join("real/icd.d")).unwrap();
    let mut guest = Guest::with(&config(host.path()));
    let icd = guest.walk(&[c"real", c"icd.d"]);
    assert_eq!(guest.lookup(icd, c"mark").unwrap_err(), libc::ENOENT);
}

#[test]
fn what_somebody_makes_there_wins() {
    let host = host();
    let mut guest = Guest::with(&config(host.path()));
    let etc = guest.walk(&[c"etc"]);
    guest.lookup(etc, c"vulkan").unwrap();
    fs::write(host.path().join("etc/vulkan"), "contents").unwrap();
    assert_eq!(guest.lookup(etc, c"vulkan").unwrap().attr.size, 8);
}

#[test]
fn nothing_is_grafted_into_the_root_or_over_a_file() {
    let host = host();
    fs::remove_dir(host.path().join("etc")).unwrap();
    let mut guest = Guest::with(&config(host.path()));
    assert_eq!(guest.lookup(ROOT_ID, c"etc").unwrap_err(), libc::ENOENT);
    drop(guest);
    fs::write(host.path().join("etc"), "").unwrap();
    let mut guest = Guest::with(&config(host.path()));
    let etc = guest.walk(&[c"etc"]);
    assert_eq!(guest.lookup(etc, c"vulkan").unwrap_err(), libc::ENOTDIR);
}

#[test]
fn a_graft_of_nothing_is_an_error() {
    let host = host();
    fs::remove_dir_all(host.path().join("spare")).unwrap();
    let error = Fs::new(&config(host.path())).map(drop).unwrap_err();
    assert!(matches!(error, FsError::Graft { .. }), "{error:?}");
}
