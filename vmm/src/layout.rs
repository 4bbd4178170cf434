//! The guest's physical address map, for x86-64.
//!
//! Used by the builder and everything that it calls. Nothing here comes from the guest.
//!
//! ```text
//! 0            RAM: boot structures of this VMM in the first 640 KiB, kernel from 16 MiB
//! 0xa0000      not RAM for the guest (the MP table is found here, at 0xf0000)
//! 0x100000     RAM, up to 3 GiB
//! 0xc000_0000  hole: virtio-mmio devices, IOAPIC, local APIC, KVM's own pages
//! 0x1_0000_0000  the rest of RAM
//! above        windows for shared memory (GPU blobs, DAX), each aligned to its size class
//! ```

/// Size of a page, and the granularity of every mapping.
pub const PAGE: u64 = 4096;
/// Guest memory comes in multiples of this: the size of a huge page.
pub const MEMORY_GRANULE: u64 = 2 << 20;
/// End of the memory that a PC's kernel may use below 1 MiB.
pub(crate) const LOW_RAM_END: u64 = 0x9_fc00;
/// Where RAM goes on above the legacy area.
pub(crate) const HIGH_RAM_START: u64 = 0x10_0000;
/// First address that is not RAM below 4 GiB.
pub(crate) const HOLE_START: u64 = 0xc000_0000;
/// Where RAM goes on above the hole.
pub(crate) const HOLE_END: u64 = 1 << 32;
/// The first virtio-mmio device; each takes one page.
pub(crate) const DEVICES_START: u64 = 0xd000_0000;
/// Size of one device's registers.
pub(crate) const DEVICE_SIZE: u64 = PAGE;
/// Interrupt line of the first device; each takes one. The lines below belong to the PC's legacy
/// devices.
pub(crate) const FIRST_DEVICE_LINE: u32 = 5;
/// Lines of the IOAPIC.
pub(crate) const INTERRUPT_LINES: u32 = 24;
/// Devices that a VM has room for: a line each.
pub const MOST_DEVICES: usize = (INTERRUPT_LINES - FIRST_DEVICE_LINE) as usize;
/// The IOAPIC's registers.
pub(crate) const IOAPIC: u32 = 0xfec0_0000;
/// The local APIC's registers.
pub(crate) const LOCAL_APIC: u32 = 0xfee0_0000;
/// Three pages that KVM needs on Intel hosts (KVM_SET_TSS_ADDR), and one before them
/// (KVM_SET_IDENTITY_MAP_ADDR).
pub(crate) const KVM_TSS: u64 = 0xfffb_d000;
/// See [`KVM_TSS`].
pub(crate) const KVM_IDENTITY_MAP: u64 = KVM_TSS - PAGE;

/// Boot structures in the first 640 KiB.
pub(crate) const GDT: u64 = 0x500;
/// `hvm_start_info`, then its module list.
pub(crate) const START_INFO: u64 = 0x6000;
/// The memory map of `hvm_start_info`.
pub(crate) const MEMORY_MAP: u64 = 0x7000;
/// `boot_params` of the 64-bit protocol.
pub(crate) const ZERO_PAGE: u64 = 0x8000;
/// Page tables of the 64-bit protocol: three pages.
pub(crate) const PAGE_TABLES: u64 = 0x9000;
/// The kernel's command line.
pub(crate) const COMMAND_LINE: u64 = 0x2_0000;
/// The MP table, in the BIOS area where the kernel searches for it.
pub(crate) const MP_TABLE: u64 = 0xf_0000;

/// Where one VM's memory lies.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Layout {
    memory: u64,
}

/// A range of guest-physical addresses.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Range {
    /// First address.
    pub start: u64,
    /// Length in bytes.
    pub length: u64,
}

impl Range {
    /// First address behind the range.
    pub const fn end(self) -> u64 {
        self.start + self.length
    }
}

impl Layout {
    /// The layout for `memory` bytes of RAM, a number that the builder accepts.
    pub const fn new(memory: u64) -> Self {
        Self { memory }
    }

    /// RAM below the hole.
    pub const fn low_ram(self) -> Range {
        let length = if self.memory < HOLE_START {
            self.memory
        } else {
            HOLE_START
        };
        Range { start: 0, length }
    }

    /// RAM above the hole.
    pub const fn high_ram(self) -> Option<Range> {
        if self.memory > HOLE_START {
            Some(Range {
                start: HOLE_END,
                length: self.memory - HOLE_START,
            })
        } else {
            None
        }
    }

    /// What the guest's kernel is told of RAM.
    pub(crate) fn usable(self) -> impl Iterator<Item = Range> {
        let low = Range {
            start: 0,
            length: LOW_RAM_END,
        };
        let middle = Range {
            start: HIGH_RAM_START,
            length: self.low_ram().end() - HIGH_RAM_START,
        };
        [Some(low), Some(middle), self.high_ram()]
            .into_iter()
            .flatten()
    }

    /// Where windows for shared memory may be reserved: `size` bytes, a power of two, aligned to
    /// `size`, behind `taken` bytes of earlier windows. `None` if that is beyond what 46 bits of
    /// physical address reach, the least that a server's CPU has.
    pub fn window(self, taken: u64, size: u64) -> Option<Range> {
        const REACH: u64 = 1 << 46;
        let ram_end = self.high_ram().map_or(HOLE_END, Range::end);
        let start = ram_end.checked_add(taken)?.checked_next_multiple_of(size)?;
        let end = start.checked_add(size)?;
        (end <= REACH).then_some(Range {
            start,
            length: size,
        })
    }

    /// Registers of the device with this index.
    pub(crate) fn device(index: usize) -> Option<Range> {
        let offset = u64::try_from(index).ok()?.checked_mul(DEVICE_SIZE)?;
        let start = DEVICES_START.checked_add(offset)?;
        (start < u64::from(IOAPIC)).then_some(Range {
            start,
            length: DEVICE_SIZE,
        })
    }

    /// Interrupt line of the device with this index.
    pub(crate) fn device_line(index: usize) -> Option<u32> {
        let line = FIRST_DEVICE_LINE.checked_add(u32::try_from(index).ok()?)?;
        (line < INTERRUPT_LINES).then_some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_beyond_the_hole_goes_above_it() {
        let layout = Layout::new(5 << 30);
        assert_eq!(layout.low_ram().end(), HOLE_START);
        assert_eq!(
            layout.high_ram(),
            Some(Range {
                start: HOLE_END,
                length: 2 << 30
            })
        );
        let total: u64 = [layout.low_ram().length, 2 << 30].iter().sum();
        assert_eq!(total, 5 << 30);
        assert_eq!(Layout::new(HOLE_START).high_ram(), None);
    }

    #[test]
    fn windows_are_aligned_and_above_memory() {
        let layout = Layout::new((5 << 30) + MEMORY_GRANULE);
        let window = layout.window(0, 1 << 33).expect("there is room");
        assert_eq!(window.start % (1 << 33), 0);
        assert!(window.start >= (6 << 30) + MEMORY_GRANULE);
        assert_eq!(layout.window(1 << 46, 1 << 30), None);
        assert_eq!(layout.window(u64::MAX, 1 << 30), None);
    }

    #[test]
    fn lines_end_with_the_ioapic() {
        assert_eq!(Layout::device_line(MOST_DEVICES - 1), Some(23));
        assert_eq!(Layout::device_line(MOST_DEVICES), None);
    }
}
