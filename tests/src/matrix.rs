//! The README's matrix of verbs and flags: which cases prove each, read from the cases' own text.
//!
//! `krun-gpu-tests matrix` prints it; a unit test keeps the README's copy as it is.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::harness::Case;

/// What users ask for (research/libkrun.md, section 2, and issue 4), by a word of a script. A row
/// that no case uses fails the test below.
const ROWS: &[(&str, &[&str])] = &[
    (
        "Verbs",
        &[
            "podman run",
            "podman create",
            "podman start",
            "podman stop",
            "podman restart",
            "podman kill",
            "podman rm",
            "podman wait",
            "podman logs",
            "podman attach",
            "podman exec",
            "podman cp",
            "podman pause",
            "podman unpause",
            "podman update",
            "podman inspect",
            "podman healthcheck",
            "podman diff",
            "podman export",
            "podman commit",
            "podman mount",
            "podman build",
            "podman pod",
            "podman top",
            "podman stats",
            "podman generate",
            "kube play",
            "quadlet --dryrun",
            "podman network",
            "podman volume create",
            "podman secret",
        ],
    ),
    (
        "The process",
        &[
            "--user",
            "-u 1000",
            "-w ",
            "--env",
            "--hostname",
            "--cap-add",
            "--cap-drop",
            "--group-add",
            "--ulimit",
            "--umask",
            "--sysctl",
            "--init",
            "--systemd",
            "--privileged",
            "seccomp=",
            "no-new-privileges",
            "--entrypoint",
            "--stop-signal",
            "-it ",
        ],
    ),
    (
        "Resources",
        &[
            "--memory",
            "--cpus",
            "--cpuset-cpus",
            "--pids-limit",
            "--shm-size",
        ],
    ),
    (
        "Mounts and devices",
        &[
            "-v ",
            ":ro",
            ":U",
            ":O",
            "idmap",
            "--tmpfs",
            "type=image",
            "type=glob",
            "type=tmpfs",
            "--secret",
            "--read-only",
            "--device /dev/dri",
            "--device /dev/fuse",
            "--device /dev/kvm",
            "--device $dev:/dev/xvda",
        ],
    ),
    (
        "Networks",
        &[
            "--network none",
            "--network host",
            "--network container:",
            "-p 808",
            "--ip ",
            "--mac-address",
            "--network-alias",
            "--dns",
            "macvlan",
            "pasta",
            "slirp4netns",
        ],
    ),
    (
        "Users and namespaces",
        &["--uidmap", "--userns", "--pid=", "--ipc", "--cgroupns"],
    ),
    (
        "Other engines",
        &[
            "podman version 4.3",
            "ctr -a",
            "dockerd",
            "--log-format json",
            "exec --process",
        ],
    ),
];

/// How many cases a row names.
const SHOWN: usize = 3;

/// The cases' sources.
const SOURCES: &[&str] = &[
    include_str!("cases/attributes.rs"),
    include_str!("cases/bad_input.rs"),
    include_str!("cases/build.rs"),
    include_str!("cases/contract.rs"),
    include_str!("cases/death.rs"),
    include_str!("cases/disks.rs"),
    include_str!("cases/engines.rs"),
    include_str!("cases/exec.rs"),
    include_str!("cases/generate.rs"),
    include_str!("cases/gpu/asking.rs"),
    include_str!("cases/gpu/death.rs"),
    include_str!("cases/lifecycle.rs"),
    include_str!("cases/mount_kinds.rs"),
    include_str!("cases/mount_table.rs"),
    include_str!("cases/mounts.rs"),
    include_str!("cases/network/bridge.rs"),
    include_str!("cases/network/changes.rs"),
    include_str!("cases/network/load.rs"),
    include_str!("cases/network/rootless.rs"),
    include_str!("cases/network/shared.rs"),
    include_str!("cases/network/sockets.rs"),
    include_str!("cases/network/traffic.rs"),
    include_str!("cases/podman.rs"),
    include_str!("cases/process.rs"),
    include_str!("cases/resources.rs"),
    include_str!("cases/rootless.rs"),
    include_str!("cases/services.rs"),
    include_str!("cases/status.rs"),
    include_str!("cases/stdio.rs"),
    include_str!("cases/storage.rs"),
    include_str!("cases/terminal.rs"),
    include_str!("cases/verbs.rs"),
    include_str!("cases/volumes.rs"),
];

/// The table, in Markdown.
pub(crate) fn table(cases: &[Case]) -> String {
    let scripts = scripts(cases);
    let mut table = String::from("| | proved by |\n| --- | --- |\n");
    for (title, words) in ROWS {
        // Writing to a string cannot fail.
        let _ = writeln!(table, "| **{title}** | |");
        for word in *words {
            let found: BTreeSet<&str> = scripts
                .iter()
                .filter(|(_, text)| text.contains(word))
                .map(|(name, _)| *name)
                .collect();
            let names: Vec<&str> = found.iter().copied().take(SHOWN).collect();
            let more = match found.len().saturating_sub(SHOWN) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            let _ = writeln!(table, "| `{}` | {}{more} |", word.trim(), names.join(", "));
        }
    }
    table
}

/// Every case with the text of its function and of the constants which that names.
fn scripts(cases: &[Case]) -> Vec<(&'static str, String)> {
    let mut scripts = Vec::new();
    for source in SOURCES {
        let mut items = Vec::new();
        let lists = source.split("\n];\n");
        let texts = lists.flat_map(|text| text.split("\n}\n"));
        for item in texts.flat_map(|text| text.split("\"#;\n")) {
            items.extend(item.split_inclusive("\";\n"));
        }
        let constant = |item: &&&str| item.contains("\nconst ");
        let constants: Vec<&&str> = items.iter().filter(constant).collect();
        for case in cases {
            let Some(function) = function_of(source, case.name) else {
                continue;
            };
            let head = format!("fn {function}(");
            let Some(body) = items.iter().find(|item| item.contains(&head)) else {
                continue;
            };
            let mut text = (*body).to_owned();
            for constant in &constants {
                let name = constant
                    .split("const ")
                    .last()
                    .and_then(|rest| rest.split(':').next());
                if name.is_some_and(|name| body.contains(name)) {
                    text.push_str(constant);
                }
            }
            scripts.push((case.name, text));
        }
    }
    scripts
}

/// The function that `source` gives the case `name`.
fn function_of<'a>(source: &'a str, name: &str) -> Option<&'a str> {
    let rest = source.split(&format!("name: \"{name}\",")).nth(1)?;
    rest.split("run: ").nth(1)?.split(',').next()
}

#[cfg(test)]
mod tests {
    use super::table;
    use crate::cases;

    #[test]
    fn every_row_has_a_case_and_the_readme_says_so() {
        let table = table(&cases::all());
        let bare: Vec<&str> = table
            .lines()
            .filter(|line| line.ends_with("` |  |"))
            .collect();
        assert!(bare.is_empty(), "rows without a case: {bare:#?}");
        let readme = include_str!("../../README.md");
        assert!(
            readme.contains(&table),
            "put the output of `krun-gpu-tests matrix` into README.md:\n{table}"
        );
    }
}
