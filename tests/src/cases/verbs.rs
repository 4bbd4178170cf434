//! The verbs that act on a running container beside its start and its end.

use crate::harness::{Case, Outcome, ensure, same, sh};

pub(super) const CASES: &[Case] = &[
    Case {
        name: "verbs::pause",
        run: pause,
    },
    Case {
        name: "verbs::update",
        run: update,
    },
    Case {
        name: "verbs::exec_flags",
        run: exec_flags,
    },
    Case {
        name: "verbs::exec_while_paused",
        run: exec_while_paused,
    },
    Case {
        name: "verbs::ps_and_events",
        run: ps_and_events,
    },
    Case {
        name: "verbs::healthcheck",
        run: healthcheck,
    },
    Case {
        name: "verbs::kill_all",
        run: kill_all,
    },
    Case {
        name: "verbs::refused",
        run: refused,
    },
    Case {
        name: "verbs::top",
        run: top,
    },
    Case {
        name: "verbs::stats",
        run: stats,
    },
    Case {
        name: "verbs::quadlet",
        run: quadlet,
    },
];

fn pause() -> Outcome {
    let ours = same(
        "create_detached --name p $BB sh -c 'while :; do echo tick; sleep 0.2; done' >/dev/null
         until podman logs p | grep -q tick; do sleep 0.1; done
         podman pause p; podman inspect p --format '{{.State.Status}}'; sleep 1
         before=$(podman logs p | wc -l); sleep 3; [ $before = $(podman logs p | wc -l) ] && echo still
         podman unpause p; until [ $(podman logs p | wc -l) -gt $before ]; do sleep 0.1; done
         before=$(date +%s); inside=$(podman exec p date +%s)
         [ $inside -ge $((before - 1)) ] && [ $inside -le $(($(date +%s) + 1)) ] && echo on time
         podman pause p; podman rm -f -t 0 p",
    )?;
    ensure(ours.stdout.contains("still\np\non time\n"), || {
        ours.to_string()
    })
}

fn update() -> Outcome {
    same(
        "create_detached --name u --memory 256m $BB sleep 1000 >/dev/null
         podman update --memory 128m --pids-limit 44 --cpus 0.5 u >/dev/null
         podman exec u sh -c 'cd /sys/fs/cgroup; cat memory.max pids.max cpu.max'; podman rm -f -t 0 u",
    )
    .map(drop)
}

fn exec_flags() -> Outcome {
    same(
        "create_detached --name f $BB sleep 1000 >/dev/null; id=$(podman inspect f --format '{{.Id}}')
         $RUNTIME exec --cap CAP_SYS_ADMIN --no-new-privs $id grep -E '^(Cap|NoNewPrivs)' /proc/self/status
         $RUNTIME exec --user 1000:1000 --cwd /tmp --env A=b $id /bin/sh -c 'id -u; pwd; echo $A'
         podman rm -f -t 0 f",
    )
    .map(drop)
}

fn exec_while_paused() -> Outcome {
    let ours = sh(
        "create_detached --name w $BB sleep 1000 >/dev/null; id=$(podman inspect w --format '{{.Id}}')
         krun-gpu pause $id; krun-gpu exec $id true; echo $?
         krun-gpu exec --ignore-paused -g 5 -g 6 $id id -G & sleep 1; echo waits; krun-gpu resume $id; wait $!
         podman rm -f -t 0 w >/dev/null",
    )?;
    ensure(
        ours.stdout == "1\nwaits\n0 5 6\n" && ours.stderr.contains("is paused"),
        || ours.to_string(),
    )
}

fn healthcheck() -> Outcome {
    same(
        "create_detached --name c --health-cmd 'test -e /tmp/ok' --health-interval disable --health-retries 1 $BB sleep 1000 >/dev/null
         podman healthcheck run c; echo $?; podman exec c touch /tmp/ok; podman healthcheck run c; echo $?
         podman inspect c --format '{{.State.Health.Status}}'; podman rm -f -t 0 c",
    )
    .map(drop)
}

fn kill_all() -> Outcome {
    same(
        "create_detached --name c $BB sh -c 'sleep 1000 & sleep 1001 & echo r > /tmp/r; wait; sleep 1002; exit 4' >/dev/null
         until podman exec c cat /tmp/r >/dev/null 2>&1; do sleep 0.2; done
         id=$(podman inspect c --format '{{.Id}}'); $RUNTIME kill --all $id TERM; echo $?
         podman kill c >/dev/null 2>&1; podman wait c; podman rm -f -t 0 c",
    )
    .map(drop)
}

fn ps_and_events() -> Outcome {
    let ours = sh(
        "create_detached --name s $BB sleep 1000 >/dev/null; id=$(podman inspect s --format '{{.Id}}')
         krun-gpu ps -f json $id; krun-gpu ps $id | tail -n 1
         krun-gpu events --stats $id | jq -r '.type, .data.pids.current, (.data.memory.usage.usage > 0)'
         podman rm -f -t 0 s >/dev/null",
    )?;
    ensure(
        ours.stdout.starts_with("[1]\n")
            && ours.stdout.contains(" sleep 1000\n")
            && ours.stdout.ends_with("stats\n1\ntrue\n"),
        || ours.to_string(),
    )
}

