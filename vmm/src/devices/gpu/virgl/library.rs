//! Finding the library, and saying what to install when it is not there.

use std::sync::Arc;

use super::ffi::Functions;

/// The name that distributions install.
const NAME: &str = "libvirglrenderer.so.1";

/// What virglrenderer draws OpenGL with: it loads the first and one of the others itself, and
/// aborts its process where they are not.
const EGL: &str = "libEGL.so.1";
const OPENGL: [&str; 2] = ["libOpenGL.so.0", "libGL.so.1"];

/// Looks for what OpenGL takes by the dynamic linker's rules, in the mount namespace of the caller.
pub fn find_opengl() -> Result<(), LoadError> {
    let find = |name| {
        // SAFETY: the libraries have no constructors that expect anything of their process.
        let found = unsafe { libloading::Library::new(name) };
        found
            .map(drop)
            .map_err(|source| LoadError::NoOpenGl { name, source })
    };
    let [first, second] = OPENGL;
    find(EGL)?;
    find(first).or_else(|error| find(second).map_err(|_| error))
}

/// libvirglrenderer, mapped into this process. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Library {
    functions: Functions,
    mapping: Arc<libloading::Library>,
}

impl Library {
    /// Loads the library by the dynamic linker's rules, in the mount namespace of the caller.
    /// The mapping goes along with a fork.
    pub fn load() -> Result<Self, LoadError> {
        // SAFETY: the library has no constructor that expects anything of its process.
        let mapping = unsafe { libloading::Library::new(NAME) }
            .map_err(|source| LoadError::Missing { source })?;
        let functions = Functions::find(&mapping)
            .map_err(|(symbol, version)| LoadError::TooOld { symbol, version })?;
        Ok(Self {
            functions,
            mapping: Arc::new(mapping),
        })
    }

    /// Whether it serves NVIDIA's driver, which takes version 1.2 or newer. A library does not
    /// tell its version; what came right after 1.2 shows that it is new enough.
    pub fn serves_nvidia(&self) -> bool {
        // SAFETY: the symbol is looked for and never called.
        let found = unsafe {
            self.mapping
                .get::<unsafe extern "C" fn()>(b"virgl_renderer_resource_map_fixed\0")
        };
        found.is_ok()
    }

    pub(super) fn functions(&self) -> &Functions {
        &self.functions
    }
}

/// Why virglrenderer could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It is not installed, or something that it needs is not.
    #[error(
        "loading {NAME}: install virglrenderer 1.1 or newer with its render server (Debian and \
         Ubuntu: libvirglrenderer1 and virgl-server; Fedora: virglrenderer)"
    )]
    Missing {
        /// What the dynamic linker said.
        #[source]
        source: libloading::Error,
    },
    /// EGL or OpenGL is not installed.
    #[error(
        "loading {name}, which OpenGL (virgl) takes: install it and a driver for the host's GPU \
         (Debian and Ubuntu: libegl1, libopengl0 and libgl1-mesa-dri)"
    )]
    NoOpenGl {
        /// The library.
        name: &'static str,
        /// What the dynamic linker said.
        #[source]
        source: libloading::Error,
    },
    /// It lacks a function.
    #[error(
        "{NAME} is too old: it has no {symbol}, which came with version {version}; install \
         virglrenderer 1.1 or newer"
    )]
    TooOld {
        /// The function.
        symbol: &'static str,
        /// The first version that has it.
        version: &'static str,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_without_the_functions_names_one_and_its_version() {
        // SAFETY: the C library is loaded already.
        let c_library = unsafe { libloading::Library::new("libc.so.6") }.unwrap();
        let missing = Functions::find(&c_library).unwrap_err();
        assert_eq!(missing, ("virgl_renderer_init", "0.1"));
    }
}
