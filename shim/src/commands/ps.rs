//! `ps`: the container's processes, as the guest numbers them. None of them is one of the host's.

use std::io::{self, Write};

use clap::{Args, ValueEnum};

use super::{AskError, ask, load};
use crate::cli::Global;
use crate::control::{Reply, Request};
use crate::state::Status;

/// Options of `ps`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// What is printed.
    #[arg(long, short, value_name = "FORMAT", value_enum, default_value_t)]
    format: Format,
    /// The container's id.
    id: Option<String>,
    /// Options of ps(1), which the table has no use for.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    _arguments: Vec<String>,
}

/// What is printed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
enum Format {
    /// A line for each process.
    #[default]
    Table,
    /// A list of pids.
    Json,
}

/// Runs the command.
pub(crate) fn run(global: &Global, options: &Options) -> Result<(), AskError> {
    let container = load(global, options.id.as_deref(), Status::Running)?;
    let Reply::Processes(processes) = ask(&container, &Request::Processes)? else {
        return Err(AskError::Unexpected);
    };
    let mut output = io::stdout().lock();
    if options.format == Format::Json {
        let pids: Vec<i32> = processes.iter().map(|process| process.pid).collect();
        serde_json::to_writer(&mut output, &pids).map_err(io::Error::from)?;
        writeln!(output)?;
        return Ok(());
    }
    writeln!(
        output,
        "{:<8} {:>7} {:>7} {:>8} CMD",
        "UID", "PID", "PPID", "TIME"
    )?;
    for process in processes {
        let seconds = process.cpu_ms / 1000;
        let time = format!(
            "{:02}:{:02}:{:02}",
            seconds / 3600,
            seconds / 60 % 60,
            seconds % 60
        );
        // Nothing that a workload calls itself may act on the reader's terminal.
        let command: String = process
            .command
            .chars()
            .map(|character| {
                if character.is_control() {
                    '?'
                } else {
                    character
                }
            })
            .collect();
        writeln!(
            output,
            "{:<8} {:>7} {:>7} {time} {command}",
            process.uid, process.pid, process.parent
        )?;
    }
    Ok(())
}
