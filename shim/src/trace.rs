//! What libcontainer and we tell while working.
//!
//! At the default level nothing of it reaches standard error or the log: libcontainer reports an
//! error as an event and returns it as well. The event often says more than the error does, so
//! error events of the processes that build a sandbox are sent up the failure pipe
//! (`sandbox::failure`), where the main process looks when the sandbox could not be built.
//!
//! `--debug` writes all events to the log that `--log` names, or to standard error. Among them
//! are marks (`mark = "agent_hello"`), which carry the clock that the benchmarks read.

use std::fmt::{Debug, Write as _};
use std::fs::{File, OpenOptions};
use std::io::Write as _;

use nix::time::{ClockId, clock_gettime};
use serde::Serialize;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::cli::{Global, LogFormat, LogLevel};
use crate::sandbox::failure;

/// Sets the process' subscriber.
pub(crate) fn install(global: &Global) {
    let level = match global.log_level {
        _ if global.debug => Some(Level::DEBUG),
        LogLevel::Error => None,
        LogLevel::Warning => Some(Level::WARN),
        LogLevel::Info => Some(Level::INFO),
        LogLevel::Debug => Some(Level::DEBUG),
    };
    // The log itself is told failures alone, unless somebody asks for more than Podman does.
    let log = global
        .log
        .as_ref()
        .filter(|_| global.debug)
        .and_then(|path| {
            let path = path.strip_prefix("file:").unwrap_or(path);
            OpenOptions::new().create(true).append(true).open(path).ok()
        });
    let json = global.log_format == LogFormat::Json;
    // Only main calls this, once; a second subscriber would be refused.
    let _ = tracing::subscriber::set_global_default(Teller { level, log, json });
}

/// Tells that a step was reached; see `tests/src/bench/split.rs`.
pub(crate) fn mark(name: &'static str) {
    tracing::debug!(mark = name);
}

#[derive(Debug)]
struct Teller {
    /// Events up to this level are written.
    level: Option<Level>,
    /// Where to, if not to standard error. It stays open beyond the container's pivot_root.
    log: Option<File>,
    /// The log's format.
    json: bool,
}

/// A line of a JSON log.
#[derive(Serialize)]
struct Line<'a> {
    msg: &'a str,
    level: &'a str,
    monotonic_us: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    mark: Option<&'a str>,
}

impl Teller {
    fn write(&self, level: &str, words: &Words) {
        let text = words.text();
        let Some(log) = &self.log else {
            let _ = writeln!(std::io::stderr(), "krun-gpu: {level}: {text}");
            return;
        };
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC)
            .map_or(0, |now| now.tv_sec() * 1_000_000 + now.tv_nsec() / 1000);
        let line = if self.json {
            let line = Line {
                msg: &text,
                level,
                monotonic_us: now,
                mark: words.mark.as_deref(),
            };
            serde_json::to_string(&line).unwrap_or_default()
        } else {
            format!("{now} {level}: {text}")
        };
        // One write, so that lines of several processes do not mix.
        let _ = (&mut &*log).write_all(format!("{line}\n").as_bytes());
    }
}

impl Subscriber for Teller {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.level.unwrap_or(Level::ERROR)
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut words = Words::default();
        event.record(&mut words);
        let level = *event.metadata().level();
        if level == Level::ERROR {
            failure::tell_detail(&words.text());
        }
        if self.level.is_some_and(|most| level <= most) {
            self.write(&level.as_str().to_lowercase(), &words);
        }
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// An event's message and its other fields.
#[derive(Default)]
struct Words {
    message: String,
    fields: String,
    mark: Option<String>,
}

impl Words {
    fn text(&self) -> String {
        match (self.message.as_str(), self.fields.as_str()) {
            (message, "") => message.to_owned(),
            ("", fields) => fields.to_owned(),
            (message, fields) => format!("{message} ({fields})"),
        }
    }
}

impl Visit for Words {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "mark" {
            self.mark = Some(value.to_owned());
        }
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            self.message = format!("{value:?}");
            return;
        }
        let separator = if self.fields.is_empty() { "" } else { ", " };
        // Writing to a String cannot fail.
        let _ = write!(self.fields, "{separator}{}={value:?}", field.name());
    }
}
