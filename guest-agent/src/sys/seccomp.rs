//! Loads a compiled seccomp filter into the calling process.
//!
//! Called by `process/` as one of its last steps. The program was compiled by the host; the
//! kernel verifies it.

use krun_gpu_protocol::Seccomp;
use rustix::io::Errno;

use super::checked;

/// Why a filter was not loaded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SeccompError {
    /// The program's length is not what a BPF program has.
    #[error("seccomp program of {length} bytes is not a list of at most 65535 instructions")]
    Length {
        /// Its length in bytes.
        length: usize,
    },
    /// The kernel refused it.
    #[error("load a seccomp program of {instructions} instructions with flags {flags:#x}")]
    Load {
        /// Its length in instructions.
        instructions: u16,
        /// `SECCOMP_FILTER_FLAG_*`.
        flags: u64,
        /// Why.
        #[source]
        source: Errno,
    },
}

/// Loads `seccomp`. Needs no_new_privs or CAP_SYS_ADMIN.
pub(crate) fn load(seccomp: &Seccomp) -> Result<(), SeccompError> {
    let length = seccomp.program.len();
    let (instructions, rest) = seccomp.program.as_chunks::<8>();
    let count = u16::try_from(instructions.len())
        .ok()
        .filter(|count| *count > 0 && rest.is_empty())
        .ok_or(SeccompError::Length { length })?;
    let mut filter: Vec<libc::sock_filter> = instructions
        .iter()
        .map(|&[c0, c1, jt, jf, k0, k1, k2, k3]| libc::sock_filter {
            code: u16::from_le_bytes([c0, c1]),
            jt,
            jf,
            k: u32::from_le_bytes([k0, k1, k2, k3]),
        })
        .collect();
    let program = libc::sock_fprog {
        len: count,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: `program` points to `count` instructions that outlive the call.
    checked(unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            seccomp.flags,
            &raw const program,
        )
    })
    .map(drop)
    .map_err(|source| SeccompError::Load {
        instructions: count,
        flags: seccomp.flags,
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_program_is_refused_with_its_length() {
        let seccomp = Seccomp {
            program: vec![0; 12],
            flags: 0,
        };
        assert_eq!(
            load(&seccomp).unwrap_err().to_string(),
            "seccomp program of 12 bytes is not a list of at most 65535 instructions"
        );
    }
}
