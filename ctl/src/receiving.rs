//! Archives on their way to disk. A stream that fails must not look like the end of an archive: what came of it does not
//! stay under the name that was asked for.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

use strata_rpc::chunks::ChunkReader;
use tonic::Status;

use crate::error::{Error, Result};
use crate::render;

/// Writes an archive to standard output.
pub fn output(archive: &mut ChunkReader) -> Result<()> {
    copy(archive, &mut io::stdout().lock(), render::unwritable)
}

/// Copies to the end; tells a failure of the store from one of this side.
fn copy(archive: &mut ChunkReader, out: &mut dyn Write, unwritable: impl Fn(io::Error) -> Error) -> Result<()> {
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
    if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        return copy(archive, &mut File::options().write(true).open(path).map_err(failed)?, failed);
    }
    // A link leads to the file that is meant.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    let mut name = target.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}.partial", std::process::id()));
    let partial = target.with_file_name(name);
    let mut file = File::create_new(&partial).map_err(failed)?;
    let written = copy(archive, &mut file, failed).and_then(|()| fs::rename(&partial, &target).map_err(failed));
    if written.is_err() {
        // Why it is given up matters more than what this says.
        let _ = fs::remove_file(&partial);
    }
    written
}
