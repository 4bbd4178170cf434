//! The verbs of Podman that act on a container from outside.

use crate::harness::{Case, Outcome, same};

pub(super) const CASES: &[Case] = &[Case {
    name: "podman::copy",
    run: copy,
}];

/// `script` with a directory `$d` of the host.
fn in_directory(script: &str) -> String {
    format!("d=$(mktemp -d); chmod 755 $d; trap 'rm -rf $d' EXIT\n{script}")
}

fn copy() -> Outcome {
    same(&in_directory(
        r#"echo from-host > $d/f; create_detached --name c -v $d:/vol $BB sh -c 'mkdir -p /data; echo in > /data/in; sleep 1000' >/dev/null; until podman exec c cat /data/in >/dev/null 2>&1; do sleep 0.2; done
           podman cp $d/f c:/data/f; podman exec c cat /data/f; podman cp c:/data/in $d/out; cat $d/out; echo two > $d/f; podman cp $d/f c:/data/f; podman exec c cat /data/f; podman cp $d/f c:/new; podman exec c sh -c 'cat /new; ls -l /new | awk "{print \$1,\$3}"'
           mkdir -p $d/tree/a/b; echo t > $d/tree/a/b/c; podman cp $d/tree c:/data/; podman exec c find /data | sort; podman cp c:/data/tree - | tar t | sort; podman cp $d/f c:/vol/viavol; cat $d/viavol; podman exec c cat /vol/viavol; podman cp $d/f c:/nosuch/dir/; echo $?; podman cp c:/nosuch $d/; echo $?; cat /etc/hostname | head -c 20
           podman rm -f -t 0 c >/dev/null"#,
    ))
    .map(drop)
}
