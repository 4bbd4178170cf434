//! Streams, signals, terminals and `exec` sessions.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::thread;

use krun_gpu_protocol::{ErrorKind, Reply, RequestBody, TerminalSize};
use libtest_mimic::Trial;

use crate::guest::{Guest, process, terminal, workload};
use crate::trial;

pub(crate) fn trials() -> Vec<Trial> {
    let memory = crate::machine::has_memory_controller();
    vec![
        trial("many_mebibytes_through_cat", many_mebibytes),
        trial("a_reader_that_leaves_breaks_the_pipe", broken_pipe),
        trial("signals_reach_the_workload", signals),
        trial("exec_joins_the_workload", exec_joins),
        trial("twenty_sessions_at_once", twenty_sessions),
        trial("exec_fails_as_under_crun", exec_fails),
        trial("exec_into_a_divided_cgroup", divided_cgroup).with_ignored_flag(!memory),
        trial("exec_ends_with_its_host_process", end_session),
        trial(
            "a_background_child_does_not_hold_a_session",
            background_child,
        ),
        trial("the_workloads_end_comes_last", workload_ends_last),
        trial("a_terminal", a_terminal),
        trial("a_terminal_for_exec", exec_terminal),
        trial("a_terminal_that_nobody_has_open_stays", closed_terminal),
        trial("a_terminal_hangs_up_with_its_stream", hangup),
    ]
}

fn many_mebibytes() {
    let workload = workload("cat");
    let mut guest = Guest::with(&workload);
    let input: String = (0_u32..3_000_000)
        .map(|line| format!("{line:07}\n"))
        .collect();
    let outcome = guest.finish(0, &workload.process.stdio, input.as_bytes());
    assert_eq!(outcome.status, 0);
    assert!(
        outcome.stdout == input,
        "{} bytes came back",
        outcome.stdout.len()
    );
}

fn broken_pipe() {
    let workload = workload("yes; echo yes: $? >&2");
    let mut guest = Guest::with(&workload);
    let krun_gpu_protocol::Stdio::Pipes { stdout, stderr, .. } = &workload.process.stdio else {
        panic!("pipes");
    };
    let mut output = guest.stream(stdout.unwrap());
    let mut bytes = [0; 100];
    output.read_exact(&mut bytes).unwrap();
    drop(output);
    let mut text = String::new();
    guest
        .stream(stderr.unwrap())
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!(text, "yes: 141\n");
    assert_eq!(guest.exited(0), (0, false));
}

fn signals() {
    let workload = workload(
        "trap 'echo hup' HUP; trap 'exit 9' TERM; echo ready; while :; do sleep 0.05; done",
    );
    let mut guest = Guest::with(&workload);
    let krun_gpu_protocol::Stdio::Pipes { stdout, .. } = &workload.process.stdio else {
        panic!("pipes");
    };
    let mut output = guest.stream(stdout.unwrap());
    let mut read = |expected: &str| {
        let mut bytes = vec![0; expected.len()];
        output.read_exact(&mut bytes).unwrap();
        assert_eq!(String::from_utf8(bytes).unwrap(), expected);
    };
    let signal = |signal, all| RequestBody::Signal {
        session: 0,
        signal,
        all,
    };
    read("ready\n");
    assert_eq!(guest.ask(signal(1, false)), Ok(Reply::Done));
    read("hup\n");
    assert_eq!(guest.ask(signal(1, true)), Ok(Reply::Done));
    read("hup\n");
    assert_eq!(guest.ask(signal(15, false)), Ok(Reply::Done));
    assert_eq!(guest.exited(0), (9, false));
    let gone = guest.ask(signal(15, false)).unwrap_err();
    assert_eq!(gone.kind, ErrorKind::NoSession);
}

