//! Integration tests: real Podman, real images, real VMs.
//!
//! `cargo xtask test` runs this program as root in the test VM (or on a machine whose /dev/kvm
//! works) with the freshly built krun-gpu installed. `krun-gpu-tests [FILTER]` runs the cases
//! whose names contain FILTER; `krun-gpu-tests bench [gpu]` prints the figures instead,
//! `krun-gpu-tests matrix` the README's table of verbs and flags.
//!
//! A case runs the same script under crun and under krun-gpu where crun is the reference
//! ([`harness::compare`]), and checks after itself that nothing was left behind
//! ([`harness::leftovers`]).

mod bench;
mod cases;
mod harness;
mod matrix;

use std::process::ExitCode;
use std::time::SystemTime;

use libtest_mimic::{Arguments, Completion, Trial};

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("bench") => return bench::run(std::env::args().nth(2).as_deref()),
        Some("matrix") => {
            print!("{}", matrix::table(&cases::all()));
            return ExitCode::SUCCESS;
        }
        _ => {}
    }
    let mut arguments = Arguments::from_args();
    // Leftovers can be told only when one case runs at a time.
    arguments.test_threads = Some(1);
    let (cases, claims) = cases::wanted();
    let until = match harness::until() {
        Ok(until) => until,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(2);
        }
    };
    let trials = cases
        .into_iter()
        .map(|case| {
            let claims = claims.clone();
            Trial::ignorable_test(case.name, move || {
                if let Some(claims) = claims
                    && !claims.claim(case.name)?
                {
                    return Ok(Completion::ignored_with(harness::claims::TAKEN));
                }
                if until.is_some_and(|until| until < SystemTime::now()) {
                    return Ok(Completion::ignored_with("no time left"));
                }
                harness::run(&case).map(|()| Completion::Completed)
            })
        })
        .collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    harness::report_flaky();
    conclusion.exit_code()
}
