//! Makes a stand-in for the guest: this program runs itself again in new namespaces, where the
//! agent is PID 1.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode};

use krun_gpu_agent::{Agent, Surroundings, Transport, boot, chain};
use rustix::mount::{
    MountFlags, MountPropagationFlags, mount, mount_bind, mount_change, mount_remount,
};
use rustix::thread::{UnshareFlags, unshare_unsafe};

/// Environment variable that names a program to run as the machine instead: a VM whose guest's
/// connections reach the sockets of the folder that is its second argument.
const PROGRAM: &str = "KRUN_GPU_TEST_MACHINE";

const OUTER: &str = "--as-machine";
const INNER: &str = "--as-init";

/// Runs the part of this program that its own arguments ask for, if they do.
pub(crate) fn reentered() -> Option<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    let (mode, folder) = (arguments.next()?, arguments.next()?);
    match mode.as_str() {
        OUTER => {
            // SAFETY: this process has one thread and shares nothing with others.
            unsafe {
                unshare_unsafe(
                    UnshareFlags::NEWNS
                        | UnshareFlags::NEWPID
                        | UnshareFlags::NEWNET
                        | UnshareFlags::NEWIPC
                        | UnshareFlags::NEWUTS,
                )
            }
            .unwrap();
            let status = run_again(INNER, Path::new(&folder)).wait().unwrap();
            Some(ExitCode::from(
                u8::try_from(status.code().unwrap_or(255)).unwrap(),
            ))
        }
        INNER => {
            init(Path::new(&folder));
            Some(ExitCode::SUCCESS)
        }
        _ => None,
    }
}

/// Starts the stand-in.
pub(crate) fn start(folder: &Path) -> Child {
    match std::env::var_os(PROGRAM) {
        Some(program) => run(Command::new(program), OUTER, folder),
        None => run_again(OUTER, folder),
    }
}

fn run_again(mode: &str, folder: &Path) -> Child {
    run(Command::new(std::env::current_exe().unwrap()), mode, folder)
}

fn run(mut program: Command, mode: &str, folder: &Path) -> Child {
    program.arg(mode).arg(folder).spawn().unwrap()
}

fn init(folder: &Path) {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL)).unwrap();
    mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )
    .unwrap();
    mount("proc", "/proc", "proc", MountFlags::empty(), None).unwrap();
    let view = folder.join("view");
    fs::create_dir(&view).unwrap();
    mount_bind("/", &view).unwrap();
    mount_remount(&view, MountFlags::BIND | MountFlags::RDONLY, "").unwrap();
    let cgroups = cgroup(folder);
    fs::create_dir_all(&cgroups).unwrap();
    if let Some(parent) = cgroups.parent() {
        enable_controllers(parent);
    }
    enable_controllers(&cgroups);
    let transport = Transport::Unix {
        folder: folder.into(),
    };
    let control = boot::hello(&transport, boot::uptime_us()).unwrap();
    let surroundings = Surroundings {
        view,
        cgroups,
        own_mounts: Vec::new(),
        driver: folder.join("vulkan"),
        drm: folder.join("drm"),
        block: folder.join("block"),
    };
    let agent = Agent::new(transport, control, surroundings).unwrap();
    if let Err(error) = agent.run() {
        eprintln!("agent: {}", chain(&error));
    }
}

/// A cgroup of this stand-in's own in the machine's v2 hierarchy.
pub(crate) fn cgroup(folder: &Path) -> PathBuf {
    hierarchy().join(folder.file_name().unwrap())
}

fn hierarchy() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let line = mounts
        .lines()
        .find(|line| line.split(' ').nth(2) == Some("cgroup2"))
        .expect("a cgroup v2 hierarchy");
    line.split(' ').nth(1).unwrap().into()
}

/// Whether limits on memory can be tested.
pub(crate) fn has_memory_controller() -> bool {
    let controllers = fs::read_to_string(hierarchy().join("cgroup.controllers")).unwrap();
    controllers.split_whitespace().any(|name| name == "memory")
}

fn enable_controllers(cgroup: &Path) {
    let controllers = fs::read_to_string(cgroup.join("cgroup.controllers")).unwrap();
    for name in controllers.split_whitespace() {
        fs::write(cgroup.join("cgroup.subtree_control"), format!("+{name}")).unwrap();
    }
}

/// Ends and takes away a stand-in.
pub(crate) fn remove(child: &mut Child, folder: &Path) {
    // Its init dies with it, and that one's processes with the init.
    drop(child.kill());
    drop(child.wait());
    let cgroups = cgroup(folder);
    drop(fs::write(cgroups.join("cgroup.kill"), "1"));
    for _ in 0..100 {
        drop(fs::remove_dir(cgroups.join("workload")));
        if fs::remove_dir(&cgroups).is_ok() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}
