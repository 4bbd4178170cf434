//! runtime-tools' programs against krun-gpu in the test VM, a part of `cargo xtask test`;
//! `cargo xtask test conformance` runs them alone, on request with another runtime for comparison.
//!
//! A score that is none of the table's fails, be it better; so does a program that did not run.

use std::{
    collections::HashMap,
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

/// In how many VMs a program is run until it comes to what is expected: one may die, and on a busy
/// machine a container may be slower than a program waits.
const ATTEMPTS: usize = 4;

/// Runs the programs named after it with the runtime `$0`, one after the other, on one processor
/// (see tests/src/harness/pinned.rs) unless it counts them, and takes away what each leaves. The
/// runtime gets the flags that containerd's shim gives it; other tests call it without.
const SCRIPT: &str = r#"
path=$(command -v "$0") || exit 1
runtime=/var/tmp/runtime
cat >$runtime <<END
#!/bin/sh
exec $path --root /run/conformance --log /run/conformance.log --log-format json "\$@"
END
chmod +x $runtime
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

/// `cargo xtask test conformance`: all of it, with our runtime unless another is asked for, whose
/// scores are shown and not judged.
pub(super) fn run(workshop: &Workshop, runtime: Option<&str>) -> Result<ExitCode, CommandError> {
    let products = workshop.builder().build()?;
    let stage = workshop.stage(&products)?;
    let Some(runtime) = runtime else {
        let tally = Tally::default();
        count(workshop, &stage, &tally)?;
        return Ok(tally.report());
    };
    for (row, found) in scores(workshop, &stage, runtime, None)? {
        let found = found.map_or_else(|| "-".to_owned(), |score| score.to_string());
        println!("{}: {found}", row.name);
    }
    Ok(ExitCode::SUCCESS)
}

/// All of it with our runtime, each program a test in `tally`.
pub(super) fn count(workshop: &Workshop, stage: &Path, tally: &Tally) -> Result<(), CommandError> {
    for (row, found) in scores(workshop, stage, "krun-gpu", Some(tally))? {
        judge(tally, &row, found);
    }
    Ok(())
}

/// What each program comes to, with `stage` installed; deaths of the test VM are incidents of
/// `tally`'s.
fn scores(
    workshop: &Workshop,
    stage: &Path,
    runtime: &str,
    tally: Option<&Tally>,
) -> Result<Vec<(Row, Option<Score>)>, CommandError> {
    let expected = Expected::load(&workshop.sources.checkout)?;
    let suite = conformance::make(&workshop.builder())?;
    workshop
        .namespace
        .show(&suite, &stage.join("share/krun-gpu-conformance"))?;
    let is_run = |row: &&Row| row.scores.is_some();
    let (cgroup1, cgroup2): (Vec<&Row>, Vec<&Row>) = expected
        .rows
        .iter()
        .filter(is_run)
        .partition(|row| row.cgroup1);
    let mut results = HashMap::new();
    for rows in [cgroup2, cgroup1] {
        let Some(first) = rows.first() else {
            continue;
        };
        let kernel = first
            .cgroup1
            .then(|| Kernel::with_cgroup1(&workshop.builder()))
            .transpose()?;
        let programs = Programs {
            workshop,
            stage,
            runtime,
            // One of those for cgroup v1 counts processors.
            cpus: if first.cgroup1 { 2 } else { 1 },
            kernel,
            tally,
        };
        results.extend(programs.run(&rows)?);
    }
    Ok(expected
        .rows
        .into_iter()
        .map(|row| {
            let found = results.remove(&row.name);
            (row, found)
        })
        .collect())
}

fn judge(tally: &Tally, row: &Row, found: Option<Score>) {
    let outcome = match (&row.scores, found) {
        (None, _) => format!("ignored, {}", row.reason),
        (Some(expected), Some(found)) if expected.allow(found) => "ok".to_owned(),
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
    /// The machine's processors.
    cpus: u8,
    /// The kernel, if not the tree's.
    kernel: Option<Kernel>,
    /// Where deaths of the machine and second attempts are told, if the scores count.
    tally: Option<&'a Tally>,
}

impl Programs<'_> {
    /// Runs those of these rows; what did not run, or came to something else than the row says if
    /// that counts, again in a fresh VM.
    fn run(&self, rows: &[&Row]) -> Result<HashMap<String, Score>, CommandError> {
        let mut results: HashMap<String, Score> = HashMap::new();
        for _ in 0..ATTEMPTS {
            let is_left = |row: &&&Row| match results.get(&row.name) {
                Some(score) => {
                    let is_right = row.scores.as_ref().is_some_and(|all| all.allow(*score));
                    self.tally.is_some() && !is_right
                }
                None => true,
            };
            let left: Vec<&str> = rows.iter().filter(is_left).map(|row| &*row.name).collect();
            if left.is_empty() {
                break;
            }
            for (name, score) in self.once(&left)? {
                if let (Some(before), Some(tally)) =
                    (results.insert(name.clone(), score), self.tally)
                {
                    let line =
                        format!("flaky: conformance::{name} came to {before}, then {score}\n");
                    tally.line(line.as_bytes());
                }
            }
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
            cpus: self.cpus,
            kernel: self.kernel.clone(),
            ..VmOptions::new(command)
        };
        match self.workshop.vm(self.stage, options, streams) {
            Ok(_) => {}
            Err(CommandError::Vm(error @ VmError::Died { .. })) => {
                eprintln!("{error}");
                if let Some(tally) = self.tally {
                    tally.line(b"incident: the test VM died during the conformance suite\n");
                }
            }
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
