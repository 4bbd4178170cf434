//! Commands that make no sense, ask for too much, or come in the wrong order.

use super::super::control::{MOST_CONTEXTS, MOST_MAPPED, MOST_RESOURCES};
use super::commands::*;
use super::renderer::{OPAQUE, SHORT};
use crate::layout::PAGE;

#[test]
fn unknown_numbers_are_refused_by_their_kind() {
    let mut device = Device::new();
    // Unreference, flush, transfer, detach backing, name, unmap, and those of a context.
    for (kind, length) in [
        (0x102, 8),
        (0x104, 24),
        (0x105, 32),
        (0x107, 8),
        (0x10b, 8),
        (0x209, 8),
    ] {
        assert_eq!(
            device.send(kind, 0, &vec![0; length]),
            NO_RESOURCE,
            "{kind:#x}"
        );
        assert_eq!(
            device.send(kind, 0, &vec![0xff; length]),
            NO_RESOURCE,
            "{kind:#x}"
        );
    }
    assert_eq!(device.send(0x106, 0, &words(&[9, 0])), NO_RESOURCE);
    assert_eq!(device.map(9, 0), NO_RESOURCE);
    for context in [0, 1, u32::MAX] {
        assert_eq!(device.send(0x201, context, &[]), NO_CONTEXT);
        assert_eq!(device.send(0x207, context, &words(&[4, 0, 0])), NO_CONTEXT);
        assert_eq!(device.about(0x202, context, 9), NO_RESOURCE);
    }
    for kind in [0x103, 0x10d, 0x10a] {
        assert_eq!(device.send(kind, 0, &[0; 72]), NO_SCANOUT, "{kind:#x}");
    }
    for kind in [0, 0x99, 0x10e, 0x20a, 0x300, 0x301, 0x1100, u32::MAX] {
        assert_eq!(device.send(kind, 0, &[0; 72]), UNSPECIFIED, "{kind:#x}");
    }
    assert_eq!(device.send(0x108, 0, &words(&[1, 0])), INVALID);
    assert_eq!(device.send(0x109, 0, &words(&[2, 0])), INVALID);
    assert_eq!(device.send(0x109, 0, &words(&[4, 1])), INVALID);
    assert_eq!(device.raw(&[0; 23]).bytes, []);
    assert_eq!(device.raw(&[]).bytes, []);
}

#[test]
fn contexts_are_numbered_once_and_limited() {
    let mut device = Device::new();
    assert_eq!(device.context(0), NO_CONTEXT);
    assert_eq!(device.context(1), OK);
    assert_eq!(device.context(1), NO_CONTEXT);
    for init in [0, 2, 5, 0x104, u32::MAX] {
        assert_eq!(device.context_of(2, init), INVALID, "{init}");
    }
    let most = u32::try_from(MOST_CONTEXTS).unwrap();
    for context in 2..=most {
        assert_eq!(device.context(context), OK);
    }
    assert_eq!(device.context(u32::MAX), OUT_OF_MEMORY);
    assert_eq!(device.send(0x201, 7, &[]), OK);
    assert_eq!(device.context(u32::MAX), OK);
    device.control.reset();
    assert!(device.held.is_empty());
}

#[test]
fn opengl_is_served_where_it_is_announced() {
    let mut device = Device::with_opengl();
    for init in [3, 5, 0x102, u32::MAX] {
        assert_eq!(device.context_of(1, init), INVALID, "{init}");
    }
    for (context, init) in [(1, 0), (2, 1), (3, 2), (4, 4)] {
        assert_eq!(device.context_of(context, init), OK, "{init}");
    }
    // Index 2 is the last; version 2 of set 2, and not of set 1.
    assert_eq!(device.send(0x108, 0, &words(&[2, 0])), 0x1102);
    assert_eq!(device.send(0x108, 0, &words(&[3, 0])), INVALID);
    assert_eq!(device.send(0x109, 0, &words(&[2, 2])), 0x1103);
    assert_eq!(device.send(0x109, 0, &words(&[1, 2])), INVALID);
    device.control.reset();
    assert!(device.held.is_empty());
}

