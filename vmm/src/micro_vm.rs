//! A VM and its owner's controls: start, wait, look, stop.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Instant;

use crate::devices::console::ConsoleLog;
use crate::devices::net::NicSlot;
use crate::devices::vsock::VsockHandle;
use crate::event_loop::EventLoop;
use crate::exit::{ExitReason, panic_message};
use crate::memory::{self, GuestMemory};
use crate::sys::{self, Vcpu, Vm};
use crate::vcpu::{Machine, VcpuThread};

/// A microVM. Dropping it stops it.
#[derive(Debug)]
pub struct MicroVm {
    // Fields are dropped in this order: threads are gone (see `stop`) before the VM, and the VM
    // before the memory that it maps.
    state: State,
    machine: Arc<Machine>,
    _event_loop: EventLoop,
    // Closing it would disconnect interrupt lines and doorbells.
    _vm: Vm,
    memory: GuestMemory,
    vsock: VsockHandle,
    nic_slots: Vec<NicSlot>,
    log: ConsoleLog,
    began: Instant,
    built: Instant,
}

#[derive(Debug)]
enum State {
    Built(Vec<Vcpu>),
    Running(Vec<VcpuThread>),
    Stopped,
}

/// When the VM reached what, on the host's monotonic clock.
#[derive(Clone, Copy, Debug)]
pub struct Milestones {
    /// [`MicroVm::build`] was called.
    pub began: Instant,
    /// It returned.
    pub built: Instant,
    /// The first vCPU was about to enter the guest.
    pub first_entry: Option<Instant>,
    /// The guest's first byte on its console.
    pub first_console_byte: Option<Instant>,
}

impl MicroVm {
    #[expect(
        clippy::too_many_arguments,
        reason = "the builder's one call, part by part"
    )]
    pub(crate) fn assemble(
        vm: Vm,
        memory: GuestMemory,
        machine: Machine,
        vcpus: Vec<Vcpu>,
        event_loop: EventLoop,
        vsock: VsockHandle,
        nic_slots: Vec<NicSlot>,
        log: ConsoleLog,
        began: Instant,
    ) -> Self {
        Self {
            state: State::Built(vcpus),
            machine: Arc::new(machine),
            _event_loop: event_loop,
            _vm: vm,
            memory,
            vsock,
            nic_slots,
            log,
            began,
            built: Instant::now(),
        }
    }

    /// Starts the vCPUs' threads. If one cannot be started, those that were are stopped again.
    pub fn start(&mut self) -> Result<(), StartError> {
        let vcpus = match std::mem::replace(&mut self.state, State::Stopped) {
            State::Built(vcpus) => vcpus,
            other => {
                self.state = other;
                return Err(StartError::Twice);
            }
        };
        let mut threads = Vec::with_capacity(vcpus.len());
        for (index, vcpu) in vcpus.into_iter().enumerate() {
            match VcpuThread::start(index, vcpu, Arc::clone(&self.machine)) {
                Ok(thread) => threads.push(thread),
                Err(source) => {
                    self.state = State::Running(threads);
                    self.stop();
                    return Err(StartError::Thread { index, source });
                }
            }
        }
        self.state = State::Running(threads);
        Ok(())
    }

    /// The guest's connections to the host.
    pub fn vsock(&self) -> &VsockHandle {
        &self.vsock
    }

    /// Where NICs can be plugged in, before the guest runs as well as after.
    pub fn nic_slots(&self) -> &[NicSlot] {
        &self.nic_slots
    }

    /// An eventfd that becomes, and stays, readable when the VM has ended by itself.
    pub fn exited(&self) -> BorrowedFd<'_> {
        sys::eventfd::borrow(self.machine.latch.event())
    }

    /// Why the VM ended by itself, if it has.
    pub fn exit_reason(&self) -> Option<ExitReason> {
        match self.machine.latch.reason()? {
            ExitReason::Reset => {
                Some(panic_message(&self.console()).map_or(ExitReason::Reset, ExitReason::Panic))
            }
            other => Some(other.clone()),
        }
    }

    /// The last 16 KiB of what the guest said on its console.
    pub fn console(&self) -> Vec<u8> {
        self.log.contents()
    }

    /// What took how long.
    pub fn milestones(&self) -> Milestones {
        Milestones {
            began: self.began,
            built: self.built,
            first_entry: self.machine.first_entry(),
            first_console_byte: self.log.first_byte(),
        }
    }

    /// Where guest memory is in this process: (address, bytes), for telling it from the VMM's
    /// own memory in `/proc/self/smaps`.
    pub fn guest_memory_ranges(&self) -> Vec<(u64, u64)> {
        memory::host_ranges(&self.memory)
    }

    /// Stops the vCPUs until [`Self::resume`]; the devices go on with what they have begun. The
    /// guest's clocks run on, as those of a stopped process do. Twice is as good as once.
    pub fn pause(&self) {
        self.set_paused(true);
    }

    /// Lets the vCPUs run again.
    pub fn resume(&self) {
        self.set_paused(false);
    }

    fn set_paused(&self, pause: bool) {
        let threads = match &self.state {
            State::Running(threads) => threads.as_slice(),
            State::Built(_) | State::Stopped => &[],
        };
        self.machine.pause(pause, threads);
    }

    /// Stops the vCPUs, then the devices. On return nothing runs that touches guest memory.
    pub fn stop(&mut self) {
        if let State::Running(threads) = std::mem::replace(&mut self.state, State::Stopped) {
            for thread in &threads {
                thread.kick(&self.machine);
            }
            for thread in threads {
                thread.join();
            }
        }
        self.machine.bus.reset_devices();
    }
}

impl Drop for MicroVm {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Why a VM could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// It was started before.
    #[error("the VM was started already")]
    Twice,
    /// A thread could not be had.
    #[error("starting the thread of vCPU {index}")]
    Thread {
        /// The vCPU's index.
        index: usize,
        /// The reason.
        #[source]
        source: std::io::Error,
    },
}
