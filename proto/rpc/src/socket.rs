//! Unix sockets in the file system: bound unseen and private, found stale, locked while they change.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::{
            fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
};

use rustix::fs::{Mode, OFlags};

/// Something about a socket's path failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file operation failed.
    #[error("cannot {action} {path}", path = path.display())]
    File {
        /// "bind", "lock", ...
        action: &'static str,
        /// The path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Somebody answers there.
    #[error("another service listens on {path}", path = path.display())]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// The path has no directory or no name.
    #[error("{path} cannot be a socket", path = path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
}

impl Error {
    pub(crate) fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { action, path, source }
    }
}

/// Held while a socket is made or removed. Dropping it unlocks; the file PATH.lock stays.
pub struct Lock {
    _file: File,
}

/// Waits for the lock of a socket. Blocks.
pub fn lock(path: &Path) -> Result<Lock, Error> {
    let (dir, name) = split(path)?;
    private_dir(dir)?;
    let lock = dir.join(format!("{name}.lock"));
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true).mode(0o600);
    let file = options.open(&lock).map_err(Error::file("open", &lock))?;
    file.lock().map_err(Error::file("lock", &lock))?;
    Ok(Lock { _file: file })
}

/// Which file a path named, to see later whether it still does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inode(u64, u64);

/// The file that the path names now.
pub fn inode(path: &Path) -> Option<Inode> {
    fs::symlink_metadata(path).ok().map(|meta| Inode(meta.dev(), meta.ino()))
}

/// Connects to a socket whose path may be longer than an address holds.
pub async fn dial(path: &Path) -> io::Result<tokio::net::UnixStream> {
    let short = Short::of(path)?;
    tokio::net::UnixStream::connect(&short.path).await
}

/// Does anybody accept connections there?
pub fn answers(path: &Path) -> bool {
    Short::of(path).and_then(|short| UnixStream::connect(&short.path)).is_ok()
}

/// Binds a listener at `path`, mode 0600, replacing a socket that nobody answers on. The lock must be held.
pub fn bind(_lock: &Lock, path: &Path) -> Result<UnixListener, Error> {
    let (dir, name) = split(path)?;
    if let Ok(meta) = fs::symlink_metadata(path) {
        use std::os::unix::fs::FileTypeExt;
        if !meta.file_type().is_socket() {
            return Err(Error::NotASocket { path: path.to_owned() });
        }
        if answers(path) {
            return Err(Error::InUse { path: path.to_owned() });
        }
    }
    // Bound in a directory of our own, then renamed: never visible with another mode, and replaces a stale one.
    let nest = dir.join(format!(".{name}.{}", std::process::id()));
    let _ = fs::remove_dir_all(&nest);
    DirBuilder::new().mode(0o700).create(&nest).map_err(Error::file("create", &nest))?;
    let bound = bind_in(&nest).and_then(|listener| {
        fs::rename(nest.join("s"), path)?;
        Ok(listener)
    });
    let swept = fs::remove_dir_all(&nest);
    let listener = bound.map_err(Error::file("bind", path))?;
    swept.map_err(Error::file("remove", &nest))?;
    Ok(listener)
}

fn bind_in(nest: &Path) -> io::Result<UnixListener> {
    let socket = nest.join("s");
    let short = Short::of(&socket)?;
    let listener = UnixListener::bind(&short.path)?;
    fs::set_permissions(&socket, Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Lets other users of this host come to the socket. Who they are is looked at when they have come.
pub fn open_to_users(path: &Path) -> Result<(), Error> {
    let (dir, _) = split(path)?;
    // The directory can be passed through, not listed.
    for (path, mode) in [(dir, 0o711), (path, 0o666)] {
        fs::set_permissions(path, Permissions::from_mode(mode)).map_err(Error::file("open", path))?;
    }
    Ok(())
}

/// Creates a directory, and its parents, that only its owner enters. One that exists is left as it is.
pub fn private_dir(dir: &Path) -> Result<(), Error> {
    if dir.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(Error::file("create", dir))
}

fn split(path: &Path) -> Result<(&Path, &str), Error> {
    let name = path.file_name().and_then(|name| name.to_str());
    match (path.parent(), name) {
        (Some(dir), Some(name)) if path.is_absolute() => Ok((dir, name)),
        _ => Err(Error::NotASocket { path: path.to_owned() }),
    }
}

/// A path short enough for a socket address (108 bytes): through a descriptor of its directory where it is not.
struct Short {
    path: PathBuf,
    _dir: Option<OwnedFd>,
}

impl Short {
    fn of(path: &Path) -> io::Result<Self> {
        let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        if path.as_os_str().len() < 100 {
            return Ok(Self { path: path.to_owned(), _dir: None });
        }
        let fd = rustix::fs::open(dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let path = Path::new("/proc/self/fd").join(fd.as_raw_fd().to_string()).join(name);
        Ok(Self { path, _dir: Some(fd) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// CVE-2014-3499 and others, row 127.
    #[test]
    fn a_socket_is_private_and_leaves_nothing_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run").join("s.sock");
        let held = lock(&path).unwrap();
        let _listener = bind(&held, &path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().mode() & 0o777, 0o700);
        let mut names: Vec<_> = fs::read_dir(path.parent().unwrap()).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["s.sock", "s.sock.lock"]);
    }

    #[test]
    fn a_socket_that_is_open_to_users_is_reached_and_its_directory_not_listed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run").join("s.sock");
        let held = lock(&path).unwrap();
        let _listener = bind(&held, &path).unwrap();
        open_to_users(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o666);
        assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().mode() & 0o777, 0o711);
        assert_eq!(fs::metadata(path.with_extension("sock.lock")).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.sock");
        let held = lock(&path).unwrap();
        drop(bind(&held, &path).unwrap());
        assert!(path.exists() && !answers(&path));
        let live = bind(&held, &path).unwrap();
        assert!(answers(&path));
        assert!(matches!(bind(&held, &path), Err(Error::InUse { .. })));
        drop(live);
    }

    #[test]
    fn a_file_that_is_no_socket_is_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("precious");
        fs::write(&path, "x").unwrap();
        assert!(matches!(bind(&lock(&path).unwrap(), &path), Err(Error::NotASocket { .. })));
        assert_eq!(fs::read_to_string(&path).unwrap(), "x");
    }

    #[tokio::test]
    async fn a_path_longer_than_an_address_works() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("d".repeat(120)).join("s.sock");
        let _listener = bind(&lock(&path).unwrap(), &path).unwrap();
        assert!(dial(&path).await.is_ok());
    }
}
