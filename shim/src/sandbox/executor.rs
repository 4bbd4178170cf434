//! The seam to libcontainer: where its container process becomes a VMM.
//!
//! libcontainer calls `validate` in the process that it has put into namespaces, cgroup and root
//! file system. Here that process boots the VM and starts the monitor's thread; when it returns,
//! `create` is told that the container is ready. The main thread then waits on libcontainer's
//! socket for good, since `start` talks to the monitor; `exec` is what would follow.

use std::cell::RefCell;
use std::collections::HashMap;
use std::convert::Infallible;
use std::rc::Rc;
use std::thread::JoinHandle;

use libcontainer::oci_spec::runtime::Spec;
use libcontainer::workload::{
    Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError,
};

use super::failure;
use super::vmm::{Plan, become_vmm};
use crate::report;

/// Holds the plan until it is carried out, then the monitor. libcontainer clones executors; the
/// clones share one state.
#[derive(Clone)]
pub(super) struct VmExecutor {
    state: Rc<RefCell<State>>,
}

enum State {
    Planned(Box<Plan>),
    Running(JoinHandle<Infallible>),
    Nothing,
}

impl VmExecutor {
    pub(super) fn new(plan: Plan) -> Self {
        Self {
            state: Rc::new(RefCell::new(State::Planned(Box::new(plan)))),
        }
    }

    fn take(&self) -> State {
        self.state.replace(State::Nothing)
    }
}

impl Executor for VmExecutor {
    fn validate(&self, _: &Spec) -> Result<(), ExecutorValidationError> {
        let State::Planned(plan) = self.take() else {
            return Err(ExecutorValidationError::CantHandle("krun-gpu"));
        };
        match become_vmm(*plan) {
            Ok(monitor) => {
                failure::close();
                self.state.replace(State::Running(monitor));
                Ok(())
            }
            Err(error) => {
                let text = report::chain(&error);
                failure::tell_reason(&text);
                Err(ExecutorValidationError::ArgValidationError(text))
            }
        }
    }

    /// The VMM has no use for an environment, and its threads are running.
    fn setup_envs(&self, _: HashMap<String, String>) -> Result<(), ExecutorSetEnvsError> {
        Ok(())
    }

    fn exec(&self, _: &Spec) -> Result<(), ExecutorError> {
        match self.take() {
            State::Running(monitor) => match monitor.join() {
                Ok(never) => match never {},
                Err(_) => Err(ExecutorError::Other(
                    "the monitor's thread panicked".to_owned(),
                )),
            },
            State::Planned(_) | State::Nothing => Err(ExecutorError::CantHandle("krun-gpu")),
        }
    }
}
