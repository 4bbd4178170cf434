//! runtime-spec's JSON schemas (tests/spec), for the cases that read what the runtime prints.

use jsonschema::{Draft, Registry};
use serde_json::{Value, json};

use super::{Outcome, ensure};

/// What the schemas' references are relative to.
const BASE: &str = "https://opencontainers.org/runtime-spec/schema/";

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!("../../spec/", $name)))),*]
    };
}

const FILES: [(&str, &str); 14] = files![
    "config-linux.json",
    "config-schema.json",
    "config-solaris.json",
    "config-vm.json",
    "config-windows.json",
    "config-zos.json",
    "defs-linux.json",
    "defs-vm.json",
    "defs-windows.json",
    "defs-zos.json",
    "defs.json",
    "features-linux.json",
    "features-schema.json",
    "state-schema.json",
];

/// Fails with all that is wrong with `value` by the schema `features`, `state` or `config`.
pub(crate) fn conforms(schema: &str, value: &Value) -> Outcome {
    let name = format!("{schema}-schema.json");
    let mut registry = Registry::new().draft(Draft::Draft4);
    for (file, text) in FILES {
        registry = registry.add(
            format!("{BASE}{file}"),
            serde_json::from_str::<Value>(text)?,
        )?;
    }
    let registry = registry.prepare()?;
    let validator = jsonschema::options()
        .with_draft(Draft::Draft4)
        .with_registry(&registry)
        .build(&json!({"$ref": format!("{BASE}{name}")}))?;
    let errors: Vec<String> = validator
        .iter_errors(value)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    ensure(errors.is_empty(), || {
        format!("{name}: {}\n{value}", errors.join("\n"))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::conforms;

    #[test]
    fn the_schemas_refer_to_each_other_and_refuse() {
        let good = json!({"ociVersionMin": "1.0.0", "ociVersionMax": "1.2.0",
            "linux": {"namespaces": ["pid"], "cgroup": {"v2": true}}});
        assert!(conforms("features", &good).is_ok());
        for wrong in [
            json!({"ociVersionMin": "1.0.0"}),
            json!({"ociVersionMin": "1.0.0", "ociVersionMax": "1.2.0", "hooks": [1]}),
            json!({"ociVersionMin": "1.0.0", "ociVersionMax": "1.2.0",
                "linux": {"namespaces": ["vm"]}}),
        ] {
            assert!(conforms("features", &wrong).is_err(), "{wrong}");
        }
        let state = json!({"ociVersion": "1.2.0", "id": "a", "status": "gone", "bundle": "/b"});
        assert!(conforms("state", &state).is_err());
        assert!(conforms("config", &json!({"ociVersion": "1.2.0"})).is_ok());
    }
}
