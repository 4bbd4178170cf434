//! The process' environment: what the specification says, and HOME as crun completes it.
//!
//! Called by `process::run`. /etc/passwd is the image's: it is read with bounds and never
//! trusted for more than a folder's name.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};

/// A longer passwd file is read up to here.
const PASSWD_LIMIT: u64 = 4 << 20;

/// `variables` with a HOME.
pub(super) fn complete(variables: &[String], uid: u32) -> Vec<String> {
    let mut environment = variables.to_vec();
    if !variables
        .iter()
        .any(|variable| variable.starts_with("HOME="))
    {
        let home = File::open("/etc/passwd")
            .ok()
            .and_then(|file| home(BufReader::new(file.take(PASSWD_LIMIT)), uid));
        environment.push(format!("HOME={}", home.as_deref().unwrap_or("/")));
    }
    environment
}

/// The value of PATH; without one nothing is found but by its path, as under crun.
pub(super) fn search_path(environment: &[String]) -> &str {
    environment
        .iter()
        .find_map(|variable| variable.strip_prefix("PATH="))
        .unwrap_or_default()
}

fn home(passwd: impl BufRead, uid: u32) -> Option<String> {
    let uid = uid.to_string();
    for line in passwd.split(b'\n') {
        let line = line.ok()?;
        let line = String::from_utf8_lossy(&line);
        let mut fields = line.split(':').skip(2);
        if fields.next() == Some(&uid) {
            let home = fields.nth(2)?;
            return (home.starts_with('/') && !home.contains('\0')).then(|| home.into());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\nbroken\nodd:x:7:7::relative:\nann:x:1000:100:Ann:/home/ann:/bin/sh\n";

    #[test]
    fn home_is_the_users_of_that_number() {
        assert_eq!(home(PASSWD, 0).unwrap(), "/root");
        assert_eq!(home(PASSWD, 1000).unwrap(), "/home/ann");
        assert_eq!(home(PASSWD, 7), None);
        assert_eq!(home(PASSWD, 100), None);
    }

    #[test]
    fn a_home_of_the_specification_stays() {
        let environment = complete(&["HOME=/srv".into()], 0);
        assert_eq!(environment, ["HOME=/srv"]);
    }
}
