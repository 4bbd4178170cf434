//! The boot story: lay out memory, load the kernel, plug the devices, make the vCPUs.
//!
//! Called once per VM, by its owner, before anything of the guest runs.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use crate::boot::{
    self, BootError, CommandLine, CommandLineError, InitramfsError, Kernel, KernelImageError,
    MpTable,
};
use crate::bus::Bus;
use crate::config::VmConfig;
use crate::devices::balloon::Balloon;
use crate::devices::block::{Block, BlockError};
use crate::devices::console::{Console, ConsoleLog};
use crate::devices::fs::{Fs, FsError};
use crate::devices::gpu::{Gpu, GpuError};
use crate::devices::net::{self, Net, NicSlot};
use crate::devices::rng::Rng;
use crate::devices::vsock::{Vsock, VsockError};
use crate::event_loop::EventLoop;
use crate::exit::ExitLatch;
use crate::layout::{Layout, MEMORY_GRANULE, Range};
use crate::memory::{self, GuestMemory, MemoryError};
use crate::micro_vm::MicroVm;
use crate::sys::{self, HypervisorError, LateDoorbell, Vm};
use crate::vcpu::Machine;
use crate::virtio::VirtioDevice;
use crate::virtio::mmio::Transport;
use crate::virtio::mmio::registers::{INTERRUPT_ACK, QUEUE_NOTIFY};

/// APIC ids are eight bits, of which one value means everybody and one is the IOAPIC's.
const MOST_VCPUS: u8 = 254;
/// More than any host's address bits reach, and far from overflowing the layout.
const MOST_MEMORY: u64 = 1 << 44;

impl MicroVm {
    /// Builds the VM. Nothing of the guest runs before [`MicroVm::start`].
    pub fn build(config: VmConfig) -> Result<Self, BuildError> {
        let began = Instant::now();
        check_sizes(&config)?;
        let vm = Vm::new(config.kvm, config.vcpus, config.nested)?;

        let layout = Layout::new(config.memory);
        let memory = memory::create(layout, &vm)?;

        let kernel = Kernel::load(&memory, layout, &config.kernel)?;
        let initramfs = boot::load_initramfs(&memory, layout, &kernel, &config.initramfs)?;

        let event_loop = EventLoop::start().map_err(BuildError::EventLoop)?;
        let log = ConsoleLog::default();
        let mut slots = Slots::new(&vm, &memory);
        slots.plug(Box::new(Console::new(log.clone(), event_loop.handle())))?;
        let (vsock, vsock_handle) = quietly(|| Vsock::new(config.vsock))??;
        slots.plug(Box::new(vsock))?;
        if let Some(root) = &config.root {
            slots.plug(Box::new(quietly(|| Fs::new(root))??))?;
        }
        slots.plug(Box::new(Rng::new(event_loop.handle())))?;
        slots.plug(Box::new(Balloon::new(event_loop.handle())))?;
        if let Some(gpu) = config.gpu {
            let window = memory::create_window(layout, &vm, gpu.window)?;
            slots.plug(Box::new(quietly(|| Gpu::new(gpu, window))??))?;
        }
        for disk in config.disks {
            slots.plug(Box::new(quietly(|| Block::new(disk))??))?;
        }
        let nic_slots = (0..config.nic_slots)
            .map(|_| slots.plug_nic(Net::new(net::pairs(config.vcpus), event_loop.handle())))
            .collect::<Result<_, _>>()?;
        let Slots {
            transports,
            mut command_line,
            ..
        } = slots;

        command_line.append(&config.cmdline)?;
        MpTable::new(config.vcpus).write(&memory)?;
        let boot_state =
            boot::write_parameters(&memory, layout, kernel.entry(), initramfs, &command_line)?;
        let vcpus = (0..config.vcpus)
            .map(|index| vm.new_vcpu(index, boot_state))
            .collect::<Result<_, _>>()?;

        let latch = ExitLatch::new(sys::eventfd::new().map_err(BuildError::ExitEvent)?);
        let machine = Machine::new(Bus::new(transports, log.clone()), latch);
        Ok(Self::assemble(
            vm,
            memory,
            machine,
            vcpus,
            event_loop,
            vsock_handle,
            nic_slots,
            log,
            began,
        ))
    }
}

/// The devices' threads leave signals to the caller's.
fn quietly<T>(make: impl FnOnce() -> T) -> Result<T, BuildError> {
    sys::thread::quietly(make).map_err(BuildError::Signals)
}

fn check_sizes(config: &VmConfig) -> Result<(), BuildError> {
    if !(1..=MOST_VCPUS).contains(&config.vcpus) {
        return Err(BuildError::Vcpus {
            vcpus: config.vcpus,
        });
    }
    let memory = config.memory;
    if memory == 0 || !memory.is_multiple_of(MEMORY_GRANULE) || memory > MOST_MEMORY {
        return Err(BuildError::Memory { memory });
    }
    Ok(())
}

