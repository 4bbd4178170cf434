//! Work without an end, for whoever kills us in the middle of it.

use crate::{
    error::Error,
    gpu::{Buffer, Commands, Gpu, Kernel},
};

/// Elements, enough for every core of a software GPU.
const ELEMENTS: usize = 1 << 14;

/// Rounds of arithmetic in a dispatch: seconds of work, but less than a driver's patience.
const ROUNDS: u32 = 1 << 18;

pub(crate) fn run(gpu: &Gpu) -> Result<(), Error> {
    let mut input = Buffer::new(gpu, 64)?;
    input.words_mut().fill(ROUNDS);
    let output = Buffer::new(gpu, ELEMENTS)?;
    let kernel = Kernel::new(gpu, c"multiply_add", &input, &output)?;
    let commands = Commands::record(gpu, |record| record.dispatch(&kernel, ELEMENTS))?;
    loop {
        commands.submit()?;
        println!("dispatching");
        commands.wait("a dispatch")?;
    }
}
