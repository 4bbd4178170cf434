//! The devices: one folder each.

pub mod balloon;
pub mod console;
pub mod fs;
pub mod rng;
pub mod vsock;
