//! The 64-bit boot protocol of Linux, for a vmlinux with no PVH note:
//! Documentation/arch/x86/boot.rst ("64-bit boot protocol") and zero-page.rst.

use linux_loader::loader::bootparam::{boot_e820_entry, boot_params};
use vm_memory::{ByteValued, GuestMemoryMmap};

use super::{BootError, CommandLine};
use crate::layout::{self, Layout, Range};
use crate::sys::BootState;

const BOOT_FLAG: u16 = 0xaa55;
/// "HdrS"
const HEADER_MAGIC: u32 = 0x5372_6448;
/// A loader with no number of its own.
const LOADER_UNDEFINED: u8 = 0xff;
const KERNEL_ALIGNMENT: u32 = 0x100_0000;
const E820_RAM: u32 = 1;

/// A page table entry's bits: present, writable; and a page of 2 MiB.
const TABLE: u64 = 0b11;
const LARGE_PAGE: u64 = 1 << 7;
/// Entries of a page table.
const ENTRIES: u64 = 512;

/// Nothing, nothing, `__BOOT_CS` (64-bit, read and execute), `__BOOT_DS` (read and write).
const DESCRIPTORS: [u64; 4] = [0, 0, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff];

pub(super) fn write(
    memory: &GuestMemoryMmap,
    layout: Layout,
    entry: u64,
    initramfs: Range,
    command_line: &CommandLine,
) -> Result<BootState, BootError> {
    let params = parameters(layout, initramfs, command_line);
    super::write(
        memory,
        "the boot parameters",
        layout::ZERO_PAGE,
        params.as_slice(),
    )?;
    // The first GiB, identity-mapped: one table of each level.
    let [top, middle, low] = [0, 1, 2].map(|index| layout::PAGE_TABLES + index * layout::PAGE);
    super::write(memory, "a page table", top, &(middle | TABLE).to_le_bytes())?;
    super::write(memory, "a page table", middle, &(low | TABLE).to_le_bytes())?;
    let pages: Vec<u8> = (0..ENTRIES)
        .flat_map(|index| (index << 21 | LARGE_PAGE | TABLE).to_le_bytes())
        .collect();
    super::write(memory, "a page table", low, &pages)?;
    let descriptors: Vec<u8> = DESCRIPTORS
        .iter()
        .flat_map(|entry| entry.to_le_bytes())
        .collect();
    super::write(memory, "the GDT", layout::GDT, &descriptors)?;
    let limit = u16::try_from(descriptors.len() - 1).unwrap_or(u16::MAX);
    Ok(BootState::Linux64 {
        entry,
        zero_page: layout::ZERO_PAGE,
        page_tables: top,
        gdt: (layout::GDT, limit),
    })
}

fn parameters(layout: Layout, initramfs: Range, command_line: &CommandLine) -> boot_params {
    let mut params = boot_params::default();
    params.hdr.boot_flag = BOOT_FLAG;
    params.hdr.header = HEADER_MAGIC;
    params.hdr.type_of_loader = LOADER_UNDEFINED;
    params.hdr.kernel_alignment = KERNEL_ALIGNMENT;
    params.hdr.cmd_line_ptr = low_half(layout::COMMAND_LINE);
    params.hdr.cmdline_size = u32::try_from(command_line.len()).unwrap_or(u32::MAX);
    params.hdr.ramdisk_image = low_half(initramfs.start);
    params.hdr.ramdisk_size = low_half(initramfs.length);
    for (slot, range) in params.e820_table.iter_mut().zip(layout.usable()) {
        *slot = boot_e820_entry {
            addr: range.start,
            size: range.length,
            type_: E820_RAM,
        };
        params.e820_entries += 1;
    }
    params
}

/// Everything that these fields name lies below 4 GiB.
fn low_half(address: u64) -> u32 {
    u32::try_from(address).unwrap_or(u32::MAX)
}
