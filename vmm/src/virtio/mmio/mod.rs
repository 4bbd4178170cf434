//! The virtio-mmio transport: one page of registers in front of one device.
//!
//! vCPU threads call [`Transport::read`] and [`Transport::write`] for every access of the guest;
//! virtio 1.2, section 4.2. The guest controls every offset, width and value. An access that the
//! specification does not allow (a register of another width, a queue that does not exist, a
//! configuration that is frozen) reads as zero or changes nothing. At DRIVER_OK the queues are
//! validated and given to the device; the transport keeps no handle on them.

mod queue;
pub(crate) mod registers;
mod status;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX;
use vmm_sys_util::eventfd::EventFd;

use super::{ActivateError, Activation, ActiveQueue, Interrupt, VirtioDevice};
use crate::memory::GuestMemory;
use crate::sys::RegisterPage;
use queue::{Half, InvalidQueue, QueueSetup, half, set_half};
use registers as reg;
use status::{Request, Status};

/// One device's registers.
#[derive(Debug)]
pub(crate) struct Transport {
    device: Box<dyn VirtioDevice>,
    memory: GuestMemory,
    interrupt: Interrupt,
    interrupt_status: Arc<AtomicU32>,
    doorbells: Vec<EventFd>,
    status: Status,
    device_features_select: u32,
    driver_features_select: u32,
    driver_features: u64,
    queue_select: u32,
    queues: Vec<QueueSetup>,
    shared_memory_select: u32,
    /// The registers as the guest reads them without an exit.
    page: Option<RegisterPage>,
}

impl Transport {
    /// Puts `device` behind registers. `line` interrupts the guest; `doorbells` has one eventfd
    /// for each of the device's queues.
    pub(crate) fn new(
        device: Box<dyn VirtioDevice>,
        memory: GuestMemory,
        line: EventFd,
        doorbells: Vec<EventFd>,
    ) -> Self {
        let interrupt_status = Arc::new(AtomicU32::new(0));
        let queues = device
            .queue_sizes()
            .iter()
            .copied()
            .map(QueueSetup::new)
            .collect();
        Self {
            device,
            memory,
            interrupt: Interrupt::new(Arc::clone(&interrupt_status), Arc::new(line)),
            interrupt_status,
            doorbells,
            status: Status::default(),
            device_features_select: 0,
            driver_features_select: 0,
            driver_features: 0,
            queue_select: 0,
            queues,
            shared_memory_select: 0,
            page: None,
        }
    }

    /// Lets the guest read registers without an exit while the driver runs, if the device's
    /// interrupt stands (see [`Interrupt::stand`]): none of them changes then, but by a write.
    pub(crate) fn with_page(self, page: RegisterPage) -> Self {
        Self {
            page: Some(page),
            ..self
        }
    }

    /// The guest reads `data.len()` bytes at `offset`.
    pub(crate) fn read(&self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        if let Some(offset) = offset.checked_sub(reg::CONFIG) {
            self.device.read_config(offset, data);
        } else if let Ok(word) = <&mut [u8; 4]>::try_from(data) {
            *word = self.register(offset).to_le_bytes();
        }
    }

    /// The guest writes `data` at `offset`.
    pub(crate) fn write(&mut self, offset: u64, data: &[u8]) {
        if !matches!(offset, reg::INTERRUPT_ACK | reg::QUEUE_NOTIFY) {
            self.hide_page();
        }
        if let Some(offset) = offset.checked_sub(reg::CONFIG) {
            if self.status.driven() {
                self.device.write_config(offset, data);
            }
        } else if let Ok(word) = <[u8; 4]>::try_from(data) {
            self.set_register(offset, u32::from_le_bytes(word));
        }
    }

    /// Stops the device, whatever its state.
    pub(crate) fn reset(&mut self) {
        self.hide_page();
        self.device.reset();
        for doorbell in &self.doorbells {
            // Nothing to read is fine: the doorbell is not rung.
            let _ = doorbell.read();
        }
        for queue in &mut self.queues {
            *queue = QueueSetup::new(queue.max_size());
        }
        self.interrupt_status.store(0, Ordering::SeqCst);
        self.interrupt.reset();
        self.status = Status::default();
        self.device_features_select = 0;
        self.driver_features_select = 0;
        self.driver_features = 0;
        self.queue_select = 0;
        self.shared_memory_select = 0;
    }

