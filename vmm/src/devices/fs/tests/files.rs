//! What a guest does to files, and what the host then sees.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::thread;
use std::time::Duration;

use fuse_backend_rs::abi::fuse_abi::{
    AttrOut, EntryOut, FallocateIn, LinkIn, LseekIn, LseekOut, MknodIn, Opcode, OpenOut, ReadIn,
    Rename2In, SetattrIn, WRITE_CACHE,
};
use fuse_backend_rs::api::filesystem::{FsOptions, OpenOptions, ROOT_ID, SetattrValid};
use tempfile::tempdir;
use vm_memory::ByteValued;

use super::{Answer, Guest};

#[test]
fn the_options_are_those_that_are_meant() {
    let directory = tempdir().unwrap();
    let mut guest = Guest::new(directory.path());
    let options = guest.mount();
    for option in [
        FsOptions::POSIX_ACL,
        FsOptions::SUBMOUNTS,
        FsOptions::HANDLE_KILLPRIV_V2,
    ] {
        assert!(options.contains(option), "{option:?}");
    }
    for option in [
        FsOptions::WRITEBACK_CACHE,
        FsOptions::POSIX_LOCKS,
        FsOptions::EXPORT_SUPPORT,
        FsOptions::ZERO_MESSAGE_OPEN,
    ] {
        assert!(!options.contains(option), "{option:?}");
    }
}

#[test]
fn what_is_written_is_on_the_host_at_once() {
    let directory = tempdir().unwrap();
    let mut guest = Guest::new(directory.path());
    let (node, fh) = guest.create(ROOT_ID, c"file", 0o640, 0).unwrap();
    let data: Vec<u8> = (0..=255).cycle().take(1 << 20).collect();
    assert_eq!(guest.write((node, fh), 4096, &data, (0, 0)), Ok(1 << 20));
    let host = fs::read(directory.path().join("file")).unwrap();
    assert!(host[..4096].iter().all(|byte| *byte == 0) && host[4096..] == data);

    assert!(guest.read(node, fh, 4096, 1 << 20).unwrap() == data);
    assert_eq!(
        guest.read(node, fh, 4096 + (1 << 20) - 3, 100).unwrap(),
        data[data.len() - 3..]
    );
    assert_eq!(guest.read(node, fh, 1 << 40, 100).unwrap(), []);
    let hole = LseekIn {
        fh,
        offset: 0,
        whence: 3,
        ..Default::default()
    };
    let found: LseekOut = guest.ask(Opcode::Lseek, node, &[hole.as_slice()]).unwrap();
    assert!(found.offset <= 4096);
    let more = FallocateIn {
        fh,
        offset: 0,
        length: 2 << 20,
        ..Default::default()
    };
    guest
        .tell(Opcode::Fallocate, node, &[more.as_slice()])
        .unwrap();
    assert_eq!(
        fs::metadata(directory.path().join("file")).unwrap().len(),
        2 << 20
    );
    guest.release(Opcode::Release, node, fh).unwrap();
    assert_eq!(guest.read(node, fh, 0, 1), Err(libc::EBADF));
}

#[test]
fn appending_is_at_the_end_that_the_host_knows() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("log");
    fs::write(&path, "host ").unwrap();
    let mut guest = Guest::new(directory.path());
    let node = guest.walk(&[c"log"]);
    let fh = guest.open(node, libc::O_RDWR | libc::O_APPEND).unwrap().fh;
    fs::write(&path, "host host ").unwrap();
    // The guest believes that the file ends at 5.
    guest
        .write((node, fh), 5, b"guest", (0, libc::O_APPEND))
        .unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"host host guest");
    // Pages of a shared mapping come back with an offset that counts, on the same handle.
    guest
        .write((node, fh), 0, b"HOST", (WRITE_CACHE, libc::O_APPEND))
        .unwrap();
    guest.write((node, fh), 5, b"HOST", (0, 0)).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"HOST HOST guest");
}

#[test]
fn a_size_that_the_host_changed_is_asked_for_again_before_an_open() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("hosts");
    fs::write(&path, "").unwrap();
    let mut guest = Guest::new(directory.path());
    let node = guest.walk(&[c"hosts"]);
    let mut open = || {
        let open = guest.open(node, libc::O_RDONLY);
        open.and_then(|open| guest.release(Opcode::Release, node, open.fh))
    };
    assert_eq!(open(), Ok(()));
    fs::write(&path, "1.2.3.4 name").unwrap();
    // Linux looks it up and tries again, once: a file that keeps growing opens all the same.
    assert_eq!(open(), Err(libc::ESTALE));
    assert_eq!(open(), Ok(()));
    thread::sleep(Duration::from_millis(1100));
    assert_eq!(open(), Err(libc::ESTALE));
    assert_eq!(guest.walk(&[c"hosts"]), node);
    thread::sleep(Duration::from_millis(1100));
    let fh = guest.open(node, libc::O_RDWR).unwrap().fh;
    // What the guest does itself it knows.
    guest.write((node, fh), 12, b" again", (0, 0)).unwrap();
    assert!(guest.open(node, libc::O_RDONLY).is_ok());
}

