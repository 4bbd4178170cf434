//! Many submissions, none of which may be lost or run twice.

use crate::{
    error::{Error, compare},
    gpu::{Buffer, Commands, GROUP, Gpu, Kernel},
};

pub(crate) fn run(gpu: &Gpu, times: u32) -> Result<(), Error> {
    let mut counter = Buffer::new(gpu, GROUP)?;
    counter.words_mut().fill(0);
    let kernel = Kernel::new(gpu, c"count", &counter, &counter)?;
    let commands = Commands::record(gpu, |record| {
        record.dispatch(&kernel, GROUP);
        record.barrier();
    })?;
    for _ in 0..times {
        commands.run("a submission")?;
    }
    compare("the count", counter.words(), |_| times)?;
    println!("submits: {times} counted");
    Ok(())
}