/// Gives each device registers, doorbells and an interrupt line, in the order of plugging.
struct Slots<'a> {
    vm: &'a Vm,
    memory: &'a GuestMemory,
    transports: Vec<Transport>,
    command_line: CommandLine,
}

impl<'a> Slots<'a> {
    fn new(vm: &'a Vm, memory: &'a GuestMemory) -> Self {
        Self {
            vm,
            memory,
            transports: Vec::new(),
            command_line: CommandLine::new(),
        }
    }

    fn plug(&mut self, device: Box<dyn VirtioDevice>) -> Result<(), BuildError> {
        let queues = device.queue_sizes().len();
        self.plug_queues(device, queues).map(|_| ())
    }

    /// Plugs a device in whose first `connected` queues have doorbells; those of the others are
    /// returned.
    fn plug_queues(
        &mut self,
        device: Box<dyn VirtioDevice>,
        connected: usize,
    ) -> Result<(Range, Vec<LateDoorbell>), BuildError> {
        let index = self.transports.len();
        let (registers, line) = Layout::device(index)
            .zip(Layout::device_line(index))
            .ok_or(BuildError::TooManyDevices { most: index })?;
        let mut doorbells = Vec::new();
        let mut late = Vec::new();
        for (number, queue) in (0u32..).zip(0..device.queue_sizes().len()) {
            let address = registers.start + QUEUE_NOTIFY;
            doorbells.push(if queue < connected {
                self.vm.doorbell(address, number)?
            } else {
                let (doorbell, later) = self.vm.late_doorbell(address, number)?;
                late.push(later);
                doorbell
            });
        }
        let interrupt = self.vm.interrupt_line(line)?;
        self.command_line.add_device(registers, line);
        self.transports.push(Transport::new(
            device,
            Arc::clone(self.memory),
            interrupt,
            doorbells,
        ));
        Ok((registers, late))
    }

    /// A place for a NIC that may come later.
    fn plug_nic(&mut self, net: Net) -> Result<NicSlot, BuildError> {
        let slot = net.slot(self.transports.len());
        let (registers, late) = self.plug_queues(Box::new(net), net::FIRST_PAIR)?;
        slot.keep(late);
        // A NIC's interrupts need no acknowledgement: the kernel drops the most frequent one, which
        // would be an exit for each interrupt. It keeps the eventfd, to which nobody listens.
        let used = virtio_bindings::virtio_mmio::VIRTIO_MMIO_INT_VRING;
        self.vm.doorbell(registers.start + INTERRUPT_ACK, used)?;
        let memory_slot = memory::PAGE_SLOTS + u32::try_from(slot.index()).unwrap_or(0);
        let length = usize::try_from(registers.length).unwrap_or_default();
        let page = self
            .vm
            .register_page(memory_slot, registers.start, length)?;
        let transport = self.transports.pop();
        self.transports
            .extend(transport.map(|transport| transport.with_page(page)));
        Ok(slot)
    }
}

/// Why a VM could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// No such number of vCPUs.
    #[error("{vcpus} vCPUs asked for; a VM has 1 to {MOST_VCPUS}")]
    Vcpus {
        /// How many were asked for.
        vcpus: u8,
    },
    /// No such amount of memory.
    #[error(
        "{memory} bytes of memory asked for; it must be a multiple of 2 MiB, more than 0 and at most 16 TiB"
    )]
    Memory {
        /// How much was asked for.
        memory: u64,
    },
    /// The hypervisor refused.
    #[error(transparent)]
    Hypervisor(#[from] HypervisorError),
    /// Guest memory could not be had.
    #[error(transparent)]
    GuestMemory(#[from] MemoryError),
    /// The kernel could not be loaded.
    #[error(transparent)]
    Kernel(#[from] KernelImageError),
    /// The initramfs could not be loaded.
    #[error(transparent)]
    Initramfs(#[from] InitramfsError),
    /// The command line is refused.
    #[error(transparent)]
    CommandLine(#[from] CommandLineError),
    /// A boot structure could not be written.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// The devices' thread could not be started.
    #[error("starting the devices' event loop")]
    EventLoop(#[source] io::Error),
    /// The signal mask could not be set.
    #[error("blocking signals while a device starts its threads")]
    Signals(#[source] io::Error),
    /// No eventfd for the VM's end.
    #[error("making the eventfd for the VM's end")]
    ExitEvent(#[source] io::Error),
    /// No place for a device.
    #[error("a VM has room for {most} devices")]
    TooManyDevices {
        /// How many there can be.
        most: usize,
    },
    /// The vsock device could not be made.
    #[error(transparent)]
    Vsock(#[from] VsockError),
    /// The file system device could not be made.
    #[error(transparent)]
    Fs(#[from] FsError),
    /// A disk could not be made.
    #[error(transparent)]
    Block(#[from] BlockError),
    /// The GPU could not be made.
    #[error(transparent)]
    Gpu(#[from] GpuError),
}
