//! This host's side of a copy: what a path here is, packed and unpacked. Blocking where files are read and written.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use rustix::process::{getegid, geteuid};
use strata_archive::{ApplyOptions, Privileges, Replaces, Whiteouts};
use strata_rpc::fault;

use super::place::{Destination, Source, says_directory, says_inside};
use crate::error::{Error, Result};
use crate::receiving;

/// As many links as the kernel follows in one path.
const MOST_LINKS: usize = 40;

/// Where something of this host is read from.
#[derive(Debug)]
pub struct Origin {
    /// The directory that it is in, or that it is.
    directory: File,
    /// Its name there; "." is the directory.
    name: Vec<u8>,
}

/// Finds what is to be copied. A link is itself what is copied, unless links are followed or a slash follows it.
pub fn source(text: &str, follow_link: bool) -> Result<(Origin, Source)> {
    let failed = |error: io::Error| Error::new(format!("cannot copy {text}: {error}"));
    let path = Path::new(text);
    let found = match follow_link || says_directory(text) {
        true => fs::metadata(path),
        false => fs::symlink_metadata(path),
    };
    let found = found.map_err(failed)?;
    let kind = found.file_type();
    if kind.is_socket() || kind.is_char_device() || kind.is_block_device() {
        return Err(Error::new(format!("{text} has no content to copy")));
    }
    if !found.is_dir() && says_directory(text) {
        return Err(Error::new(format!("{text} is not a directory")));
    }
    let last = last_name(path, text).map_err(failed)?;
    let source = Source { name: last, is_directory: found.is_dir() };
    let (directory, name) = match found.is_dir() {
        true => (path.to_path_buf(), b".".to_vec()),
        false => {
            let path = if follow_link { fs::canonicalize(path).map_err(failed)? } else { path.to_path_buf() };
            let name = path.file_name().unwrap_or_default().as_bytes().to_vec();
            (directory_of(&path), name)
        }
    };
    let directory = File::open(directory).map_err(failed)?;
    Ok((Origin { directory, name }, source))
}

/// The name that something has in the archive; none for what is in a directory.
fn last_name(path: &Path, text: &str) -> io::Result<String> {
    if says_inside(text) {
        return Ok(String::new());
    }
    // ".." has no name of its own.
    let named = if path.file_name().is_some() { path.to_path_buf() } else { fs::canonicalize(path)? };
    Ok(named.file_name().unwrap_or_default().to_string_lossy().into_owned())
}

fn directory_of(path: &Path) -> PathBuf {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_path_buf()
}

/// Writes the archive of what was found, under a name.
pub fn pack(origin: &Origin, renamed: &str, out: impl Write) -> io::Result<()> {
    let exported = strata_archive::export_one(origin.directory.as_fd(), &origin.name, renamed.as_bytes(), out);
    exported.map(drop).map_err(io::Error::other)
}

/// Finds where something shall go: links are followed, also one that leads to what does not exist yet.
pub fn destination(text: &str) -> Result<Destination> {
    let failed = |path: &Path, error: io::Error| Error::new(format!("cannot copy to {}: {error}", path.display()));
    let mut path = std::path::absolute(text).map_err(|error| failed(Path::new(text), error))?;
    for _ in 0..MOST_LINKS {
        match fs::symlink_metadata(&path) {
            Ok(found) if found.is_symlink() => {
                let target = fs::read_link(&path).map_err(|error| failed(&path, error))?;
                path = directory_of(&path).join(target);
            }
            Ok(found) => return Ok(Destination { path: shown(&path), is_directory: Some(found.is_dir()) }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let parent = directory_of(&path);
                if !parent.is_dir() {
                    return Err(Error::new(format!("invalid output path: directory {parent:?} does not exist")));
                }
                let end = if says_directory(text) { "/" } else { "" };
                // std::path::absolute keeps a slash at the end.
                let path = format!("{}{end}", shown(&path).trim_end_matches('/'));
                return Ok(Destination { path, is_directory: None });
            }
            Err(error) => return Err(failed(&path, error)),
        }
    }
    Err(Error::new(format!("too many links from {text} on")))
}

