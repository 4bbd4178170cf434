//! The container's own layer, which Podman reads and changes while the guest uses it.

use super::mounts::in_directory;
use crate::harness::{Case, Outcome, same};

pub(super) const CASES: &[Case] = &[
    Case {
        name: "storage::diff_export_commit",
        run: diff_export_commit,
    },
    Case {
        name: "storage::mount",
        run: mount,
    },
    Case {
        name: "storage::copy_over_an_open_file",
        run: copy_over_an_open_file,
    },
    Case {
        name: "storage::copy_while_stopped",
        run: copy_while_stopped,
    },
];

fn diff_export_commit() -> Outcome {
    same(
        "create_detached --name c $BB sh -c 'echo new > /added; rm /etc/plain; echo more >> /etc/group; echo ok > /ready; sleep 1000' >/dev/null
         until podman exec c cat /ready >/dev/null 2>&1; do sleep 0.2; done
         podman diff c | sort; podman export c | tar t | grep -E 'added|etc/plain|etc/group' | sort
         podman commit -p -q c localhost/committed >/dev/null; podman exec c echo goes on
         run localhost/committed sh -c 'cat /added; ls /etc; tail -n 1 /etc/group'
         podman rm -f -t 0 c; podman rmi -f localhost/committed >/dev/null",
    )
    .map(drop)
}

fn mount() -> Outcome {
    same(
        "create_detached --name c $BB sh -c 'echo new > /added; sleep 1000' >/dev/null
         until podman exec c cat /added >/dev/null 2>&1; do sleep 0.2; done
         m=$(podman mount c); cat $m/added; echo host > $m/from_host; podman exec c cat /from_host
         echo again > $m/added; sleep 1.2; podman exec c cat /added; podman umount c >/dev/null
         podman exec c cat /from_host; podman rm -f -t 0 c",
    )
    .map(drop)
}

fn copy_over_an_open_file() -> Outcome {
    same(&in_directory(
        "create_detached --name c $BB sh -c 'echo 1 > /f; exec 3<>/f; while :; do cat /f > /next; mv /next /now; sleep 0.1; done' >/dev/null
         until podman exec c grep -q 1 /now 2>/dev/null; do sleep 0.2; done
         echo 2 > $d/f; podman cp $d/f c:/f
         for i in $(seq 40); do [ \"$(podman exec c cat /now)\" = 2 ] && break; sleep 0.2; done
         podman exec c cat /now /f; podman rm -f -t 0 c",
    ))
    .map(drop)
}

fn copy_while_stopped() -> Outcome {
    same(&in_directory(
        "podman create --name c --runtime $RUNTIME --network none $BB cat /x >/dev/null
         echo before > $d/f; podman cp $d/f c:/x; podman start -a c; podman cp c:/x - | tar xO; podman rm c",
    ))
    .map(drop)
}
