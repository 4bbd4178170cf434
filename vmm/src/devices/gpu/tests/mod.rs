//! The device under a guest, with a renderer that renders nothing.
