//! `cargo xtask test conformance`: runtime-tools' programs against krun-gpu in the test VM, or
//! against another runtime for comparison.
//!
//! A score that is not the table's fails, be it better; so does a program that did not run.

use std::{
    ffi::OsString,
    io::{self, Write},
    path::Path,
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
};

use super::{CommandError, Tally, Workshop};
use crate::{
    conformance::{self, Expected, Row, Score},
    lines::Lines,
    progress,
    vm::{Kernel, Streams, VmError, VmOptions},
};

/// How many deaths of the test VM are borne.
const MOST_DEATHS: usize = 3;

/// Runs the programs named after it with the runtime `$0`, one after the other, on one processor
/// (see tests/src/harness/pinned.rs) unless it counts them, and takes away what each leaves.
const SCRIPT: &str = r#"
runtime=$(command -v "$0") || exit 1
cd /usr/local/share/krun-gpu-conformance
export RUNTIME=$runtime TMPDIR=/var/tmp
for name; do
    echo "@@ begin $name"
    pin="taskset -c 0"
    [ "$name" = linux_cgroups_cpus ] && pin=
    $pin timeout -k 5 600 "validation/$name" 2>&1; status=$?
    echo; echo "@@ end $status"
    for id in $("$runtime" list -q 2>/dev/null); do "$runtime" delete --force "$id" >/dev/null 2>&1; done
    rm -rf /var/tmp/ocitest*
done
"#;

/// Runs it all; `runtime` is ours unless another is asked for, which is shown and not judged.
pub(super) fn run(workshop: &Workshop, runtime: Option<&str>) -> Result<ExitCode, CommandError> {
    let expected = Expected::load(&workshop.sources.checkout)?;
    let products = workshop.builder().build()?;
    let stage = workshop.stage(&products)?;
    let suite = conformance::make(&workshop.builder())?;
    workshop
        .namespace
        .show(&suite, &stage.join("share/krun-gpu-conformance"))?;
    let is_run = |row: &&Row| row.score.is_some();
    let (cgroup1, cgroup2): (Vec<&Row>, Vec<&Row>) = expected
        .rows
        .iter()
        .filter(is_run)
        .partition(|row| row.cgroup1);
    let mut results = Vec::new();
    for rows in [cgroup2, cgroup1] {
        let Some(first) = rows.first() else {
            continue;
        };
        let kernel = first
            .cgroup1
            .then(|| Kernel::with_cgroup1(&workshop.builder()))
            .transpose()?;
        let names = rows.iter().map(|row| &*row.name).collect();
        let programs = Programs {
            workshop,
            stage: &stage,
            runtime: runtime.unwrap_or("krun-gpu"),
            kernel,
        };
        results.extend(programs.run(names)?);
    }
    let tally = Tally::default();
    for row in &expected.rows {
        let found = results
            .iter()
            .find(|(name, _)| *name == row.name)
            .map(|(_, score)| *score);
        if runtime.is_some() {
            let found = found.map_or_else(|| "-".to_owned(), |score| score.to_string());
            println!("{}: {found}", row.name);
        } else {
            judge(&tally, row, found);
        }
    }
    Ok(match runtime {
        Some(_) => ExitCode::SUCCESS,
        None => tally.report(),
    })
}

fn judge(tally: &Tally, row: &Row, found: Option<Score>) {
    let outcome = match (row.score, found) {
        (None, _) => format!("ignored, {}", row.reason),
        (Some(expected), Some(found)) if expected == found => "ok".to_owned(),
        (Some(expected), found) => {
            let found = found.map_or_else(|| "not run".to_owned(), |score| score.to_string());
            println!("conformance::{}: {found}, expected {expected}", row.name);
            "FAILED".to_owned()
        }
    };
    tally.line(format!("test conformance::{} ... {outcome}\n", row.name).as_bytes());
}

/// Programs of the suite on one kind of machine.
struct Programs<'a> {
    workshop: &'a Workshop,
    stage: &'a Path,
    runtime: &'a str,
    /// The kernel, if not the tree's.
    kernel: Option<Kernel>,
}

impl Programs<'_> {
    /// Runs those of these names, in fresh VMs when one dies.
    fn run(&self, names: Vec<&str>) -> Result<Vec<(String, Score)>, CommandError> {
        let mut results: Vec<(String, Score)> = Vec::new();
        for _ in 0..=MOST_DEATHS {
            let is_left = |name: &&&str| !results.iter().any(|(done, _)| done == **name);
            let left: Vec<&str> = names.iter().filter(is_left).copied().collect();
            if left.is_empty() {
                break;
            }
            results.extend(self.once(&left)?);
        }
        Ok(results)
    }

    /// Boots the VM and runs them until it is through or dies.
    fn once(&self, names: &[&str]) -> Result<Vec<(String, Score)>, CommandError> {
        progress::step("test VM", "booting");
        let mut command: Vec<OsString> = ["sh", "-c", SCRIPT, self.runtime].map(Into::into).into();
        command.extend(names.iter().map(Into::into));
        let reader = Reader::default();
        let streams = Streams::Collected(Box::new(reader.clone()));
        let options = VmOptions {
            kernel: self.kernel.clone(),
            ..VmOptions::new(command)
        };
        match self.workshop.vm(self.stage, options, streams) {
            Ok(_) => {}
            Err(CommandError::Vm(error @ VmError::Died { .. })) => eprintln!("{error}"),
            Err(error) => return Err(error),
        }
        let state = reader.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(state.results.clone())
    }
}

/// Takes the script's output apart, and says on standard error what came of each program.
#[derive(Clone, Debug, Default)]
struct Reader(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// What comes, line by line.
    lines: Lines,
    /// The program that runs, and what it said.
    running: Option<(String, String)>,
    results: Vec<(String, Score)>,
}

impl State {
    fn line(&mut self, line: &str) {
        if let Some(name) = line.strip_prefix("@@ begin ") {
            self.running = Some((name.to_owned(), String::new()));
        } else if let Some(status) = line.strip_prefix("@@ end ") {
            if let Some((name, output)) = self.running.take() {
                let score = Score::read(&output, status.parse().unwrap_or(1));
                progress::step("conformance", format!("{name}: {score}"));
                for line in output.lines().filter(|line| line.starts_with("not ok ")) {
                    eprintln!("    {line}");
                }
                self.results.push((name, score));
            }
        } else if let Some((_, output)) = &mut self.running {
            output.push_str(line);
            output.push('\n');
        }
    }
}

impl Write for Reader {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for line in state.lines.push(bytes) {
            state.line(String::from_utf8_lossy(&line).trim_end_matches('\n'));
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
