//! What becomes of bytes.

use super::command::Malformed;
use super::*;

/// Every command's number and how many bytes follow its header.
const COMMANDS: [(u32, usize); 26] = [
    (0x100, 0),
    (0x101, 16),
    (0x102, 8),
    (0x103, 24),
    (0x104, 24),
    (0x105, 32),
    (0x106, 8),
    (0x107, 8),
    (0x108, 8),
    (0x109, 8),
    (0x10a, 8),
    (0x10b, 8),
    (0x10c, 32),
    (0x10d, 72),
    (0x200, 72),
    (0x201, 0),
    (0x202, 8),
    (0x203, 8),
    (0x204, 48),
    (0x205, 48),
    (0x206, 48),
    (0x207, 8),
    (0x208, 16),
    (0x209, 8),
    (0x300, 32),
    (0x301, 32),
];

fn header(kind: u32) -> Header {
    Header {
        kind,
        fence: None,
        context: 0,
        ring: None,
    }
}

#[test]
fn every_command_is_known_and_needs_all_its_bytes() {
    for (kind, length) in COMMANDS {
        let mut body = vec![0; length];
        if kind == 0x10c {
            body[4] = 2;
        }
        let parsed = Command::parse(&header(kind), &body);
        assert!(parsed.is_ok(), "{kind:#x}: {parsed:?}");
        for shorter in 0..length {
            let parsed = Command::parse(&header(kind), &body[..shorter]);
            assert!(
                matches!(parsed, Err(Malformed::Short { .. })),
                "{kind:#x} with {shorter} bytes: {parsed:?}"
            );
        }
    }
    let known: Vec<u32> = COMMANDS.iter().map(|(kind, _)| *kind).collect();
    for kind in (0..0x2000).chain([u32::MAX]) {
        let unknown = Command::parse(&header(kind), &[2; 128]) == Err(Malformed::Unknown { kind });
        assert_eq!(unknown, !known.contains(&kind), "{kind:#x}");
    }
}

#[test]
fn counts_beyond_the_buffer_are_refused() {
    for count in [1u32, 2, 0x1000_0000, u32::MAX] {
        let mut body = vec![0; 8];
        body[4..8].copy_from_slice(&count.to_le_bytes());
        assert!(Command::parse(&header(0x106), &body).is_err(), "{count}");
        let mut body = vec![0; 8];
        body[..4].copy_from_slice(&count.to_le_bytes());
        assert!(Command::parse(&header(0x207), &body).is_err(), "{count}");
        let mut body = vec![0; 32];
        body[4] = 1;
        body[12..16].copy_from_slice(&count.to_le_bytes());
        assert!(Command::parse(&header(0x10c), &body).is_err(), "{count}");
    }
    let mut body = vec![0; 8 + 16];
    body[4] = 1;
    body[8..16].copy_from_slice(&0x1234_5678_9abcu64.to_le_bytes());
    body[16] = 7;
    let Ok(Command::AttachBacking { entries, .. }) = Command::parse(&header(0x106), &body) else {
        panic!("an entry fits");
    };
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].address.get(), 0x1234_5678_9abc);
    assert_eq!(entries[0].length.get(), 7);
}

#[test]
fn names_and_blob_memory_have_their_limits() {
    let mut body = vec![b'x'; 72];
    body[..8].fill(0);
    for length in [0u32, 64, 65, u32::MAX] {
        body[..4].copy_from_slice(&length.to_le_bytes());
        let parsed = Command::parse(&header(0x200), &body);
        match parsed {
            Ok(Command::CreateContext { name, .. }) => {
                assert_eq!(name.len(), usize::try_from(length).unwrap());
            }
            other => assert_eq!(other, Err(Malformed::ContextName { length })),
        }
    }
    for memory in [0, 4, u32::MAX] {
        let mut body = vec![0; 32];
        body[4..8].copy_from_slice(&memory.to_le_bytes());
        let parsed = Command::parse(&header(0x10c), &body);
        assert_eq!(parsed, Err(Malformed::BlobMemory { memory }));
    }
}

#[test]
fn answers_repeat_the_fence() {
    let mut bytes = vec![0; 24];
    bytes[..4].copy_from_slice(&0x207u32.to_le_bytes());
    bytes[4] = 3;
    bytes[8] = 9;
    bytes[16] = 5;
    bytes[20] = 2;
    let (header, rest) = Header::parse(&bytes).expect("24 bytes");
    assert!(rest.is_empty());
    assert_eq!(
        (header.fence, header.context, header.ring),
        (Some(9), 5, Some(2))
    );
    for answer in [
        Response::Done.bytes(&header),
        Refusal::Parameter.bytes(&header),
    ] {
        assert_eq!(answer.len(), HEADER_LENGTH);
        assert_eq!(answer[4..], bytes[4..]);
    }
    assert_eq!(Header::parse(&bytes[..23]), None);
    assert_eq!(Response::NoDisplay.bytes(&header).len(), 408);
    assert_eq!(
        Response::Mapped(1).bytes(&header)[24..],
        [1, 0, 0, 0, 0, 0, 0, 0]
    );
}