fn shown(path: &Path) -> String {
    path.as_os_str().to_string_lossy().into_owned()
}

/// Counts what is read.
struct Counted<R>(R, u64);

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.0.read(buffer)?;
        self.1 += count as u64;
        Ok(count)
    }
}

/// Unpacks an archive below a directory; returns its bytes. What it brings is the caller's, without rights that it would give
/// away, unless all is to be kept.
pub fn unpack(archive: impl Read, directory: &str, keeps_all: bool) -> Result<u64> {
    let failed =
        |error: &dyn std::error::Error| Error::new(format!("cannot copy to {directory}: {}", fault::chain(error)));
    let root = File::open(directory).map_err(|error| failed(&error))?;
    let (user, group) = (geteuid(), getegid());
    let options = ApplyOptions {
        whiteouts: Whiteouts::Literal,
        // Nobody but root can give files away.
        owner: (!keeps_all || !user.is_root()).then_some((user.as_raw(), group.as_raw())),
        replaces: Replaces::SameKind,
        privileges: if keeps_all { Privileges::Kept } else { Privileges::Dropped },
        ..ApplyOptions::default()
    };
    let mut archive = Counted(archive, 0);
    match strata_archive::apply(&mut archive, root.as_fd(), &options) {
        Ok(_) => Ok(archive.1),
        Err(strata_archive::Error::Read { source }) => Err(receiving::of_the_store(source)),
        Err(error) => Err(failed(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &Path, text: &str, follow_link: bool) -> (Vec<u8>, Source) {
        let (origin, source) = source(&format!("{}{text}", path.display()), follow_link).unwrap();
        (origin.name, source)
    }

    #[test]
    fn a_source_is_what_its_end_says() {
        let base = tempfile::tempdir().unwrap();
        fs::create_dir(base.path().join("tree")).unwrap();
        fs::write(base.path().join("file"), "x").unwrap();
        std::os::unix::fs::symlink("tree", base.path().join("to-tree")).unwrap();
        std::os::unix::fs::symlink("file", base.path().join("to-file")).unwrap();

        for (text, follow, name, last, is_directory) in [
            ("/tree", false, ".", "tree", true),
            ("/tree/", false, ".", "tree", true),
            ("/tree/.", false, ".", "", true),
            ("/file", false, "file", "file", false),
            ("/to-tree", false, "to-tree", "to-tree", false),
            ("/to-tree/", false, ".", "to-tree", true),
            ("/to-tree/.", false, ".", "", true),
            ("/to-tree", true, ".", "to-tree", true),
            ("/to-file", true, "file", "to-file", false),
        ] {
            let source = Source { name: last.into(), is_directory };
            assert_eq!(found(base.path(), text, follow), (name.as_bytes().to_vec(), source), "{text} {follow}");
        }
        let text = format!("{}/file/", base.path().display());
        assert!(source(&text, false).is_err());
        assert!(source("/dev/null", false).unwrap_err().message.contains("no content"));
    }

    #[test]
    fn a_destination_is_where_links_lead() {
        let base = tempfile::tempdir().unwrap();
        let at = |name: &str| format!("{}/{name}", base.path().display());
        fs::create_dir(at("tree")).unwrap();
        fs::write(at("file"), "x").unwrap();
        for (link, target) in [("to-tree", "tree"), ("to-new", "tree/new"), ("circle", "circle")] {
            std::os::unix::fs::symlink(target, at(link)).unwrap();
        }

        for (text, path, is_directory) in [
            ("tree", "tree", Some(true)),
            ("file", "file", Some(false)),
            ("to-tree", "tree", Some(true)),
            ("to-new", "tree/new", None),
            ("new", "new", None),
            ("new/", "new/", None),
        ] {
            let expected = Destination { path: at(path), is_directory };
            assert_eq!(destination(&at(text)).ok(), Some(expected), "{text}");
        }
        assert!(destination(&at("none/new")).unwrap_err().message.contains("does not exist"));
        assert!(destination(&at("circle")).is_err());
    }
}
