//! The device under a guest that is driven by hand, on a wire that is a pair of sockets.

mod frames;
mod guest;
mod hostile;
mod pairs;
