//! Networks: a container in a VM is on Podman's networks as it is under crun.

pub(super) mod bridge;
pub(super) mod changes;
pub(super) mod load;
pub(super) mod rootless;
pub(super) mod shared;
pub(super) mod sockets;
pub(super) mod traffic;

/// Shell functions of these cases.
const PRELUDE: &str = r#"
# Runs a command until it succeeds.
patiently() { for i in $(seq 300); do "$@" 2>/dev/null && return; sleep 0.1; done; echo "never: $*"; }
# An interface as `ip` shows it, without what a veth and a NIC differ in.
look='for dev in $(ls /sys/class/net | grep -v -e ^lo -e ^sit -e ^tunl); do
    echo $dev $(cat /sys/class/net/$dev/address /sys/class/net/$dev/mtu)
    ip -o addr show dev $dev | awk "{print \$2, \$3, \$4, \$5, \$6}"; done
    ip route | sed "s/ *src.*//" | sort -u; ip -6 route | grep -v -e fe80 -e ff00 -e multicast | cut -d" " -f1-5'
"#;

fn script(text: &str) -> String {
    format!("{PRELUDE}{text}")
}