#[test]
fn a_hundred_thousand_resources_are_too_many_and_leave_nothing() {
    let mut device = Device::new();
    let mut refused = 0;
    for resource in 1..=100_000 {
        let answer = device.send(0x10c, 0, &blob_body(resource, 1, 0, 16, &[(0x1000, 16)]));
        match answer {
            OK => {}
            OUT_OF_MEMORY => refused += 1,
            other => panic!("{other:#x}"),
        }
    }
    assert_eq!(refused, 100_000 - MOST_RESOURCES);
    assert_eq!(device.held.lock().resources.len(), MOST_RESOURCES);
    assert_eq!(device.unref(1), OK);
    assert_eq!(device.unref(1), NO_RESOURCE);
    assert_eq!(device.send(0x101, 0, &words(&[1, 1, 64, 64])), OK);
    device.control.reset();
    assert!(device.held.is_empty());
}

#[test]
fn blobs_hold_host_memory_up_to_the_limit() {
    let mut device = Device::new();
    device.context(1);
    for size in [0, LIMIT + 1, u64::MAX, u64::MAX - PAGE, 1 << 63] {
        let answer = device.blob(1, 0, size);
        assert!(
            [INVALID, OUT_OF_MEMORY].contains(&answer),
            "{size:#x}: {answer:#x}"
        );
    }
    assert_eq!(device.blob(1, 0, LIMIT - PAGE), OK);
    assert_eq!(device.blob(1, 0, PAGE), NO_RESOURCE);
    assert_eq!(device.blob(0, 0, PAGE), NO_RESOURCE);
    // One byte takes a page.
    assert_eq!(device.blob(2, 0, 1), OK);
    assert_eq!(device.blob(3, 0, 1), OUT_OF_MEMORY);
    assert_eq!(device.unref(1), OK);
    assert_eq!(device.blob(3, 0, 1), OK);
    // The host's memory belongs to a context, and lists no pages of the guest's.
    assert_eq!(
        device.send(0x10c, 0, &blob_body(4, 2, 0, PAGE, &[])),
        NO_CONTEXT
    );
    assert_eq!(
        device.send(0x10c, 9, &blob_body(4, 2, 0, PAGE, &[])),
        NO_CONTEXT
    );
    assert_eq!(
        device.send(0x10c, 1, &blob_body(4, 2, 0, PAGE, &[(0, 4096)])),
        INVALID
    );
    let mut flags = blob_body(4, 2, 0, PAGE, &[]);
    flags[8] = 8;
    assert_eq!(device.send(0x10c, 1, &flags), INVALID);
}

#[test]
fn backings_lie_in_memory() {
    let mut device = Device::new();
    for (address, length) in [
        (MEMORY, 1),
        (MEMORY - 1, 2),
        (u64::MAX, 1),
        (u64::MAX - 7, 16),
        (1 << 33, 4096),
    ] {
        let body = blob_body(1, 1, 0, 1, &[(address, length)]);
        assert_eq!(device.send(0x10c, 0, &body), INVALID, "{address:#x}");
    }
    // Less memory than the blob has.
    assert_eq!(
        device.send(0x10c, 0, &blob_body(1, 1, 0, 4097, &[(0, 4096)])),
        INVALID
    );
    assert_eq!(
        device.send(0x10c, 0, &blob_body(1, 1, 0, 4097, &[(0, 4096), (0, 4096)])),
        OK
    );
    // It has a backing.
    let mut attach = words(&[1, 1]);
    attach.extend(entries(&[(0, 4096)]));
    assert_eq!(device.send(0x106, 0, &attach), INVALID);
    assert_eq!(device.about(0x107, 0, 1), OK);
    assert_eq!(device.about(0x107, 0, 1), INVALID);
    assert_eq!(device.send(0x106, 0, &attach), OK);
    // A blob of guest memory has no place in the window.
    assert_eq!(device.map(1, 0), INVALID);
    // Copies need a backing, and a renderer that has the resource.
    let mut transfer = vec![0; 48];
    transfer[32] = 1;
    assert_eq!(device.send(0x205, 0, &transfer), OK);
    assert_eq!(device.send(0x205, 3, &transfer), NO_CONTEXT);
    assert_eq!(device.send(0x101, 0, &words(&[2, 1, 4, 4])), OK);
    transfer[32] = 2;
    assert_eq!(device.send(0x206, 0, &transfer), NO_RESOURCE);
    device.control.reset();
    assert!(device.held.is_empty());
}

