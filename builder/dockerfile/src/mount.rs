//! `RUN --mount`: comma-separated options, after or before expansion of variables.
//! Checks what BuildKit checks: known types and keys, keys that fit the type, what must be given.

use thiserror::Error;

use crate::suggest;

/// Why a mount is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MountError {
    /// Not comma-separated values.
    #[error("invalid --mount {text:?}: a quote in it is misplaced or never closed")]
    Quotes {
        /// The value.
        text: String,
    },
    /// A key that no mount has.
    #[error("unknown mount option {key:?}")]
    UnknownKey {
        /// The key.
        key: String,
    },
    /// A key of another type.
    #[error("mount option {key:?} does not fit a mount of type {kind}")]
    UnexpectedKey {
        /// The key.
        key: String,
        /// The type of the mount.
        kind: &'static str,
    },
    /// A key without `=value`.
    #[error("mount option {key:?} needs a value")]
    MissingValue {
        /// The key.
        key: String,
    },
    /// A value that the key does not take.
    #[error("invalid value {value:?} of mount option {key:?}: it must be {expected}")]
    InvalidValue {
        /// The key.
        key: String,
        /// The value.
        value: String,
        /// What it may be.
        expected: &'static str,
    },
    /// A variable in `from`.
    #[error("variables do not expand in mount option \"from\": {value:?}")]
    Variable {
        /// The value.
        value: String,
    },
    /// Bind, cache and tmpfs need a target.
    #[error("a mount of type {kind} needs target=PATH")]
    MissingTarget {
        /// The type of the mount.
        kind: &'static str,
    },
    /// A secret needs an id or a target.
    #[error("a mount of type secret needs id=NAME or target=PATH")]
    MissingSecret,
}

impl MountError {
    /// What was probably meant.
    pub fn suggestion(&self) -> Option<&'static str> {
        match self {
            MountError::UnknownKey { key } => suggest::nearest(key, KEYS.iter().map(|(key, _)| *key)),
            MountError::InvalidValue { key, value, .. } if key == "type" => suggest::nearest(value, TYPES),
            MountError::InvalidValue { key, value, .. } if key == "sharing" => suggest::nearest(value, SHARING),
            _ => None,
        }
    }

    /// What to do instead.
    pub fn advice(&self) -> Option<&'static str> {
        match self {
            MountError::Variable { .. } => {
                Some("name a stage with FROM … AS, where global ARGs expand, and mount from that")
            }
            _ => None,
        }
    }
}

const TYPES: [&str; 5] = ["bind", "cache", "tmpfs", "secret", "ssh"];
const SHARING: [&str; 3] = ["shared", "private", "locked"];

/// Every spelling of a key, and the one it stands for.
const KEYS: [(&str, &str); 18] = [
    ("type", "type"),
    ("target", "target"),
    ("dst", "target"),
    ("destination", "target"),
    ("source", "source"),
    ("src", "source"),
    ("from", "from"),
    ("id", "id"),
    ("ro", "ro"),
    ("readonly", "ro"),
    ("rw", "rw"),
    ("readwrite", "rw"),
    ("sharing", "sharing"),
    ("size", "size"),
    ("required", "required"),
    ("mode", "mode"),
    ("uid", "uid"),
    ("gid", "gid"),
];

/// The options of one mount, by their canonical names, in order; `ro` and `rw` without value are `true`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// `bind`, `cache`, `tmpfs`, `secret` or `ssh`.
    pub kind: &'static str,
    /// Canonical key (`target`, `source`, `from`, `id`, `ro`, `rw`, `sharing`, `size`, `required`, `mode`, `uid`,
    /// `gid`, `env`) and value.
    pub options: Vec<(&'static str, String)>,
}

impl Mount {
    /// The last value of an option.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.options.iter().rev().find(|(known, _)| *known == key).map(|(_, value)| value.as_str())
    }
}

