//! Networks of an ordinary user's engine.

use libtest_mimic::Failed;

use super::script;
use crate::harness::command::{sh_as_user, sh_with};
use crate::harness::{Case, Outcome, Output, ensure, images};

pub(in crate::cases) const CASES: &[Case] = &[
    Case {
        name: "network::rootless",
        run: rootless,
    },
    Case {
        name: "network::rootless_bridge_and_slirp",
        run: rootless_bridge_and_slirp,
    },
    Case {
        name: "network::rootless_host",
        run: rootless_host,
    },
];

/// Runs `text` for the ordinary user, on a host that has an address of its own.
pub(super) fn as_user(runtime: &str, text: &str) -> Result<Output, Failed> {
    images::busybox_of_user()?;
    let made = sh_with(
        runtime,
        "ip link add dummy0 type dummy && ip addr add 192.0.2.10/24 dev dummy0 && ip link set dummy0 up && ip route add default via 192.0.2.1 dev dummy0",
    )?;
    let outcome = sh_as_user(runtime, &script(text));
    let removed = sh_with(runtime, "ip link del dummy0")?;
    ensure(made.status == 0 && removed.status == 0, || {
        format!("{made}\n{removed}")
    })?;
    outcome
}

/// pasta's network: its address, the way out, and published ports on loopback and elsewhere.
fn rootless() -> Outcome {
    // The kernel chooses pasta's address on the link; the route is the guest's way to the forwarder.
    let text = r#"same='grep -v -e fe80 -e 169.254.77.1 | sed -e "s/ [0-9a-f][0-9a-f]:[0-9a-f:]*/ MAC/" -e "s/ *\$//" | sort -u'
        podman run -d --runtime $RUNTIME -p 8080:80 --name c $BB sh -c "mkdir /w; ($look) | $same >/w/page; httpd -f -p 80 -h /w" >/dev/null
        patiently busybox wget -q -O- http://127.0.0.1:8080/page
        busybox wget -T 10 -q -O- http://192.0.2.10:8080/page | head -n 1
        mkdir /tmp/out; echo outside >/tmp/out/page; busybox httpd -f -p 8097 -h /tmp/out & server=$!
        podman exec c sh -c 'wget -T 10 -q -O- http://host.containers.internal:8097/page'
        kill $server; rm -r /tmp/out; podman rm -f -t 0 c >/dev/null"#;
    let crun = as_user("crun", text)?;
    let ours = as_user("krun-gpu", text)?;
    ensure(
        crun.stdout == ours.stdout
            && ours.stdout.contains("192.0.2.10")
            && ours.stdout.ends_with("outside\n"),
        || format!("--- crun: {crun}\n--- krun-gpu: {ours}"),
    )
}

/// Podman's own port forwarder, inside the container's network namespace.
fn rootless_bridge_and_slirp() -> Outcome {
    let text = r#"podman network create n1 >/dev/null
        serve='mkdir /w; echo served >/w/page; httpd -f -p 80 -h /w'
        for network in n1 slirp4netns; do
            podman run -d --runtime $RUNTIME --network $network -p 8080:80 --name c $BB sh -c "$serve" >/dev/null
            patiently busybox wget -q -O- http://127.0.0.1:8080/page
            [ $network = n1 ] && podman run --rm --runtime $RUNTIME --network n1 $BB wget -q -O- http://c/page
            podman rm -f -t 0 c >/dev/null
        done; podman network rm n1 >/dev/null"#;
    let ours = as_user("krun-gpu", text)?;
    ensure(ours.stdout == "served\nserved\nserved\n", || {
        ours.to_string()
    })
}

/// The host's network, through a passt of the user's.
fn rootless_host() -> Outcome {
    let text = r#"podman run -d --runtime $RUNTIME --network host --annotation io.krun-gpu.ports=8095 --name c $BB sh -c 'mkdir /w; echo served >/w/page; httpd -f -p 8095 -h /w' >/dev/null
        patiently busybox wget -q -O- http://127.0.0.1:8095/page
        patiently busybox wget -q -O- http://192.0.2.10:8095/page
        mkdir /tmp/out; echo outside >/tmp/out/page; busybox httpd -f -p 8097 -h /tmp/out & server=$!
        # The host's own address has another name in a VM.
        own=192.0.2.10; [ $RUNTIME = crun ] || own=169.254.77.3
        podman exec c sh -c "for i in \$(seq 50); do wget -T 10 -q -O- http://$own:8097/page && break; sleep 0.2; done; ip -o -4 addr show dev dummy0 | grep -o 192.0.2.10/24"
        kill $server; rm -r /tmp/out; podman rm -f -t 0 c >/dev/null; pgrep passt || echo none left"#;
    let crun = as_user("crun", text)?;
    let ours = as_user("krun-gpu", text)?;
    ensure(
        crun.stdout == ours.stdout
            && ours.stdout == "served\nserved\noutside\n192.0.2.10/24\nnone left\n",
        || format!("--- crun: {crun}\n--- krun-gpu: {ours}"),
    )
}
