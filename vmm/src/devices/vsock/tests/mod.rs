//! The device under a guest that is driven by hand.

mod connections;
mod driver;
mod guest;
mod hostile;
mod streams;
mod terminals;
mod transfers;
