//! The device under a guest, with a renderer that renders nothing.

mod commands;
#[cfg(fuzzing)]
pub mod fuzz;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod noise;
#[cfg(test)]
mod queues;
mod renderer;
