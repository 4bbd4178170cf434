//! `list`: the containers below the state root, as a table, as ids, or as JSON.

use std::io::{self, Write};
use std::path::Path;

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::state::owner;
use crate::cli::Global;
use crate::commands::CommandError;
use crate::state::{self, Container};

/// Options of `list`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Print ids alone.
    #[arg(long, short)]
    quiet: bool,
    /// Print a table or JSON.
    #[arg(long, short, value_name = "FORMAT", value_enum, default_value_t)]
    format: Format,
}

/// How the list is printed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
enum Format {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
}

/// A container in the JSON list, with crun's keys.
#[derive(Serialize)]
struct Entry<'a> {
    id: &'a str,
    pid: i32,
    status: &'a str,
    bundle: &'a Path,
    created: &'a str,
    owner: String,
}

/// Runs the command.
pub(crate) fn run(global: &Global, options: &Options) -> Result<(), CommandError> {
    let root = state::root(global)?;
    // A container may be deleted while we look.
    let containers: Vec<Container> = state::list(&root)?
        .iter()
        .filter_map(|id| Container::load(&root, id).ok())
        .collect();
    let entries: Vec<Entry<'_>> = containers.iter().map(entry).collect();
    let mut output = io::stdout().lock();
    if options.quiet {
        for entry in &entries {
            writeln!(output, "{}", entry.id)?;
        }
        return Ok(());
    }
    match options.format {
        Format::Json => {
            serde_json::to_writer_pretty(&mut output, &entries).map_err(io::Error::from)?;
            writeln!(output)?;
        }
        Format::Table => table(&mut output, &entries)?,
    }
    Ok(())
}

fn entry(container: &Container) -> Entry<'_> {
    let record = &container.record;
    Entry {
        id: record.id.as_str(),
        pid: container.pid().unwrap_or(0),
        status: container.status().as_str(),
        bundle: &record.bundle,
        created: &record.created,
        owner: owner(record.owner),
    }
}

fn table(output: &mut impl Write, entries: &[Entry<'_>]) -> io::Result<()> {
    let longest = entries
        .iter()
        .map(|entry| entry.id.len())
        .max()
        .unwrap_or(0);
    let width = longest.max(4);
    writeln!(
        output,
        "{:width$} {:<9} {:<8} {:<39} {:<30} OWNER",
        "NAME", "PID", "STATUS", "BUNDLE PATH", "CREATED"
    )?;
    for entry in entries {
        writeln!(
            output,
            "{:width$} {:<9} {:<8} {:<39} {:<30} {}",
            entry.id,
            entry.pid,
            entry.status,
            entry.bundle.display(),
            entry.created,
            entry.owner
        )?;
    }
    Ok(())
}
