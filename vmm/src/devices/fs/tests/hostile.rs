//! A guest's kernel that means harm: names, numbers, messages and rings that no driver makes.
//! After each, the device must still serve a proper request.

use std::fs;
use std::path::Path;

use fuse_backend_rs::abi::fuse_abi::{
    BatchForgetIn, CreateIn, ForgetIn, LinkIn, MkdirIn, MknodIn, Opcode, OpenOut, ReadIn, Rename2In,
};
use fuse_backend_rs::api::filesystem::ROOT_ID;
use tempfile::{TempDir, tempdir};
use vm_memory::{ByteValued, Bytes, GuestAddress};

use super::driver::{ANSWER, Chain, INDIRECT, MEMORY, NEXT, QUEUE, REQUEST, TABLE, WRITE, at};
use super::{Guest, ROOT, header};
use crate::virtio::device::VirtioDevice;

/// A directory to export, with a canary beside it.
fn cage() -> (TempDir, Guest) {
    let outside = tempdir().unwrap();
    fs::create_dir_all(outside.path().join("root/sub")).unwrap();
    fs::write(outside.path().join("canary"), "alive").unwrap();
    fs::write(outside.path().join("root/file"), "file").unwrap();
    let guest = Guest::new(&outside.path().join("root"));
    (outside, guest)
}

fn assert_unharmed(outside: &Path, guest: &mut Guest) {
    let mut names: Vec<_> = fs::read_dir(outside)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["canary", "root"]);
    assert_eq!(fs::read(outside.join("canary")).unwrap(), b"alive");
    let node = guest.walk(&[c"file"]);
    let open = guest.open(node, libc::O_RDONLY).unwrap();
    assert_eq!(guest.read(node, open.fh, 0, 4).unwrap(), b"file");
}

#[test]
fn names_cannot_leave_their_directory() {
    let (outside, mut guest) = cage();
    let sub = guest.walk(&[c"sub"]);
    let absolute = format!("{}\0", outside.path().join("canary").display());
    let names: [&[u8]; 9] = [
        b"\0",
        b".\0",
        b"..\0",
        b"/\0",
        b"../canary\0",
        b"../../canary\0",
        b"sub/../../canary\0",
        b"x/\0",
        absolute.as_bytes(),
    ];
    for name in names {
        for parent in [ROOT_ID, sub] {
            let mut refused = |op, body: &[u8]| {
                let answer = guest.call(op, parent, &[body, name], 4096);
                assert_eq!(answer, Err(libc::EINVAL), "{op:?} {name:?}");
            };
            refused(Opcode::Lookup, b"");
            refused(Opcode::Unlink, b"");
            refused(Opcode::Rmdir, b"");
            refused(
                Opcode::Mkdir,
                MkdirIn {
                    mode: 0o700,
                    umask: 0,
                }
                .as_slice(),
            );
            let mode = libc::S_IFREG | 0o600;
            refused(
                Opcode::Mknod,
                MknodIn {
                    mode,
                    ..Default::default()
                }
                .as_slice(),
            );
            refused(
                Opcode::Create,
                CreateIn {
                    mode: 0o600,
                    ..Default::default()
                }
                .as_slice(),
            );
            refused(Opcode::Link, LinkIn { oldnodeid: sub }.as_slice());
            let rename = Rename2In {
                newdir: ROOT_ID,
                ..Default::default()
            };
            refused(Opcode::Rename2, &[rename.as_slice(), b"file\0"].concat());
            let symlink = [name, b"target\0"].concat();
            let answer = guest.call(Opcode::Symlink, parent, &[&symlink], 4096);
            assert_eq!(answer, Err(libc::EINVAL), "{name:?}");
            let swapped = [rename.as_slice(), name, b"new\0"].concat();
            let answer = guest.call(Opcode::Rename2, parent, &[&swapped], 4096);
            assert_eq!(answer, Err(libc::EINVAL), "{name:?}");
        }
    }
    for (length, error) in [(255, libc::ENOENT), (256, libc::ENAMETOOLONG), (4096, 36)] {
        let name = [vec![b'n'; length], vec![0]].concat();
        assert_eq!(
            guest.call(Opcode::Lookup, ROOT_ID, &[&name], 128),
            Err(error)
        );
    }
    assert_eq!(
        guest.call(Opcode::Lookup, ROOT_ID, &[b"no end"], 128),
        Err(libc::EINVAL)
    );
    assert_unharmed(outside.path(), &mut guest);
}

