//! How fast? Medians in microseconds, for comparison with the same program elsewhere.

use std::{hint, time::Instant};

use crate::{
    error::Error,
    gpu::{Buffer, Commands, GROUP, Gpu, Kernel},
};

/// Elements of the big dispatch.
const ELEMENTS: usize = 1 << 16;
/// Rounds of arithmetic for each of them, in the big dispatch.
const ROUNDS: u32 = 1024;
/// Words of the memory that is written and copied: 64 MiB.
const WORDS: usize = 16 << 20;
/// Dispatches in one submission.
const MANY: usize = 1000;

pub(crate) fn run(gpu: &Gpu) -> Result<(), Error> {
    let mut input = Buffer::new(gpu, GROUP)?;
    input.words_mut().fill(ROUNDS);
    let output = Buffer::new(gpu, ELEMENTS)?;
    let arithmetic = Kernel::new(gpu, c"multiply_add", &input, &output)?;
    let big = Commands::record(gpu, |record| record.dispatch(&arithmetic, ELEMENTS))?;
    report("big-dispatch", 5, || big.run("the big dispatch"))?;
    verify(&output)?;

    let empty = Commands::record(gpu, |_| ())?;
    report("empty-submit", 200, || empty.run("an empty submission"))?;

    let count = Kernel::new(gpu, c"count", &output, &output)?;
    let tiny = Commands::record(gpu, |record| record.dispatch(&count, GROUP))?;
    report("tiny-dispatch", 200, || tiny.run("a tiny dispatch"))?;
    let many = Commands::record(gpu, |record| {
        for _ in 0..MANY {
            record.dispatch(&count, GROUP);
        }
    })?;
    report("thousand-dispatches", 5, || many.run("1000 dispatches"))?;
    memory(gpu)
}

/// Mapped memory written by us, and copied by the GPU.
fn memory(gpu: &Gpu) -> Result<(), Error> {
    let (mut source, target) = (Buffer::new(gpu, WORDS)?, Buffer::new(gpu, WORDS)?);
    let mut value = 0;
    report("mapped-write", 9, || {
        value += 1;
        hint::black_box(source.words_mut()).fill(value);
        Ok(())
    })?;
    let copy = Commands::record(gpu, |record| {
        record.copy(&source, &target);
        record.barrier();
    })?;
    report("buffer-copy", 5, || copy.run("a copy"))?;
    crate::error::compare("copy", target.words(), |_| value)
}

/// Prints the median time of `rounds` runs of `work`, after one that does not count.
fn report(
    name: &str,
    rounds: usize,
    mut work: impl FnMut() -> Result<(), Error>,
) -> Result<(), Error> {
    work()?;
    let mut times = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        let start = Instant::now();
        work()?;
        times.push(start.elapsed().as_nanos());
    }
    times.sort_unstable();
    let median = times.get(rounds / 2).copied().unwrap_or_default();
    println!("{name} {}.{:03}", median / 1000, median % 1000);
    Ok(())
}

/// The arithmetic has come to its fixed point: x = 0.75 x + 1.
fn verify(output: &Buffer<'_>) -> Result<(), Error> {
    let expected = 4.0;
    for (index, &word) in output.words().iter().enumerate() {
        let found = f32::from_bits(word);
        if (found - expected).abs() > 1e-3 {
            return Err(Error::WrongNumber {
                what: "multiply_add",
                index,
                found,
                expected,
            });
        }
    }
    Ok(())
}
