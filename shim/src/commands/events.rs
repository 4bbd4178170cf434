//! `events`: what a container uses, in the JSON of runc's command of this name.
//!
//! The numbers are the guest's: its workload's cgroup, and the VM's memory as the limit.

use std::io::{self, Write};
use std::thread;
use std::time::Duration;

use clap::Args;
use krun_gpu_protocol::Statistics;
use serde_json::{Value, json};

use super::{AskError, ask, load};
use crate::cli::Global;
use crate::control::{ControlError, Reply, Request};
use crate::state::Status;

/// Options of `events`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Print once, and end.
    #[arg(long)]
    stats: bool,
    /// Seconds between two lines otherwise.
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = clap::value_parser!(u64).range(1..))]
    interval: u64,
    /// The container's id.
    id: Option<String>,
}

/// Runs the command.
pub(crate) fn run(global: &Global, options: &Options) -> Result<(), AskError> {
    let container = load(global, options.id.as_deref(), Status::Running)?;
    let mut output = io::stdout().lock();
    loop {
        let statistics = match ask(&container, &Request::Statistics) {
            Ok(Reply::Statistics(statistics)) => statistics,
            Ok(_) => return Err(AskError::Unexpected),
            // Without --stats the container's end is the command's.
            Err(AskError::Control(ControlError::Ended)) if !options.stats => return Ok(()),
            Err(error) => return Err(error),
        };
        let line = event(container.record.id.as_str(), &statistics);
        serde_json::to_writer(&mut output, &line).map_err(io::Error::from)?;
        writeln!(output)?;
        output.flush()?;
        if options.stats {
            return Ok(());
        }
        thread::sleep(Duration::from_secs(options.interval));
    }
}

fn event(id: &str, statistics: &Statistics) -> Value {
    let usage = |usage: u64, limit: u64| json!({"usage": usage, "limit": limit});
    json!({
        "type": "stats",
        "id": id,
        "data": {
            "cpu": {"usage": {"total": statistics.workload_cpu_us.saturating_mul(1000)}},
            "memory": {
                "usage": usage(statistics.workload_memory, statistics.memory_total),
                "vm": usage(statistics.memory_used, statistics.memory_total),
            },
            "pids": {"current": statistics.workload_pids},
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_in_nanoseconds() {
        let statistics = Statistics {
            workload_cpu_us: 1500,
            workload_memory: 4096,
            memory_total: 1 << 30,
            workload_pids: 3,
            ..Statistics::default()
        };
        let line = event("c", &statistics);
        assert_eq!(line["data"]["cpu"]["usage"]["total"], 1_500_000);
        assert_eq!(line["data"]["memory"]["usage"]["limit"], 1 << 30);
        assert_eq!(line["data"]["pids"]["current"], 3);
    }
}
