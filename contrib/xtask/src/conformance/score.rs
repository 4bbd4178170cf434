//! What a program of the suite says: lines of TAP, and blocks about them.
//!
//! Exit statuses tell little: most failures are `not ok` lines alone, and the programs about hooks
//! have no points at all; there a block with an `"error"` is the failure.

use std::fmt;

/// What one program came to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Score {
    /// Points that held, of how many.
    Points {
        /// Held.
        held: u32,
        /// All but those that were skipped.
        all: u32,
    },
    /// A program without points saw nothing wrong.
    Pass,
    /// A program without points saw something wrong, or one ended early.
    Fail,
}

impl Score {
    /// Reads a program's output and exit status.
    pub(crate) fn read(output: &str, status: i32) -> Self {
        let (mut held, mut failed) = (0, 0);
        for line in output.lines() {
            let skipped = line.contains("# SKIP");
            match line {
                _ if skipped => {}
                _ if line.starts_with("ok ") => held += 1,
                _ if line.starts_with("not ok ") => failed += 1,
                _ => {}
            }
        }
        if held + failed > 0 {
            // One that gave up did not look at the rest of its points.
            let early = u32::from(status != 0 && failed == 0);
            return Self::Points {
                held,
                all: held + failed + early,
            };
        }
        if status == 0 && !output.contains("\"error\"") {
            Self::Pass
        } else {
            Self::Fail
        }
    }

    /// Everything held.
    fn is_all(self) -> bool {
        match self {
            Self::Points { held, all } => held == all,
            Self::Pass => true,
            Self::Fail => false,
        }
    }

    /// Reads what the table says: `pass`, `fail`, or points as `HELD/ALL`.
    fn parse(text: &str) -> Option<Self> {
        match text {
            "pass" => return Some(Self::Pass),
            "fail" => return Some(Self::Fail),
            _ => {}
        }
        let (held, all) = text.split_once('/')?;
        Some(Self::Points {
            held: held.parse().ok()?,
            all: all.parse().ok()?,
        })
    }
}

impl fmt::Display for Score {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Points { held, all } => write!(formatter, "{held}/{all}"),
            Self::Pass => formatter.write_str("pass"),
            Self::Fail => formatter.write_str("fail"),
        }
    }
}

/// What a program may come to: one score, or some where the program itself is a race.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Scores(Vec<Score>);

impl Scores {
    /// Reads what the table says: scores with `|` between them.
    pub(super) fn parse(text: &str) -> Option<Self> {
        text.split('|')
            .map(Score::parse)
            .collect::<Option<_>>()
            .map(Self)
    }

    /// Nothing but everything will do.
    pub(super) fn are_all(&self) -> bool {
        self.0.iter().all(|score| score.is_all())
    }

    /// `score` is one of them.
    pub(crate) fn allow(&self, score: Score) -> bool {
        self.0.contains(&score)
    }
}

impl fmt::Display for Scores {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, score) in self.0.iter().enumerate() {
            let between = if index == 0 { "" } else { "|" };
            write!(formatter, "{between}{score}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Score, Scores};

    #[test]
    fn points_count_and_skipped_ones_do_not() {
        let text = "TAP version 13\nok 1 - a\n  ---\n  {\"error\": \"b\"}\n  ...\nnot ok 2 - c\nok 3 # SKIP d\n1..3\n";
        assert_eq!(Score::read(text, 0).to_string(), "1/2");
        assert_eq!(Score::read("ok 1 - a\n", 1).to_string(), "1/2");
    }

    #[test]
    fn without_points_an_error_or_a_status_is_a_failure() {
        assert_eq!(Score::read("1..0\n", 0), Score::Pass);
        assert_eq!(Score::read("1..0\n  {\"error\": \"x\"}\n", 0), Score::Fail);
        assert_eq!(Score::read("", 1), Score::Fail);
    }

    #[test]
    fn the_tables_words_are_what_is_printed() {
        for text in ["pass", "fail", "6/7"] {
            assert_eq!(
                Score::parse(text).map(|score| score.to_string()).as_deref(),
                Some(text)
            );
        }
        assert_eq!(Score::parse("7"), None);
    }

    #[test]
    fn a_count_outside_of_the_alternatives_is_not_allowed() {
        let scores = Scores::parse("1/3|2/3|3/3").unwrap();
        assert_eq!(scores.to_string(), "1/3|2/3|3/3");
        assert!(!scores.are_all());
        for (text, allowed) in [
            ("1/3", true),
            ("3/3", true),
            ("0/3", false),
            ("2/2", false),
            ("pass", false),
        ] {
            assert_eq!(scores.allow(Score::parse(text).unwrap()), allowed, "{text}");
        }
        for text in ["", "|", "1/3|", "1/3|-", "1/3||3/3"] {
            assert_eq!(Scores::parse(text), None, "{text}");
        }
        assert!(Scores::parse("3/3").unwrap().are_all());
    }
}
