//! The start information of the PVH boot ABI: xen/include/public/arch-x86/hvm/start_info.h.

use linux_loader::loader::elf::start_info::{
    hvm_memmap_table_entry, hvm_modlist_entry, hvm_start_info,
};
use vm_memory::{ByteValued, GuestMemoryMmap};

use super::BootError;
use crate::layout::{self, Layout, Range};
use crate::sys::BootState;

const MAGIC: u32 = 0x336e_c578;
/// The version with a memory map.
const VERSION: u32 = 1;
const MEMORY_TYPE_RAM: u32 = 1;
/// The module list lies behind the start information.
const MODULES: u64 = layout::START_INFO + 0x100;

pub(super) fn write(
    memory: &GuestMemoryMmap,
    layout: Layout,
    entry: u64,
    initramfs: Range,
) -> Result<BootState, BootError> {
    let map: Vec<u8> = layout
        .usable()
        .flat_map(|range| {
            let entry = hvm_memmap_table_entry {
                addr: range.start,
                size: range.length,
                type_: MEMORY_TYPE_RAM,
                reserved: 0,
            };
            entry.as_slice().to_vec()
        })
        .collect();
    let module = hvm_modlist_entry {
        paddr: initramfs.start,
        size: initramfs.length,
        ..Default::default()
    };
    let start_info = hvm_start_info {
        magic: MAGIC,
        version: VERSION,
        nr_modules: 1,
        modlist_paddr: MODULES,
        cmdline_paddr: layout::COMMAND_LINE,
        memmap_paddr: layout::MEMORY_MAP,
        memmap_entries: layout.usable().map(|_| 1).sum(),
        ..Default::default()
    };
    super::write(memory, "the memory map", layout::MEMORY_MAP, &map)?;
    super::write(memory, "the module list", MODULES, module.as_slice())?;
    super::write(
        memory,
        "the start information",
        layout::START_INFO,
        start_info.as_slice(),
    )?;
    Ok(BootState::Pvh {
        entry,
        start_info: layout::START_INFO,
    })
}
