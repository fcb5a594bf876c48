//! A backward assembler for classic BPF: every jump goes forward, so what is jumped to is emitted first
//! and its place, counted from the end, is known. Conditional jumps reach 255; farther ones get a relay.

use std::collections::HashMap;

// linux/bpf_common.h
const LOAD_WORD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
const JUMP: u16 = 0x05; // BPF_JMP | BPF_JA
const RETURN: u16 = 0x06; // BPF_RET | BPF_K

/// The comparisons of the accumulator with a constant that the machine has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Test {
    Equal = 0x15,
    Greater = 0x25,
    GreaterOrEqual = 0x35,
}

/// A place in the program, counted from its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Label(usize);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Instruction {
    code: u16,
    on_true: u8,
    on_false: u8,
    operand: u32,
}

/// The program so far, last instruction first.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    reversed: Vec<Instruction>,
    returns: HashMap<u32, Label>,
}

impl Assembler {
    /// Returns a place that ends the filter with `value`, near enough for a conditional jump.
    pub(super) fn ret(&mut self, value: u32) -> Label {
        match self.returns.get(&value) {
            Some(label) if self.is_near(*label) => *label,
            _ => {
                let label = self.emit(Instruction { code: RETURN, on_true: 0, on_false: 0, operand: value });
                self.returns.insert(value, label);
                label
            }
        }
    }

    /// Emits a load of the word at `offset` of `struct seccomp_data`; what follows it must be emitted last.
    pub(super) fn load(&mut self, offset: u32) -> Label {
        self.emit(Instruction { code: LOAD_WORD, on_true: 0, on_false: 0, operand: offset })
    }

    /// Emits an AND of the accumulator.
    pub(super) fn and(&mut self, mask: u32) -> Label {
        self.emit(Instruction { code: AND, on_true: 0, on_false: 0, operand: mask })
    }

    /// Emits a conditional jump.
    pub(super) fn test(&mut self, test: Test, operand: u32, on_true: Label, on_false: Label) -> Label {
        let (on_true, on_false) = (self.near(on_true), self.near(on_false));
        // The second relay may have pushed the first target away by one; `is_near` keeps that in reserve.
        let here = self.reversed.len();
        let distance = |label: Label| u8::try_from(here - 1 - label.0).expect("near() keeps targets within reach");
        let (on_true, on_false) = (distance(on_true), distance(on_false));
        self.emit(Instruction { code: test as u16, on_true, on_false, operand })
    }

    /// Makes sure that the next instruction emitted falls through to `label`.
    pub(super) fn fall_to(&mut self, label: Label) {
        if label.0 + 1 != self.reversed.len() {
            self.jump(label);
        }
    }

    /// Returns how many instructions there are.
    pub(super) fn len(&self) -> usize {
        self.reversed.len()
    }

    /// Returns the program in order, as records of `struct sock_filter`.
    pub(super) fn finish(self) -> Vec<u8> {
        let record = |instruction: &Instruction| {
            let [code_low, code_high] = instruction.code.to_ne_bytes();
            let [one, two, three, four] = instruction.operand.to_ne_bytes();
            [code_low, code_high, instruction.on_true, instruction.on_false, one, two, three, four]
        };
        self.reversed.iter().rev().flat_map(record).collect()
    }

    fn near(&mut self, label: Label) -> Label {
        if self.is_near(label) {
            return label;
        }
        match self.reversed[label.0] {
            // Repeating a return costs no more than a jump to it.
            Instruction { code: RETURN, operand, .. } => self.ret(operand),
            _ => self.jump(label),
        }
    }

    fn jump(&mut self, label: Label) -> Label {
        let operand = (self.reversed.len() - 1 - label.0) as u32;
        self.emit(Instruction { code: JUMP, on_true: 0, on_false: 0, operand })
    }

    /// Says whether a conditional jump emitted here, or two instructions later, reaches `label`.
    fn is_near(&self, label: Label) -> bool {
        self.reversed.len() - label.0 <= 250
    }

    fn emit(&mut self, instruction: Instruction) -> Label {
        self.reversed.push(instruction);
        Label(self.reversed.len() - 1)
    }
}
