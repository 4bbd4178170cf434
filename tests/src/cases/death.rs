//! The VMM killed, the guest's kernel dead: Podman sees the end at once and the log says why.

use crate::harness::{Case, Outcome, ensure, images, sh};

pub(super) const CASES: &[Case] = &[
    Case {
        name: "death::vmm_killed",
        run: vmm_killed,
    },
    Case {
        name: "death::guest_panics",
        run: guest_panics,
    },
    Case {
        name: "death::guest_reboots",
        run: guest_reboots,
    },
    Case {
        name: "death::killed_while_it_boots",
        run: killed_while_it_boots,
    },
    Case {
        name: "death::guest_turns_on_its_agent",
        run: guest_turns_on_its_agent,
    },
];

fn vmm_killed() -> Outcome {
    let ours =
        sh("create_detached --name v $BB sleep 1000 >/dev/null; kill -9 $(podman inspect v --format '{{.State.Pid}}')
         podman wait v; podman rm v")?;
    ensure(ours.stdout == "137\nv\n", || ours.to_string())
}

fn guest_panics() -> Outcome {
    let ours = sh(
        "create_detached --privileged --name p $BB sh -c 'sleep 1; echo c > /proc/sysrq-trigger; sleep 1000' >/dev/null
         podman wait p; podman logs p 2>&1; podman rm p >/dev/null",
    )?;
    let mut lines = ours.stdout.lines();
    let status = lines.next().unwrap_or_default();
    ensure(
        status != "0" && status != "137" && ours.stdout.contains("sysrq triggered crash"),
        || ours.to_string(),
    )
}

fn guest_reboots() -> Outcome {
    let ours = sh(
        "create_detached --privileged --name b $BB sh -c 'sleep 1; echo b > /proc/sysrq-trigger; sleep 1000' >/dev/null
         podman wait b; podman logs b 2>&1; podman rm b >/dev/null",
    )?;
    ensure(
        ours.stdout.lines().next() != Some("0") && ours.stdout.contains("guest"),
        || ours.to_string(),
    )
}

fn killed_while_it_boots() -> Outcome {
    // Podman may still be noticing the end when it is told to remove the container: it then says
    // so, and takes it the second time. It does not delete what it never saw created, so what a
    // killed `create` began is deleted by hand here, as it would have to be under crun.
    let ours = sh("for delay in 0.05 0.2 0.4 0.6 0.8 1.0 1.3 1.6 2.0; do
            podman run -d --name x$delay --runtime $RUNTIME --network none $BB sleep 1000 >/dev/null 2>&1 &
            sleep $delay; pkill -9 -x krun-gpu; wait
            if podman container exists x$delay; then
                podman rm -f -t 0 x$delay >/dev/null || podman rm -f -t 0 x$delay >/dev/null
            fi
         done
         for state in /run/krun-gpu/*; do [ ! -d $state ] || krun-gpu delete --force ${state##*/}; done
         podman ps -aq | wc -l")?;
    ensure(ours.stdout == "0\n", || ours.to_string())
}

/// What a privileged container reaches of the guest's PID 1: nobody may sign on as another agent,
/// and a kernel that kills every process leaves that one. (Its end is `guest_panics`.)
fn guest_turns_on_its_agent() -> Outcome {
    let attack = "
import os, socket, time
agent = socket.socket(socket.AF_VSOCK)
try:
    agent.connect((2, 1024)); print(agent.recv(1))
except OSError as error:
    print(type(error).__name__)
print(os.path.basename(os.readlink('/proc/1/exe'))[:6], flush=True)
open('/proc/sysrq-trigger', 'w').write('i')
time.sleep(1000)";
    let ours = sh(&format!(
        "run --privileged --rootfs {}:O python3 -c \"{attack}\"; echo $?",
        images::PYTHON
    ))?;
    ensure(ours.stdout == "ConnectionResetError\npython\n137\n", || {
        ours.to_string()
    })
}
