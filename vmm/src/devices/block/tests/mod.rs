//! The device as a guest's driver uses it, with a temporary file behind it.

mod guest;
mod hostile;
mod requests;
