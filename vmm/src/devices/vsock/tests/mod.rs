//! The device under a guest that is driven by hand.

mod connections;
mod guest;
mod hostile;
mod streams;
mod terminals;
mod transfers;
