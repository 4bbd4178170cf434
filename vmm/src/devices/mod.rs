//! The devices: one folder each.

pub mod balloon;
pub mod block;
mod buffers;
pub mod console;
#[cfg(test)]
mod driver_queue;
pub mod fs;
pub mod gpu;
pub mod net;
mod queue_worker;
pub mod rng;
mod served_queue;
pub mod vsock;
