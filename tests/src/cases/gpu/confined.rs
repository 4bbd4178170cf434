//! What a render server can do that its guest has taken over: here a script in its place.

use super::script;
use crate::harness::{Case, Outcome, ensure};

pub(crate) const CASES: &[Case] = &[Case {
    name: "gpu::render_server_confined",
    run: render_server_confined,
}];

/// Run by root, the script can do all that it tries; in a render server's place, what a driver
/// has to.
fn render_server_confined() -> Outcome {
    let ours = script(
        r#"f=$(mktemp); truncate -s 1M $f; modprobe loop; disk=$(losetup --find --show $f)
         cat >/usr/local/bin/curious <<END
#!/bin/sh
try() { sh -c "\$1" >/dev/null 2>&1 && echo "\$1" | sed s,$disk,DISK,g\;s,$f,FILE,g >>/dev/shm/curious; }
try 'head -c 1 /dev/zero'
try 'cat /usr/bin/true /proc/self/status'
try 'head -c 1 $disk'
try 'head -c 1 $f'
try 'echo x >>$f'
try 'mv $f $f.new && mv $f.new $f'
try 'chmod u+s $f'
try 'touch -m $f'
END
         chmod +x /usr/local/bin/curious
         /usr/local/bin/curious; cat /dev/shm/curious; rm /dev/shm/curious; echo
         mkdir -p /etc/krun-gpu; printf '[gpu]\nrender_server = "/usr/local/bin/curious"\n' >/etc/krun-gpu/config.toml
         run --device /dev/dri $V true >/dev/null 2>&1; cat /dev/shm/curious
         rm -r /etc/krun-gpu /usr/local/bin/curious /dev/shm/curious; losetup -d $disk; rm $f"#,
    )?;
    let allowed = "head -c 1 /dev/zero\ncat /usr/bin/true /proc/self/status\n";
    let denied = "head -c 1 DISK\nhead -c 1 FILE\necho x >>FILE\nmv FILE FILE.new && mv FILE.new FILE\n\
                  chmod u+s FILE\ntouch -m FILE\n";
    ensure(
        ours.stdout == format!("{allowed}{denied}\n{allowed}"),
        || ours.to_string(),
    )
}