#[test]
fn symbolic_links_are_not_followed() {
    let (outside, mut guest) = cage();
    for (name, target) in [
        ("link", "../canary"),
        ("dir", ".."),
        ("proc", "/proc/self/root"),
    ] {
        std::os::unix::fs::symlink(target, outside.path().join("root").join(name)).unwrap();
    }
    let link = guest.walk(&[c"link"]);
    assert_eq!(guest.open(link, libc::O_RDWR).unwrap_err(), libc::EACCES);
    for name in [c"dir", c"proc"] {
        let node = guest.walk(&[name]);
        assert_eq!(guest.lookup(node, c"canary").unwrap_err(), libc::ENOTDIR);
        assert_eq!(guest.create(node, c"new", 0o600, 0), Err(libc::ENOTDIR));
        let open = guest.ask::<OpenOut>(Opcode::Opendir, node, &[&[0; 8]]);
        assert_eq!(open.unwrap_err(), libc::ENOTDIR);
    }
    assert_unharmed(outside.path(), &mut guest);
}

#[test]
fn numbers_that_were_not_given_out_are_refused() {
    let (outside, mut guest) = cage();
    for node in [0, 99, u64::MAX] {
        assert_eq!(guest.lookup(node, c"file").unwrap_err(), libc::ESTALE);
        assert_eq!(guest.open(node, 0).unwrap_err(), libc::ESTALE);
    }
    let node = guest.walk(&[c"file"]);
    let fh = guest.open(node, 0).unwrap().fh;
    assert_eq!(guest.read(ROOT_ID, fh, 0, 4), Err(libc::EBADF));
    assert_eq!(guest.read(node, fh + 1, 0, 4), Err(libc::EBADF));
    let list = ReadIn {
        fh,
        size: 100,
        ..Default::default()
    };
    let listed = guest.call(Opcode::Readdirplus, node, &[list.as_slice()], 100);
    assert_eq!(listed, Err(libc::ENOTDIR));

    // More references than there are, and the root's.
    for node in [node, ROOT_ID] {
        forget(
            &mut guest,
            Opcode::Forget,
            node,
            ForgetIn { nlookup: u64::MAX }.as_slice(),
        );
    }
    assert_eq!(guest.open(node, 0).unwrap_err(), libc::ESTALE);
    assert_eq!(guest.read(node, fh, 0, 4).unwrap(), b"file");
    let many = BatchForgetIn {
        count: u32::MAX,
        dummy: 0,
    };
    forget(&mut guest, Opcode::BatchForget, 0, many.as_slice());
    assert_unharmed(outside.path(), &mut guest);
}

/// Sends a message that is never answered.
fn forget(guest: &mut Guest, op: Opcode, node: u64, body: &[u8]) {
    let length = u32::try_from(40 + body.len()).unwrap();
    let message = [&header(op as u32, length, 1, node, ROOT)[..], body].concat();
    assert_eq!(guest.driver.exchange(&Chain::plain(&message, 100)), []);
}

#[test]
fn messages_that_lie_about_their_length_are_answered() {
    let (outside, mut guest) = cage();
    for op in 0..=60 {
        for claimed in [0, 39, 40, 41, 80, 5000, 2 << 20, u32::MAX] {
            for body in [0, 1, 8, 64, 4096] {
                let message = [
                    &header(op, claimed, 7, ROOT_ID, ROOT)[..],
                    &vec![0xff; body],
                ]
                .concat();
                let answer = guest.driver.exchange(&Chain::plain(&message, 4096));
                assert!(
                    answer.is_empty() || answer.len() >= 16,
                    "{op} {claimed} {body}"
                );
            }
        }
        // INIT and DESTROY, as far as they were understood, made the guest forget the file.
    }
    assert_unharmed(outside.path(), &mut guest);
}

