//! Bundles: a directory with config.json and, most often, the root file system.
//!
//! `create` and `run` load one; what is wrong with it is told here, with the field's name and
//! value, before anything was made. runtime-spec: bundle.md, config.md, config-linux.md.

mod names;
mod part;
mod rules;

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::{Process, Spec};
use serde::de::DeserializeOwned;

pub(crate) use names::{CAPABILITIES, RLIMITS, capability_number};
pub(crate) use part::{PartError, read, read_part_or_input};
pub(crate) use rules::{InvalidConfig, check_process};

/// What is wrong with a bundle.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BundleError {
    /// A file or directory of it.
    #[error("{action} `{}`", path.display())]
    File {
        /// What was being done.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// No JSON, or a field of the wrong type.
    #[error("load `{}`", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// The place and the reason.
        #[source]
        source: serde_json::Error,
    },
    /// A field of the wrong type.
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
    /// A value that makes no sense.
    #[error("load `{}`", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The reason.
        #[source]
        source: InvalidConfig,
    },
    /// The root file system is no directory.
    #[error("root.path `{}` is not a directory", path.display())]
    Rootfs {
        /// Its path.
        path: PathBuf,
    },
}

/// A bundle whose configuration makes sense.
#[derive(Debug)]
pub(crate) struct Bundle {
    /// Absolute path.
    pub(crate) path: PathBuf,
    /// Absolute path of the root file system, without symbolic links.
    pub(crate) rootfs: PathBuf,
    /// config.json.
    pub(crate) spec: Spec,
    /// config.json as it was read.
    pub(crate) text: Vec<u8>,
}

impl Bundle {
    /// Loads the bundle in `directory`, with `config` as its configuration file's name or path.
    pub(crate) fn load(directory: &Path, config: &Path) -> Result<Self, BundleError> {
        let failed = |action, path: &Path| {
            let path = path.to_owned();
            move |source| BundleError::File {
                action,
                path,
                source,
            }
        };
        let path = fs::canonicalize(directory).map_err(failed("open the bundle", directory))?;
        let file = path.join(config);
        let text = fs::read(&file).map_err(failed("load", &file))?;
        let spec = parse(&file, &text)?;
        let relative = spec
            .root()
            .as_ref()
            .map_or(Path::new(""), |root| root.path());
        let rootfs = path.join(relative);
        let rootfs = fs::canonicalize(&rootfs).map_err(failed("open root.path", &rootfs))?;
        if !rootfs.is_dir() {
            return Err(BundleError::Rootfs { path: rootfs });
        }
        Ok(Self {
            path,
            rootfs,
            spec,
            text,
        })
    }
}

/// Parses and checks a configuration; `file` is named in errors.
pub(crate) fn parse(file: &Path, text: &[u8]) -> Result<Spec, BundleError> {
    let invalid = |source| BundleError::Invalid {
        path: file.to_owned(),
        source,
    };
    let value = json(file, text)?;
    // Names are checked first: a list of all the names that would do is no help to anybody.
    names::check(&value).map_err(invalid)?;
    let mut spec: Spec = typed(file, value)?;
    rules::check(&spec).map_err(invalid)?;
    // runtime-spec: "interpreted as relative to /".
    for mount in spec.mounts_mut().iter_mut().flatten() {
        let destination = inside_root(mount.destination());
        mount.set_destination(destination);
    }
    Ok(spec)
}

