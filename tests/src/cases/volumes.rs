//! Bind mounts, volumes, and that read-only is the host's word.

use crate::harness::compare::both;
use crate::harness::{Case, Outcome, ensure, same, sh};

pub(super) const CASES: &[Case] = &[
    Case {
        name: "volumes::directory",
        run: directory,
    },
    Case {
        name: "volumes::ownership",
        run: ownership,
    },
    Case {
        name: "volumes::read_only",
        run: read_only,
    },
    Case {
        name: "volumes::read_only_after_remount",
        run: read_only_after_remount,
    },
    Case {
        name: "volumes::named",
        run: named,
    },
    Case {
        name: "volumes::single_file",
        run: single_file,
    },
    Case {
        name: "volumes::nested_and_below_tmpfs",
        run: nested_and_below_tmpfs,
    },
    Case {
        name: "volumes::hosts_and_resolver",
        run: hosts_and_resolver,
    },
    Case {
        name: "volumes::file_system_semantics",
        run: file_system_semantics,
    },
    Case {
        name: "volumes::locks",
        run: locks,
    },
    Case {
        name: "volumes::changed_on_the_host",
        run: changed_on_the_host,
    },
    Case {
        name: "volumes::nothing_is_written_into_the_root",
        run: nothing_is_written_into_the_root,
    },
];

fn in_directory(script: &str) -> String {
    format!("dir=$(mktemp -d); chmod 755 $dir; trap 'rm -rf $dir' EXIT; {script}")
}

fn directory() -> Outcome {
    let ours = same(&in_directory(
        "echo from-host > $dir/a; run -v $dir:/d $BB sh -c 'cat /d/a; echo from-guest > /d/b; mkdir /d/c; ln -s a /d/l; mv /d/a /d/e'; \
         cat $dir/b; ls $dir; readlink $dir/l",
    ))?;
    ensure(ours.stdout.starts_with("from-host\nfrom-guest\n"), || {
        ours.to_string()
    })
}

fn ownership() -> Outcome {
    same(&in_directory(
        "chmod 777 $dir; install -m 640 -o 12 -g 34 /dev/null $dir/old; \
         run -u 1000:1000 -v $dir:/d $BB sh -c 'touch /d/new; stat -c \"%u %g %a\" /d/old; cat /d/old; echo $?' 2>/dev/null; \
         run -v $dir:/d $BB sh -c 'touch /d/r; chown 7:8 /d/r; chmod 4711 /d/r'; \
         stat -c '%n %u %g %a' $dir/new $dir/r | sed \"s,$dir,,\"",
    ))
    .map(drop)
}

fn read_only() -> Outcome {
    let ours = same(&in_directory(
        "echo a > $dir/a; run -v $dir:/d:ro $BB sh -c 'cat /d/a; echo b > /d/a; touch /d/n; rm /d/a; grep -c \" /d .* ro\" /proc/mounts'",
    ))?;
    ensure(ours.stderr.contains("Read-only file system"), || {
        ours.to_string()
    })
}

fn read_only_after_remount() -> Outcome {
    let ours = sh(&in_directory(
        "echo a > $dir/a; run --privileged -v $dir:/d:ro $BB sh -c 'mount -o remount,rw,bind /d; mount -o remount,rw /d; echo b > /d/a'; cat $dir/a",
    ))?;
    ensure(
        ours.stderr.contains("Read-only file system") && ours.stdout == "a\n",
        || ours.to_string(),
    )
}

fn named() -> Outcome {
    same(
        "podman volume create v >/dev/null; run -v v:/d $BB sh -c 'echo kept > /d/f'; \
         run -v v:/d $BB cat /d/f; podman volume rm v",
    )
    .map(drop)
}

fn single_file() -> Outcome {
    same(&in_directory(
        "echo one > $dir/f; echo secret > $dir/g; run -v $dir/f:/etc/one -v $dir/f:/new/place/two:ro $BB sh -c \
         'cat /etc/one /new/place/two; echo two >> /etc/one; echo x > /new/place/two; ls /new/place'; cat $dir/f",
    ))
    .map(drop)
}