#[test]
fn pieces_of_all_backings_together_are_limited() {
    let mut device = Device::new();
    let many = vec![(0x1000, 16); 700_000];
    let body = |resource| blob_body(resource, 1, 0, 16, &many);
    assert_eq!(device.send(0x10c, 0, &body(1)), OK);
    assert_eq!(device.send(0x10c, 0, &body(2)), OK);
    assert_eq!(device.send(0x10c, 0, &body(3)), OUT_OF_MEMORY);
    assert_eq!(device.unref(1), OK);
    assert_eq!(device.send(0x10c, 0, &body(3)), OK);
}

#[test]
fn mappings_stay_inside_the_window_and_apart() {
    let mut device = Device::new();
    device.context(1);
    for resource in 1..=4 {
        assert_eq!(device.blob(resource, 0, 3 * PAGE - 100), OK);
    }
    for offset in [
        1,
        PAGE - 1,
        PAGE + 8,
        WINDOW,
        WINDOW - PAGE,
        WINDOW - 2 * PAGE,
        WINDOW + PAGE,
    ] {
        assert_eq!(device.map(1, offset), INVALID, "{offset:#x}");
    }
    for offset in [
        u64::MAX,
        u64::MAX - PAGE + 1,
        u64::MAX - 3 * PAGE + 1,
        1 << 63,
    ] {
        assert_eq!(device.map(1, offset), INVALID, "{offset:#x}");
    }
    assert_eq!(device.map(1, WINDOW - 3 * PAGE), MAPPED);
    assert_eq!(device.map(1, 0), INVALID, "mapped already");
    assert_eq!(device.map(2, 5 * PAGE), MAPPED);
    for offset in 3..=7 {
        assert_eq!(device.map(3, offset * PAGE), INVALID, "page {offset}");
    }
    assert_eq!(device.map(3, 2 * PAGE), MAPPED);
    assert_eq!(device.map(4, 8 * PAGE), MAPPED);
    // Unreferenced while it is mapped: its place is free again.
    assert_eq!(device.unref(2), OK);
    assert_eq!(device.unmap(2), NO_RESOURCE);
    assert_eq!(device.unmap(4), OK);
    assert_eq!(device.unmap(4), INVALID);
    assert_eq!(device.map(4, 5 * PAGE), MAPPED);
    device.control.reset();
    assert!(device.held.is_empty());
}

#[test]
fn what_the_renderer_gives_is_checked_too() {
    let mut device = Device::new();
    device.context(1);
    // A file that ends before the blob does.
    assert_eq!(device.blob(1, SHORT, 2 * PAGE), OK);
    assert_eq!(device.map(1, 0), UNSPECIFIED);
    // A mapping of two pages for a blob of three.
    assert_eq!(device.blob(2, OPAQUE, 3 * PAGE), OK);
    assert_eq!(device.map(2, 0), UNSPECIFIED);
    assert_eq!(device.blob(3, OPAQUE, 2 * PAGE), OK);
    assert_eq!(device.map(3, 0), MAPPED);
    assert_eq!(device.held.lock().mapped.len(), 1);
    // Unreferenced while the renderer has it mapped (the renderer checks the order).
    assert_eq!(device.unref(3), OK);
    device.control.reset();
    assert!(device.held.is_empty());
}

#[test]
fn mappings_are_limited() {
    let mut device = Device::new();
    device.context(1);
    let most = u32::try_from(MOST_MAPPED).unwrap();
    for resource in 1..=most {
        assert_eq!(device.blob(resource, 0, PAGE), OK);
        assert_eq!(device.map(resource, u64::from(resource) * PAGE), MAPPED);
    }
    assert_eq!(device.blob(most + 1, 0, PAGE), OK);
    assert_eq!(device.map(most + 1, 0), OUT_OF_MEMORY);
    assert_eq!(device.unmap(7), OK);
    assert_eq!(device.map(most + 1, 0), MAPPED);
    assert_eq!(device.unref(8), OK);
    assert_eq!(device.map(7, 8 * PAGE), MAPPED);
    device.control.reset();
    assert!(device.held.is_empty());
}