/// Parses the value of `--mount`; `expand` is applied to every value but that of `from`.
pub fn parse<E: From<MountError>>(text: &str, expand: impl Fn(&str) -> Result<String, E>) -> Result<Mount, E> {
    let fields = split(text).ok_or_else(|| MountError::Quotes { text: text.to_owned() })?;
    let mut kind = "bind";
    let mut options: Vec<(&'static str, String)> = Vec::new();
    for field in &fields {
        let (written, value) = field.split_once('=').map_or((field.as_str(), None), |(k, v)| (k, Some(v)));
        let key = canonical(written)?;
        let value = match value {
            None if matches!(key, "ro" | "rw" | "required") => "true".to_owned(),
            None => return Err(MountError::MissingValue { key: key.to_owned() }.into()),
            Some(value) if key == "from" => checked_from(value)?.to_owned(),
            Some(value) => expand(value)?,
        };
        match key {
            "type" => kind = choose(key, &value, &TYPES, "bind, cache, tmpfs, secret or ssh")?,
            _ => options.push((key, value)),
        }
    }
    let mount = Mount { kind, options };
    for (key, value) in &mount.options {
        check_option(mount.kind, key, value)?;
    }
    check_presence(&mount)?;
    Ok(mount)
}

/// What a mount reads: the value of its `from`, which does not expand. Other options are not looked at.
pub fn source_of(text: &str) -> Option<String> {
    let fields = split(text)?;
    let from =
        fields.iter().filter_map(|field| field.split_once('=')).rfind(|(key, _)| key.eq_ignore_ascii_case("from"));
    from.map(|(_, value)| value.to_owned()).filter(|value| !value.is_empty())
}

/// Checks the value of `--mount` before variables are known: values that hold one pass.
pub(crate) fn check(text: &str) -> Result<(), MountError> {
    match text.contains('$') {
        true => {
            let fields = split(text).ok_or_else(|| MountError::Quotes { text: text.to_owned() })?;
            let froms = fields
                .iter()
                .filter_map(|field| field.split_once('=').filter(|(key, _)| key.eq_ignore_ascii_case("from")));
            froms.into_iter().try_for_each(|(_, value)| checked_from(value).map(|_| ()))
        }
        false => parse(text, |value| Ok(value.to_owned())).map(|_: Mount| ()),
    }
}

fn checked_from(value: &str) -> Result<&str, MountError> {
    match value.find('$').is_some_and(|at| at + 1 != value.len()) {
        true => Err(MountError::Variable { value: value.to_owned() }),
        false => Ok(value),
    }
}

fn canonical(written: &str) -> Result<&'static str, MountError> {
    let lower = written.to_lowercase();
    if lower == "env" {
        return Ok("env");
    }
    let known = KEYS.iter().find(|(key, _)| *key == lower).map(|(_, canonical)| *canonical);
    known.ok_or_else(|| MountError::UnknownKey { key: written.to_owned() })
}

fn choose(
    key: &str,
    value: &str,
    allowed: &[&'static str],
    expected: &'static str,
) -> Result<&'static str, MountError> {
    let lower = value.to_lowercase();
    let found = allowed.iter().copied().find(|known| *known == lower);
    found.ok_or_else(|| MountError::InvalidValue { key: key.to_owned(), value: value.to_owned(), expected })
}

fn check_option(kind: &'static str, key: &str, value: &str) -> Result<(), MountError> {
    let allowed: &[&str] = match kind {
        "bind" => &["target", "source", "from", "ro", "rw"],
        "cache" => &["id", "target", "ro", "rw", "sharing", "from", "source", "mode", "uid", "gid"],
        "tmpfs" => &["target", "size"],
        "secret" => &["id", "target", "source", "env", "required", "mode", "uid", "gid"],
        _ => &["id", "target", "required", "mode", "uid", "gid"],
    };
    if !allowed.contains(&key) {
        return Err(MountError::UnexpectedKey { key: key.to_owned(), kind });
    }
    let expected = match key {
        "ro" | "rw" | "required" if parse_bool(value).is_none() => "true or false",
        "mode" if !is_mode(value) => "an octal number of at most four digits",
        "uid" | "gid" if !is_id(value) => "a number",
        "sharing" => return choose(key, value, &SHARING, "shared, private or locked").map(|_| ()),
        "size" if parse_size(value).is_none() => "a size such as 64m",
        _ => return Ok(()),
    };
    Err(MountError::InvalidValue { key: key.to_owned(), value: value.to_owned(), expected })
}