fn exec_joins() {
    let mut guest = Guest::with(&workload("echo x > /dev/shm/mine; exec sleep 1000"));
    let script = "while ! cat /dev/shm/mine; do sleep 0.05; done 2>/dev/null; hostname; \
        cat /proc/1/cmdline | tr '\\0' ' '; echo; grep ^0: /proc/self/cgroup; \
        for n in pid mnt ipc uts cgroup; do [ $(readlink /proc/self/ns/$n) = $(readlink /proc/1/ns/$n) ] || echo other $n; done; \
        ps -o pgid= -p $$ | tr -d ' '; echo $$ ; exit 5";
    let outcome = guest.exec(7, &process(script)).unwrap();
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    assert_eq!(outcome.status, 5, "{outcome:?}");
    assert_eq!(
        &lines[..4],
        ["x", "krun-test", "sleep 1000 ", "0::/"],
        "{outcome:?}"
    );
    assert_eq!(lines.len(), 6, "{outcome:?}");
    assert_eq!(
        lines[4], lines[5],
        "a session and group of its own: {outcome:?}"
    );
    let killed = guest.ask(RequestBody::Signal {
        session: 0,
        signal: 9,
        all: false,
    });
    assert_eq!(killed, Ok(Reply::Done));
    assert_eq!(guest.exited(0), (137, false));
}

fn twenty_sessions() {
    let mut guest = Guest::with(&workload("exec sleep 1000"));
    let processes: Vec<_> = (1..=20)
        .map(|session| {
            (
                session,
                process(&format!("read line; echo $line {session}; exit {session}")),
            )
        })
        .collect();
    let requests: Vec<_> = processes
        .iter()
        .map(|(session, process)| {
            guest.send(RequestBody::Exec {
                session: *session,
                process: Box::new(process.clone()),
            })
        })
        .collect();
    for request in requests {
        assert!(matches!(guest.answer(request), Ok(Reply::Started { pid }) if pid > 1));
    }
    for (session, process) in processes.iter().rev() {
        let outcome = guest.finish(*session, &process.stdio, b"hello\n");
        assert_eq!(outcome.stdout, format!("hello {session}\n"));
        assert_eq!(u64::from(outcome.status), *session);
    }
}

fn divided_cgroup() {
    let mut divided = workload(
        "cd /sys/fs/cgroup && mkdir inner && echo 1 > inner/cgroup.procs && \
         for c in $(cat cgroup.controllers); do echo +$c; done > cgroup.subtree_control; \
         echo ready; exec sleep 1000",
    );
    // Writable, as under `--cgroupns` with a privileged container.
    for mount in &mut divided.mounts {
        if mount.destination == "/sys/fs/cgroup" {
            mount.flags.remove(krun_gpu_protocol::MountFlags::READ_ONLY);
        }
    }
    let mut guest = Guest::with(&divided);
    let krun_gpu_protocol::Stdio::Pipes { stdout, .. } = &divided.process.stdio else {
        panic!("pipes");
    };
    let mut ready = [0; 6];
    guest
        .stream(stdout.unwrap())
        .read_exact(&mut ready)
        .unwrap();
    let outcome = guest
        .exec(
            1,
            &process("grep ^0: /proc/self/cgroup; cat /proc/self/oom_score_adj"),
        )
        .unwrap();
    assert_eq!(outcome.stdout, "0::/inner\n0\n", "{outcome:?}");
}

fn exec_fails() {
    let mut guest = Guest::with(&workload("exec sleep 1000"));
    let mut missing = process("");
    missing.args = vec!["nope".into()];
    let error = guest.exec(1, &missing).unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound);
    assert_eq!(
        error.message,
        "executable file `nope` not found in $PATH: No such file or directory"
    );
    let mut elsewhere = process("pwd");
    elsewhere.cwd = "/missing".into();
    let error = guest.exec(2, &elsewhere).unwrap_err();
    assert_eq!(
        error.message,
        "chdir to `/missing`: No such file or directory"
    );
    let outcome = guest
        .exec(1, &process("echo the number is free again"))
        .unwrap();
    assert_eq!(outcome.stdout, "the number is free again\n");
    assert!(
        guest.events().len() == 1,
        "a session that never ran has no end: {:?}",
        guest.events()
    );
}

fn end_session() {
    let mut guest = Guest::with(&workload("exec sleep 1000"));
    let process = process("sleep 1000; echo never");
    guest
        .ask(RequestBody::Exec {
            session: 3,
            process: Box::new(process),
        })
        .unwrap();
    assert_eq!(
        guest.ask(RequestBody::EndSession { session: 3 }),
        Ok(Reply::Done)
    );
    assert_eq!(guest.exited(3), (137, false));
    let outcome = guest
        // The workload does not reap what became its child, as under crun.
        .exec(
            4,
            &crate::guest::process("ps -e | grep sleep | grep -vc defunct"),
        )
        .unwrap();
    assert_eq!(outcome.stdout, "1\n", "the group's child is gone, too");
}

