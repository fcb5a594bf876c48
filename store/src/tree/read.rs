//! One regular file of a view.

use std::fs::File;
use std::path::Path;

use rustix::fs::{FileType, OFlags};

use super::{Error, Metadata, Result, View};

/// Opens a regular file of at most `limit` bytes, following links inside the view; returns its size too.
pub fn open_file(view: &View, path: &Path, limit: u64) -> Result<(File, u64)> {
    // O_PATH first: opening a device or a pipe could block or act.
    let found = view.lookup(path, OFlags::PATH).map_err(|source| Error::lookup(path, source))?;
    let metadata = Metadata::of(&found).map_err(|source| Error::lookup(path, source))?;
    if metadata.kind() != FileType::RegularFile {
        return Err(Error::NotAFile { path: path.to_path_buf() });
    }
    if metadata.size > limit {
        return Err(Error::TooLarge { path: path.to_path_buf(), size: metadata.size, limit });
    }
    let file = view.lookup(path, OFlags::RDONLY | OFlags::NONBLOCK).map_err(|source| Error::lookup(path, source))?;
    Ok((File::from(file), metadata.size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_within_the_limit_are_opened() {
        let base = tempfile::tempdir().unwrap();
        std::fs::write(base.path().join("file"), "12345").unwrap();
        let view = View::open(&[], base.path()).unwrap();

        let (_, size) = open_file(&view, Path::new("/file"), 5).unwrap();

        assert_eq!(size, 5);
        assert!(matches!(open_file(&view, Path::new("/file"), 4), Err(Error::TooLarge { size: 5, .. })));
        assert!(matches!(open_file(&view, Path::new("/"), 4), Err(Error::NotAFile { .. })));
        assert!(matches!(open_file(&view, Path::new("/none"), 4), Err(Error::PathNotFound { .. })));
        assert!(matches!(open_file(&view, Path::new("/file/x"), 4), Err(Error::NotADirectory { .. })));
    }
}
