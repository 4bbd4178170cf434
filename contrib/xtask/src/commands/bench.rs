//! `cargo xtask bench`: the figures, each a ratio to a control in the same run.

use std::process::ExitCode;

use clap::{Args, ValueEnum};

use super::{CommandError, Workshop, workshop::TESTS};
use crate::{
    images, progress,
    vm::{Clock, Streams, VmOptions},
};

/// Print the figures: krun-gpu next to crun, its kernel next to Debian's, in alternating rounds.
#[derive(Args, Debug)]
pub(super) struct Bench {
    /// What to measure, instead of everything that needs neither a GPU nor a network.
    subject: Option<Subject>,
    /// Boots of each kernel.
    #[arg(long, value_name = "N", default_value_t = 10)]
    rounds: u32,
    /// Let the test VM's clock count instructions: figures that repeat, on one processor, at a
    /// twentieth of the speed.
    #[arg(long)]
    instructions: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Subject {
    /// A GPU in a container next to the same GPU without one.
    Gpu,
    /// A container's network next to crun's.
    Net,
}

impl Bench {
    pub(super) fn run(self) -> Result<ExitCode, CommandError> {
        let workshop = Workshop::open()?;
        let products = workshop.builder().build()?;
        let stage = workshop.stage(&products)?;
        let mut options = match self.subject {
            None => self.plain(&workshop),
            Some(Subject::Net) => on_one_processor("net"),
            Some(Subject::Gpu) => {
                workshop.stage_images(&stage, images::all())?;
                on_one_processor("gpu")
            }
        };
        if self.instructions {
            options.clock = Clock::Instructions;
            // Processors take turns on that clock, so two that wait for each other are slow.
            options.cpus = 1;
        }
        progress::step("test VM", "booting");
        Ok(workshop.vm(&stage, options, Streams::Ours)?.into())
    }

    /// krun-gpu next to crun, and the guest's kernel next to Debian's.
    fn plain(&self, workshop: &Workshop) -> VmOptions {
        let boot_time = workshop.sources.checkout.join("guest-image/boot-time");
        let script = format!(
            "{TESTS} bench; figures=$?
             echo; echo 'Kernel, from the first guest instruction to init, ours and Debian cloud:'
             \"$0\"/compare --kernel /usr/local/lib/krun-gpu/vmlinux --rounds {} && exit $figures",
            self.rounds
        );
        let words = ["sh", "-c", &script];
        let mut options = VmOptions::new(words.iter().map(Into::into).collect());
        options.command.push(boot_time.clone().into());
        options.shares.push(boot_time);
        options
    }
}

/// The benchmarks of `subject`. The emulated machine does not survive them on two processors (see
/// `harness::pinned` of the tests).
fn on_one_processor(subject: &str) -> VmOptions {
    let mut options = VmOptions::new([TESTS, "bench", subject].map(Into::into).into());
    options.cpus = 1;
    options
}