    fn features(&self) -> u64 {
        self.device.features() | 1 << VIRTIO_F_VERSION_1
    }

    fn register(&self, offset: u64) -> u32 {
        match offset {
            reg::MAGIC_VALUE => reg::MAGIC,
            reg::VERSION => reg::MODERN,
            reg::DEVICE_ID => self.device.device_type(),
            reg::VENDOR_ID => reg::VENDOR,
            reg::DEVICE_FEATURES => match self.device_features_select {
                0 => half(self.features(), Half::Low),
                1 => half(self.features(), Half::High),
                _ => 0,
            },
            reg::QUEUE_NUM_MAX => self.queue().map_or(0, |queue| u32::from(queue.max_size())),
            reg::QUEUE_READY => self.queue().map_or(0, |queue| u32::from(queue.ready)),
            reg::INTERRUPT_STATUS => {
                self.interrupt_status.load(Ordering::SeqCst) | self.interrupt.standing()
            }
            reg::STATUS => self.status.bits(),
            reg::SHM_LEN_LOW => half(self.shared_memory().1, Half::Low),
            reg::SHM_LEN_HIGH => half(self.shared_memory().1, Half::High),
            reg::SHM_BASE_LOW => half(self.shared_memory().0, Half::Low),
            reg::SHM_BASE_HIGH => half(self.shared_memory().0, Half::High),
            reg::CONFIG_GENERATION => self.interrupt.config_generation(),
            _ => 0,
        }
    }

    fn set_register(&mut self, offset: u64, value: u32) {
        match offset {
            reg::DEVICE_FEATURES_SEL => self.device_features_select = value,
            reg::DRIVER_FEATURES_SEL => self.driver_features_select = value,
            reg::DRIVER_FEATURES if self.status.negotiating() => {
                match self.driver_features_select {
                    0 => set_half(&mut self.driver_features, Half::Low, value),
                    1 => set_half(&mut self.driver_features, Half::High, value),
                    _ => {}
                }
            }
            reg::QUEUE_SEL => self.queue_select = value,
            reg::QUEUE_READY if self.status.configuring() => {
                if let Some(queue) = self.queue_mut() {
                    queue.ready = value & 1 != 0;
                }
            }
            reg::QUEUE_NUM
            | reg::QUEUE_DESC_LOW
            | reg::QUEUE_DESC_HIGH
            | reg::QUEUE_DRIVER_LOW
            | reg::QUEUE_DRIVER_HIGH
            | reg::QUEUE_DEVICE_LOW
            | reg::QUEUE_DEVICE_HIGH
                if self.status.configuring() =>
            {
                if let Some(queue) = self.queue_mut().filter(|queue| !queue.ready) {
                    set_queue_register(queue, offset, value);
                }
            }
            reg::QUEUE_NOTIFY => self.notify(value),
            reg::INTERRUPT_ACK => {
                self.interrupt_status.fetch_and(!value, Ordering::SeqCst);
            }
            reg::STATUS => self.set_status(value),
            reg::SHM_SEL => self.shared_memory_select = value,
            _ => {}
        }
    }

    /// A doorbell that the hypervisor did not take care of.
    fn notify(&self, index: u32) {
        let doorbell = usize::try_from(index)
            .ok()
            .and_then(|index| self.doorbells.get(index));
        if let Some(doorbell) = doorbell {
            // A full counter means that the device has not looked yet: it will.
            let _ = doorbell.write(1);
        }
    }

    fn queue(&self) -> Option<&QueueSetup> {
        self.queues.get(usize::try_from(self.queue_select).ok()?)
    }

    fn queue_mut(&mut self) -> Option<&mut QueueSetup> {
        self.queues
            .get_mut(usize::try_from(self.queue_select).ok()?)
    }

    /// Address and length of the selected region; all ones if there is none (section 4.2.2).
    fn shared_memory(&self) -> (u64, u64) {
        u8::try_from(self.shared_memory_select)
            .ok()
            .and_then(|id| self.device.shared_memory(id))
            .unwrap_or((u64::MAX, u64::MAX))
    }

