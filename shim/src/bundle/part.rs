//! A piece of a configuration in a file of its own: `update --resources` has `linux.resources`;
//! `exec --process` has a process, which the caller parses as config.json's.
//!
//! What is wrong in it is told with the field's path, as for config.json.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

/// What is wrong with the file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PartError {
    /// It cannot be read.
    #[error("read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// No JSON, or a field of the wrong type.
    #[error("load `{}`: {field}", path.display())]
    Field {
        /// The file.
        path: PathBuf,
        /// The field's path.
        field: String,
        /// The reason.
        #[source]
        source: serde_json::Error,
    },
}

/// The bytes of `path`.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, PartError> {
    fs::read(path).map_err(|source| PartError::Read {
        path: path.to_owned(),
        source,
    })
}

/// The piece in `path`; `-` is standard input.
pub(crate) fn read_part_or_input<T: DeserializeOwned>(path: &Path) -> Result<T, PartError> {
    if path != Path::new("-") {
        return parse_part(path, &read(path)?);
    }
    let mut text = Vec::new();
    io::stdin()
        .read_to_end(&mut text)
        .map_err(|source| PartError::Read {
            path: path.to_owned(),
            source,
        })?;
    parse_part(path, &text)
}

fn parse_part<T: DeserializeOwned>(path: &Path, text: &[u8]) -> Result<T, PartError> {
    let mut json = serde_json::Deserializer::from_slice(text);
    serde_path_to_error::deserialize(&mut json).map_err(|error| PartError::Field {
        path: path.to_owned(),
        field: error.path().to_string(),
        source: error.into_inner(),
    })
}
