//! The command line: global options and the sub-commands' names.
//!
//! Global options come before the sub-command, in the forms that Podman, conmon, buildah and
//! containerd write. Each sub-command's own options stand beside its code in `commands/`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::{commands, gpu, network};

/// An OCI container runtime that gives every container a microVM of its own.
#[derive(Debug, Parser)]
#[command(name = "krun-gpu", disable_version_flag = true)]
pub(crate) struct Cli {
    /// Options of every sub-command.
    #[command(flatten)]
    pub(crate) global: Global,
    /// Print the version and exit.
    #[arg(long, short = 'V')]
    pub(crate) version: bool,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// Options of every sub-command.
#[derive(Debug, Default, Args)]
pub(crate) struct Global {
    /// Directory of the containers' state.
    #[arg(long, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
    /// File that a failure is written to, as well as to standard error.
    #[arg(long, value_name = "FILE")]
    pub(crate) log: Option<String>,
    /// Format of that file.
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    pub(crate) log_format: LogFormat,
    /// What is written to standard error: `error` (the default), `warning`, `info` or `debug`.
    #[arg(long, value_name = "LEVEL", value_enum, default_value_t)]
    pub(crate) log_level: LogLevel,
    /// The same as `--log-level debug`.
    #[arg(long)]
    pub(crate) debug: bool,
    /// Let systemd make the cgroups.
    #[arg(long)]
    pub(crate) systemd_cgroup: bool,
    /// Accepted for other runtimes' callers: it is found out.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) rootless: Option<String>,
    /// Who makes the cgroups.
    #[arg(long, value_name = "MANAGER", value_enum)]
    pub(crate) cgroup_manager: Option<CgroupManager>,
}

/// Format of the file that `--log` names.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub(crate) enum LogFormat {
    /// One line of words.
    #[default]
    Text,
    /// One JSON object.
    Json,
}

/// How much is told on standard error.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub(crate) enum LogLevel {
    /// Failures alone.
    #[default]
    #[value(alias = "fatal", alias = "panic")]
    Error,
    /// What was left out or changed, as well.
    #[value(alias = "warn")]
    Warning,
    /// What is done, as well.
    Info,
    /// Everything.
    #[value(alias = "trace")]
    Debug,
}

/// Who makes the cgroups.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum CgroupManager {
    /// The runtime, in the file system.
    Cgroupfs,
    /// systemd, over D-Bus.
    Systemd,
    /// Nobody: the container stays in its caller's cgroup.
    Disabled,
}

/// The sub-commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create a container and boot its VM; the workload waits for `start`.
    Create(commands::create::Options),
    /// Run the workload of a created container.
    Start(commands::start::Options),
    /// Print a container's state.
    State(commands::state::Options),
    /// Send a signal to a container's workload.
    Kill(commands::kill::Options),
    /// Remove what is left of a container.
    Delete(commands::delete::Options),
    /// Create and start a container, and wait for it.
    Run(commands::run::Options),
    /// Run a command in a running container.
    Exec(commands::exec::Options),
    /// Stop a container's VM until `resume`.
    Pause(commands::pause::Options),
    /// Let a paused container's VM run again.
    Resume(commands::resume::Options),
    /// List a container's processes.
    Ps(commands::ps::Options),
    /// Print what a container uses.
    Events(commands::events::Options),
    /// Change a running container's limits.
    Update(commands::update::Options),
    /// Refused: a VM is not saved.
    #[command(disable_help_flag = true)]
    Checkpoint(commands::checkpoint::Options),
    /// Refused: a VM is not saved.
    #[command(disable_help_flag = true)]
    Restore(commands::checkpoint::Options),
    /// List the containers.
    List(commands::list::Options),
    /// Write an example config.json.
    Spec(commands::spec::Options),
    /// Print what this runtime can do, as JSON.
    Features,
    /// Tell whether this machine can run krun-gpu, and what to do if not.
    Check(commands::check::Options),
    /// Prints the host's Vulkan devices (see `gpu::probe`).
    #[command(hide = true)]
    GpuProbe,
    /// Runs a render server (see `gpu::render_server::supervisor`).
    #[command(hide = true)]
    GpuServer(gpu::render_server::supervisor::Options),
    /// Keeps a container's network interfaces as its engine has them (see `network::watcher`).
    #[command(hide = true)]
    NetworkWatch(network::watcher::Options),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn callers_command_lines_are_understood() {
        for line in [
            "--log-format=json --log /l create --bundle /b --pid-file /p ID",
            "--log-format=json --log /l exec --pid-file /p --process /j --detach ID",
            "--systemd-cgroup --log-format=json --log /l --cgroup-manager disabled create -b /b ID",
            "--root /r --log /l --log-format json --rootless=true create --no-pivot --no-new-keyring ID",
            "kill ID 15",
            "kill --all ID 9",
            "delete --force ID",
            "exec -u 1000:1000 -e A=b --cwd /tmp ID sh -c 'exit 3'",
            "exec --pid-file /p --process /j --detach --tty --console-socket /s ID",
            "create --bundle /b --pid-file /p --console-socket /s ID",
            "exec -t --cap CAP_SYS_ADMIN -g 5 -g 6 --no-new-privs --ignore-paused ID sh",
            "pause ID",
            "resume ID",
            "ps -f json ID",
            "ps ID -ef",
            "events --stats ID",
            "update --resources=/r ID",
            "update --memory 1000 --pids-limit -1 ID",
            "list -f json",
            "run --bundle /b --detach ID",
            "--version",
        ] {
            let words = std::iter::once("krun-gpu").chain(line.split_whitespace());
            if let Err(error) = Cli::try_parse_from(words) {
                panic!("{line}: {error}");
            }
        }
        // Podman asks whether there is a `checkpoint` by the exit status of its help.
        for command in ["checkpoint", "restore"] {
            let cli = Cli::try_parse_from(["krun-gpu", command, "--help"]).unwrap();
            assert!(commands::run(&cli).is_err());
        }
    }
}
