//! Archives on their way to disk. A stream that fails must not look like the end of an archive: what came of it does not
//! stay under the name that was asked for.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;
use strata_rpc::chunks::ChunkReader;
use tonic::Status;

use crate::error::{Error, Result};
use crate::render;

/// Writes an archive to a file, or to standard output where none is named.
pub async fn archive(mut archive: ChunkReader, path: Option<PathBuf>) -> Result<()> {
    let written = tokio::task::spawn_blocking(move || match path {
        Some(path) => file(&mut archive, &path),
        None => output(&mut archive),
    });
    written.await.map_err(|error| Error::of(&error))?
}

/// Writes an archive to standard output.
pub fn output(archive: &mut ChunkReader) -> Result<()> {
    copy(archive, &mut io::stdout().lock(), render::unwritable)
}

/// Copies to the end; tells a failure of the store from one of this side.
pub fn copy(archive: &mut ChunkReader, out: &mut dyn Write, unwritable: impl Fn(io::Error) -> Error) -> Result<()> {
    let mut piece = vec![0; 256 * 1024];
    loop {
        match archive.read(&mut piece).map_err(of_the_store)? {
            0 => return out.flush().map_err(unwritable),
            count => out.write_all(&piece[..count]).map_err(&unwritable)?,
        }
    }
}

/// The status that ended the stream.
pub fn of_the_store(error: io::Error) -> Error {
    match error.downcast::<Status>() {
        Ok(status) => status.into(),
        Err(error) => Error::new(format!("the archive was cut off: {error}")),
    }
}

/// Writes beside the file, and renames when it is whole. What is no regular file, a pipe for example, is written to.
pub fn file(archive: &mut ChunkReader, path: &Path) -> Result<()> {
    let failed = |error: io::Error| Error::new(format!("cannot write {}: {error}", path.display()));
    match Whole::begin(path)? {
        None => copy(archive, &mut File::options().write(true).open(path).map_err(failed)?, failed),
        Some(mut whole) => {
            copy(archive, &mut whole.file, failed)?;
            whole.place()
        }
    }
}

/// A file that gets its name when it is whole. Dropped before, and killed at any time, it leaves nothing where the file
/// system knows files without names.
#[derive(Debug)]
pub struct Whole {
    /// What is written.
    pub file: File,
    path: PathBuf,
    /// Its name until then.
    partial: PathBuf,
    is_named: bool,
}

impl Whole {
    /// Begins a file that shall be at this path; none where something else than a regular file is.
    pub fn begin(path: &Path) -> Result<Option<Self>> {
        let failed = |error: io::Error| Error::new(format!("cannot write {}: {error}", path.display()));
        if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
            return Ok(None);
        }
        // A link leads to the file that is meant.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
        let mut name = path.file_name().unwrap_or_default().to_os_string();
        name.push(format!(".{}.partial", std::process::id()));
        let partial = path.with_file_name(name);
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::TMPFILE;
        match rustix::fs::open(directory, flags, Mode::from_raw_mode(0o666)) {
            Ok(file) => Ok(Some(Self { file: file.into(), path, partial, is_named: false })),
            // open(2): file systems without such files say so in one of these ways.
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT | Errno::INVAL) => {
                let file = File::create_new(&partial).map_err(failed)?;
                Ok(Some(Self { file, path, partial, is_named: true }))
            }
            Err(error) => Err(failed(error.into())),
        }
    }

    /// Gives the file its name, in place of what has it.
    pub fn place(mut self) -> Result<()> {
        let failed = |error: io::Error| Error::new(format!("cannot write {}: {error}", self.path.display()));
        if !self.is_named {
            let link = format!("/proc/self/fd/{}", self.file.as_raw_fd());
            let linked = rustix::fs::linkat(CWD, link, CWD, &self.partial, AtFlags::SYMLINK_FOLLOW);
            linked.map_err(|errno| failed(errno.into()))?;
            self.is_named = true;
        }
        fs::rename(&self.partial, &self.path).map_err(failed)?;
        self.is_named = false;
        Ok(())
    }
}

impl Drop for Whole {
    fn drop(&mut self) {
        if self.is_named {
            // Why it is given up matters more than what this says.
            let _ = fs::remove_file(&self.partial);
        }
    }
}