fn nested_and_below_tmpfs() -> Outcome {
    same(&in_directory(
        "mkdir $dir/in $dir/out; echo inner > $dir/in/f; \
         run -v $dir/out:/d -v $dir/in:/d/x --tmpfs /t -v $dir/in:/t/deep/y -v $dir/in/f:/dev/f $BB \
         sh -c 'cat /d/x/f /t/deep/y/f /dev/f; echo n > /t/deep/y/n'; ls $dir/in",
    ))
    .map(drop)
}

fn hosts_and_resolver() -> Outcome {
    // Podman writes both between `create` and `start`.
    let ours = same(
        "run --add-host name:1.2.3.4 $BB sh -c 'grep name /etc/hosts; echo 9.9.9.9 other >> /etc/hosts; tail -n 1 /etc/hosts'; \
         podman run --rm --runtime $RUNTIME --dns 8.8.8.8 $BB grep -c 8.8.8.8 /etc/resolv.conf 2>/dev/null",
    )?;
    ensure(ours.stdout == "1.2.3.4\tname\n9.9.9.9 other\n1\n", || {
        ours.to_string()
    })
}

fn file_system_semantics() -> Outcome {
    same(&in_directory(
        "run -v $dir:/d $BB sh -c 'cd /d; echo a > f; ln f g; stat -c %h f; exec 3>u; rm u; echo x >&3; \
         dd if=/dev/zero of=z bs=1 seek=1000000 count=1 2>/dev/null; stat -c %s z; truncate -s 10 z; stat -c %s z; \
         mkfifo p; (echo through > p &) ; cat p; mkdir -p a/b/c; mv a e; ls e/b; rmdir e/b/c; rm -r e; ls'; ls $dir",
    ))
    .map(drop)
}

/// Two processes of a container exclude each other; another container and the host see the lock
/// under crun alone (LIMITS.md). `flock` is the host's.
fn locks() -> Outcome {
    let outputs = both(&in_directory(
        r#"create_detached --name l $tools -v $dir:/d $BB /usr/bin/flock /d/lock sh -c 'echo held; sleep 1000' >/dev/null
           for i in $(seq 200); do podman logs l | grep held && break; sleep 0.2; done
           podman exec l /usr/bin/flock -n /d/lock true; echo within $?
           run $tools -v $dir:/d $BB /usr/bin/flock -n /d/lock true; echo another $?
           flock -n $dir/lock true; echo host $?; podman rm -f -t 0 l >/dev/null"#,
    ))?;
    let describe = || format!("--- crun: {}\n--- krun-gpu: {}", outputs.crun, outputs.ours);
    let held = "held\nwithin 1\n";
    ensure(
        outputs.crun.stdout == format!("{held}another 1\nhost 1\n"),
        describe,
    )?;
    ensure(
        outputs.ours.stdout == format!("{held}another 0\nhost 0\n"),
        describe,
    )
}

/// What the guest has looked at a moment ago: a file's size is right as soon as it is opened, its
/// other attributes within two seconds (LIMITS.md).
fn changed_on_the_host() -> Outcome {
    let ours = same(&in_directory(
        r#"mkdir $dir/v; echo a >$dir/v/f; chmod 644 $dir/v/f; mkfifo $dir/in; : >$dir/out
           said() { for i in $(seq 300); do grep -q $1 $dir/out && return; sleep 0.1; done; echo "never $1"; }
           run -i -v $dir/v:/d $BB sh -c 'look="stat -c %s,%a /d/f"; $look; echo one; read go; wc -c </d/f; $look; echo two; read go; $look' <$dir/in >$dir/out &
           exec 3>$dir/in
           said one; echo and more >>$dir/v/f; echo >&3
           said two; chmod 604 $dir/v/f; sleep 2; echo >&3
           exec 3>&-; wait; cat $dir/out"#,
    ))?;
    ensure(
        ours.stdout == "2,644\none\n11\n11,644\ntwo\n11,604\n",
        || ours.to_string(),
    )
}

fn nothing_is_written_into_the_root() -> Outcome {
    let ours = same(
        "podman create --name fresh --runtime $RUNTIME --network none $BB true >/dev/null; podman start -a fresh; \
         podman diff fresh | sort; podman rm fresh",
    )?;
    ensure(ours.status == 0, || ours.to_string())
}
