//! The devices: one folder each.

pub mod balloon;
pub mod console;
pub mod fs;
pub mod gpu;
pub mod rng;
mod served_queue;
pub mod vsock;
