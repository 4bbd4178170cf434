//! Are the results right? One dispatch over memory that we map, and work that timeline semaphores
//! put in order.

use std::time::Duration;

use crate::{
    error::{Error, compare},
    gpu::{Buffer, Commands, Gpu, Kernel, Timeline},
};

/// Elements: 4 MiB of them.
const ELEMENTS: usize = 1 << 20;

/// How long work that must not start yet is given to start.
const MOMENT: Duration = Duration::from_millis(100);

/// How long work that may start is given to end.
const LIMIT: Duration = Duration::from_secs(60);

pub(crate) fn run(gpu: &Gpu) -> Result<(), Error> {
    dispatch(gpu)?;
    println!("dispatch: {ELEMENTS} elements right");
    timeline(gpu)?;
    println!("timeline: right");
    Ok(())
}

fn dispatch(gpu: &Gpu) -> Result<(), Error> {
    let mut input = Buffer::new(gpu, ELEMENTS)?;
    for (word, value) in input.words_mut().iter_mut().zip(seeds()) {
        *word = value;
    }
    let output = Buffer::new(gpu, ELEMENTS)?;
    let kernel = Kernel::new(gpu, c"scramble", &input, &output)?;
    let commands = Commands::record(gpu, |record| {
        record.dispatch(&kernel, ELEMENTS);
        record.barrier();
    })?;
    commands.run("the dispatch")?;
    let expected: Vec<u32> = seeds().zip(0..).map(scrambled).take(ELEMENTS).collect();
    compare("scramble", output.words(), |index| expected[index])
}

/// The input, from the middle of a linear congruential sequence.
fn seeds() -> impl Iterator<Item = u32> {
    std::iter::successors(Some(12345), |value: &u32| {
        Some(value.wrapping_mul(1_664_525).wrapping_add(1_013_904_223))
    })
}

/// What the kernel makes of an input and its index.
fn scrambled((value, index): (u32, u32)) -> u32 {
    value.wrapping_mul(2_654_435_761) ^ (index << 7)
}

/// Two submissions that wait for us: nothing happens before our signal, everything after it, in
/// the timeline's order.
fn timeline(gpu: &Gpu) -> Result<(), Error> {
    let mut counter = Buffer::new(gpu, 64)?;
    counter.words_mut().fill(0);
    let kernel = Kernel::new(gpu, c"count", &counter, &counter)?;
    let count = |fill: Option<u32>| {
        Commands::record(gpu, |record| {
            if let Some(value) = fill {
                record.fill(&counter, value);
                record.barrier();
            }
            record.dispatch(&kernel, 64);
            record.barrier();
        })
    };
    let (first, second) = (count(Some(40))?, count(None)?);
    let timeline = Timeline::new(gpu)?;
    first.submit_between(&timeline, 1, 2)?;
    second.submit_between(&timeline, 2, 3)?;
    timeline.reaches(2, MOMENT)?;
    stands("before the signal", &timeline, 0)?;
    compare("before the signal", counter.words(), |_| 0)?;
    timeline.signal(1)?;
    timeline.reaches(3, LIMIT)?;
    stands("after the signal", &timeline, 3)?;
    first.wait("the first submission")?;
    second.wait("the second submission")?;
    compare("after the signal", counter.words(), |_| 42)
}

fn stands(when: &'static str, timeline: &Timeline<'_>, expected: u64) -> Result<(), Error> {
    let found = timeline.value()?;
    if found == expected {
        return Ok(());
    }
    Err(Error::Timeline {
        when,
        found,
        expected,
    })
}