/// Permission bits in octal: digits, without a sign, and no bits beyond them.
fn is_mode(value: &str) -> bool {
    !value.starts_with('+') && u32::from_str_radix(value, 8).is_ok_and(|mode| mode <= 0o7777)
}

/// The number of a user or group: digits, without a sign. The last one stands for none.
fn is_id(value: &str) -> bool {
    !value.starts_with('+') && value.parse::<u32>().is_ok_and(|id| id != u32::MAX)
}

fn check_presence(mount: &Mount) -> Result<(), MountError> {
    let has = |key| mount.get(key).is_some_and(|value| !value.is_empty());
    match mount.kind {
        "bind" | "cache" | "tmpfs" if !has("target") => Err(MountError::MissingTarget { kind: mount.kind }),
        "secret" if !has("id") && !has("source") && !has("target") => Err(MountError::MissingSecret),
        _ => Ok(()),
    }
}

/// Reads a boolean as Go does.
pub fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Reads a number of bytes with an optional binary unit: `64m`, `1GiB`, `4096`.
pub fn parse_size(text: &str) -> Option<u64> {
    let lower = text.trim().to_lowercase();
    let digits = lower.find(|c: char| !c.is_ascii_digit()).unwrap_or(lower.len());
    let shift = match lower[digits..].trim() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return None,
    };
    lower[..digits].parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// Splits comma-separated values; a field in double quotes may hold commas and doubled quotes.
pub(crate) fn split(text: &str) -> Option<Vec<String>> {
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let (field, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_field(quoted)?,
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                if rest[..end].contains('"') {
                    return None;
                }
                (rest[..end].to_owned(), &rest[end..])
            }
        };
        fields.push(field);
        match after.strip_prefix(',') {
            Some(next) => rest = next,
            None => return after.is_empty().then_some(fields),
        }
    }
}

