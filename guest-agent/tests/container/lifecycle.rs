//! The order of requests, limits, and what the agent says about itself.

use krun_gpu_protocol::{ErrorKind, Event, Limits, Reply, RequestBody, Statistics};
use libtest_mimic::Trial;

use crate::guest::{Guest, process, run, workload};
use crate::{machine, trial};

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = vec![
        trial("requests_out_of_order_are_refused", order),
        trial("a_prepared_workload_can_be_killed", killed_before_start),
        trial("statistics", statistics),
    ];
    let limited = [
        ("limits_reach_the_cgroup", limits as fn()),
        ("the_oom_killer_is_reported", out_of_memory),
    ];
    for (name, test) in limited {
        let missing = !machine::has_memory_controller();
        if missing {
            eprintln!("SKIPPED: {name} needs the cgroup v2 memory controller");
        }
        trials.push(trial(name, test).with_ignored_flag(missing));
    }
    trials
}

fn order() {
    let mut guest = Guest::boot();
    let refused = |error: krun_gpu_protocol::AgentError| {
        assert_eq!(error.kind, ErrorKind::Refused);
        error.message
    };
    let exec = || RequestBody::Exec {
        session: 1,
        process: Box::new(process("true")),
    };
    let prepare = || RequestBody::Prepare(Box::new(workload("exec sleep 1000")));
    assert_eq!(
        refused(
            guest
                .ask(RequestBody::Start {
                    interfaces: Vec::new()
                })
                .unwrap_err()
        ),
        "Start came when the workload was Empty"
    );
    assert_eq!(guest.ask(prepare()), Ok(Reply::Done));
    refused(guest.ask(prepare()).unwrap_err());
    refused(guest.ask(exec()).unwrap_err());
    assert_eq!(
        guest.ask(RequestBody::Start {
            interfaces: Vec::new()
        }),
        Ok(Reply::Started { pid: 1 })
    );
    refused(
        guest
            .ask(RequestBody::Start {
                interfaces: Vec::new(),
            })
            .unwrap_err(),
    );
    let error = guest
        .ask(RequestBody::EndSession { session: 9 })
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::NoSession);
}

fn killed_before_start() {
    let mut guest = Guest::boot();
    guest
        .ask(RequestBody::Prepare(Box::new(workload("true"))))
        .unwrap();
    let signal = |signal| RequestBody::Signal {
        session: 0,
        signal,
        all: false,
    };
    // PID 1 of a namespace with no handler takes no TERM, as under crun.
    guest.ask(signal(15)).unwrap();
    guest.ask(signal(9)).unwrap();
    assert_eq!(guest.exited(0), (137, false));
}

fn statistics() {
    let mut guest = Guest::boot();
    match guest.ask(RequestBody::Statistics).unwrap() {
        Reply::Statistics(Statistics {
            memory_used,
            memory_total,
            workload_pids,
            ..
        }) => {
            assert!(memory_used > 0 && memory_used < memory_total);
            assert_eq!(workload_pids, 0);
        }
        other => panic!("{other:?}"),
    }
}

fn limits() {
    let mut workload = workload(
        "cd /sys/fs/cgroup; cat memory.max cpu.max pids.max cpu.weight memory.high; ls -d cgroup.controllers",
    );
    workload.limits = Limits {
        memory_max: Some(64 << 20),
        memory_low: None,
        memory_swap_max: Some(0),
        cpu_max: Some((Some(50_000), 100_000)),
        cpu_weight: Some(77),
        pids_max: Some(Some(33)),
        unified: vec![("memory.high".into(), "60M".into())],
    };
    assert_eq!(
        run(&workload).stdout,
        "67108864\n50000 100000\n33\n77\n62914560\ncgroup.controllers\n"
    );
}

fn out_of_memory() {
    let mut workload =
        workload("cat /proc/self/oom_score_adj; sh -c 'tail /dev/zero'; echo $?; exit 5");
    workload.limits.memory_max = Some(24 << 20);
    workload.limits.memory_swap_max = Some(0);
    let mut guest = Guest::with(&workload);
    let outcome = guest.finish(0, &workload.process.stdio, b"");
    assert_eq!((outcome.status, outcome.stdout.as_str()), (5, "0\n137\n"));
    assert_eq!(guest.exited(0), (5, true));
    assert!(guest.events().contains(&Event::OutOfMemory));
}
