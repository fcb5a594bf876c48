//! Whether mounts can travel as a bind wants it: that is up to the mount of the host that its path is on.

use std::{fs, path::Path};

use crate::{error::Error, spec::Propagation};

/// Refuses what the mount below a path does not allow.
pub fn check(path: &Path, propagation: Propagation) -> Result<(), Error> {
    let (wanted, name): (&[&str], _) = match propagation {
        Propagation::Private | Propagation::Rprivate => return Ok(()),
        Propagation::Slave | Propagation::Rslave => (&["shared:", "master:"], "shared mount or a slave of one"),
        Propagation::Shared | Propagation::Rshared => (&["shared:"], "shared mount"),
    };
    let real = fs::canonicalize(path).map_err(|e| Error::io("look at", path, e))?;
    let table = fs::read_to_string("/proc/self/mountinfo").map_err(|e| Error::io("read", "/proc/self/mountinfo", e))?;
    let Some((point, tags)) = mount_of(&table, &real) else { return Ok(()) };
    match tags.iter().any(|tag| wanted.iter().any(|wanted| tag.starts_with(wanted))) {
        true => Ok(()),
        false => {
            Err(Error::Propagation { path: path.to_owned(), point, propagation: propagation.as_str(), wanted: name })
        }
    }
}

/// The mount that a path is on, and what it is tagged with: proc_pid_mountinfo(5), fields 5 and 7.
fn mount_of(table: &str, path: &Path) -> Option<(String, Vec<String>)> {
    let mounts = table.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split(' ').collect();
        let point = unescape(fields.get(4)?);
        let tags = fields.get(6..)?.iter().take_while(|tag| **tag != "-").map(|&tag| tag.to_owned()).collect();
        Some((point, tags))
    });
    // Of those at the same place the last one is on top.
    mounts.filter(|(point, _)| path.starts_with(point)).max_by_key(|(point, _)| Path::new(point).components().count())
}

/// Blanks and backslashes are octal there.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let code = tail.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()).filter(|_| *first == b'\\') {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "22 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n\
                         30 22 0:40 / /mnt/a\\040b rw master:1 - tmpfs tmpfs rw\n\
                         31 22 0:41 / /srv rw - tmpfs tmpfs rw\n\
                         32 31 0:42 / /srv rw shared:9 - tmpfs tmpfs rw\n";

    #[test]
    fn the_mount_of_a_path_is_the_deepest_and_the_topmost() {
        let of = |path: &str| mount_of(TABLE, Path::new(path)).unwrap();
        assert_eq!(of("/home/x"), ("/".to_owned(), vec!["shared:1".to_owned()]));
        assert_eq!(of("/mnt/a b/c"), ("/mnt/a b".to_owned(), vec!["master:1".to_owned()]));
        assert_eq!(of("/srv"), ("/srv".to_owned(), vec!["shared:9".to_owned()]));
        assert_eq!(of("/srv2"), ("/".to_owned(), vec!["shared:1".to_owned()]));
    }

    #[test]
    fn escapes_are_octal() {
        assert_eq!(unescape("a\\134b\\040"), "a\\b ");
        assert_eq!(unescape("a\\9"), "a\\9");
    }
}
