//! A driver's manifest (LoaderDriverInterface.md of the Vulkan loader): the two fields of its
//! JSON that the choice rests on.
//!
//! Called by `driver`. The image wrote it: text that is no manifest gives `None`, whatever it is.

/// A Vulkan version: major, minor, patch.
pub(super) type Version = (u32, u32, u32);

/// What a manifest says.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Manifest {
    /// The newest Vulkan that the driver knows.
    pub(super) version: Version,
    /// The driver's file: a path, or a name for the dynamic linker.
    pub(super) library: String,
    /// Bits of the programs it is for, where it says so.
    architecture: Option<String>,
}

impl Manifest {
    /// Reads a manifest.
    pub(super) fn parse(text: &str) -> Option<Self> {
        Some(Self {
            version: version(&string(text, "api_version")?)?,
            library: string(text, "library_path")?,
            architecture: string(text, "library_arch"),
        })
    }

    /// Whether it is Mesa's Venus, for programs of 64 bits.
    pub(super) fn is_venus(&self) -> bool {
        let name = self.library.rsplit('/').next().unwrap_or_default();
        let is_wide = self.architecture.as_deref().is_none_or(|bits| bits == "64");
        // Debian's 32-bit library has the same name in another directory.
        name == "libvulkan_virtio.so" && is_wide && !self.library.contains("/i386-linux-gnu/")
    }
}

/// The value of the field `name`, wherever it is: these names occur once. Escapes other than
/// those of quotes and slashes do not occur in paths of drivers.
fn string(text: &str, name: &str) -> Option<String> {
    let (_, rest) = text.split_once(&format!("\"{name}\""))?;
    let rest = rest.trim_start().strip_prefix(':')?;
    let rest = rest.trim_start().strip_prefix('"')?;
    let mut value = String::new();
    let mut characters = rest.chars();
    loop {
        match characters.next()? {
            '"' => return Some(value),
            '\\' => match characters.next()? {
                escaped @ ('/' | '"' | '\\') => value.push(escaped),
                _ => return None,
            },
            '\0' => return None,
            character => value.push(character),
        }
    }
}

fn version(text: &str) -> Option<Version> {
    let mut numbers = text.split('.').map(|number| number.parse().ok());
    let version = (
        numbers.next()??,
        numbers.next()??,
        numbers.next().unwrap_or(Some(0))?,
    );
    numbers.next().is_none().then_some(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(library: &str, version: &str, more: &str) -> String {
        format!(
            "{{\"ICD\": {{\n \"api_version\": \"{version}\",{more}\n \"library_path\" : \"{library}\"\n}},\n\"file_format_version\": \"1.0.1\"}}"
        )
    }

    #[test]
    fn the_fields_are_found_in_any_layout() {
        let text = manifest("\\/usr/lib/libvulkan_virtio.so", "1.4.305", "");
        let read = Manifest::parse(&text).unwrap();
        assert_eq!(read.version, (1, 4, 305));
        assert_eq!(read.library, "/usr/lib/libvulkan_virtio.so");
        assert!(read.is_venus());
    }

    #[test]
    fn other_drivers_and_other_processors_are_not_ours() {
        for (library, more) in [
            ("libvulkan_lvp.so", ""),
            ("/usr/lib/i386-linux-gnu/libvulkan_virtio.so", ""),
            ("libvulkan_virtio.so", "\"library_arch\": \"32\","),
        ] {
            let read = Manifest::parse(&manifest(library, "1.3.230", more)).unwrap();
            assert!(!read.is_venus(), "{library}");
        }
    }

    #[test]
    fn what_is_no_manifest_is_none() {
        for text in [
            "",
            "{}",
            "\"api_version\"",
            "\"api_version\": \"1.3",
            "\"api_version\": 13, \"library_path\": \"x\"",
            "\"api_version\": \"1.3.x\", \"library_path\": \"x\"",
            "\"api_version\": \"1.3.1.2\", \"library_path\": \"x\"",
            "\"api_version\": \"1.3.1\", \"library_path\": \"a\\u0041\"",
        ] {
            assert_eq!(Manifest::parse(text), None, "{text}");
        }
    }
}
