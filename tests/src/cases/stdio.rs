//! The workload's kernel and its standard streams.

use crate::harness::{Case, Outcome, ensure, same, sh};

pub(super) const CASES: &[Case] = &[
    Case {
        name: "stdio::kernel_is_the_bundled_one",
        run: kernel_is_the_bundled_one,
    },
    Case {
        name: "stdio::streams_stay_apart",
        run: streams_stay_apart,
    },
    Case {
        name: "stdio::input_ends",
        run: input_ends,
    },
    Case {
        name: "stdio::no_input_is_end_of_file",
        run: no_input_is_end_of_file,
    },
    Case {
        name: "stdio::hundred_mebibytes_through_cat",
        run: hundred_mebibytes_through_cat,
    },
    Case {
        name: "stdio::dev_stdout_can_be_opened",
        run: dev_stdout_can_be_opened,
    },
    Case {
        name: "stdio::reader_that_goes_away",
        run: reader_that_goes_away,
    },
    Case {
        name: "stdio::last_words_arrive",
        run: last_words_arrive,
    },
];

fn kernel_is_the_bundled_one() -> Outcome {
    let host = sh("uname -r")?;
    let guest = sh("run $BB uname -r")?;
    ensure(
        guest.status == 0
            && guest.stdout.trim().ends_with("-krun-gpu")
            && guest.stdout != host.stdout,
        || format!("host {host}\nguest {guest}"),
    )
}

fn streams_stay_apart() -> Outcome {
    let ours = same("run $BB sh -c 'echo out; echo err >&2; exit 42'")?;
    ensure(
        ours.stdout == "out\n" && ours.stderr == "err\n" && ours.status == 42,
        || ours.to_string(),
    )
}

fn input_ends() -> Outcome {
    let ours = same("echo hi | run -i $BB cat")?;
    ensure(ours.stdout == "hi\n" && ours.status == 0, || {
        ours.to_string()
    })
}

fn no_input_is_end_of_file() -> Outcome {
    same("echo hi | run $BB cat").map(drop)
}

fn hundred_mebibytes_through_cat() -> Outcome {
    let ours = sh("set -e; file=$(mktemp); trap 'rm -f $file' EXIT
        head -c 104857600 /dev/urandom > $file
        sha256sum < $file
        run -i $BB cat < $file | sha256sum")?;
    let sums: Vec<&str> = ours.stdout.lines().collect();
    ensure(matches!(sums[..], [sent, back] if sent == back), || {
        ours.to_string()
    })
}

fn dev_stdout_can_be_opened() -> Outcome {
    same("run $BB sh -c 'echo a > /dev/stdout; echo b > /proc/self/fd/1; echo c > /dev/stderr'")?;
    same("run -u 1000:1000 $BB sh -c 'echo a > /dev/stdout'").map(drop)
}

fn reader_that_goes_away() -> Outcome {
    let ours = sh("run $BB sh -c 'yes | head -c 300000; exit 3' | head -n 1; echo done")?;
    ensure(ours.stdout == "y\ndone\n", || ours.to_string())
}

fn last_words_arrive() -> Outcome {
    let ours = sh("run $BB sh -c 'seq 1 20000' | tail -n 1")?;
    ensure(ours.stdout == "20000\n", || ours.to_string())
}