    fn set_status(&mut self, value: u32) {
        match self.status.request(value) {
            Request::Reset => self.reset(),
            Request::Fail => {
                self.status.set_failed();
                self.device.reset();
            }
            Request::Ignore => {}
            Request::Advance {
                features_ok,
                driver_ok,
            } => {
                self.status.take_free_steps(value);
                if features_ok {
                    let extra = self.driver_features & !self.features();
                    if extra != 0 || self.driver_features & 1 << VIRTIO_F_VERSION_1 == 0 {
                        // The driver reads the status again and finds that we did not agree.
                        return;
                    }
                    self.status.set_features_ok();
                }
                if driver_ok {
                    self.activate();
                }
            }
        }
    }

    fn activate(&mut self) {
        self.status.set_driver_ok();
        let started = self
            .activation()
            .and_then(|activation| self.device.activate(activation).map_err(StartError::from));
        if let Err(error) = started {
            tracing::warn!(
                device = self.device.device_type(),
                error = &error as &dyn std::error::Error,
                "a virtio device did not start"
            );
            self.device.reset();
            self.status.set_needs_reset();
            self.interrupt.signal_config();
        } else if self.interrupt.standing() != 0 {
            self.show_page();
        }
    }

    fn show_page(&mut self) {
        let Some(mut page) = self.page.take() else {
            return;
        };
        let mut contents = vec![0; page.size()];
        let config = usize::try_from(reg::CONFIG).unwrap_or_default();
        let (registers, rest) = contents.split_at_mut(config.min(page.size()));
        for (offset, word) in (0..).step_by(4).zip(registers.chunks_exact_mut(4)) {
            self.read(offset, word);
        }
        self.read(reg::CONFIG, rest);
        if let Err(error) = page.show(&contents) {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "a guest's reads of a device's registers stay exits"
            );
        }
        self.page = Some(page);
    }

    fn hide_page(&mut self) {
        if let Some(page) = &mut self.page {
            page.hide();
        }
    }

    fn activation(&self) -> Result<Activation, StartError> {
        let event_idx = self.driver_features & 1 << VIRTIO_RING_F_EVENT_IDX != 0;
        let mut queues = Vec::with_capacity(self.queues.len());
        for (index, (setup, doorbell)) in self.queues.iter().zip(&self.doorbells).enumerate() {
            if !setup.ready {
                queues.push(None);
                continue;
            }
            let queue = setup
                .validate(&self.memory, event_idx)
                .map_err(|source| StartError::Queue { index, source })?;
            let doorbell = doorbell.try_clone().map_err(StartError::Doorbell)?;
            queues.push(Some(ActiveQueue { queue, doorbell }));
        }
        Ok(Activation {
            memory: Arc::clone(&self.memory),
            queues,
            interrupt: self.interrupt.clone(),
            features: self.driver_features,
        })
    }
}

fn set_queue_register(queue: &mut QueueSetup, offset: u64, value: u32) {
    match offset {
        reg::QUEUE_NUM => queue.size = value,
        reg::QUEUE_DESC_LOW => set_half(&mut queue.descriptors, Half::Low, value),
        reg::QUEUE_DESC_HIGH => set_half(&mut queue.descriptors, Half::High, value),
        reg::QUEUE_DRIVER_LOW => set_half(&mut queue.driver, Half::Low, value),
        reg::QUEUE_DRIVER_HIGH => set_half(&mut queue.driver, Half::High, value),
        reg::QUEUE_DEVICE_LOW => set_half(&mut queue.device, Half::Low, value),
        reg::QUEUE_DEVICE_HIGH => set_half(&mut queue.device, Half::High, value),
        _ => {}
    }
}

/// Why DRIVER_OK ended in DEVICE_NEEDS_RESET.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error("the driver set up queue {index} wrongly")]
    Queue {
        index: usize,
        #[source]
        source: InvalidQueue,
    },
    #[error("duplicating a doorbell")]
    Doorbell(#[source] std::io::Error),
    #[error(transparent)]
    Device(#[from] ActivateError),
}
