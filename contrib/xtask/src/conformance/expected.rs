//! `tests/conformance/expected.txt`: what every program of the suite is expected to come to.
//!
//! A line has a program's name, its class (`must`, `part`, `not`), a score or `-` for one that is
//! not run, and, unless all of its points hold, the reason.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::Score;

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
    /// `None` for one that is not run.
    pub(crate) score: Option<Score>,
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
        let rows = lines(&text)
            .map(|line| {
                row(line).ok_or_else(|| ExpectedError::Line {
                    path: path.clone(),
                    line: line.to_owned(),
                })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { rows })
    }
}

/// The lines that are rows.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// Whoever is not all right has a reason.
fn row(line: &str) -> Option<Row> {
    let mut words = line.split_whitespace();
    let (name, class, score) = (words.next()?, words.next()?, words.next()?);
    let reason = words.collect::<Vec<_>>().join(" ");
    let score = match score {
        "-" => None,
        text => Some(Score::parse(text)?),
    };
    let is_all = match score {
        Some(Score::Points { held, all }) => held == all,
        Some(Score::Pass) => true,
        Some(Score::Fail) | None => false,
    };
    let known = matches!(class, "must" | "part" | "not");
    (known && (is_all || !reason.is_empty())).then(|| Row {
        name: name.to_owned(),
        score,
        reason,
    })
}

#[cfg(test)]
mod tests {
    use super::{lines, row};

    #[test]
    fn less_than_all_wants_a_reason() {
        assert!(row("create must 4/4").is_some());
        assert!(row("start part 6/7").is_none());
        assert!(row("start part 6/7 its seventh is wrong").is_some());
        assert!(row("hooks not fail").is_none());
        assert!(row("blkio not -").is_none());
        assert!(row("create perhaps 4/4").is_none());
    }

    #[test]
    fn the_table_of_this_checkout_has_all_programs_once() {
        let text = include_str!("../../../../tests/conformance/expected.txt");
        let names: std::collections::BTreeSet<String> =
            lines(text).map(|line| row(line).unwrap().name).collect();
        assert_eq!(names.len(), 58);
    }
}