#[test]
fn there_may_be_no_room_for_an_answer() {
    let (outside, mut guest) = cage();
    let lookup = [&header(1, 45, 7, ROOT_ID, ROOT)[..], b"file\0"].concat();
    for room in [0, 1, 15, 16, 17, 143] {
        let written = guest.driver.exchange(&Chain::plain(&lookup, room)).len();
        assert_eq!(written, if room < 16 { 0 } else { 16 }, "{room}");
    }
    let mut chain = Chain::plain(&lookup, 0);
    chain.descriptors = vec![(REQUEST, 45, 0, 0)];
    assert_eq!(guest.driver.exchange(&chain), []);
    chain.descriptors = vec![(ANSWER, 4096, WRITE, 0)];
    assert_eq!(guest.driver.exchange(&chain), []);
    assert_unharmed(outside.path(), &mut guest);
}

#[test]
fn chains_may_be_of_any_shape() {
    let (outside, mut guest) = cage();
    let lookup = [&header(1, 45, 7, ROOT_ID, ROOT)[..], b"file\0"].concat();
    let proper = (REQUEST, 45, NEXT, 1);
    let shapes: Vec<Vec<_>> = vec![
        vec![(REQUEST, 45, NEXT, 0)],
        vec![proper, (ANSWER, 4096, WRITE | NEXT, 0)],
        vec![proper, (ANSWER, 4096, WRITE | NEXT, 64)],
        vec![proper, (ANSWER, 4096, WRITE | NEXT, u16::MAX)],
        vec![proper, (ANSWER, u32::MAX, WRITE, 0)],
        vec![proper, (MEMORY - 8, 16, WRITE, 0)],
        vec![proper, (MEMORY, 16, WRITE, 0)],
        vec![proper, (u64::MAX, 4096, WRITE, 0)],
        vec![(REQUEST, u32::MAX, NEXT, 1), (ANSWER, 4096, WRITE, 0)],
        vec![(u64::MAX - 8, 45, NEXT, 1), (ANSWER, 4096, WRITE, 0)],
        vec![(REQUEST, 0, NEXT, 1), (ANSWER, 0, WRITE, 0)],
        vec![(TABLE, 32, INDIRECT, 0)],
        vec![(TABLE, 33, INDIRECT, 0)],
        vec![(TABLE, u32::MAX, INDIRECT, 0)],
        vec![(MEMORY, 32, INDIRECT, 0)],
        vec![(TABLE, 32, INDIRECT | NEXT, 0)],
    ];
    // An indirect table that leads to itself.
    guest.driver.put(TABLE, (TABLE, 32, INDIRECT, 0));
    for descriptors in shapes {
        let shape = format!("{descriptors:?}");
        let answer = guest.driver.exchange(&Chain {
            request: lookup.clone(),
            descriptors,
        });
        assert!(
            answer.len() == 16 || answer.len() == 144 || answer.is_empty(),
            "{shape}"
        );
    }
    // In pieces, some of them empty: as good as in one.
    let descriptors = vec![
        (REQUEST, 0, NEXT, 1),
        (REQUEST, 3, NEXT, 2),
        (REQUEST + 3, 42, NEXT, 3),
        (ANSWER, 0, WRITE | NEXT, 4),
        (ANSWER, 1, WRITE | NEXT, 5),
        (ANSWER + 1, 200, WRITE, 0),
    ];
    let answer = guest.driver.exchange(&Chain {
        request: lookup,
        descriptors,
    });
    assert_eq!(
        (answer.len(), &answer[..4]),
        (144, &144u32.to_le_bytes()[..])
    );
    assert_unharmed(outside.path(), &mut guest);
}