fn background_child() {
    let mut guest = Guest::with(&workload("exec sleep 1000"));
    let outcome = guest.exec(1, &process("sleep 1000 & echo done")).unwrap();
    assert_eq!((outcome.status, outcome.stdout.as_str()), (0, "done\n"));
}

fn workload_ends_last() {
    let workload = workload("read line; exit 3");
    let mut guest = Guest::with(&workload);
    for session in 1..=3 {
        let process = Box::new(process("exec sleep 1000"));
        guest.ask(RequestBody::Exec { session, process }).unwrap();
    }
    let outcome = guest.finish(0, &workload.process.stdio, b"go\n");
    assert_eq!(outcome.status, 3);
    let ends: Vec<_> = guest
        .events()
        .iter()
        .map(|event| match event {
            krun_gpu_protocol::Event::Exited {
                session, status, ..
            } => (*session, *status),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(ends.len(), 4, "{ends:?}");
    assert!(
        ends[..3].iter().all(|(_, status)| *status == 137),
        "{ends:?}"
    );
    assert_eq!(ends[3], (0, 3));
}

fn a_terminal() {
    let mut workload = workload(
        "tty; stat -c '%u %a' $(tty); [ /dev/console -ef $(tty) ] && echo console; stty size; read line; stty size; echo got $line; exit 4",
    );
    let (stdio, token) = terminal();
    workload.process.stdio = stdio;
    workload.process.user.uid = 1000;
    let mut guest = Guest::with(&workload);
    let mut stream = guest.stream(token);
    let mut reader = stream.try_clone().unwrap();
    let mut start = vec![0; b"/dev/pts/0\r\n1000 620\r\nconsole\r\n24 80\r\n".len()];
    reader.read_exact(&mut start).unwrap();
    assert_eq!(
        String::from_utf8(start).unwrap(),
        "/dev/pts/0\r\n1000 620\r\nconsole\r\n24 80\r\n"
    );
    let resized = guest.ask(RequestBody::Resize {
        session: 0,
        size: TerminalSize {
            rows: 50,
            columns: 132,
        },
    });
    assert_eq!(resized, Ok(Reply::Done));
    stream.write_all(b"it\n").unwrap();
    let mut rest = String::new();
    reader.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "it\r\n50 132\r\ngot it\r\n");
    assert_eq!(guest.exited(0), (4, false));
}

fn closed_terminal() {
    let mut workload =
        workload("exec <&- >&- 2>&-; sleep 0.5; echo back >/dev/tty; sleep 0.5; exit 6");
    let (stdio, token) = terminal();
    workload.process.stdio = stdio;
    let mut guest = Guest::with(&workload);
    let mut text = String::new();
    guest.stream(token).read_to_string(&mut text).unwrap();
    assert_eq!(text, "back\r\n");
    assert_eq!(guest.exited(0), (6, false));
}

fn hangup() {
    let mut workload =
        workload("trap 'exit 21' HUP; echo ready; while :; do sleep 0.05 < /dev/null; done");
    let (stdio, token) = terminal();
    workload.process.stdio = stdio;
    let mut guest = Guest::with(&workload);
    let mut stream = guest.stream(token);
    let mut start = [0; b"ready\r\n".len()];
    stream.read_exact(&mut start).unwrap();
    assert_eq!(&start, b"ready\r\n");
    drop(stream);
    assert_eq!(guest.exited(0), (21, false));
}

fn exec_terminal() {
    let mut guest = Guest::with(&workload("exec sleep 1000"));
    let mut process = process("exec cat");
    let (stdio, token) = terminal();
    process.stdio = stdio;
    guest
        .ask(RequestBody::Exec {
            session: 1,
            process: Box::new(process),
        })
        .unwrap();
    let stream = guest.stream(token);
    let mut writer = stream.try_clone().unwrap();
    // End of file is control-D here: a terminal has no half-close.
    let feeder = thread::spawn(move || writer.write_all(b"line\n\x04").unwrap());
    let mut text = String::new();
    let mut reader = stream;
    reader.read_to_string(&mut text).unwrap();
    feeder.join().unwrap();
    drop(reader.shutdown(Shutdown::Both));
    assert_eq!(text, "line\r\nline\r\n");
    assert_eq!(guest.exited(1), (0, false));
}
