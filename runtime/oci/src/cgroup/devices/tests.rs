//! The rules of v1 as the kernel describes them, and the program run by an interpreter, must agree on every access.

use oci_spec::runtime::LinuxDeviceCgroup;
use proptest::prelude::*;
use serde_json::json;

use super::*;

/// Runs a program on one access; what it does not know or a loop is a panic.
fn interpret(program: &[u64], kind: Kind, access: u8, major: u32, minor: u32) -> bool {
    let kind = if kind == Kind::Block { 1 } else { 2 };
    let context = [u32::from(access) << 16 | kind, major, minor];
    // Registers that the verifier would not let a program read are absent.
    let mut registers: [Option<u64>; 11] = [None; 11];
    registers[1] = Some(0);
    let mut at = 0_usize;
    for _ in 0..=program.len() {
        let bytes = program[at].to_le_bytes();
        let (to, from) = (usize::from(bytes[1] & 15), usize::from(bytes[1] >> 4));
        let offset = i16::from_le_bytes([bytes[2], bytes[3]]);
        let value = i32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]) as i64 as u64;
        at += 1;
        let have = |register: usize| registers[register].expect("a register is set before it is read");
        match bytes[0] {
            0x61 => {
                assert_eq!((from, have(1)), (1, 0), "only the context is loaded from");
                registers[to] = Some(context[usize::try_from(offset).unwrap() / 4].into());
            }
            0xb7 => registers[to] = Some(value),
            0xbf => registers[to] = Some(have(from)),
            0x57 => registers[to] = Some(have(to) & value),
            0x77 => registers[to] = Some(have(to) >> value),
            0x15 | 0x55 => {
                if (have(to) == value) == (bytes[0] == 0x15) {
                    at = at.checked_add_signed(offset.into()).unwrap();
                }
            }
            0x95 => return have(0) == 1,
            other => panic!("unknown instruction {other:#x}"),
        }
    }
    panic!("the program does not end");
}

/// The device cgroup of v1, by Documentation/admin-guide/cgroup-v1/devices.rst, from the commands as text.
#[derive(Default)]
struct Kernel {
    denies: bool,
    exceptions: std::collections::BTreeMap<String, String>,
}

impl Kernel {
    fn write(&mut self, file: &str, line: &str) {
        let denies = file == "devices.deny";
        let Some((device, letters)) = line.rsplit_once(' ') else {
            assert_eq!(line, "a");
            *self = Self { denies, ..Self::default() };
            return;
        };
        let entry = self.exceptions.entry(device.to_owned()).or_default();
        match denies == self.denies {
            true => entry.retain(|letter| !letters.contains(letter)),
            false => entry.push_str(letters),
        }
    }

    fn allows(&self, kind: Kind, letters: &str, major: u32, minor: u32) -> bool {
        let kind = if kind == Kind::Block { 'b' } else { 'c' };
        let names = [
            format!("{kind} {major}:{minor}"),
            format!("{kind} {major}:*"),
            format!("{kind} *:{minor}"),
            format!("{kind} *:*"),
        ];
        let mut entries = names.iter().filter_map(|name| self.exceptions.get(name)).filter(|entry| !entry.is_empty());
        match self.denies {
            true => entries.any(|entry| letters.chars().all(|letter| entry.contains(letter))),
            false => !entries.any(|entry| letters.chars().any(|letter| entry.contains(letter))),
        }
    }
}

fn any_rule() -> impl Strategy<Value = LinuxDeviceCgroup> {
    let number = prop_oneof![2 => Just(None), 2 => (0_i64..3).prop_map(Some), 1 => Just(Some(3))];
    let kind = prop_oneof![1 => Just("a"), 4 => Just("b"), 4 => Just("c")];
    let access = prop::sample::select(vec!["r", "w", "m", "rw", "rm", "wm", "rwm", "mwr", ""]);
    (any::<bool>(), kind, number.clone(), number, access).prop_map(|(allow, kind, major, minor, access)| {
        let rule = json!({"allow": allow, "type": kind, "major": major, "minor": minor, "access": access});
        serde_json::from_value(rule).unwrap()
    })
}

