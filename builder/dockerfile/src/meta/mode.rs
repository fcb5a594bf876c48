//! Modes of `--chmod`: octal, or symbolic changes as chmod(1) takes them (without a umask).

use super::MetaError;

/// A parsed `--chmod`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// The permission bits themselves, up to 07777.
    Octal(u32),
    /// Changes to the bits a file has, in order.
    Symbolic(Vec<Change>),
}

/// One change of a symbolic mode: `go-w`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    who: u32,
    operator: char,
    permissions: Permissions,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Permissions {
    /// `rwxXst`
    Letters(String),
    /// The bits that `u`, `g` or `o` has; the shift to them.
    CopyOf(u32),
}

const OWNER: u32 = 0o4700;
const GROUP: u32 = 0o2070;
const OTHERS: u32 = 0o1007;

/// Parses `755`, `0644` or `u=rwX,go=rX`.
pub fn parse_chmod(text: &str) -> Result<Mode, MetaError> {
    let error = || MetaError::Mode { text: text.to_owned() };
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        let is_octal = text.bytes().all(|b| (b'0'..=b'7').contains(&b));
        let mode = is_octal.then(|| u32::from_str_radix(text, 8).ok()).flatten().filter(|mode| *mode <= 0o7777);
        return mode.map(Mode::Octal).ok_or_else(error);
    }
    let mut changes = Vec::new();
    for clause in text.split(',') {
        changes.extend(clause_changes(clause).ok_or_else(error)?);
    }
    Ok(Mode::Symbolic(changes))
}

fn clause_changes(clause: &str) -> Option<Vec<Change>> {
    let (who, mut rest) = clause.split_at(clause.find(['+', '-', '='])?);
    let mut mask = 0;
    for c in who.chars() {
        mask |= match c {
            'u' => OWNER,
            'g' => GROUP,
            'o' => OTHERS,
            'a' => 0o7777,
            _ => return None,
        };
    }
    let mask = if who.is_empty() { 0o7777 } else { mask };
    let mut changes = Vec::new();
    while let Some(operator) = rest.chars().next() {
        let after = &rest[1..];
        let end = after.find(['+', '-', '=']).unwrap_or(after.len());
        let permissions = match &after[..end] {
            "u" => Permissions::CopyOf(6),
            "g" => Permissions::CopyOf(3),
            "o" => Permissions::CopyOf(0),
            letters if letters.chars().all(|c| "rwxXst".contains(c)) => Permissions::Letters(letters.to_owned()),
            _ => return None,
        };
        changes.push(Change { who: mask, operator, permissions });
        rest = &after[end..];
    }
    Some(changes)
}

impl Mode {
    /// The permission bits of a file that has `bits` (at most 07777).
    pub fn apply(&self, bits: u32, is_directory: bool) -> u32 {
        match self {
            Mode::Octal(mode) => *mode,
            Mode::Symbolic(changes) => changes.iter().fold(bits & 0o7777, |bits, c| c.apply(bits, is_directory)),
        }
    }
}

impl Change {
    fn apply(&self, bits: u32, is_directory: bool) -> u32 {
        let wanted = self.who & self.wanted(bits, is_directory);
        match self.operator {
            '+' => bits | wanted,
            '-' => bits & !wanted,
            _ => {
                // chmod(1): "=" keeps the set-id bits of a directory unless they are named.
                let cleared = if is_directory { self.who & !0o6000 } else { self.who };
                (bits & !cleared) | wanted
            }
        }
    }

    fn wanted(&self, bits: u32, is_directory: bool) -> u32 {
        let letters = match &self.permissions {
            Permissions::CopyOf(shift) => return (bits >> shift & 7) * 0o111,
            Permissions::Letters(letters) => letters,
        };
        letters.chars().fold(0, |wanted, c| {
            wanted
                | match c {
                    'r' => 0o444,
                    'w' => 0o222,
                    'x' => 0o111,
                    'X' if is_directory || bits & 0o111 != 0 => 0o111,
                    's' => 0o6000,
                    't' => 0o1000,
                    _ => 0,
                }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_apply_as_chmod_does() {
        let cases = [
            ("755", 0o644, false, 0o755),
            ("0644", 0o755, true, 0o644),
            ("7777", 0, false, 0o7777),
            ("u=rwX,go=rX", 0o600, false, 0o644),
            ("u=rwX,go=rX", 0o600, true, 0o755),
            ("u=rwX,go=rX", 0o711, false, 0o755),
            ("+x", 0o644, false, 0o755),
            ("go-rwx", 0o755, false, 0o700),
            ("a=r", 0o4777, false, 0o444),
            ("g=u", 0o740, false, 0o770),
            ("u+s,g+s,+t", 0o755, false, 0o7755),
            ("u-x+w", 0o500, false, 0o600),
            ("go=", 0o777, false, 0o700),
        ];
        for (text, bits, is_directory, expected) in cases {
            let mode = parse_chmod(text).unwrap().apply(bits, is_directory);
            assert_eq!(format!("{mode:o}"), format!("{expected:o}"), "{text} of {bits:o}");
        }
    }

    #[test]
    fn what_is_no_mode_is_refused() {
        for text in ["", "8", "10000", "0x1ff", "rwx", "u=z", "u", "z+x", "u=rw,,g=r", "-1", "755 "] {
            assert!(parse_chmod(text).is_err(), "{text}");
        }
    }
}
