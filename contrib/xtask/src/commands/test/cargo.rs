//! What cargo checks and tests: formatting, lints and unit tests run in the tree; the packages'
//! integration tests are built there and run in a whole machine.

use std::{
    fs,
    io::{self, BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use super::{CommandError, Tally, Workshop};
use crate::{
    build::cargo,
    process::{self, ProcessError},
    progress,
};

/// Where the packages' integration tests are staged, below the prefix.
const FOLDER: &str = "libexec/krun-gpu/tests";

pub(super) fn formatting(workshop: &Workshop, tally: &Tally) -> Result<(), CommandError> {
    check(workshop, tally, "formatting", "fmt", &["--all", "--check"])
}

pub(super) fn lints(workshop: &Workshop, tally: &Tally) -> Result<(), CommandError> {
    let arguments = [
        "--quiet",
        "--workspace",
        "--all-targets",
        "--",
        "--deny",
        "warnings",
    ];
    check(workshop, tally, "lints", "clippy", &arguments)
}

/// A check that passes or fails as a whole.
fn check(
    workshop: &Workshop,
    tally: &Tally,
    title: &str,
    subcommand: &str,
    arguments: &[&str],
) -> Result<(), CommandError> {
    progress::step(title, "checking");
    let mut command = cargo(&workshop.builder(), subcommand, &[])?;
    command.args(arguments);
    match process::run_shown(&mut command) {
        Ok(()) => tally.passed(),
        Err(ProcessError::Unlogged { .. }) => tally.failed(title),
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

/// The unit and documentation tests of all packages.
pub(super) fn unit_tests(
    workshop: &Workshop,
    tally: &Tally,
    filter: Option<&str>,
) -> Result<(), CommandError> {
    progress::step("unit tests", "running");
    for kinds in [&["--lib", "--bins"][..], &["--doc"]] {
        let mut command = cargo(&workshop.builder(), "test", &[])?;
        command.args(["--workspace", "--no-fail-fast"]).args(kinds);
        command.arg("--").args(filter);
        let success = for_each_line(&mut command, |line| tally.line(line))?;
        tally.suite_ended(&format!("unit tests ({})", kinds.join(" ")), success);
    }
    Ok(())
}

/// Builds the packages' integration tests and puts them into `stage`; returns their paths in the
/// machine.
pub(super) fn machine_tests(
    workshop: &Workshop,
    tally: &Tally,
    stage: &Path,
) -> Result<Vec<String>, CommandError> {
    progress::step("integration tests", "building");
    let folder = workshop.namespace.directory(&stage.join(FOLDER))?;
    let mut command = cargo(&workshop.builder(), "test", &[])?;
    command.args([
        "--workspace",
        "--no-run",
        "--test=*",
        "--message-format=json",
    ]);
    let mut executables = Vec::new();
    let success = for_each_line(&mut command, |line| executables.extend(executable(line)))?;
    if !success {
        tally.failed("integration tests (did not build)");
    }
    let mut paths = Vec::new();
    for (name, executable) in executables {
        fs::copy(&executable, folder.join(&name)).map_err(|source| CommandError::Stage {
            path: executable.into(),
            source,
        })?;
        paths.push(format!("/usr/local/{FOLDER}/{name}"));
    }
    Ok(paths)
}

/// The name and the path of the test program that a line of cargo's JSON tells of, if it does.
fn executable(line: &[u8]) -> Option<(String, String)> {
    let message: serde_json::Value = serde_json::from_slice(line).ok()?;
    let executable = message["executable"].as_str()?;
    let kinds = message["target"]["kind"].as_array()?;
    if !kinds.iter().any(|kind| kind == "test") {
        return None;
    }
    let name = message["target"]["name"].as_str()?;
    Some((name.to_owned(), executable.to_owned()))
}

/// Runs `command` and hands on each line of its output, with its newline; says whether it
/// succeeded.
fn for_each_line(command: &mut Command, mut take: impl FnMut(&[u8])) -> Result<bool, ProcessError> {
    let program = process::name(command);
    let failed = |source: io::Error| ProcessError::Run {
        program: program.clone(),
        source,
    };
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    if let Some(output) = child.stdout.take() {
        let mut output = BufReader::new(output);
        let mut line = Vec::new();
        while output.read_until(b'\n', &mut line).map_err(failed)? > 0 {
            take(&line);
            line.clear();
        }
    }
    Ok(child.wait().map_err(failed)?.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_integration_tests_are_taken() {
        let of_kind = |kind: &str| {
            let target = format!(r#"{{"name":"container","kind":["{kind}"]}}"#);
            let line = format!(r#"{{"target":{target},"executable":"/t/container-1"}}"#);
            executable(line.as_bytes())
        };
        let found = Some(("container".to_owned(), "/t/container-1".to_owned()));
        assert_eq!(of_kind("test"), found);
        assert_eq!(of_kind("bin"), None);
        assert_eq!(
            executable(br#"{"target":{"kind":["test"]},"executable":null}"#),
            None
        );
        assert_eq!(executable(b"not JSON\n"), None);
    }
}
