//! Extended attributes of files of a context: those of users and the capabilities of programs. Others are the host's.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::io::Errno;

/// Names and values, ordered by name.
pub type Attributes = Vec<(String, Vec<u8>)>;

/// Those of an open file.
pub fn of_file(file: &File) -> io::Result<Attributes> {
    read(|buffer| rustix::fs::flistxattr(file, buffer), |name, buffer| rustix::fs::fgetxattr(file, name, buffer))
}

/// Those of a path; of a link its own.
pub fn of_path(path: &Path) -> io::Result<Attributes> {
    read(|buffer| rustix::fs::llistxattr(path, buffer), |name, buffer| rustix::fs::lgetxattr(path, name, buffer))
}

/// The attribute goes along with its file. `user.overlay` and the store's own say how files are kept.
fn is_taken(name: &[u8]) -> bool {
    name == b"security.capability"
        || (name.starts_with(b"user.") && !name.starts_with(b"user.overlay.") && name != b"user.strata.owner")
}

fn read(
    list: impl Fn(&mut [u8]) -> Result<usize, Errno>,
    get: impl Fn(&OsStr, &mut [u8]) -> Result<usize, Errno>,
) -> io::Result<Attributes> {
    // Without a buffer the kernel only says how long the list is.
    let size = match list(&mut []) {
        Ok(0) | Err(Errno::NOTSUP) => return Ok(Attributes::new()),
        other => other?,
    };
    let mut names = vec![0; size];
    let size = list(&mut names)?;
    let mut found = Attributes::new();
    for name in names[..size].split(|byte| *byte == 0).filter(|name| is_taken(name)) {
        let Ok(text) = std::str::from_utf8(name) else { continue };
        let name = OsStr::from_bytes(name);
        let mut value = vec![0; get(name, &mut [])?];
        if !value.is_empty() {
            let size = get(name, &mut value)?;
            value.truncate(size);
        }
        found.push((text.to_owned(), value));
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_of_users_and_capabilities_go_along() {
        for (name, expected) in [
            ("user.comment", true),
            ("security.capability", true),
            ("security.selinux", false),
            ("system.posix_acl_access", false),
            ("user.overlay.opaque", false),
            ("user.strata.owner", false),
        ] {
            assert_eq!(is_taken(name.as_bytes()), expected, "{name}");
        }
    }
}
