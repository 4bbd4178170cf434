//! The MP table, which tells the kernel of CPUs and interrupt lines: Intel MultiProcessor
//! Specification 1.4, chapter 4.
//!
//! CPUs have their index as APIC id; the IOAPIC has the next one. Every line of the IOAPIC is an
//! ISA interrupt of the same number, edge-triggered and active high, which is how the virtio
//! devices' irqfds pulse them.

use vm_memory::GuestMemoryMmap;

use super::BootError;
use crate::layout::{INTERRUPT_LINES, IOAPIC, LOCAL_APIC, MP_TABLE};

const SPECIFICATION: u8 = 4;
const APIC_VERSION: u8 = 0x14;
const CPU_ENABLED: u8 = 1;
const CPU_BOOT: u8 = 2;
const IOAPIC_VERSION: u8 = 0x11;
const IOAPIC_ENABLED: u8 = 1;
const ISA_BUS: u8 = 0;
/// For entries that mean every local APIC.
const ALL_APICS: u8 = 0xff;

const ENTRY_CPU: u8 = 0;
const ENTRY_BUS: u8 = 1;
const ENTRY_IOAPIC: u8 = 2;
const ENTRY_INTERRUPT: u8 = 3;
const ENTRY_LOCAL_INTERRUPT: u8 = 4;

const INTERRUPT_VECTORED: u8 = 0;
const INTERRUPT_NMI: u8 = 1;
const INTERRUPT_EXTERNAL: u8 = 3;

/// Where the table proper is, behind its pointer.
const TABLE: u64 = MP_TABLE + 16;
const HEADER_LENGTH: usize = 44;

/// The table for one machine.
#[derive(Debug)]
pub(crate) struct MpTable {
    vcpus: u8,
}

impl MpTable {
    /// A machine with this many CPUs, at most 254.
    pub(crate) fn new(vcpus: u8) -> Self {
        Self { vcpus }
    }

    /// Writes pointer and table.
    pub(crate) fn write(&self, memory: &GuestMemoryMmap) -> Result<(), BootError> {
        super::write(memory, "the MP table's pointer", MP_TABLE, &pointer())?;
        super::write(memory, "the MP table", TABLE, &self.table())
    }

    fn table(&self) -> Vec<u8> {
        let mut entries = Entries::default();
        for index in 0..self.vcpus {
            let boot = if index == 0 { CPU_BOOT } else { 0 };
            entries.add(
                &[ENTRY_CPU, index, APIC_VERSION, CPU_ENABLED | boot],
                &[0; 16],
            );
        }
        entries.add(&[ENTRY_BUS, ISA_BUS], b"ISA   ");
        let ioapic = self.vcpus;
        entries.add(
            &[ENTRY_IOAPIC, ioapic, IOAPIC_VERSION, IOAPIC_ENABLED],
            &IOAPIC.to_le_bytes(),
        );
        // After type, kind of interrupt and two bytes of flags (zero: as the bus does it) come
        // source bus and line, destination APIC and line.
        for line in (0u8..).take(usize::try_from(INTERRUPT_LINES).unwrap_or(0)) {
            entries.add(
                &[ENTRY_INTERRUPT, INTERRUPT_VECTORED, 0, 0],
                &[ISA_BUS, line, ioapic, line],
            );
        }
        for (kind, pin) in [(INTERRUPT_EXTERNAL, 0), (INTERRUPT_NMI, 1)] {
            entries.add(
                &[ENTRY_LOCAL_INTERRUPT, kind, 0, 0],
                &[ISA_BUS, 0, ALL_APICS, pin],
            );
        }
        entries.into_table()
    }
}

fn pointer() -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(b"_MP_");
    bytes[4..8].copy_from_slice(&u32::try_from(TABLE).unwrap_or(0).to_le_bytes());
    // Length in units of 16 bytes, then the specification's revision.
    bytes[8] = 1;
    bytes[9] = SPECIFICATION;
    bytes[10] = checksum(&bytes);
    bytes
}

/// The byte that makes the sum of all bytes zero.
fn checksum(bytes: &[u8]) -> u8 {
    bytes
        .iter()
        .fold(0u8, |sum, byte| sum.wrapping_add(*byte))
        .wrapping_neg()
}

#[derive(Default)]
struct Entries {
    count: u16,
    bytes: Vec<u8>,
}

impl Entries {
    fn add(&mut self, head: &[u8], tail: &[u8]) {
        self.count += 1;
        self.bytes.extend(head);
        self.bytes.extend(tail);
    }

    fn into_table(self) -> Vec<u8> {
        let length = u16::try_from(HEADER_LENGTH + self.bytes.len()).unwrap_or(u16::MAX);
        let mut table = Vec::with_capacity(usize::from(length));
        table.extend(b"PCMP");
        table.extend(length.to_le_bytes());
        table.extend([SPECIFICATION, 0]);
        table.extend(b"KRUNGPU MICROVM     ");
        // No OEM table.
        table.extend([0; 6]);
        table.extend(self.count.to_le_bytes());
        table.extend(LOCAL_APIC.to_le_bytes());
        // No extended table.
        table.extend([0; 4]);
        table.extend(self.bytes);
        let sum = checksum(&table);
        if let Some(byte) = table.get_mut(7) {
            *byte = sum;
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(bytes: &[u8]) -> u8 {
        bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
    }

    #[test]
    fn checksums_are_right_and_lengths_true() {
        assert_eq!(sum(&pointer()), 0);
        for vcpus in [1, 2, 254] {
            let table = MpTable::new(vcpus).table();
            assert_eq!(sum(&table), 0);
            assert_eq!(
                usize::from(u16::from_le_bytes([table[4], table[5]])),
                table.len()
            );
            let fixed = HEADER_LENGTH + 8 + 8 + 24 * 8 + 2 * 8;
            assert_eq!(table.len(), fixed + 20 * usize::from(vcpus));
            let count = u16::from_le_bytes([table[34], table[35]]);
            assert_eq!(count, u16::from(vcpus) + 1 + 1 + 24 + 2);
            assert!(TABLE + (table.len() as u64) < crate::layout::HIGH_RAM_START);
        }
    }

    #[test]
    fn the_first_cpu_boots() {
        let table = MpTable::new(2).table();
        let cpu = |index: usize| &table[HEADER_LENGTH + 20 * index..][..4];
        assert_eq!(cpu(0), [0, 0, 0x14, 3]);
        assert_eq!(cpu(1), [0, 1, 0x14, 1]);
    }
}