#[test]
fn a_chain_that_does_not_exist_stops_its_queue_until_a_reset() {
    let (outside, mut guest) = cage();
    let available = at(QUEUE, 1).0;
    let used: u16 = guest
        .driver
        .memory
        .read_obj(GuestAddress(at(QUEUE, 2).0 + 2))
        .unwrap();
    let slot = GuestAddress(available + 4 + u64::from(used % 64) * 2);
    guest.driver.memory.write_obj(9999u16, slot).unwrap();
    guest.driver.advance(QUEUE, 1);
    // There is no such descriptor to give back.
    assert!(!guest.driver.is_interrupted());
    guest.driver.fs.reset();
    guest.driver.activate(3);
    guest.mount();
    assert_unharmed(outside.path(), &mut guest);
}

#[test]
fn a_ring_that_jumps_stops_only_its_queue_until_a_reset() {
    let (outside, mut guest) = cage();
    guest.driver.advance(QUEUE, 30_000);
    assert!(!guest.driver.is_interrupted());
    // The other request queue goes on.
    let lookup = [&header(1, 45, 7, ROOT_ID, ROOT)[..], b"file\0"].concat();
    guest
        .driver
        .memory
        .write_slice(&lookup, GuestAddress(REQUEST))
        .unwrap();
    guest.driver.put(at(2, 0).0, (REQUEST, 45, NEXT, 1));
    guest.driver.put(at(2, 0).0 + 16, (ANSWER, 4096, WRITE, 0));
    assert_eq!(guest.driver.submit(2, 0), 144);
    guest.driver.fs.reset();
    guest.driver.activate(3);
    guest.mount();
    assert_unharmed(outside.path(), &mut guest);
}

#[test]
fn a_reset_takes_everything_back() {
    let (outside, mut guest) = cage();
    let file = outside.path().join("root/file");
    let open = || {
        let descriptors = fs::read_dir("/proc/self/fd").unwrap();
        let targets = descriptors.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
        targets.filter(|target| *target == file).count()
    };
    for _ in 0..3 {
        let node = guest.walk(&[c"file"]);
        guest.open(node, libc::O_RDONLY).unwrap();
        assert_eq!(open(), 2);
        guest.driver.fs.reset();
        guest.driver.fs.reset();
        assert_eq!(open(), 0);
        guest.driver.activate(2);
        guest.mount();
    }
    guest.driver.fs.reset();
    guest.driver.activate(3);
    guest.mount();
    assert_unharmed(outside.path(), &mut guest);
}

#[test]
fn messages_of_chance_harm_nothing() {
    let (outside, mut guest) = cage();
    guest.walk(&[c"sub"]);
    // xorshift: every run sends the same messages.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut chance = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % u64::try_from(below).unwrap()).unwrap()
    };
    let words = [
        0,
        1,
        2,
        3,
        8,
        40,
        255,
        4096,
        0x8000,
        1 << 33,
        1 << 62,
        u64::MAX,
    ];
    let names: [&[u8]; 8] = [
        b"",
        b"file",
        b"sub",
        b"new",
        b"..",
        b"../canary",
        b"a\0b",
        b"user.x\0value",
    ];
    for unique in 0..4000 {
        let op = u32::try_from(chance(56)).unwrap();
        let node = [0, 1, 2, 3, 4, 5, 99, u64::MAX][chance(8)];
        let by = [(0, 0), (1000, 1000), (u32::MAX, 7)][chance(3)];
        let mut body: Vec<u8> = (0..chance(9))
            .flat_map(|_| words[chance(12)].to_le_bytes())
            .collect();
        body.extend_from_slice(names[chance(8)]);
        body.extend_from_slice(&[0][..chance(2)]);
        let length = u32::try_from(40 + body.len()).unwrap();
        let message = [&header(op, length, unique, node, by)[..], &body].concat();
        let room = [0, 16, 24, 144, 4112, 1 << 20][chance(6)];
        guest.driver.exchange(&Chain::plain(&message, room));
    }
    fs::write(outside.path().join("root/file"), "file").unwrap();
    guest.mount();
    assert_unharmed(outside.path(), &mut guest);
}
