//! A small assembler: a [`Policy`] as a program of type `BPF_PROG_TYPE_CGROUP_DEVICE`, which the kernel runs on every
//! open and mknod of a device. It returns 1 for yes and 0 for no. linux/bpf.h, `struct bpf_cgroup_dev_ctx`

use super::{Kind, Policy};

/// Instructions of linux/bpf.h and linux/bpf_common.h: 32-bit load, arithmetic with a constant or register, jumps.
mod code {
    pub(super) const LOAD: u8 = 0x61;
    pub(super) const MOVE: u8 = 0xb7;
    pub(super) const MOVE_REGISTER: u8 = 0xbf;
    pub(super) const AND: u8 = 0x57;
    pub(super) const SHIFT_RIGHT: u8 = 0x77;
    pub(super) const JUMP_IF_EQUAL: u8 = 0x15;
    pub(super) const JUMP_UNLESS_EQUAL: u8 = 0x55;
    pub(super) const EXIT: u8 = 0x95;
}

/// Result; the context comes in 1.
const RESULT: u8 = 0;
const CONTEXT: u8 = 1;
const ACCESS: u8 = 2;
const KIND: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

/// Returns the program of a policy.
pub(in crate::cgroup) fn compile(policy: &Policy) -> Vec<u64> {
    let mut program = vec![
        // The lower half of the first word is the kind of node, the upper half the access.
        instruction(code::LOAD, ACCESS, CONTEXT, 0, 0),
        instruction(code::MOVE_REGISTER, KIND, ACCESS, 0, 0),
        instruction(code::AND, KIND, 0, 0, 0xffff),
        instruction(code::SHIFT_RIGHT, ACCESS, 0, 0, 16),
        instruction(code::LOAD, MAJOR, CONTEXT, 4, 0),
        instruction(code::LOAD, MINOR, CONTEXT, 8, 0),
    ];
    for exception in &policy.exceptions {
        // Each check jumps past the verdict, so that the offsets follow from what comes after it.
        let mut checks: Vec<(u8, u8, u32)> = Vec::with_capacity(4);
        // BPF_DEVCG_DEV_BLOCK is 1, BPF_DEVCG_DEV_CHAR 2.
        checks.push((code::JUMP_UNLESS_EQUAL, KIND, if exception.kind == Kind::Block { 1 } else { 2 }));
        checks.extend(exception.major.map(|major| (code::JUMP_UNLESS_EQUAL, MAJOR, major)));
        checks.extend(exception.minor.map(|minor| (code::JUMP_UNLESS_EQUAL, MINOR, minor)));
        // What is forbidden by default must be allowed as a whole by one exception; what is allowed by default is
        // forbidden as soon as one exception has a part of it: device_cgroup.c, match_exception(_partial).
        let (mask, jump) = match policy.allow {
            false => (!exception.access & super::ALL, code::JUMP_UNLESS_EQUAL),
            true => (exception.access, code::JUMP_IF_EQUAL),
        };
        let verdict = [
            instruction(code::MOVE_REGISTER, RESULT, ACCESS, 0, 0),
            instruction(code::AND, RESULT, 0, 0, mask.into()),
            instruction(jump, RESULT, 0, 2, 0),
            instruction(code::MOVE, RESULT, 0, 0, u32::from(!policy.allow)),
            instruction(code::EXIT, 0, 0, 0, 0),
        ];
        let count = checks.len();
        program.extend(checks.into_iter().enumerate().map(|(index, (operation, register, value))| {
            instruction(operation, register, 0, (count - index - 1 + verdict.len()) as i16, value)
        }));
        program.extend(verdict);
    }
    program.push(instruction(code::MOVE, RESULT, 0, 0, u32::from(policy.allow)));
    program.push(instruction(code::EXIT, 0, 0, 0, 0));
    program
}

/// `struct bpf_insn` as the bytes of this machine.
fn instruction(operation: u8, destination: u8, source: u8, offset: i16, value: u32) -> u64 {
    let registers = if cfg!(target_endian = "big") { destination << 4 | source } else { source << 4 | destination };
    let [offset_0, offset_1] = offset.to_ne_bytes();
    let [value_0, value_1, value_2, value_3] = value.to_ne_bytes();
    u64::from_ne_bytes([operation, registers, offset_0, offset_1, value_0, value_1, value_2, value_3])
}
