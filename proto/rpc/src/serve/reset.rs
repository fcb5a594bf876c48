//! The end of a service's state. It is removed by the service's own program, which is where its files can be removed: in the
//! user namespace of an ordinary user's services, say.

use std::{
    fs, io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use super::{
    DRAIN_DEADLINE, Error,
    fence::{FENCE, fence},
};
use crate::{cli::ServiceArgs, paths};

/// Ends the service that works on the root, and removes what is in the root and in its directory beside the sockets. The file
/// that fences the root stays: somebody may wait for it already.
pub(super) async fn run(name: &'static str, args: ServiceArgs) -> ExitCode {
    let Some(root) = args.root else { return ExitCode::FAILURE };
    match reset(&root, &paths::run_dir().join(name)).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Whoever started this reads it.
            eprintln!("{}", crate::fault::chain(&error));
            ExitCode::FAILURE
        }
    }
}

async fn reset(root: &Path, beside: &Path) -> Result<(), Error> {
    let failed = |source| Error::Root { root: root.to_owned(), source };
    if !root.exists() {
        return Ok(());
    }
    // Looked at first: nothing is changed where something is in the way.
    unmounted(root)?;
    let _fence = match fence(root, Duration::ZERO).await {
        Err(Error::RootLocked { holder, .. }) => {
            if let Some(process) = holder.parse().ok().and_then(Pid::from_raw) {
                // It may have ended since.
                let _ = kill_process(process, Signal::TERM);
            }
            fence(root, DRAIN_DEADLINE + Duration::from_secs(15)).await?
        }
        taken => taken?,
    };
    unmounted(root)?;
    for entry in fs::read_dir(root).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.file_name().is_some_and(|name| name == FENCE) {
            continue;
        }
        remove(&path).map_err(|source| Error::Root { root: path, source })?;
    }
    remove(beside).map_err(|source| Error::Root { root: beside.to_owned(), source })
}

/// Removes a file, or a directory and all below. That it is gone already is fine.
fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    removed.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

/// Refuses where something is mounted below the root, as this process sees it.
fn unmounted(root: &Path) -> Result<(), Error> {
    let failed = |source| Error::Root { root: root.to_owned(), source };
    let root = fs::canonicalize(root).map_err(failed)?;
    let table = fs::read("/proc/self/mountinfo").map_err(failed)?;
    match below(&table, &root) {
        Some(place) => Err(Error::Mounted { place }),
        None => Ok(()),
    }
}

/// The first mount point below a directory: proc_pid_mountinfo(5), the fifth field.
fn below(table: &[u8], directory: &Path) -> Option<PathBuf> {
    let places = table.split(|byte| *byte == b'\n').filter_map(|line| line.split(|byte| *byte == b' ').nth(4));
    let places = places.map(|place| PathBuf::from(std::ffi::OsStr::from_bytes(&plain(place))));
    places.into_iter().find(|place| place != directory && place.starts_with(directory))
}

/// A name without its escapes, which are three octal digits after a backslash.
fn plain(escaped: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(escaped.len());
    let mut rest = escaped;
    while let [first, after @ ..] = rest {
        let digits = after.get(..3).filter(|_| *first == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        plain.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &after[3..] } else { after };
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_below_is_found_and_the_directory_itself_may_be_one() {
        let table = b"22 1 0:21 / / rw - ext4 /dev/x rw\n\
            23 22 0:22 / /var/lib/a\\040b rw shared:1 - tmpfs tmpfs rw\n\
            24 23 0:23 / /var/lib/a\\040b/store/layers rw - tmpfs tmpfs rw\n";

        assert_eq!(below(table, Path::new("/var/lib/a b")), Some("/var/lib/a b/store/layers".into()));
        assert_eq!(below(table, Path::new("/var/lib/a b/store/layers")), None);
        assert_eq!(below(table, Path::new("/var/lib/a")), None);
        assert_eq!(plain(b"a\\134\\"), b"a\\\\");
    }

    #[tokio::test]
    async fn all_but_the_fence_goes_and_nothing_outside() {
        let dir = tempfile::tempdir().unwrap();
        let (root, beside, other) = (dir.path().join("root"), dir.path().join("run"), dir.path().join("other"));
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(root.join("a/b/c"), "x").unwrap();
        fs::write(root.join(FENCE), "").unwrap();
        fs::create_dir(&beside).unwrap();
        fs::create_dir(&other).unwrap();
        fs::write(other.join("precious"), "x").unwrap();
        std::os::unix::fs::symlink(&other, root.join("link")).unwrap();

        reset(&root, &beside).await.unwrap();

        let left: Vec<_> = fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, [FENCE]);
        assert!(!beside.exists());
        assert!(other.join("precious").exists(), "links are removed, not followed");
        reset(&dir.path().join("nothing"), &beside).await.unwrap();
        assert!(!dir.path().join("nothing").exists());
    }
}