#[test]
fn a_context_goes_and_its_blobs_stay() {
    let mut device = Device::new();
    device.context(1);
    device.context(2);
    assert_eq!(device.blob(1, 0, PAGE), OK);
    assert_eq!(device.map(1, 0), MAPPED);
    for context in [1, 2] {
        assert_eq!(device.about(0x202, context, 1), OK);
        // Twice is once (the renderer checks).
        assert_eq!(device.about(0x202, context, 1), OK);
    }
    assert_eq!(device.about(0x202, 3, 1), NO_CONTEXT);
    assert_eq!(device.about(0x203, 2, 1), OK);
    assert_eq!(device.about(0x203, 2, 1), NO_RESOURCE);
    assert_eq!(device.send(0x201, 1, &[]), OK);
    assert_eq!(device.about(0x203, 1, 1), NO_CONTEXT);
    assert_eq!(device.unmap(1), OK);
    assert_eq!(device.map(1, PAGE), MAPPED);
    assert_eq!(device.about(0x202, 2, 1), OK);
    assert_eq!(device.unref(1), OK);
    assert_eq!(device.about(0x203, 2, 1), NO_RESOURCE);
}

#[test]
fn fences_are_on_rings_of_contexts_that_exist() {
    let mut device = Device::new();
    let submit = words(&[4, 0, 0xabcd]);
    device.context(1);
    for ring in [64, 65, 255] {
        let reply = device.raw(&full(0x207, 3, 1, 1, ring, &submit));
        assert_eq!((answer(&reply), reply.fence), (INVALID, None));
    }
    assert!(
        device.held.lock().submitted.is_empty(),
        "refused before it ran"
    );
    for (context, kind) in [(2, 0x100), (0, 0x108), (2, 0x207)] {
        let reply = device.raw(&full(kind, 3, 1, context, 0, &submit));
        assert_eq!((answer(&reply), reply.fence), (NO_CONTEXT, None));
    }
    // The guest's number is repeated; ours grows whatever it is.
    let mut last = 0;
    for number in [u64::MAX, 0, 5, 5] {
        let reply = device.raw(&full(0x207, 3, number, 1, 63, &submit));
        let fence = reply.fence.unwrap();
        assert_eq!(reply.bytes[8..16], number.to_le_bytes());
        assert!(fence.id > last && fence.ring == 63);
        last = fence.id;
    }
    // Without a ring, what is done is done; an error has its fence too.
    let reply = device.raw(&full(0x207, 1, 9, 1, 200, &submit));
    assert_eq!((answer(&reply), reply.fence), (OK, None));
    assert_eq!(reply.bytes[4..16], full(0, 1, 9, 0, 0, &[])[4..16]);
    let reply = device.raw(&full(0x102, 1, 9, 0, 0, &words(&[8, 0])));
    assert_eq!(reply.bytes[4..16], full(0, 1, 9, 0, 0, &[])[4..16]);
    // A context that goes does not wait for itself.
    let reply = device.raw(&full(0x201, 3, 7, 1, 0, &[]));
    assert_eq!(
        (answer(&reply), reply.fence, reply.ended),
        (OK, None, Some(1))
    );
}

#[test]
fn submissions_are_words() {
    let mut device = Device::new();
    device.context(1);
    for length in [1, 2, 3, 5] {
        let mut body = words(&[length, 0]);
        body.resize(64, 7);
        assert_eq!(device.send(0x207, 1, &body), INVALID);
    }
    assert_eq!(device.send(0x207, 1, &words(&[8, 0, 1])), UNSPECIFIED);
    assert_eq!(device.send(0x207, 1, &words(&[0, 0])), OK);
    assert!(device.held.lock().submitted.is_empty());
}
