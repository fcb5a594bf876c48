//! Extended attributes of files of a context: those of users and the capabilities of programs. Others are the host's.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::io::Errno;

/// Names and values, ordered by name.
pub type Attributes = Vec<(String, Vec<u8>)>;

/// Whose attributes are read.
enum Of<'a> {
    File(&'a File),
    Path(&'a Path),
}

impl Of<'_> {
    fn names(&self) -> Result<Vec<u8>, Errno> {
        let size = match self {
            Self::File(file) => rustix::fs::flistxattr_query(file)?,
            Self::Path(path) => rustix::fs::llistxattr_query(*path)?,
        };
        let mut names = vec![0; size];
        let size = match self {
            _ if size == 0 => 0,
            Self::File(file) => rustix::fs::flistxattr(file, &mut names[..])?,
            Self::Path(path) => rustix::fs::llistxattr(*path, &mut names[..])?,
        };
        names.truncate(size);
        Ok(names)
    }

    fn value(&self, name: &OsStr) -> Result<Vec<u8>, Errno> {
        let size = match self {
            Self::File(file) => rustix::fs::fgetxattr_query(file, name)?,
            Self::Path(path) => rustix::fs::lgetxattr_query(*path, name)?,
        };
        let mut value = vec![0; size];
        let size = match self {
            _ if size == 0 => 0,
            Self::File(file) => rustix::fs::fgetxattr(file, name, &mut value[..])?,
            Self::Path(path) => rustix::fs::lgetxattr(*path, name, &mut value[..])?,
        };
        value.truncate(size);
        Ok(value)
    }
}

/// Those of an open file.
pub fn of_file(file: &File) -> io::Result<Attributes> {
    read(&Of::File(file))
}

/// Those of a path; of a link its own.
pub fn of_path(path: &Path) -> io::Result<Attributes> {
    read(&Of::Path(path))
}

/// The attribute goes along with its file. `user.overlay` and the store's own say how files are kept.
fn is_taken(name: &[u8]) -> bool {
    name == b"security.capability"
        || (name.starts_with(b"user.") && !name.starts_with(b"user.overlay.") && name != b"user.strata.owner")
}

fn read(of: &Of<'_>) -> io::Result<Attributes> {
    let names = match of.names() {
        Err(Errno::NOTSUP) => return Ok(Attributes::new()),
        names => names?,
    };
    let mut found = Attributes::new();
    for name in names.split(|byte| *byte == 0).filter(|name| is_taken(name)) {
        let Ok(text) = std::str::from_utf8(name) else { continue };
        found.push((text.to_owned(), of.value(OsStr::from_bytes(name))?));
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_of_a_file_and_of_a_path_are_the_same() {
        let directory = tempfile::tempdir_in("/var/tmp").expect("a directory");
        let path = directory.path().join("f");
        std::fs::write(&path, "x").expect("a file");
        for (name, value) in [("user.b", "2"), ("user.a", ""), ("user.overlay.x", "3")] {
            rustix::fs::setxattr(&path, name, value.as_bytes(), rustix::fs::XattrFlags::empty()).expect(name);
        }

        let of = of_path(&path).expect("they are read");

        assert_eq!(of, [("user.a".to_owned(), Vec::new()), ("user.b".to_owned(), b"2".to_vec())]);
        assert_eq!(of_file(&File::open(&path).expect("a file")).expect("they are read"), of);
        assert_eq!(of_path(directory.path()).expect("they are read"), []);
    }

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