proptest! {
    #[test]
    fn the_program_decides_as_the_device_cgroup_of_v1(list in prop::collection::vec(any_rule(), 0..12), usual: bool) {
        let mut list = rules(&list).unwrap();
        if usual {
            list = with_defaults(list);
        }
        let mut kernel = Kernel::default();
        for (_, rule) in &list {
            let (file, line) = command(rule);
            kernel.write(file, &line);
        }

        let program = compile(&Policy::of(list.iter().map(|(_, rule)| rule)));

        for kind in [Kind::Block, Kind::Char] {
            for (major, minor) in [(0, 0), (0, 1), (1, 0), (1, 2), (2, 2), (1, 3), (7, 7), (136, 5)] {
                for access in 0..=ALL {
                    let letters = ACCESSES.iter().filter(|(bit, _)| access & bit != 0).map(|(_, letter)| letter);
                    let expected = kernel.allows(kind, &letters.collect::<String>(), major, minor);
                    let found = interpret(&program, kind, access, major, minor);
                    prop_assert_eq!(found, expected, "{:?} {} {}:{} of {:?}", kind, access, major, minor, list);
                }
            }
        }
    }
}

/// The decisions of the kernel's device cgroup after these rules.
fn decisions(list: &[(String, Rule)]) -> Vec<bool> {
    let mut kernel = Kernel::default();
    for (_, rule) in list {
        let (file, line) = command(rule);
        kernel.write(file, &line);
    }
    let devices = [(0, 0), (1, 2), (1, 3), (1, 5), (5, 0), (5, 2), (136, 0), (136, 5)];
    let asked = [Kind::Block, Kind::Char].into_iter().flat_map(|kind| devices.map(|device| (kind, device)));
    let asked = asked.flat_map(|(kind, device)| ["r", "w", "m", "rw"].map(|letters| (kind, device, letters)));
    asked.map(|(kind, (major, minor), letters)| kernel.allows(kind, letters, major, minor)).collect()
}

proptest! {
    #[test]
    fn a_device_that_the_rules_allow_last_need_not_be_allowed_again(list in prop::collection::vec(any_rule(), 0..12)) {
        let rules = rules(&list).unwrap();
        let [deny_all, usual @ ..] = &with_defaults(Vec::new())[..] else { unreachable!() };
        let starts_over = rules.first().is_some_and(|(_, rule)| rule.about.is_none());
        let before = [deny_all.clone()].into_iter().filter(|_| !starts_over);
        let all: Vec<_> = before.chain(rules.clone()).chain(usual.to_vec()).collect();

        prop_assert_eq!(decisions(&with_defaults(rules)), decisions(&all));
    }
}

fn listed(list: serde_json::Value) -> Result<Vec<(&'static str, String)>, String> {
    let list: Vec<LinuxDeviceCgroup> = serde_json::from_value(list).unwrap();
    let rules = rules(&list).map_err(|error| error.to_string())?;
    Ok(rules.iter().map(|(_, rule)| command(rule)).collect())
}

#[test]
fn rules_become_commands_in_their_order() {
    let list = json!([
        {"allow": false, "access": "rwm"},
        {"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwm"},
        {"allow": true, "type": "b", "access": "m"},
        {"allow": false},
        {"allow": true, "type": "a", "access": "m"},
        {"allow": true, "type": "c", "major": 10, "minor": -1, "access": "wr"},
    ]);

    let expected = [
        ("devices.deny", "a"),
        ("devices.allow", "c 1:3 mrw"),
        ("devices.allow", "b *:* m"),
        ("devices.deny", "a"),
        ("devices.allow", "b *:* m"),
        ("devices.allow", "c *:* m"),
        ("devices.allow", "c 10:* rw"),
    ];
    let expected = expected.map(|(file, line)| (file, line.to_owned()));
    assert_eq!(listed(list).unwrap(), expected);
}

#[test]
fn rules_without_a_meaning_are_refused_by_index() {
    for rule in [
        json!({"allow": true, "access": "rx"}),
        json!({"allow": true, "type": "c", "major": -2, "access": "r"}),
        json!({"allow": true, "type": "c", "minor": 1_i64 << 32, "access": "r"}),
        json!({"allow": true, "type": "p", "access": "r"}),
    ] {
        let error = listed(json!([{"allow": false}, rule.clone()])).expect_err(&rule.to_string());
        assert!(error.starts_with("cannot apply linux.resources.devices[1]: "), "{error}");
    }
}

#[test]
fn the_usual_devices_stay_usable_whatever_a_spec_forbids() {
    let deny: Vec<LinuxDeviceCgroup> = serde_json::from_value(json!([{"allow": false, "access": "rwm"}])).unwrap();
    let list = with_defaults(rules(&deny).unwrap());

    let program = compile(&Policy::of(list.iter().map(|(_, rule)| rule)));

    assert!(interpret(&program, Kind::Char, 6, 1, 3), "null");
    assert!(interpret(&program, Kind::Char, 6, 136, 9), "a terminal");
    assert!(interpret(&program, Kind::Block, 1, 8, 0), "a node may be made");
    assert!(!interpret(&program, Kind::Block, 2, 8, 0), "and not be read");
    assert!(!interpret(&program, Kind::Char, 2, 10, 229));
}
