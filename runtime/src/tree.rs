//! Looks for one small file, as /etc/passwd, in the directories of an overlay without mounting it.
//! Only the plain case is answered here; links and odd types are left to the store, which has the merged view.

use std::{fs::File, io::Read, os::fd::OwnedFd, path::Path};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, openat2, statat},
    io::Errno,
};

/// What was found.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// A regular file with these bytes.
    Bytes(Vec<u8>),
    /// There is no such file.
    Nothing,
    /// It takes a merged view to tell.
    Unsure,
}

/// Looks for `directory`/`file` in overlay directories, topmost first. Reads at most `limit` + 1 bytes.
pub fn look_up<'a>(trees: impl Iterator<Item = &'a Path>, directory: &str, file: &str, limit: u64) -> Found {
    for tree in trees {
        match look_into(tree, directory, file, limit) {
            Ok(Some(found)) => return found,
            Ok(None) => {}
            Err(_) => return Found::Unsure,
        }
    }
    Found::Nothing
}

/// Answers from one layer; `None`: the layers below decide.
fn look_into(tree: &Path, directory: &str, file: &str, limit: u64) -> Result<Option<Found>, Errno> {
    let root = rustix::fs::open(tree, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let Some(parent) = open(&root, directory)? else { return Ok(None) };
    let kind = kind_of(&parent)?;
    if is_whiteout(&parent, kind)? {
        return Ok(Some(Found::Nothing));
    }
    if kind != FileType::Directory {
        return Ok(Some(Found::Unsure));
    }
    if let Some(found) = open(&parent, file)? {
        let kind = kind_of(&found)?;
        return match kind {
            FileType::RegularFile => read(&parent, file, limit).map(|bytes| Some(Found::Bytes(bytes))),
            _ if is_whiteout(&found, kind)? => Ok(Some(Found::Nothing)),
            _ => Ok(Some(Found::Unsure)),
        };
    }
    Ok(is_opaque(&parent)?.then_some(Found::Nothing))
}

/// Opens a path without following any link; `None`: it is not there.
fn open(root: &OwnedFd, path: &str) -> Result<Option<OwnedFd>, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    match openat2(root, path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty(), resolve) {
        Ok(found) => Ok(Some(found)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

fn read(parent: &OwnedFd, file: &str, limit: u64) -> Result<Vec<u8>, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    // NONBLOCK: should the file have become a FIFO meanwhile, opening it must not hang.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = File::from(openat2(parent, file, flags, Mode::empty(), resolve)?);
    let mut bytes = Vec::new();
    let read = opened.take(limit + 1).read_to_end(&mut bytes);
    read.map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))?;
    Ok(bytes)
}

fn kind_of(file: &OwnedFd) -> Result<FileType, Errno> {
    Ok(FileType::from_raw_mode(statat(file, "", AtFlags::EMPTY_PATH)?.st_mode))
}

/// Overlayfs marks a deleted name with a character device 0/0.
fn is_whiteout(file: &OwnedFd, kind: FileType) -> Result<bool, Errno> {
    Ok(kind == FileType::CharacterDevice && statat(file, "", AtFlags::EMPTY_PATH)?.st_rdev == 0)
}

/// Overlayfs marks a directory that hides those below with an attribute.
fn is_opaque(directory: &OwnedFd) -> Result<bool, Errno> {
    let readable = rustix::fs::openat(directory, ".", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    for name in ["trusted.overlay.opaque", "user.overlay.opaque"] {
        let mut value = [0u8; 4];
        match rustix::fs::fgetxattr(&readable, name, &mut value[..]) {
            Ok(1) if value[0] == b'y' => return Ok(true),
            Ok(_) | Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink, path::PathBuf};

    use super::*;

    fn layers(count: usize) -> (tempfile::TempDir, Vec<PathBuf>) {
        let root = tempfile::tempdir_in("/var/tmp").unwrap();
        let paths: Vec<_> = (0..count).map(|n| root.path().join(n.to_string())).collect();
        for path in &paths {
            fs::create_dir_all(path.join("etc")).unwrap();
        }
        (root, paths)
    }

    fn passwd(layers: &[PathBuf]) -> Found {
        look_up(layers.iter().map(PathBuf::as_path), "etc", "passwd", 100)
    }

    #[test]
    fn the_topmost_file_wins() {
        let (_root, layers) = layers(3);
        fs::write(layers[1].join("etc/passwd"), "middle").unwrap();
        fs::write(layers[2].join("etc/passwd"), "bottom").unwrap();
        assert_eq!(passwd(&layers), Found::Bytes(b"middle".to_vec()));
        assert_eq!(passwd(&layers[..1]), Found::Nothing);
    }

    #[test]
    fn links_and_other_types_are_left_to_the_merged_view() {
        let (_root, layers) = layers(2);
        fs::write(layers[1].join("etc/passwd"), "bottom").unwrap();
        symlink("/etc/shadow", layers[0].join("etc/passwd")).unwrap();
        assert_eq!(passwd(&layers), Found::Unsure);

        fs::remove_dir_all(layers[0].join("etc")).unwrap();
        symlink("/", layers[0].join("etc")).unwrap();
        assert_eq!(passwd(&layers), Found::Unsure);

        fs::remove_file(layers[0].join("etc")).unwrap();
        fs::create_dir_all(layers[0].join("etc/passwd")).unwrap();
        assert_eq!(passwd(&layers), Found::Unsure);
    }

    /// Row 45 (CVE-2024-9676): a FIFO, of the image or of the host, is looked at and never opened, which would wait.
    #[test]
    fn row_44_45_cve_2024_9676_only_a_regular_file_is_read() {
        let (root, layers) = layers(1);
        let (passwd_path, host) = (layers[0].join("etc/passwd"), root.path().join("fifo"));
        let fifo = |path: &PathBuf| nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        fifo(&host);

        fifo(&passwd_path);
        assert_eq!(passwd(&layers), Found::Unsure);
        for target in [host.as_path(), Path::new("/dev/zero")] {
            fs::remove_file(&passwd_path).unwrap();
            symlink(target, &passwd_path).unwrap();
            assert_eq!(passwd(&layers), Found::Unsure);
        }
        fs::remove_file(&passwd_path).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(&passwd_path).unwrap();
        assert_eq!(passwd(&layers), Found::Unsure);
    }

    #[test]
    fn an_opaque_directory_hides_those_below() {
        let (_root, layers) = layers(2);
        fs::write(layers[1].join("etc/passwd"), "bottom").unwrap();
        rustix::fs::setxattr(layers[0].join("etc"), "user.overlay.opaque", b"y", rustix::fs::XattrFlags::empty())
            .expect("this test needs user attributes in /var/tmp");
        assert_eq!(passwd(&layers), Found::Nothing);
    }

    #[test]
    fn more_than_the_limit_is_cut_just_above_it() {
        let (_root, layers) = layers(1);
        fs::write(layers[0].join("etc/passwd"), vec![b'x'; 500]).unwrap();
        assert_eq!(passwd(&layers), Found::Bytes(vec![b'x'; 101]));
    }
}
