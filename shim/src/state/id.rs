//! Container ids: names of directories below the state root, so never paths.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Longest id in bytes: a file name's limit.
const LONGEST: usize = 255;

/// A valid container id.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(transparent)]
pub(crate) struct ContainerId(String);

/// What is wrong with an id.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IdError {
    /// There is none.
    #[error("please specify a ID for the container")]
    Empty,
    /// It could leave the state directory.
    #[error("invalid character `{character}` in the ID `{id}`")]
    Character {
        /// The character.
        character: char,
        /// The id.
        id: String,
    },
    /// It is a directory's name for itself or its parent.
    #[error("`{id}` is not a valid container ID")]
    Dots {
        /// The id.
        id: String,
    },
    /// No file system takes it as a name.
    #[error("the container ID is {length} bytes long, at most {LONGEST} are possible")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
}

impl ContainerId {
    /// Checks `id`.
    pub(crate) fn new(id: &str) -> Result<Self, IdError> {
        if id.is_empty() {
            return Err(IdError::Empty);
        }
        if id.len() > LONGEST {
            return Err(IdError::TooLong { length: id.len() });
        }
        let bad = |character: &char| {
            *character == '/' || character.is_control() || character.is_whitespace()
        };
        if let Some(character) = id.chars().find(bad) {
            return Err(IdError::Character {
                character,
                id: id.to_owned(),
            });
        }
        if id == "." || id == ".." {
            return Err(IdError::Dots { id: id.to_owned() });
        }
        Ok(Self(id.to_owned()))
    }

    /// The id's characters.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_names() {
        assert_eq!(ContainerId::new("a-1_b.c").unwrap().as_str(), "a-1_b.c");
        for bad in ["", ".", "..", "a/b", "../x", "a b", "a\nb", "a\0b"] {
            assert!(ContainerId::new(bad).is_err(), "{bad:?}");
        }
        assert!(ContainerId::new(&"x".repeat(255)).is_ok());
        assert!(ContainerId::new(&"x".repeat(256)).is_err());
    }
}
