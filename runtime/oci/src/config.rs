//! config.json of a bundle: read with a limit, parsed with the name of the field that is wrong.
//! Here only what the document and the bundle's directory say; what makes sense together is `plan`'s.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use oci_spec::runtime::Spec;

use crate::extra;

/// The largest config.json that is read.
pub const MAX_CONFIG_BYTES: u64 = 16 << 20;

/// Why a bundle gave no spec.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file is something else, or too large.
    #[error("cannot read {path}: {reason}")]
    File {
        /// The file.
        path: PathBuf,
        /// What it is.
        reason: String,
    },
    /// The text is no JSON.
    #[error("config.json is not JSON: {reason}")]
    Json {
        /// What the parser found, and where.
        reason: String,
    },
    /// A field has another type or value than the specification says.
    #[error("{field}: {reason}")]
    Field {
        /// Path of the field, as `process.env[3]`.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// Reads config.json: a regular file of at most [`MAX_CONFIG_BYTES`].
pub fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let failed = |source| Error::Read { path: path.to_owned(), source };
    let refused = |reason: String| Err(Error::File { path: path.to_owned(), reason });
    // A FIFO must not hold us.
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let file = OpenOptions::new().read(true).custom_flags(nonblocking).open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return refused("it is not a regular file".to_owned());
    }
    let bytes = read_some(&file, metadata.len()).map_err(failed)?;
    if bytes.len() as u64 > MAX_CONFIG_BYTES {
        return refused(format!("it is over {MAX_CONFIG_BYTES} bytes"));
    }
    Ok(bytes)
}

/// One byte more than allowed is enough to know.
fn read_some(file: &File, length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(length.min(MAX_CONFIG_BYTES) as usize + 1);
    file.take(MAX_CONFIG_BYTES + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Parses config.json as [`parse_with_warnings`] does, and takes no notice of warnings.
pub fn parse(bytes: &[u8], bundle: &Path) -> Result<Spec, Error> {
    parse_with_warnings(bytes, bundle).map(|(spec, _)| spec)
}

/// Parses config.json; relative sources of binds are below the bundle (runtime spec, "Mounts"). Returns warnings
/// beside it.
pub fn parse_with_warnings(bytes: &[u8], bundle: &Path) -> Result<(Spec, Vec<String>), Error> {
    // serde would take a list as the values of the fields.
    if bytes.iter().find(|byte| !byte.is_ascii_whitespace()).is_some_and(|byte| *byte == b'[') {
        return Err(Error::Field { field: "config.json".to_owned(), reason: "it is not an object".to_owned() });
    }
    let (mut spec, warnings) = extra::spec(bytes).map_err(|error| explain(bytes, error))?;
    crate::cgroup::drop_absent_limits(&mut spec, bytes);
    for mount in spec.mounts_mut().iter_mut().flatten() {
        let is_bind = mount.typ().as_deref() == Some("bind")
            || mount.options().iter().flatten().any(|option| option == "bind" || option == "rbind");
        if let (true, Some(source)) = (is_bind, mount.source().clone()) {
            mount.set_source(Some(bundle.join(source)));
        }
    }
    Ok((spec, warnings))
}

fn explain(bytes: &[u8], error: serde_json::Error) -> Error {
    if !error.is_data() {
        return Error::Json { reason: error.to_string() };
    }
    let field = match place::field_at(bytes, error.line(), error.column()) {
        path if path.is_empty() => "config.json".to_owned(),
        path => path,
    };
    Error::Field { field, reason: error.to_string() }
}

/// Returns the directory of the root file system.
pub fn rootfs(spec: &Spec, bundle: &Path) -> Result<PathBuf, Error> {
    let refused = |field: &str, reason: String| Err(Error::Field { field: field.to_owned(), reason });
    let Some(root) = spec.root() else { return refused("root", "a container needs one".to_owned()) };
    if root.path().as_os_str().is_empty() {
        return refused("root.path", "it is empty".to_owned());
    }
    let path = bundle.join(root.path());
    match fs::metadata(&path) {
        Ok(metadata) if metadata.is_dir() => Ok(path),
        Ok(_) => refused("root.path", format!("{} is not a directory", path.display())),
        Err(error) => {
            let text = error.to_string().to_lowercase();
            let text = text.split(" (os error").next().unwrap_or_default().to_owned();
            refused("root.path", format!("{}: {text}", path.display()))
        }
    }
}

mod place;

#[cfg(test)]
mod tests;
