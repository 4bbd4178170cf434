//! Seccomp programs: classic BPF, eight bytes an instruction (`struct sock_filter` of
//! linux/filter.h): code, two short jumps, and a number.

/// Loads a word of `struct seccomp_data` by its offset.
const LOAD: u16 = 0x20;

/// Compares for equality, and jumps.
const JUMP_EQUAL: u16 = 0x15;

/// Jumps.
const JUMP: u16 = 0x05;

/// Offset of the architecture in `struct seccomp_data`.
const ARCH: u32 = 4;

/// Bytes of an instruction.
const SIZE: usize = 8;

/// One program out of two: calls of the architecture `arch` run `first`, all others `second`.
/// Jumps are relative, so both run unchanged.
pub(super) fn join(arch: u32, first: &[u8], second: &[u8]) -> Vec<u8> {
    // A program is bounded by the kernel's 4096 instructions.
    let length = u32::try_from(first.len() / SIZE).unwrap_or(u32::MAX);
    let mut program = Vec::with_capacity(first.len() + second.len() + 3 * SIZE);
    for (code, if_true, if_false, number) in [
        (LOAD, 0, 0, ARCH),
        (JUMP_EQUAL, 1, 0, arch),
        (JUMP, 0, 0, length),
    ] {
        program.extend_from_slice(&u16::to_le_bytes(code));
        program.extend_from_slice(&[if_true, if_false]);
        program.extend_from_slice(&u32::to_le_bytes(number));
    }
    program.extend_from_slice(first);
    program.extend_from_slice(second);
    program
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// What a program returns for a call without arguments: enough of BPF for seccomp.
    pub(in crate::split::seccomp) fn run(program: &[u8], arch: u32, number: u32) -> u32 {
        let (mut at, mut accumulator) = (0, 0_u32);
        loop {
            let bytes: [u8; SIZE] = program[at * SIZE..][..SIZE].try_into().unwrap();
            let code = u16::from_le_bytes([bytes[0], bytes[1]]);
            let k = u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
            at += 1;
            let mut branch = |taken: bool| at += usize::from(bytes[if taken { 2 } else { 3 }]);
            match code {
                LOAD => {
                    accumulator = match k {
                        0 => number,
                        ARCH => arch,
                        _ => 0,
                    };
                }
                JUMP => at += usize::try_from(k).unwrap(),
                JUMP_EQUAL => branch(accumulator == k),
                0x25 => branch(accumulator > k),
                0x35 => branch(accumulator >= k),
                0x45 => branch(accumulator & k != 0),
                0x54 => accumulator &= k,
                0x06 => return k,
                other => panic!("unknown instruction {other:#x}"),
            }
        }
    }

    #[test]
    fn each_half_runs_for_its_own_architecture() {
        let answer = |k: u8| [0x06, 0, 0, 0, k, 0, 0, 0];
        let long: Vec<u8> = [[0x54, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]; 300]
            .concat()
            .into_iter()
            .chain(answer(1))
            .collect();
        let program = join(7, &long, &answer(2));
        assert_eq!(run(&program, 7, 0), 1);
        assert_eq!(run(&program, 8, 0), 2);
    }
}