/// `path` below `/`, without `.` and `..`: libcontainer makes no directories for those.
fn inside_root(path: &Path) -> PathBuf {
    let mut result = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => result.push(name),
            // The root's parent is the root: nothing is popped there.
            Component::ParentDir => drop(result.pop()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    result
}

/// Parses and checks the process that `exec` is given.
pub(crate) fn parse_process(file: &Path, text: &[u8]) -> Result<Process, BundleError> {
    /// Its place in a configuration, for the names of its fields.
    #[derive(serde::Deserialize)]
    struct Whole {
        process: Process,
    }
    let invalid = |source| BundleError::Invalid {
        path: file.to_owned(),
        source,
    };
    let value = serde_json::json!({"process": json(file, text)?});
    names::check(&value).map_err(invalid)?;
    let Whole { process } = typed(file, value)?;
    check_process(&process).map_err(invalid)?;
    Ok(process)
}

fn json(file: &Path, text: &[u8]) -> Result<serde_json::Value, BundleError> {
    serde_json::from_slice(text).map_err(|source| BundleError::Json {
        path: file.to_owned(),
        source,
    })
}

fn typed<T: DeserializeOwned>(file: &Path, value: serde_json::Value) -> Result<T, BundleError> {
    serde_path_to_error::deserialize(value).map_err(|error| BundleError::Field {
        path: file.to_owned(),
        field: error.path().to_string(),
        source: error.into_inner(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report;

    fn problem(change: impl FnOnce(&mut serde_json::Value)) -> String {
        let mut config = crate::commands::spec::example();
        change(&mut config);
        let text = serde_json::to_vec(&config).unwrap();
        let error = parse(Path::new("config.json"), &text).unwrap_err();
        report::chain(&error)
    }

    #[test]
    fn the_example_is_valid() {
        let text = serde_json::to_vec(&crate::commands::spec::example()).unwrap();
        parse(Path::new("config.json"), &text).unwrap();
    }

    #[test]
    fn problems_name_field_and_value() {
        use serde_json::json;
        let cases: Vec<(String, &str)> = vec![
            (
                problem(|c| c["ociVersion"] = json!("2.0.0")),
                "ociVersion `2.0.0`",
            ),
            (problem(|c| c["ociVersion"] = json!(null)), "ociVersion"),
            (
                problem(|c| c["process"]["cwd"] = json!("tmp")),
                "process.cwd `tmp`",
            ),
            (
                problem(|c| c["process"]["args"] = json!([])),
                "process.args",
            ),
            (
                problem(|c| c["process"]["capabilities"]["bounding"] = json!(["CAP_FOO"])),
                "process.capabilities.bounding[0]: unknown capability `CAP_FOO`",
            ),
            (
                problem(|c| c["process"]["rlimits"] = json!([{"type": "RLIMIT_TEST"}])),
                "process.rlimits[0].type: unknown limit `RLIMIT_TEST`",
            ),
            (
                problem(|c| {
                    c["process"]["rlimits"] = json!([
                        {"type": "RLIMIT_CPU", "soft": 1, "hard": 1},
                        {"type": "RLIMIT_CPU", "soft": 1, "hard": 1}
                    ]);
                }),
                "RLIMIT_CPU",
            ),
            (
                problem(|c| c["linux"]["namespaces"] = json!([{"type": "pid"}, {"type": "pid"}])),
                "linux.namespaces[1]: duplicate namespace `pid`",
            ),
            (
                problem(|c| c["linux"]["namespaces"] = json!([{"type": "pidx"}])),
                "linux.namespaces[0].type: unknown namespace `pidx`",
            ),
            (
                problem(|c| c["process"]["user"]["uid"] = json!("x")),
                "process.user.uid",
            ),
            (problem(|c| c["root"] = json!(null)), "root"),
            (
                problem(|c| c["process"]["args"] = json!(["sh", "a\u{0}b"])),
                "process.args[1] \"a\\0b\" holds a NUL",
            ),
            (
                problem(|c| c["process"]["env"] = json!(["x".repeat(7 << 20)])),
                "Argument list too long",
            ),
        ];
        for (message, expected) in cases {
            assert!(message.contains(expected), "{message:?} lacks {expected:?}");
        }
    }

    #[test]
    fn destinations_stay_below_the_root() {
        let cases = [("/v/../../../x", "/x"), ("v/./w", "/v/w"), ("..", "/")];
        for (path, expected) in cases {
            assert_eq!(inside_root(Path::new(path)), Path::new(expected));
        }
    }

    #[test]
    fn truncated_text_says_where() {
        let error = parse(Path::new("config.json"), b"{\"ociVersion\": ").unwrap_err();
        assert!(report::chain(&error).contains("line 1"), "{error}");
    }
}
