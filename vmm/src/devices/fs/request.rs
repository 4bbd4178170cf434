//! One request: from a descriptor chain to what was written into it.
//!
//! The chain and everything in it is the guest's. The FUSE server parses it; what it cannot
//! parse is answered with an error where there is room for one, and dropped otherwise.
//!
//! The server's own log messages (crate `log`) are to stay off: at level `trace` they make an
//! opcode of any number, which is undefined behaviour.

use std::io::Write;
use std::mem::size_of;

use fuse_backend_rs::abi::fuse_abi::{InHeader, Opcode, OutHeader};
use fuse_backend_rs::api::filesystem::FileSystem;
use fuse_backend_rs::api::server::{MAX_BUFFER_SIZE, Server};
use fuse_backend_rs::transport::{Reader, VirtioFsWriter};
use virtio_queue::DescriptorChain;
use vm_memory::{ByteValued, GuestMemoryMmap};

/// The most bytes that a request, or the answer to it, may have: the largest payload that the
/// server negotiates, and room for headers. Bounds what one request can make the host do.
const LONGEST: u64 = MAX_BUFFER_SIZE as u64 + 64 * 1024;

/// Why a request got no proper answer.
#[derive(Debug, thiserror::Error)]
enum RequestError {
    #[error("a chain with {readable} bytes to read and {writable} to write")]
    TooLong { readable: u64, writable: u64 },
    #[error("a buffer outside guest memory")]
    Buffer(#[source] fuse_backend_rs::transport::Error),
    #[error("a message that is not FUSE")]
    Message(#[source] fuse_backend_rs::Error),
}

/// Serves the request in `chain` and returns how many bytes were written into it.
pub(super) fn serve<F: FileSystem + Sync>(
    server: &Server<F>,
    memory: &GuestMemoryMmap,
    chain: &DescriptorChain<&GuestMemoryMmap>,
) -> u32 {
    let written = handle(server, memory, chain).unwrap_or_else(|error| {
        tracing::debug!(
            error = &error as &dyn std::error::Error,
            "virtio-fs: refused a request"
        );
        refuse(memory, chain).unwrap_or(0)
    });
    u32::try_from(written).unwrap_or(0)
}

fn handle<F: FileSystem + Sync>(
    server: &Server<F>,
    memory: &GuestMemoryMmap,
    chain: &DescriptorChain<&GuestMemoryMmap>,
) -> Result<usize, RequestError> {
    let (mut readable, mut writable) = (0, 0);
    for descriptor in chain.clone() {
        let length = if descriptor.is_write_only() {
            &mut writable
        } else {
            &mut readable
        };
        *length += u64::from(descriptor.len());
    }
    if readable > LONGEST || writable > LONGEST {
        return Err(RequestError::TooLong { readable, writable });
    }
    let reader =
        Reader::from_descriptor_chain(memory, chain.clone()).map_err(RequestError::Buffer)?;
    let writer = VirtioFsWriter::new(memory, chain.clone()).map_err(RequestError::Buffer)?;
    server
        .handle_message(reader, writer.into(), None, None)
        .map_err(RequestError::Message)
}

/// Writes an error reply, if the request has a header and wants a reply.
fn refuse(memory: &GuestMemoryMmap, chain: &DescriptorChain<&GuestMemoryMmap>) -> Option<usize> {
    let mut reader = Reader::from_descriptor_chain(memory, chain.clone()).ok()?;
    let request: InHeader = reader.read_obj().ok()?;
    // Never `Opcode::from`: it takes any number for one of its variants.
    let unanswered = [Opcode::Forget as u32, Opcode::BatchForget as u32];
    if unanswered.contains(&request.opcode) {
        return None;
    }
    let reply = OutHeader {
        len: u32::try_from(size_of::<OutHeader>()).ok()?,
        error: -libc::EINVAL,
        unique: request.unique,
    };
    let mut writer = VirtioFsWriter::new(memory, chain.clone()).ok()?;
    writer.write_all(reply.as_slice()).ok()?;
    Some(size_of::<OutHeader>())
}
