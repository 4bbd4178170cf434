//! Images of every C library run.

use crate::harness::{Case, Outcome, ensure, images, same};

pub(super) const CASES: &[Case] = &[
    Case {
        name: "images::debian",
        run: debian,
    },
    Case {
        name: "images::musl",
        run: musl,
    },
];

fn debian() -> Outcome {
    images::debian()?;
    let ours = same(
        "run localhost/debian bash -c '. /etc/os-release; echo $VERSION_CODENAME; ldd /bin/ls >/dev/null && perl -e \"print 6*7\"; \
         dpkg -l | wc -l; getent passwd root; ls /usr/bin | wc -l'",
    )?;
    ensure(ours.stdout.starts_with("trixie\n42"), || ours.to_string())
}

fn musl() -> Outcome {
    images::musl()?;
    let ours = same("run localhost/musl /bin/program")?;
    ensure(ours.stdout == "thread\nmusl\n" && ours.status == 7, || {
        ours.to_string()
    })
}
