//! Where the guest's accesses to device memory and ports go.
//!
//! vCPU threads call this for every exit. The guest chooses address, width and value: what is
//! nobody's reads as all ones and swallows writes, without a word, since a guest can do it a
//! million times a second.

use std::sync::{Mutex, PoisonError};

use crate::devices::console::ConsoleLog;
use crate::layout::{DEVICE_SIZE, DEVICES_START};
use crate::virtio::mmio::Transport;

/// The keyboard controller's command port, of which one command is known: reset the machine.
const KEYBOARD_COMMAND: u16 = 0x64;
const RESET: u8 = 0xfe;
/// The first serial port's data register: a kernel that is told `earlyprintk=ttyS0` writes
/// there before it has a console. There is no serial port behind it.
const SERIAL_DATA: u16 = 0x3f8;

/// What a port write means to the VM.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum PortWrite {
    /// Nothing.
    Done,
    /// The guest resets the machine.
    Reset,
}

/// The devices by address.
#[derive(Debug)]
pub(crate) struct Bus {
    transports: Vec<Mutex<Transport>>,
    log: ConsoleLog,
}

impl Bus {
    /// The devices in the order of their registers, and where early output goes.
    pub(crate) fn new(transports: Vec<Transport>, log: ConsoleLog) -> Self {
        Self {
            transports: transports.into_iter().map(Mutex::new).collect(),
            log,
        }
    }

    pub(crate) fn mmio_read(&self, address: u64, data: &mut [u8]) {
        match self.find(address) {
            Some((transport, offset)) => {
                transport
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .read(offset, data);
            }
            None => data.fill(0xff),
        }
    }

    pub(crate) fn mmio_write(&self, address: u64, data: &[u8]) {
        if let Some((transport, offset)) = self.find(address) {
            transport
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .write(offset, data);
        }
    }

    pub(crate) fn port_write(&self, port: u16, data: &[u8]) -> PortWrite {
        match port {
            KEYBOARD_COMMAND if data.contains(&RESET) => return PortWrite::Reset,
            SERIAL_DATA => self.log.append(data),
            _ => {}
        }
        PortWrite::Done
    }

    /// Stops every device; their threads let go of guest memory.
    pub(crate) fn reset_devices(&self) {
        for transport in &self.transports {
            transport
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .reset();
        }
    }

    fn find(&self, address: u64) -> Option<(&Mutex<Transport>, u64)> {
        let offset = address.checked_sub(DEVICES_START)?;
        let index = usize::try_from(offset / DEVICE_SIZE).ok()?;
        Some((self.transports.get(index)?, offset % DEVICE_SIZE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobodys_memory_reads_as_ones() {
        let bus = Bus::new(Vec::new(), ConsoleLog::default());
        for address in [0, DEVICES_START, DEVICES_START - 1, u64::MAX] {
            let mut data = [0; 8];
            bus.mmio_read(address, &mut data);
            bus.mmio_write(address, &data);
            assert_eq!(data, [0xff; 8]);
        }
    }

    #[test]
    fn one_port_resets_and_one_logs() {
        let log = ConsoleLog::default();
        let bus = Bus::new(Vec::new(), log.clone());
        assert_eq!(bus.port_write(0x64, &[0xfe]), PortWrite::Reset);
        assert_eq!(bus.port_write(0x64, &[0xd1]), PortWrite::Done);
        assert_eq!(bus.port_write(0x3f8, b"early"), PortWrite::Done);
        assert_eq!(bus.port_write(0x80, &[0xfe]), PortWrite::Done);
        assert_eq!(log.contents(), b"early");
    }
}
