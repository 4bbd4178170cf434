//! Where virglrenderer's render server is.

use std::env;
use std::path::PathBuf;

use super::ServerError;
use crate::config::GpuPolicy;

/// The variable by which virglrenderer itself is told.
const VARIABLE: &str = "RENDER_SERVER_EXEC_PATH";

/// Where distributions install it.
const PLACES: [&str; 5] = [
    "/usr/libexec/virgl_render_server",
    "/usr/local/libexec/virgl_render_server",
    "/usr/lib/virgl_render_server",
    "/usr/lib/virglrenderer/virgl_render_server",
    "/usr/lib64/virgl_render_server",
];

/// Finds it: what the host's configuration says, else what the environment says, else where
/// distributions have it.
pub(crate) fn find(policy: &GpuPolicy) -> Result<PathBuf, ServerError> {
    let said = policy
        .render_server
        .clone()
        .or_else(|| env::var_os(VARIABLE).map(PathBuf::from));
    let places = match said {
        Some(path) => vec![path],
        None => PLACES.iter().map(PathBuf::from).collect(),
    };
    match places.iter().find(|path| path.is_file()) {
        Some(path) => Ok(path.clone()),
        None => Err(ServerError::Missing(places)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_server_is_named_with_what_to_do() {
        let policy = GpuPolicy {
            render_server: Some("/nowhere/server".into()),
            ..GpuPolicy::default()
        };
        let error = find(&policy).unwrap_err().to_string();
        assert!(error.contains("/nowhere/server"), "{error}");
        assert!(error.contains("virgl-server"), "{error}");
        let policy = GpuPolicy {
            render_server: Some("/proc/self/exe".into()),
            ..GpuPolicy::default()
        };
        assert!(find(&policy).is_ok());
    }
}
