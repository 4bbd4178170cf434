//! The guest's PID 1: builds the workload's surroundings, runs it, relays its streams and
//! reports how it ended.
//!
//! `main.rs` runs this library in a guest; the tests run it in namespaces of the test machine.
//! One thread, one poll loop: children are made by plain clone, so no lock can be left behind.

mod agent;
pub mod boot;
mod clock;
mod control;
mod driver;
mod failure;
mod network;
mod process;
mod process_list;
mod reaper;
mod session;
mod statistics;
mod stdio;
mod sys;
mod transport;
mod workload;

pub use agent::{Agent, AgentFault};
pub use failure::chain;
pub use transport::Transport;
pub use workload::Surroundings;
