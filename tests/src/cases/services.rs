//! What people run for longer than a command: systemd as the first process, and a database that
//! must not lose what it has confirmed.

use crate::harness::{Case, Outcome, ensure, images, same, sh};

pub(super) const CASES: &[Case] = &[
    Case {
        name: "services::systemd",
        run: systemd,
    },
    Case {
        name: "services::postgresql",
        run: postgresql,
    },
];

fn systemd() -> Outcome {
    let ours = same(&format!(
        r#"create_detached --systemd=always --name s --rootfs {}:O /sbin/init >/dev/null
           until podman exec s systemctl is-system-running --wait 2>/dev/null; do
               [ "$(podman inspect s --format '{{{{.State.Running}}}}')" = true ] || break; sleep 1
           done
           podman exec s systemctl is-active default.target systemd-journald dbus
           podman exec s systemctl --failed --no-legend --plain
           podman exec s ps -o pid,comm -p 1 --no-headers
           podman exec s systemd-run --wait --quiet sh -c 'exit 4'; echo $?
           podman stop -t 100 s; podman inspect s --format '{{{{.State.ExitCode}}}} {{{{.State.Status}}}}'
           podman rm s"#,
        images::SERVICES
    ))?;
    ensure(
        ours.stdout
            .contains("running\nactive\nactive\nactive\n    1 systemd\n4\n"),
        || ours.to_string(),
    )
}

/// PostgreSQL on the volume `pg`: written to, stopped, started, and its VMM killed between two
/// answers. `q` waits for it and asks it, past Debian's wrapper in Perl. Its cluster is made under crun, which is quicker.
const POSTGRESQL: &str = r#"
d=$(mktemp -d); chmod 755 $d; podman volume create pg >/dev/null
trap 'podman rm -f -t 0 p >/dev/null 2>&1; podman volume rm -f pg >/dev/null; rm -rf $d' EXIT
chmod 777 $(podman volume inspect pg --format '{{.Mountpoint}}')
PG=/usr/lib/postgresql/17/bin
podman run --rm --runtime crun --network none --user postgres -v pg:/data --rootfs SERVICES:O $PG/initdb -D /data/db -A trust --no-locale >/dev/null
create_detached --name p --user postgres --stop-signal INT -v pg:/data --rootfs SERVICES:O $PG/postgres -D /data/db -k /tmp -h '' >/dev/null
q() { podman exec -i p sh -c 'until $0/pg_isready -q -h /tmp; do sleep 0.2; done; exec $0/psql -h /tmp -U postgres -qAt "$@"' $PG "$@"; }
sums="select count(*), sum(a), md5(string_agg(b, ',' order by a)) from t where a <= 2000"
q -c 'create table t(a int, b text)' -c "insert into t select g, md5(g::text) from generate_series(1, 2000) g" -c "$sums"
podman stop -t 60 p; podman inspect p --format '{{.State.ExitCode}}'
podman start p; q -c "$sums"
# Every line that comes back is a row that was confirmed.
for a in $(seq 2001 3000); do echo "insert into t values ($a, 'w') returning a;"; sleep 0.02; done 2>/dev/null | q >$d/confirmed 2>/dev/null &
for i in $(seq 300); do [ $(wc -l <$d/confirmed) -ge 20 ] && break; sleep 0.1; done
kill -9 $(podman inspect p --format '{{.State.Pid}}'); podman wait p; wait
last=$(tail -n 1 $d/confirmed)
podman start p; q -c "$sums" -c "select count(*) - ($last - 2000) from t where a > 2000 and a <= $last"
podman logs p 2>&1 | grep -c 'automatic recovery in progress'
"#;

fn postgresql() -> Outcome {
    let ours = sh(&POSTGRESQL.replace("SERVICES", images::SERVICES))?;
    let sums = "2000|2001000|ff88c433ac874351087b912c542fc753\n";
    let expected = format!("{sums}p\n0\np\n{sums}137\np\n{sums}0\n1\n");
    ensure(ours.stdout == expected, || ours.to_string())
}
