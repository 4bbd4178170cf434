//! Running a case on one processor, called by the harness for all but a few cases (`cases::parts`)
//! where the machine is emulated.
//!
//! What the case starts inherits the thread's processors, so its VMs' threads stay on one
//! processor of the test VM, and its guests get one vCPU. Under QEMU 10 and 11 (`-accel tcg`,
//! nested KVM on two processors), VMs that share both processors end in a triple fault, stall, or
//! take the emulated host's kernel along: four batches of four with QEMU 11.1, 48 VMs each, four
//! at a time; on one processor none of 32, and none of nine runs of llama.cpp, ggml's tests and
//! taichi with a GPU. QEMU delivers an interrupt that VMRUN injected a second time if its vCPU is
//! kicked before the next exit (`helper_vmrun` leaves `exception_index` set), and changes
//! `interrupt_request` there without a lock; mending both in 10.0 was not enough.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The thread and what it starts from now on stay on one processor until this is dropped.
pub(super) struct Pinned(CpuSet);

impl Pinned {
    /// To the first processor that the thread may use.
    ///
    /// # Errors
    /// The kernel's, which a thread with a processor does not get.
    pub(super) fn to_one_processor() -> rustix::io::Result<Self> {
        let all = sched_getaffinity(None)?;
        let mut one = CpuSet::new();
        if let Some(first) = (0..CpuSet::MAX_CPU).find(|cpu| all.is_set(*cpu)) {
            one.set(first);
        }
        sched_setaffinity(None, &one)?;
        Ok(Self(all))
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // A thread that stays on one processor is slower, nothing else.
        let _ = sched_setaffinity(None, &self.0);
    }
}