#[test]
fn pages_are_kept_until_the_host_changes_the_file() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("file");
    fs::write(&path, "one").unwrap();
    let mut guest = Guest::new(directory.path());
    let node = guest.walk(&[c"file"]);
    let mut is_kept = || {
        let open = guest.open(node, libc::O_RDONLY).unwrap();
        guest.release(Opcode::Release, node, open.fh).unwrap();
        OpenOptions::from_bits_truncate(open.open_flags).contains(OpenOptions::KEEP_CACHE)
    };
    // A change in the same tick of the clock as the last one would go unseen. A busy machine may
    // let a tick pass between two looks.
    let seen_at_once = (0..20).any(|_| {
        fs::write(&path, "one").unwrap();
        [is_kept(), is_kept()] == [false, false]
    });
    assert!(seen_at_once);
    thread::sleep(Duration::from_millis(50));
    assert_eq!([is_kept(), is_kept(), is_kept()], [false, true, true]);
    fs::write(&path, "two").unwrap();
    assert!(!is_kept());
}

#[test]
fn names_are_linked_renamed_and_removed() {
    let directory = tempdir().unwrap();
    let host = directory.path();
    let mut guest = Guest::new(host);
    let (node, _) = guest.create(ROOT_ID, c"a", 0o600, 0).unwrap();
    let parts = [LinkIn { oldnodeid: node }.as_slice(), b"b\0"].concat();
    let entry: EntryOut = guest.ask(Opcode::Link, ROOT_ID, &[&parts]).unwrap();
    assert_eq!((entry.nodeid, entry.attr.nlink), (node, 2));

    let mut rename = |flags, names: &[u8]| {
        let body = Rename2In {
            newdir: ROOT_ID,
            flags,
            padding: 0,
        };
        guest.tell(Opcode::Rename2, ROOT_ID, &[body.as_slice(), names])
    };
    fs::write(host.join("other"), "x").unwrap();
    assert_eq!(
        rename(libc::RENAME_NOREPLACE, b"a\0other\0"),
        Err(libc::EEXIST)
    );
    assert_eq!(rename(libc::RENAME_EXCHANGE, b"a\0other\0"), Ok(()));
    assert_eq!(fs::read(host.join("a")).unwrap(), b"x");
    assert_eq!(rename(0, b"other\0c\0"), Ok(()));
    assert_eq!(fs::metadata(host.join("c")).unwrap().nlink(), 2);

    let symlink: EntryOut = guest
        .ask(Opcode::Symlink, ROOT_ID, &[b"s\0/etc/passwd\0"])
        .unwrap();
    let target = guest
        .call(Opcode::Readlink, symlink.nodeid, &[], 4096)
        .unwrap();
    assert_eq!(target, b"/etc/passwd");
    assert_eq!(guest.tell(Opcode::Unlink, ROOT_ID, &[b"c\0"]), Ok(()));
    assert_eq!(
        guest.tell(Opcode::Rmdir, ROOT_ID, &[b"b\0"]),
        Err(libc::ENOTDIR)
    );
    // The file lives on while the guest knows it.
    fs::remove_file(host.join("b")).unwrap();
    let attr: AttrOut = guest.ask(Opcode::Getattr, node, &[&[0; 16]]).unwrap();
    assert_eq!(attr.attr.nlink, 0);
    assert!(guest.open(node, libc::O_RDWR).is_ok());
}

#[test]
fn attributes_are_set_on_the_file_and_not_through_it() {
    let directory = tempdir().unwrap();
    let host = directory.path();
    fs::write(host.join("f"), "content").unwrap();
    std::os::unix::fs::symlink("f", host.join("s")).unwrap();
    let mut guest = Guest::new(host);
    let (file, link) = (guest.walk(&[c"f"]), guest.walk(&[c"s"]));
    let mut set = |node, valid: SetattrValid, with: SetattrIn| -> Answer<AttrOut> {
        let body = SetattrIn {
            valid: valid.bits(),
            ..with
        };
        guest.ask(Opcode::Setattr, node, &[body.as_slice()])
    };
    let times = SetattrIn {
        mtime: 1_000_000_000,
        mtimensec: 7,
        ..Default::default()
    };
    set(link, SetattrValid::MTIME, times).unwrap();
    assert_eq!(
        fs::symlink_metadata(host.join("s")).unwrap().mtime(),
        1_000_000_000
    );
    assert_ne!(fs::metadata(host.join("f")).unwrap().mtime(), 1_000_000_000);
    let mode = SetattrIn {
        mode: 0o100_751,
        ..Default::default()
    };
    assert_eq!(
        set(file, SetattrValid::MODE, mode).unwrap().attr.mode,
        0o100_751
    );
    assert_eq!(
        set(link, SetattrValid::MODE, mode).unwrap_err(),
        libc::EOPNOTSUPP
    );
    let size = SetattrIn {
        size: 3,
        ..Default::default()
    };
    assert_eq!(set(file, SetattrValid::SIZE, size).unwrap().attr.size, 3);
    assert_eq!(
        set(link, SetattrValid::SIZE, size).unwrap_err(),
        libc::EACCES
    );
    let size = SetattrIn {
        size: u64::MAX,
        ..Default::default()
    };
    assert_eq!(
        set(file, SetattrValid::SIZE, size).unwrap_err(),
        libc::EINVAL
    );
    assert_eq!(fs::read(host.join("f")).unwrap(), b"con");
}