fn refused() -> Outcome {
    let ours = sh(
        "krun-gpu checkpoint --help; echo $?
         create_detached --name r $BB sleep 1000 >/dev/null; id=$(podman inspect r --format '{{.Id}}')
         krun-gpu exec --preserve-fds 1 $id true; echo $?
         krun-gpu update --memory 1099511627776 $id; echo $?
         krun-gpu resume $id; echo $?; podman rm -f -t 0 r >/dev/null",
    )?;
    let reasons = [
        "checkpoint is not supported",
        "--preserve-fds is not supported",
        "memory.limit: 1099511627776 is more than the",
        "is running, not paused",
    ];
    ensure(
        ours.stdout == "1\n1\n1\n1\n" && reasons.iter().all(|words| ours.stderr.contains(words)),
        || ours.to_string(),
    )
}

/// In both forms Podman looks at the host's pid namespace, where there is the VMM alone
/// (LIMITS.md); a `ps` in the container sees the guest's processes.
fn top() -> Outcome {
    let ours = sh(
        "create_detached --name t $BB sh -c 'sleep 1000; true' >/dev/null
        podman top t -eo pid,comm; podman top t pid comm
        podman exec t ps -o pid,args; podman rm -f -t 0 t >/dev/null",
    )?;
    let words = |row: &str| row.split_whitespace().collect::<Vec<_>>().join(" ");
    let rows: Vec<String> = ours.stdout.lines().map(words).collect();
    let expected = [
        "PID COMMAND",
        "1 krun-gpu",
        "PID COMMAND",
        "1 krun-gpu",
        "PID COMMAND",
        "1 sh -c sleep 1000; true",
        "2 sleep 1000",
    ];
    // The host's `ps` that Podman puts there is seen or not, as its format asks; the guest's comes
    // last.
    let shown = rows
        .iter()
        .map(String::as_str)
        .filter(|row| !row.ends_with(" ps"));
    let begins = shown.take(expected.len());
    ensure(begins.eq(expected), || ours.to_string())
}

/// Podman reads the cgroup, where the VM is: the VMM's threads, and memory up to the limit and what
/// the VM needs beside it (LIMITS.md).
fn stats() -> Outcome {
    let ours = sh(
        "create_detached --name s --memory 256m $BB sleep 1000 >/dev/null
         podman stats --no-stream --format json s | jq -r '.[0].name'
         podman stats --no-stream --format '{{.MemUsageBytes}} {{.PIDs}}' s | tr -d /
         podman rm -f -t 0 s >/dev/null",
    )?;
    let mut lines = ours.stdout.lines();
    let is_named = lines.next() == Some("s");
    let numbers: Vec<f64> = lines
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .filter_map(|word| word.trim_end_matches(char::is_alphabetic).parse().ok())
        .collect();
    let is_right = match numbers[..] {
        // Used, the limit in MiB, processes.
        [used, limit, pids] => used > 0.0 && (256.0..640.0).contains(&limit) && pids >= 2.0,
        _ => false,
    };
    ensure(is_named && is_right, || ours.to_string())
}

/// A unit of quadlet's generator. No systemd runs in the test VM, so what it would do is done here:
/// its own words filled in, the start command in a cgroup of the service, the message awaited that
/// the service is ready, the stop command.
fn quadlet() -> Outcome {
    let ours = same(
        r#"d=$(mktemp -d); service=/sys/fs/cgroup/quadlet; mkdir $service $d/units
           printf '[Container]\nImage=localhost/busybox\nContainerName=q\nNetwork=none\nPodmanArgs=--runtime=%s --stop-timeout=0\nExec=sh -c "env | grep ^A= >/v/out; sleep 1000"\nVolume=%s:/v\nEnvironment=A=b\n' $RUNTIME $d >$d/units/q.container
           QUADLET_UNIT_DIRS=$d/units /usr/libexec/podman/quadlet --dryrun 2>/dev/null | sed "s,%t,$d,g; s,%N,q,g; s,%n,q.service,g" >$d/q.service
           does() { sed -n "s/^$1=//p" $d/q.service; }
           socat -u UNIX-RECV:$d/notify OPEN:$d/said,creat,append 2>/dev/null & until [ -S $d/notify ]; do sleep 0.1; done
           NOTIFY_SOCKET=$d/notify sh -c "echo \$\$ >$service/cgroup.procs; $(does ExecStart)" >/dev/null; echo $?
           until [ -s $d/out ] && grep -q READY=1 $d/said; do sleep 0.1; done; cat $d/out; kill $!
           cat $(find $service -name cgroup.procs) | while read pid; do cat /proc/$pid/comm; done | grep -c -e conmon -e sleep -e krun-gpu
           sh -c "$(does ExecStop)" >/dev/null; echo $?; podman ps -a --filter name=q --format "{{.Names}}"
           find $service -depth -type d -exec rmdir {} \; ; rm -r $d"#,
    )?;
    ensure(ours.stdout == "0\nA=b\n2\n0\n", || ours.to_string())
}
