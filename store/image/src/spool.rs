//! Archives that cannot be seeked are written down once, uncompressed, in a file without a name.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

use crate::{Error, Result};

/// Copies a stream to a file in `directory` that nobody else can open and that is gone when it is closed.
pub(crate) fn spool(stream: &mut dyn Read, directory: &Path, limit: u64) -> Result<File> {
    let mut file = nameless(directory)?;
    let mut buffer = vec![0; 256 * 1024];
    let mut left = limit;
    loop {
        let count = match stream.read(&mut buffer) {
            Ok(0) => return Ok(file),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            // It may be a decompressor's.
            Err(source) => return Err(strata_archive::Error::Read { source }.into()),
        };
        left =
            left.checked_sub(count as u64).ok_or_else(|| Error::limit("the archive, decompressed,", "bytes", limit))?;
        file.write_all(&buffer[..count])
            .map_err(|source| Error::io("write the archive to", directory.display(), source))?;
    }
}

fn nameless(directory: &Path) -> Result<File> {
    let failed = |source: Errno| Error::io("make a file in", directory.display(), source);
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR;
    match rustix::fs::openat(CWD, directory, flags | OFlags::TMPFILE, mode) {
        Ok(file) => return Ok(file.into()),
        // open(2): file systems without O_TMPFILE say so in one of these ways.
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT) => {}
        Err(error) => return Err(failed(error)),
    }
    let mut random = [0; 8];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty()).map_err(failed)?;
    let path = directory.join(format!("archive-{:016x}", u64::from_ne_bytes(random)));
    let file = rustix::fs::openat(CWD, &path, flags | OFlags::CREATE | OFlags::EXCL, mode).map_err(failed)?;
    rustix::fs::unlinkat(CWD, &path, rustix::fs::AtFlags::empty()).map_err(failed)?;
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    #[test]
    fn a_stream_is_written_down_and_leaves_no_name() {
        let directory = tempfile::tempdir().unwrap();

        let file = spool(&mut &b"hello"[..], directory.path(), 5).unwrap();

        let mut bytes = [0; 5];
        file.read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!(&bytes, b"hello");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_stream_without_end_stops_at_the_limit() {
        let directory = tempfile::tempdir().unwrap();
        let refused = spool(&mut std::io::repeat(0), directory.path(), 1 << 20);
        assert!(matches!(refused, Err(Error::Limit { limit: 0x10_0000, .. })), "{refused:?}");
    }
}
