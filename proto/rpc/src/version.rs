//! Which version of Strata a service's state is of. What the state itself says is a number of its own format; this is for
//! people: which program wrote it, and what to do where that was a later one.

use std::{fs, io, path::Path};

/// This version.
pub const OWN: &str = env!("CARGO_PKG_VERSION");

/// The file in a root that names the version which worked there last.
const FILE: &str = "version";

/// The longest text that is taken for a version.
const LONGEST: usize = 64;

/// The version that worked on a root last, if it is known.
pub fn writer(root: &Path) -> Option<String> {
    let text = fs::read_to_string(root.join(FILE)).ok()?;
    let version = text.trim();
    let is_version =
        !version.is_empty() && version.len() <= LONGEST && version.bytes().all(|byte| byte.is_ascii_graphic());
    is_version.then(|| version.to_owned())
}

/// What to do about state that a later version has written in a root: a part of an error's sentence.
pub fn advice(root: &Path) -> String {
    let reset = "or give up all state with `ctl system reset`";
    match writer(root).filter(|writer| writer != OWN) {
        Some(writer) => {
            format!("strata {writer} wrote it and this is strata {OWN}: install strata {writer} or later, {reset}")
        }
        None => format!("a later strata than {OWN} wrote it: install that one again, {reset}"),
    }
}

/// Notes that this version works on a root now, whose state is of its format.
pub(crate) fn note(root: &Path) -> io::Result<()> {
    if writer(root).as_deref() == Some(OWN) {
        return Ok(());
    }
    let new = root.join(format!("{FILE}.new"));
    fs::write(&new, format!("{OWN}\n"))?;
    fs::rename(new, root.join(FILE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_wrote_last_is_named_with_what_to_do() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(writer(root.path()), None);
        assert!(advice(root.path()).contains("a later strata than"), "{}", advice(root.path()));

        note(root.path()).unwrap();
        note(root.path()).unwrap();
        assert_eq!(writer(root.path()).as_deref(), Some(OWN));

        fs::write(root.path().join(FILE), "99.1.0\n").unwrap();
        let text = advice(root.path());
        assert!(text.contains("strata 99.1.0 wrote it") && text.contains("install strata 99.1.0 or later"), "{text}");
        assert!(text.contains("ctl system reset"), "{text}");
        fs::write(root.path().join(FILE), "two words").unwrap();
        assert_eq!(writer(root.path()), None);
    }
}
