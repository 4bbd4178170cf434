//! An engine changes the networks of a container that runs: it tells no runtime.

use super::rootless::as_user;
use super::script;
use crate::harness::{Case, Outcome, ensure, same};

pub(in crate::cases) const CASES: &[Case] = &[
    Case {
        name: "network::connect_and_disconnect",
        run: connect_and_disconnect,
    },
    Case {
        name: "network::connect_the_first",
        run: connect_the_first,
    },
    Case {
        name: "network::connect_for_a_user",
        run: connect_for_a_user,
    },
];

/// Another network comes, goes and comes again, and all are made anew.
fn connect_and_disconnect() -> Outcome {
    let ours = same(&script(
        r#"podman network create --subnet 10.94.0.0/24 --opt mtu=1400 n1 >/dev/null
        podman run -d --runtime crun --cap-add NET_RAW --network n1 --ip 10.94.0.2 --name peer $BB sleep 1000 >/dev/null
        podman run -d --runtime $RUNTIME --cap-add NET_RAW --ip 10.88.77.6 --mac-address 02:11:22:33:44:66 --name c $BB sleep 1000 >/dev/null
        connect() { podman network connect --ip 10.94.0.9 --mac-address 02:11:22:33:44:99 n1 c; }
        # Waits for something in the container, then looks.
        see() { podman exec c sh -c "for i in \$(seq 100); do $1 && break; sleep 0.2; done; $look; $2"; }
        both='[ $(ip route | grep -c ^default) = 2 ]'
        reached='for name in 10.94.0.1 peer 10.88.0.1; do ping -c 1 -W 10 $name | grep -o "1 packets received"; done'
        connect; see "$both" "$reached"
        podman exec peer ping -c 1 -W 10 10.94.0.9 | grep -o '1 packets received'
        podman network disconnect n1 c; see '[ ! -e /sys/class/net/eth1 ]'
        connect; see "$both" "$reached"
        podman network reload c >/dev/null; see 'ping -c 1 -W 1 10.94.0.1 >/dev/null 2>&1 && ping -c 1 -W 1 10.88.0.1 >/dev/null 2>&1'
        podman logs c
        podman rm -f -t 0 c peer >/dev/null; podman network rm n1 >/dev/null"#,
    ))?;
    let eth1 = "eth1 02:11:22:33:44:99 1400\neth1 inet 10.94.0.9/24";
    ensure(
        ours.stdout.matches(eth1).count() == 3
            && ours.stdout.matches("1 packets received").count() == 7
            && ours.stderr.is_empty(),
        || ours.to_string(),
    )
}

/// A container that starts on no network, of those that it may be on, gets its first one later.
fn connect_the_first() -> Outcome {
    let ours = same(&script(
        r#"podman network create --subnet 10.94.0.0/24 n1 >/dev/null
        podman create --runtime $RUNTIME --cap-add NET_RAW --network n1 --name c $BB sleep 1000 >/dev/null
        podman network disconnect n1 c; podman start c >/dev/null
        podman exec c ls /sys/class/net
        podman network connect --ip 10.94.0.9 n1 c
        podman exec c sh -c 'for i in $(seq 100); do ip route | grep -q ^default && break; sleep 0.2; done; ip -o -4 addr show dev eth0 | grep -o 10.94.0.9
            ping -c 1 -W 10 10.94.0.1 | grep -o "1 packets received"'
        podman rm -f -t 0 c >/dev/null; podman network rm n1 >/dev/null"#,
    ))?;
    ensure(
        ours.stdout == "lo\n10.94.0.9\n1 packets received\n" && ours.stderr.is_empty(),
        || ours.to_string(),
    )
}

/// The address moves to the guest; a neighbour and the port forwarder find it.
fn connect_for_a_user() -> Outcome {
    let ours = as_user(
        "krun-gpu",
        r#"podman network create n1 >/dev/null; podman network create n2 >/dev/null
        podman run -d --runtime $RUNTIME --network n1 -p 8080:80 --name c $BB sh -c 'mkdir /w; echo served >/w/page; httpd -f -p 80 -h /w' >/dev/null
        podman network connect n2 c
        podman run --rm --runtime crun --network n2 $BB sh -c 'for i in $(seq 100); do wget -T 2 -q -O- http://c/page 2>/dev/null && exit; done'
        podman network disconnect n2 c
        gone() { ! podman exec c ls /sys/class/net/eth1 >/dev/null; }
        patiently gone
        patiently busybox wget -q -O- http://127.0.0.1:8080/page
        podman rm -f -t 0 c >/dev/null; podman network rm n1 n2 >/dev/null"#,
    )?;
    ensure(ours.stdout == "served\nserved\n", || ours.to_string())
}
