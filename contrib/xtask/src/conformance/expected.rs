//! `tests/conformance/expected.txt`: what every program of the suite is expected to come to.
//!
//! A line has a program's name, its class (`must`, `part`, `not`), a score, several with `|`
//! between them where a race of the program's own decides, or `-` for one that is not run, and,
//! unless all of its points hold each time, the reason. Those below the line `[cgroup v1]` run on a
//! machine with that.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::Scores;

/// The line above the programs for cgroup v1.
const CGROUP1: &str = "[cgroup v1]";

/// Why there is no table.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExpectedError {
    /// The file cannot be read.
    #[error("read {path}")]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// A line that is not one.
    #[error("{path}: line `{line}` is not NAME CLASS SCORE [REASON]")]
    Line { path: PathBuf, line: String },
}

/// One program.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// Its name.
    pub(crate) name: String,
    /// It runs where there is cgroup v1.
    pub(crate) cgroup1: bool,
    /// `None` for one that is not run.
    pub(crate) scores: Option<Scores>,
    /// Why it is not all of the points, or not run.
    pub(crate) reason: String,
}

/// The table.
#[derive(Debug)]
pub(crate) struct Expected {
    /// Its rows, in the order in which they are run.
    pub(crate) rows: Vec<Row>,
}

impl Expected {
    /// Reads the table of the checkout.
    pub(crate) fn load(checkout: &Path) -> Result<Self, ExpectedError> {
        let path = checkout.join("tests/conformance/expected.txt");
        let text = fs::read_to_string(&path).map_err(|source| ExpectedError::File {
            path: path.clone(),
            source,
        })?;
        let rows = rows(&text).map_err(|line| ExpectedError::Line { path, line })?;
        Ok(Self { rows })
    }
}

/// The rows of the table, or the line that is none.
fn rows(text: &str) -> Result<Vec<Row>, String> {
    let mut rows = Vec::new();
    let mut cgroup1 = false;
    let lines = text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    for line in lines {
        if line == CGROUP1 {
            cgroup1 = true;
            continue;
        }
        let row = row(line).ok_or_else(|| line.to_owned())?;
        rows.push(Row { cgroup1, ..row });
    }
    Ok(rows)
}

/// Whoever is not all right has a reason.
fn row(line: &str) -> Option<Row> {
    let mut words = line.split_whitespace();
    let (name, class, scores) = (words.next()?, words.next()?, words.next()?);
    let reason = words.collect::<Vec<_>>().join(" ");
    let scores = match scores {
        "-" => None,
        text => Some(Scores::parse(text)?),
    };
    let is_all = scores.as_ref().is_some_and(Scores::are_all);
    let known = matches!(class, "must" | "part" | "not");
    (known && (is_all || !reason.is_empty())).then(|| Row {
        name: name.to_owned(),
        cgroup1: false,
        scores,
        reason,
    })
}

#[cfg(test)]
mod tests {
    use super::{row, rows};

    #[test]
    fn less_than_all_wants_a_reason() {
        assert!(row("create must 4/4").is_some());
        assert!(row("start part 6/7").is_none());
        assert!(row("start part 6/7 its seventh is wrong").is_some());
        assert!(row("hooks not fail").is_none());
        assert!(row("blkio not -").is_none());
        assert!(row("create perhaps 4/4").is_none());
        assert!(row("pidfile part 0/1|1/1").is_none());
        assert!(row("pidfile part 0/1|1/1 a race").is_some());
        assert!(row("pidfile part 0/1| a race").is_none());
    }

    #[test]
    fn the_table_of_this_checkout_has_all_programs_once() {
        let text = include_str!("../../../../tests/conformance/expected.txt");
        let rows = rows(text).unwrap();
        assert_eq!(rows.len(), 58);
        let names: std::collections::BTreeSet<_> = rows.iter().map(|row| &row.name).collect();
        assert_eq!(names.len(), 58);
        let on_cgroup1 = rows.iter().filter(|row| row.cgroup1).count();
        assert_eq!(on_cgroup1, 16);
    }
}
