//! The vCPUs' threads.
//!
//! `MicroVm::start` starts one per vCPU; each runs the guest and serves its exits until the
//! guest ends the VM or somebody stops it.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use crate::bus::{Bus, PortWrite};
use crate::exit::{ExitLatch, ExitReason};
use crate::sys::{Exit, Kicker, Vcpu, thread};

/// What the vCPUs share.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) bus: Bus,
    pub(crate) latch: ExitLatch,
    stop: AtomicBool,
    paused: Mutex<bool>,
    resumed: Condvar,
    first_entry: OnceLock<Instant>,
}

impl Machine {
    pub(crate) fn new(bus: Bus, latch: ExitLatch) -> Self {
        Self {
            bus,
            latch,
            stop: AtomicBool::new(false),
            paused: Mutex::new(false),
            resumed: Condvar::new(),
            first_entry: OnceLock::new(),
        }
    }

    /// When the first vCPU entered the guest.
    pub(crate) fn first_entry(&self) -> Option<Instant> {
        self.first_entry.get().copied()
    }

    /// Keeps the vCPUs from entering the guest, and makes `threads` leave it; or lets them on.
    pub(crate) fn pause(&self, pause: bool, threads: &[VcpuThread]) {
        // Held for the kicks too, so that none of them outlives its pause.
        let mut paused = self.paused();
        *paused = pause;
        if pause {
            for thread in threads {
                thread.kicker.kick(&thread.thread);
            }
        } else {
            self.resumed.notify_all();
        }
    }

    /// Waits while the VM is paused. The kicks until now are forgotten.
    fn wait_while_paused(&self, vcpu: &Vcpu) {
        let mut paused = self.paused();
        while *paused && !self.stop.load(Ordering::SeqCst) {
            paused = self
                .resumed
                .wait(paused)
                .unwrap_or_else(PoisonError::into_inner);
        }
        vcpu.resume();
    }

    fn paused(&self) -> MutexGuard<'_, bool> {
        // A bool is whole whatever happened to whoever held the lock.
        self.paused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, reason: ExitReason) {
        self.stop.store(true, Ordering::SeqCst);
        self.latch.report(reason);
    }
}

/// A vCPU's thread.
#[derive(Debug)]
pub(crate) struct VcpuThread {
    thread: JoinHandle<()>,
    kicker: Kicker,
}

impl VcpuThread {
    /// Starts the thread of `vcpu`, which is the vCPU with this index.
    pub(crate) fn start(index: usize, vcpu: Vcpu, machine: Arc<Machine>) -> io::Result<Self> {
        let kicker = vcpu.kicker();
        let thread = thread::spawn(&format!("vcpu {index}"), move || serve(vcpu, &machine))?;
        Ok(Self { thread, kicker })
    }

    /// Asks the vCPU to stop.
    pub(crate) fn kick(&self, machine: &Machine) {
        machine.stop.store(true, Ordering::SeqCst);
        machine.pause(false, &[]);
        self.kicker.kick(&self.thread);
    }

    /// Waits until it has.
    pub(crate) fn join(self) {
        // A thread that panicked has said so already.
        let _ = self.thread.join();
    }
}

fn serve(mut vcpu: Vcpu, machine: &Machine) {
    if let Err(error) = Kicker::prepare_thread() {
        machine.end(ExitReason::Failed(format!(
            "preparing a vCPU's thread: {error}"
        )));
        return;
    }
    machine.first_entry.get_or_init(Instant::now);
    while !machine.stop.load(Ordering::SeqCst) {
        match vcpu.run() {
            Exit::MmioRead(address, data) => machine.bus.mmio_read(address, data),
            Exit::MmioWrite(address, data) => machine.bus.mmio_write(address, data),
            Exit::PortRead(data) => data.fill(0xff),
            Exit::PortWrite(port, data) => match machine.bus.port_write(port, data) {
                PortWrite::Done => {}
                PortWrite::Reset => machine.end(ExitReason::Reset),
            },
            Exit::TripleFault => machine.end(ExitReason::TripleFault),
            Exit::Failed(reason) => machine.end(ExitReason::Failed(reason)),
            Exit::Kicked => machine.wait_while_paused(&vcpu),
            Exit::Spurious => {}
        }
    }
}