fn quoted_field(text: &str) -> Option<(String, &str)> {
    let mut field = String::new();
    let mut rest = text;
    loop {
        let end = rest.find('"')?;
        field.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(after) => {
                field.push('"');
                rest = after;
            }
            None => return Some((field, rest)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &str) -> Result<Mount, MountError> {
        parse(text, |value| Ok(value.to_owned()))
    }

    #[test]
    fn options_get_their_canonical_names() {
        let mount = plain("type=cache,dst=/root/.cache,sharing=locked,\"id=a,b\"").unwrap();

        assert_eq!(mount.kind, "cache");
        assert_eq!(mount.get("target"), Some("/root/.cache"));
        assert_eq!(mount.get("id"), Some("a,b"));
    }

    #[test]
    fn variables_expand_everywhere_but_in_from() {
        let expanded = |text| parse::<MountError>(text, |value| Ok(value.replace("$x", "/y")));
        let mount = expanded("from=a,target=$x").unwrap();

        assert_eq!((mount.get("from"), mount.get("target")), (Some("a"), Some("/y")));
        assert_eq!(expanded("from=a$x,target=/x"), Err(MountError::Variable { value: "a$x".into() }));
        assert_eq!(check("target=$x,From=$x"), Err(MountError::Variable { value: "$x".into() }));
        assert_eq!(check("target=$x,from=x$"), Ok(()));
    }

    #[test]
    fn wrong_mounts_say_what_is_wrong() {
        let cases = [
            ("type=chache,target=/x", "invalid value \"chache\" of mount option \"type\"", Some("cache")),
            ("tagret=/x", "unknown mount option \"tagret\"", Some("target")),
            ("type=tmpfs,target=/x,id=y", "mount option \"id\" does not fit a mount of type tmpfs", None),
            ("target", "mount option \"target\" needs a value", None),
            ("type=cache", "a mount of type cache needs target=PATH", None),
            ("type=secret", "a mount of type secret needs id=NAME or target=PATH", None),
            ("target=/x,ro=maybe", "invalid value \"maybe\" of mount option \"ro\": it must be true or false", None),
            ("\"target=/x", "invalid --mount \"\\\"target=/x\": a quote in it is misplaced", None),
            ("target=/x,mode=0755", "mount option \"mode\" does not fit a mount of type bind", None),
        ];
        for (text, expected, suggestion) in cases {
            let error = plain(text).expect_err(text);
            assert!(error.to_string().starts_with(expected), "{text}: {error}");
            assert_eq!(error.suggestion(), suggestion, "{text}");
        }
    }

    /// Row 109 (CVE-2024-9407): nothing reaches a mount but keys of its type, with values that they may have.
    #[test]
    fn row_109_options_and_values_outside_the_lists_are_refused() {
        /// Some that may be, some that may not.
        type Values = (&'static [&'static str], &'static [&'static str]);
        const MODES: Values = (&["0", "755", "0755", "7777"], &["", "9", "0x7", "-1", "+7", "10000", "u+x"]);
        const IDS: Values = (&["0", "1000"], &["", "-1", "+5", "root", "4294967295", "4294967296", "1 2"]);
        const BOOLS: Values = (&["true", "0", "F"], &["", "yes", "2", "shared", "true,z"]);
        const SHARED: Values = (&["shared", "Private", "LOCKED"], &["", "rshared", "slave", "shared z"]);
        const SIZES: Values = (&["0", "64m"], &["", "-1", "1x", "m", "1e9", "99999999999t"]);
        let values: [(&str, Values); 8] = [
            ("mode", MODES),
            ("uid", IDS),
            ("gid", IDS),
            ("ro", BOOLS),
            ("rw", BOOLS),
            ("required", BOOLS),
            ("sharing", SHARED),
            ("size", SIZES),
        ];
        let text = |kind: &str, option: &str| format!("type={kind},target=/x,{option}");
        for kind in TYPES {
            // Options of volumes and binds elsewhere: here they would loosen a mount in silence.
            for key in
                ["bind-propagation", "propagation", "bind-nonrecursive", "relabel", "z", "Z", "U", "O", "exec", "suid"]
            {
                for option in [key.to_owned(), format!("{key}=rshared"), format!("{key}=true")] {
                    let refused = plain(&text(kind, &option)).expect_err(&option);
                    assert!(matches!(refused, MountError::UnknownKey { .. }), "{kind} {option}: {refused}");
                }
            }
            for (key, (good, bad)) in values {
                let fits = check_option(kind, key, good[0]).is_ok();
                for value in good {
                    assert_eq!(plain(&text(kind, &format!("{key}={value}"))).is_ok(), fits, "{kind} {key}={value}");
                }
                for value in bad {
                    plain(&text(kind, &format!("\"{key}={value}\""))).expect_err(&format!("{kind} {key}={value}"));
                }
            }
        }
        for kind in ["", "volume", "npipe", "devpts", "glob", "bind,cache", "overlay", "image"] {
            plain(&format!("\"type={kind}\",target=/x")).expect_err(kind);
        }
    }

    #[test]
    fn sizes_have_binary_units() {
        let cases = [("64m", Some(64 << 20)), ("1GiB", Some(1 << 30)), ("7", Some(7)), ("m", None), ("1x", None)];
        for (text, expected) in cases {
            assert_eq!(parse_size(text), expected, "{text}");
        }
    }
}
