//! The device under a guest, with a renderer that renders nothing.

mod commands;
mod hostile;
mod noise;
mod queues;
mod renderer;
