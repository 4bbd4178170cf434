//! The process half of the specification, applied to the calling process, which then becomes
//! the program.
//!
//! Called by `session/` in the child, for the workload and for `exec` sessions alike. The order
//! of the steps is crun's; config.md (process) and config-linux.md are the sections.

mod credentials;
mod environment;
pub(crate) mod limits;
mod lookup;
pub(crate) mod terminal;

use std::convert::Infallible;
use std::ffi::{CString, NulError};
use std::os::unix::ffi::OsStrExt;

use krun_gpu_protocol::{AgentError, ErrorKind, Process};
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::process::{chdir, setsid, umask};
use rustix::thread::set_no_new_privs;

use crate::failure::report;
use crate::sys::{exec, seccomp};

/// Why a process did not come to run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProcessError {
    /// A step that has no values of its own.
    #[error("{doing}")]
    System {
        /// What the agent was doing.
        doing: &'static str,
        /// Why it failed.
        #[source]
        source: Errno,
    },
    /// The working directory.
    #[error("chdir to `{cwd}`")]
    WorkingDirectory {
        /// The directory.
        cwd: String,
        /// Why it failed.
        #[source]
        source: Errno,
    },
    /// Limits, priorities, personality.
    #[error(transparent)]
    Limits(#[from] limits::LimitError),
    /// Users, groups, capabilities.
    #[error(transparent)]
    Credentials(#[from] credentials::CredentialError),
    /// The seccomp filter.
    #[error(transparent)]
    Seccomp(#[from] seccomp::SeccompError),
    /// The program is not there, or is none.
    #[error(transparent)]
    Lookup(#[from] lookup::LookupError),
    /// A string with a NUL byte.
    #[error("pass a string to the program")]
    Nul(#[from] NulError),
    /// The kernel does not execute it.
    #[error("{}", exec_text(path, *source))]
    Exec {
        /// The program's path.
        path: String,
        /// Why it failed.
        #[source]
        source: Errno,
    },
}

/// crun's words: without an interpreter execve(2) says that the program itself is missing.
fn exec_text(path: &str, error: Errno) -> String {
    let hint = if error == Errno::NOENT {
        " (missing dynamic library?)"
    } else {
        ""
    };
    format!("exec container process{hint} `{path}`")
}

impl ProcessError {
    /// What the host is told.
    pub(crate) fn report(&self) -> AgentError {
        let kind = match self {
            Self::Lookup(error) => error.kind(),
            Self::Exec {
                source: Errno::NOENT,
                ..
            } => ErrorKind::NotFound,
            Self::Exec { .. } => ErrorKind::NotExecutable,
            _ => ErrorKind::Failed,
        };
        report(kind, self)
    }
}

/// Applies `process` and executes it. `before_exec` runs as the last thing before execve(2).
pub(crate) fn run(
    process: &Process,
    before_exec: impl FnOnce(),
) -> Result<Infallible, ProcessError> {
    let system = |doing| move |source| ProcessError::System { doing, source };
    // A new session exists already when a terminal was set up.
    match setsid() {
        Ok(_) | Err(Errno::PERM) => {}
        Err(source) => return Err(system("make a session")(source)),
    }
    limits::apply(process)?;
    umask(Mode::from_raw_mode(process.user.umask.unwrap_or(0o022)));
    // As root it may be reached where the user may not; as the user where root may not (FUSE).
    let entered = chdir(&process.cwd).is_ok();
    let environment = environment::complete(&process.env, process.user.uid);
    if let Some(filter) = process
        .seccomp
        .as_ref()
        .filter(|_| !process.no_new_privileges)
    {
        // Without no_new_privs this needs CAP_SYS_ADMIN, which is about to go.
        seccomp::load(filter)?;
    }
    credentials::apply(process)?;
    if !entered {
        chdir(&process.cwd).map_err(|source| ProcessError::WorkingDirectory {
            cwd: process.cwd.clone(),
            source,
        })?;
    }
    let path = lookup::find(
        process.args.first().map_or("", String::as_str),
        environment::search_path(&environment),
    )?;
    if process.no_new_privileges {
        set_no_new_privs(true).map_err(system("set no_new_privs"))?;
        if let Some(filter) = &process.seccomp {
            seccomp::load(filter)?;
        }
    }
    let strings = |list: &[String]| -> Result<Vec<CString>, NulError> {
        list.iter()
            .map(|text| CString::new(text.as_str()))
            .collect()
    };
    let (arguments, variables) = (strings(&process.args)?, strings(&environment)?);
    let program = CString::new(path.as_os_str().as_bytes())?;
    before_exec();
    Err(ProcessError::Exec {
        path: path.display().to_string(),
        source: exec::execve(&program, &arguments, &variables),
    })
}
