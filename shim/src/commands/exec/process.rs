//! What `exec` runs: the process of `--process`, or the container's own with other words on the
//! command line.

use std::path::Path;

use krun_gpu_protocol::Process;
use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities, Process as OciProcess, Spec};

use super::{ExecError, Options};
use crate::bundle::{self, InvalidConfig, PartError, capability_number};
use crate::split::{compile_seccomp, guest_process, personality};
use crate::state::Container;

/// What is wrong with the process.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProcessError {
    /// A file.
    #[error(transparent)]
    Part(#[from] PartError),
    /// A value that makes no sense.
    #[error(transparent)]
    Invalid(#[from] InvalidConfig),
    /// A user that is no number.
    #[error("--user `{0}` is not UID or UID:GID")]
    User(String),
    /// An unknown capability.
    #[error("--cap `{0}` is not a capability")]
    Capability(String),
}

/// The process for the guest.
pub(super) fn build(options: &Options, container: &Container) -> Result<Process, ExecError> {
    let spec = snapshot(container)?;
    let mut process = match &options.process {
        Some(path) => read(path)?,
        None => from_options(options, &spec)?,
    };
    if options.tty {
        process.set_terminal(Some(true));
    }
    bundle::check_process(&process).map_err(ProcessError::Invalid)?;
    let seccomp = spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.seccomp().as_ref())
        .map(compile_seccomp)
        .transpose()
        .map_err(crate::split::SplitError::from)?;
    Ok(guest_process(&process, seccomp, personality(&spec)?)?)
}

/// The configuration that the container was created with.
fn snapshot(container: &Container) -> Result<Spec, ExecError> {
    let path = container.directory.join("config.json");
    let text = bundle::read(&path).map_err(ProcessError::Part)?;
    Ok(bundle::parse(&path, &text)?)
}

fn read(path: &Path) -> Result<OciProcess, ExecError> {
    let text = bundle::read(path).map_err(ProcessError::Part)?;
    Ok(bundle::parse_process(path, &text)?)
}

fn from_options(options: &Options, spec: &Spec) -> Result<OciProcess, ExecError> {
    if options.command.is_empty() {
        return Err(ExecError::NoCommand);
    }
    let mut process = spec.process().clone().unwrap_or_default();
    process.set_args(Some(options.command.clone()));
    process.set_terminal(Some(false));
    if let Some(cwd) = &options.cwd {
        process.set_cwd(cwd.clone());
    }
    let mut env = process.env().clone().unwrap_or_default();
    env.extend(options.env.iter().cloned());
    process.set_env(Some(env));
    if let Some(user) = &options.user {
        let wrong = || ProcessError::User(user.clone());
        let (uid, gid) = user
            .split_once(':')
            .map_or((user.as_str(), None), |(uid, gid)| (uid, Some(gid)));
        let uid = uid.parse().map_err(|_| wrong())?;
        let gid = gid.map(str::parse).transpose().map_err(|_| wrong())?;
        process.user_mut().set_uid(uid);
        if let Some(gid) = gid {
            process.user_mut().set_gid(gid);
        }
    }
    if !options.additional_gids.is_empty() {
        let mut groups = process.user().additional_gids().clone().unwrap_or_default();
        groups.extend(&options.additional_gids);
        process.user_mut().set_additional_gids(Some(groups));
    }
    if options.no_new_privs {
        process.set_no_new_privileges(Some(true));
    }
    set_capabilities(&mut process, &options.cap)?;
    Ok(process)
}

/// Puts these into every set but the inheritable one, in place of the container's, as crun does.
fn set_capabilities(process: &mut OciProcess, names: &[String]) -> Result<(), ProcessError> {
    if names.is_empty() {
        return Ok(());
    }
    let mut set = Capabilities::new();
    for name in names {
        let wrong = || ProcessError::Capability(name.clone());
        let full = if name.to_uppercase().starts_with("CAP_") {
            name.to_uppercase()
        } else {
            format!("CAP_{}", name.to_uppercase())
        };
        capability_number(&full).ok_or_else(wrong)?;
        let short = full.trim_start_matches("CAP_");
        set.insert(short.parse::<Capability>().map_err(|_| wrong())?);
    }
    let mut sets = LinuxCapabilities::default();
    sets.set_bounding(Some(set.clone()))
        .set_effective(Some(set.clone()))
        .set_permitted(Some(set.clone()))
        .set_ambient(Some(set))
        .set_inheritable(None);
    process.set_capabilities(Some(sets));
    Ok(())
}
