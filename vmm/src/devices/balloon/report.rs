//! A report of free pages: virtio 1.2, section 5.5.6.7. Each descriptor is a range of them.

use vm_memory::{GuestMemory as _, GuestMemoryMmap, VolatileSlice};

use super::Chain;
use crate::layout::PAGE;
use crate::sys::mapping;

/// Ranges in one report; a chain has no more, for the queue is not larger.
const MAX_RANGES: usize = 32;

/// Takes the reported pages back. What lies outside guest RAM is not looked at.
pub(super) fn take_back(memory: &GuestMemoryMmap, chain: Chain<'_>) -> u32 {
    let mut ranges: Vec<(usize, usize)> = chain
        .writable()
        .take(MAX_RANGES)
        .flat_map(|descriptor| {
            let length = usize::try_from(descriptor.len()).unwrap_or(0);
            memory.get_slices(descriptor.addr(), length)
        })
        .filter_map(Result::ok)
        .filter_map(|slice| whole_pages(&slice))
        .collect();
    ranges.sort_unstable();
    for (start, end) in merged(ranges) {
        let host = std::ptr::without_provenance_mut(start);
        // SAFETY: whole pages of guest RAM, which was found by its address; it is mapped as long
        // as `memory` is borrowed, and nothing in this process relies on its contents.
        if let Err(error) = unsafe { mapping::discard(host, end - start) } {
            tracing::warn!(%error, "take free pages back from the guest");
        }
    }
    // Nothing was written.
    0
}

/// The host's addresses of the whole pages in `slice`.
fn whole_pages(slice: &VolatileSlice<'_>) -> Option<(usize, usize)> {
    let page = usize::try_from(PAGE).ok()?;
    let first = slice.ptr_guard().as_ptr().addr();
    let start = first.checked_next_multiple_of(page)?;
    let end = first.checked_add(slice.len())?;
    let end = end - end % page;
    (start < end).then_some((start, end))
}

/// Joins sorted ranges that touch or overlap.
fn merged(ranges: Vec<(usize, usize)>) -> Vec<(usize, usize)> {
    let mut merged: Vec<(usize, usize)> = Vec::new();
    for (start, end) in ranges {
        match merged.last_mut() {
            Some(last) if start <= last.1 => last.1 = last.1.max(end),
            _ => merged.push((start, end)),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;
    use virtio_bindings::bindings::virtio_ring::VRING_DESC_F_WRITE;
    use virtio_queue::desc::{RawDescriptor, split::Descriptor};
    use virtio_queue::mock::MockSplitQueue;
    use vm_memory::{Bytes, GuestAddress};

    const MEMORY: u64 = 1 << 20;

    fn report(memory: &GuestMemoryMmap, ranges: &[(u64, u32)]) {
        let mock = MockSplitQueue::new(memory, 16);
        let flags = u16::try_from(VRING_DESC_F_WRITE).unwrap();
        let descriptors: Vec<_> = ranges
            .iter()
            .map(|(address, length)| {
                RawDescriptor::from(Descriptor::new(*address, *length, flags, 0))
            })
            .collect();
        take_back(memory, mock.build_desc_chain(&descriptors).unwrap());
    }

    #[test]
    fn whole_pages_are_taken_back_and_nothing_else() {
        let length = usize::try_from(MEMORY).unwrap();
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), length)]).unwrap();
        let filled = 0x1_0000..0x2_0000;
        for page in filled.clone().step_by(0x1000) {
            memory
                .write_slice(&[7; 0x1000], GuestAddress(page))
                .unwrap();
        }
        report(
            &memory,
            &[
                (0x1_2000, 0x1000),
                (0x1_1000, 0x1000),
                // Parts of two pages and one whole page.
                (0x1_4800, 0x2000),
                // Outside, and beyond all addresses.
                (MEMORY, 0x1000),
                (u64::MAX - 0xfff, u32::MAX),
                (0x1_8000, 0),
            ],
        );
        let taken: Vec<u64> = filled
            .step_by(0x1000)
            .filter(|page| {
                let mut bytes = [0; 0x1000];
                memory.read_slice(&mut bytes, GuestAddress(*page)).unwrap();
                bytes != [7; 0x1000]
            })
            .collect();
        assert_eq!(taken, [0x1_1000, 0x1_2000, 0x1_5000]);
    }

    #[test]
    fn ranges_that_touch_are_one() {
        assert_eq!(
            merged(vec![(0, 4), (2, 3), (4, 6), (8, 9)]),
            [(0, 6), (8, 9)]
        );
    }
}
