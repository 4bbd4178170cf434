//! Many sessions and much data: nothing is lost, nothing grows.

use crate::harness::{Case, Outcome, ensure, sh};

pub(super) const CASES: &[Case] = &[
    Case {
        name: "load::fifty_sessions_at_once",
        run: fifty_sessions_at_once,
    },
    Case {
        name: "load::sessions_in_a_row",
        run: sessions_in_a_row,
    },
    Case {
        name: "load::both_ways_at_once",
        run: both_ways_at_once,
    },
];

/// A container, in which each program runs once before anything is counted: the file server keeps a
/// descriptor for every file that the guest knows. `sizes` prints the VMM's descriptors and
/// threads, and the workload's processes; `memory` the VMM's private memory in KiB, without guest
/// RAM (see `bench::memory`).
const CONTAINER: &str = r#"
create_detached --name l --cap-add SYS_PTRACE $BB sleep 1000 >/dev/null
id=$(podman inspect l --format '{{.Id}}'); vmm=$(podman inspect l --format '{{.State.Pid}}')
sizes() {
    ls /proc/$vmm/fd | wc -l; ls /proc/$vmm/task | wc -l
    krun-gpu ps --format json $id | jq length
}
memory() { awk '/^Private_/ {mapping += $2} /^VmFlags/ {if ($0 !~ / dc/) all += mapping; mapping = 0} END {print all}' /proc/$vmm/smaps; }
settled() { for i in $(seq 50); do [ "$(sizes)" = "$1" ] && break; sleep 0.2; done; sizes; }
"#;

fn fifty_sessions_at_once() -> Outcome {
    let ours = sh(&format!(
        r#"{CONTAINER}
        krun-gpu exec $id sh -c "echo; exit 0" >/dev/null; before=$(sizes)
        for i in $(seq 50); do krun-gpu exec $id sh -c "echo $i; exit $i" >/tmp/out.$i; echo $? >/tmp/status.$i & done; wait
        for i in $(seq 50); do [ "$(cat /tmp/out.$i /tmp/status.$i)" = "$(printf '%s\n' $i $i)" ] || echo "session $i: $(cat /tmp/out.$i /tmp/status.$i)"; done
        after=$(settled "$before"); [ "$after" = "$before" ] && echo as before || echo "not as before: $before, $after"; podman rm -f -t 0 l >/dev/null; rm /tmp/out.* /tmp/status.*"#
    ))?;
    ensure(ours.stdout == "as before\n", || ours.to_string())
}

/// Each takes a second under emulation; this many are enough to see what one of them leaves.
const IN_A_ROW: usize = 25;

fn sessions_in_a_row() -> Outcome {
    let ours = sh(&format!(
        r#"{CONTAINER}
        for i in $(seq 10); do krun-gpu exec $id echo >/dev/null; done; before=$(sizes); memory=$(memory)
        for i in $(seq {IN_A_ROW}); do [ "$(krun-gpu exec $id echo $i)" = $i ] || echo "session $i"; done
        after=$(settled "$before"); [ "$after" = "$before" ] && echo as before || echo "not as before: $before, $after"
        grown=$(($(memory) - memory)); [ $grown -lt 1024 ] && echo no growth || echo "$grown KiB more"
        podman rm -f -t 0 l >/dev/null"#
    ))?;
    ensure(ours.stdout == "as before\nno growth\n", || ours.to_string())
}

fn both_ways_at_once() -> Outcome {
    let ours = sh(&format!(
        r#"{CONTAINER}
        head -c 200M /dev/urandom >/var/tmp/data; sum=$(sha256sum </var/tmp/data)
        [ "$(krun-gpu exec $id sh -c 'cat; echo end >&2' </var/tmp/data 2>/tmp/end | sha256sum)" = "$sum" ] && echo exact
        cat /tmp/end; rm /var/tmp/data /tmp/end; podman rm -f -t 0 l >/dev/null"#
    ))?;
    ensure(ours.stdout == "exact\nend\n", || ours.to_string())
}