#[test]
fn listings_are_complete_with_small_pages_and_with_large() {
    let directory = tempdir().unwrap();
    for number in 0..700 {
        fs::write(directory.path().join(format!("{number:0>100}")), "").unwrap();
    }
    let mut guest = Guest::new(directory.path());
    let open: OpenOut = guest.ask(Opcode::Opendir, ROOT_ID, &[&[0; 8]]).unwrap();
    for (op, prefix, size) in [
        (Opcode::Readdir, 0, 4096),
        (Opcode::Readdir, 0, 200),
        (Opcode::Readdirplus, 128, 4096),
        (Opcode::Readdirplus, 128, 300),
        (Opcode::Readdirplus, 128, 1 << 20),
    ] {
        let (mut names, mut offset) = (vec![], 0);
        loop {
            let body = ReadIn {
                fh: open.fh,
                offset,
                size,
                ..Default::default()
            };
            let page = guest.call(op, ROOT_ID, &[body.as_slice()], size).unwrap();
            let mut rest = &page[..];
            while !rest.is_empty() {
                let entry = &rest[prefix..];
                offset = u64::from_le_bytes(entry[8..16].try_into().unwrap());
                let length = usize::from(u16::from_le_bytes([entry[16], entry[17]]));
                let name = String::from_utf8(entry[24..24 + length].to_vec()).unwrap();
                let is_known = prefix > 0 && rest[..8] != [0; 8];
                assert_eq!(is_known, prefix > 0 && !name.starts_with('.'), "{name}");
                names.push(name);
                rest = &rest[prefix + (24 + length).next_multiple_of(8)..];
            }
            if page.is_empty() {
                break;
            }
        }
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 702, "{op:?} in pages of {size}");
        assert_eq!(names[..2], [".", ".."]);
    }
}

#[test]
fn special_files_are_made_and_never_opened() {
    let directory = tempdir().unwrap();
    let host = directory.path();
    let mut guest = Guest::new(host);
    let mut make = |mode, rdev, name: &[u8]| -> Answer<EntryOut> {
        let body = MknodIn {
            mode,
            rdev,
            ..Default::default()
        };
        guest.ask(Opcode::Mknod, ROOT_ID, &[body.as_slice(), name])
    };
    let pipe = make(libc::S_IFIFO | 0o600, 0, b"pipe\0").unwrap();
    let socket = make(libc::S_IFSOCK | 0o600, 0, b"socket\0").unwrap();
    let whiteout = make(libc::S_IFCHR, 0, b"whiteout\0").unwrap();
    make(libc::S_IFREG | 0o600, 0, b"regular\0").unwrap();
    let device = u32::try_from(libc::makedev(1, 3)).unwrap();
    assert_eq!(
        make(libc::S_IFCHR | 0o666, device, b"null\0").unwrap_err(),
        libc::EPERM
    );
    assert_eq!(
        make(libc::S_IFBLK | 0o666, 0, b"block\0").unwrap_err(),
        libc::EPERM
    );
    assert_eq!(
        make(libc::S_IFDIR | 0o666, 0, b"dir\0").unwrap_err(),
        libc::EINVAL
    );
    assert!(
        fs::metadata(host.join("pipe"))
            .unwrap()
            .file_type()
            .is_fifo()
    );
    for node in [pipe.nodeid, socket.nodeid, whiteout.nodeid] {
        for flags in [libc::O_RDONLY, libc::O_WRONLY, libc::O_RDWR, libc::O_PATH] {
            assert_eq!(guest.open(node, flags).unwrap_err(), libc::EACCES);
        }
    }
    assert_eq!(
        guest.open(ROOT_ID, libc::O_RDONLY).unwrap_err(),
        libc::EISDIR
    );
    let opened = guest.ask::<OpenOut>(Opcode::Opendir, pipe.nodeid, &[&[0; 8]]);
    assert_eq!(opened.unwrap_err(), libc::ENOTDIR);
}
