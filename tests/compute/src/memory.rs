//! Memory allocated, written by the GPU, read by us, and freed, again and again. Each allocation
//! of a container's is a blob that the VMM maps into the guest.

use crate::{
    error::{Error, compare},
    gpu::{Buffer, Commands, Gpu},
};

/// MiB of one allocation.
const PART: usize = 64;
/// Words of a page.
const PAGE: usize = 4096 / size_of::<u32>();
/// Of all parts but the first, one page of so many is read: each page that is read costs a guest a
/// fault, which an emulated machine takes long for.
const PAGES: usize = 64;

pub(crate) fn run(gpu: &Gpu, mebibytes: usize) -> Result<(), Error> {
    let words = (PART << 20) / size_of::<u32>();
    let parts = mebibytes / PART;
    for (part, pattern) in (0..parts).zip(0xc0de_0000_u32..) {
        let mut buffer = Buffer::new(gpu, words)?;
        // The GPU must overwrite this one.
        if let Some(last) = buffer.words_mut().last_mut() {
            *last = u32::try_from(part).unwrap_or_default();
        }
        let commands = Commands::record(gpu, |record| {
            record.fill(&buffer, pattern);
            record.barrier();
        })?;
        commands.run("filling memory")?;
        let step = if part == 0 { 1 } else { PAGES };
        // From the end, where we wrote.
        for page in buffer.words().rchunks(PAGE).step_by(step) {
            compare("a page of memory", page, |_| pattern)?;
        }
    }
    println!("blobs: {parts} of {PART} MiB right");
    Ok(())
}
