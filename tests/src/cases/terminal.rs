//! Terminals: their sizes, their keys, and their last bytes. `script` is the user's terminal.

use crate::harness::{Case, Outcome, ensure, same};

pub(super) const CASES: &[Case] = &[
    Case {
        name: "terminal::run",
        run,
    },
    Case {
        name: "terminal::keys",
        run: keys,
    },
    Case {
        name: "terminal::detached",
        run: detached,
    },
    Case {
        name: "terminal::exec_and_attach",
        run: exec_and_attach,
    },
    Case {
        name: "terminal::full_screen",
        run: full_screen,
    },
];

/// `in_terminal COMMAND` runs it in a terminal of 33 lines and 99 columns.
const IN_TERMINAL: &str = r#"
in_terminal() { SHELL=/bin/sh script -qec "stty rows 33 cols 99; $*" /dev/null; }
without_eof() { sed 's/\^@//g; s/\x08//g'; } # of script's input, echoed at any time
interactive() { echo "podman run --rm --runtime $RUNTIME --network none -it"; }
"#;

fn script(text: &str) -> String {
    format!("{IN_TERMINAL}{text}")
}

fn run() -> Outcome {
    let ours = same(&script(
        r#"echo 'tty; until stty size | grep -v "^0 0"; do sleep 0.1; done; echo error >&2; exit 7' > /tmp/run.sh
           { in_terminal "$(interactive) -v /tmp/run.sh:/run.sh $BB sh /run.sh" < /dev/null; echo $?; } | without_eof
           rm /tmp/run.sh"#,
    ))?;
    ensure(
        ours.stdout.contains("/dev/pts/0") && ours.stdout.ends_with("error\r\n7\n"),
        || ours.to_string(),
    )
}

fn keys() -> Outcome {
    let ours = same(&script(
        r#"echo 'trap "echo interrupted" INT; echo ready; sleep 100; echo reading; cat; exit 4' > /tmp/keys.sh
           until_logged() { until podman logs keys 2>/dev/null | grep -q "$1"; do sleep 0.1; done; }
           { until_logged ready; sleep 1; printf '\003'; until_logged reading; sleep 1; printf 'line\n\004'; } |
           in_terminal "$(interactive) --name keys -v /tmp/keys.sh:/keys.sh $BB sh /keys.sh"; echo $?; rm /tmp/keys.sh"#,
    ))?;
    ensure(
        ours.stdout.contains("interrupted") && ours.stdout.ends_with("\n4\n"),
        || ours.to_string(),
    )
}

fn detached() -> Outcome {
    let ours = same(
        "create_detached -t --name dt $BB sh -c 'tty; seq 1 20000; exit 3' >/dev/null; podman wait dt
         podman logs dt | head -n 2; podman logs dt | wc -l; podman logs dt | tail -n 1; podman rm dt",
    )?;
    ensure(ours.stdout.contains("\n20001\n20000\r\n"), || {
        ours.to_string()
    })
}

fn exec_and_attach() -> Outcome {
    let ours = same(&script(
        r#"create_detached -it --name at $BB sh -c 'while read line; do echo "got $line"; done' >/dev/null 2>&1
           echo 'until stty size | grep -v "^0 0"; do sleep 0.1; done; exit 6' |
           podman exec -i at sh -c 'cat > /size.sh'
           { in_terminal podman exec -it at sh /size.sh < /dev/null; echo $?; } | without_eof
           # Podman warns, with the time, that its own input is no terminal.
           podman exec -t at sh -c 'test -t 0 && test -t 1 && echo a terminal' < /dev/null 2>/dev/null
           { sleep 2; printf 'hello\n'; until podman logs at | grep -q got; do sleep 0.1; done; sleep 1; printf '\020'; sleep 1; printf '\021'; } |
           in_terminal podman attach at | grep got
           podman inspect at --format '{{.State.Status}}'; podman rm -f -t 0 at"#,
    ))?;
    ensure(
        ours.stdout.contains("33 99\r\n6\n") && ours.stdout.contains("got hello\r\nrunning"),
        || ours.to_string(),
    )
}

/// An editor and `top`, which draw by the terminal's size and read keys one by one. ESC alone is a
/// key only when nothing follows it at once.
fn full_screen() -> Outcome {
    let ours = same(&script(
        r#"d=$(mktemp -d); chmod 755 $d; echo first line >$d/f; screen=/tmp/screen
           size='until stty size | grep -qv "^0 0"; do sleep 0.1; done'
           shown() { for i in $(seq 300); do grep -q "$1" $screen && return; sleep 0.1; done; echo "never $1" >&2; }
           : >$screen
           { shown 'first line'; sleep 1; printf 'oadded\033'; sleep 1; printf ':wq\r'; } |
           in_terminal "$(interactive) -v $d:/v $BB sh -c '$size; exec vi /v/f'" >$screen; echo $?
           cat $d/f; grep -q "$(printf '\033')\[33;1H" $screen && echo to the last row
           : >$screen; create_detached --name top $BB sh -c "sleep 1000; : $(seq -s, 100)" >/dev/null
           { shown 'sleep 1000'; sleep 1; printf q; } |
           in_terminal "podman exec -it top sh -c '$size; exec top -d 1'" >$screen; echo $?
           grep -a ' sh -c sleep 1000' $screen | tr -d '\r' | awk '{ print length }' | sort -u
           podman rm -f -t 0 top; rm -r $d $screen"#,
    ))?;
    ensure(ours.stdout.contains("0\nfirst line\nadded\n"), || {
        ours.to_string()
    })
}
