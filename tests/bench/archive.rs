//! A large image as `docker save` writes it: one layer, plain, from a root file system tar and a file that makes it new.

use std::{
    fs::File,
    io::{self, Cursor, Read, Write},
    path::Path,
};

use serde_json::json;
use sha2::{Digest, Sha256};
use tar::{Builder, Header};

use crate::Outcome;

/// Name of an image that no registry has.
pub(crate) const LARGE: &str = "localhost/bench-large:latest";

/// Writes the archive of an image of this name. `mark` is the content of a file in the layer.
pub(crate) fn write(path: &Path, base: &Path, name: &str, mark: &str) -> Outcome<()> {
    let first = entry("bench-mark", mark.as_bytes())?;
    let size = first.len() as u64 + base.metadata()?.len();
    let layer = || -> io::Result<_> { Ok(Cursor::new(first.clone()).chain(File::open(base)?)) };
    let mut hash = Hashing(Sha256::new());
    io::copy(&mut layer()?, &mut hash)?;
    let diff_id = hex::encode(hash.0.finalize());
    let config = json!({
        "architecture": architecture(), "os": "linux", "config": { "Cmd": ["sh"] },
        "history": [{ "created_by": "bench" }],
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{diff_id}")] },
    });
    let config = config.to_string();
    let id = hex::encode(Sha256::digest(&config));
    let layer_name = format!("{diff_id}/layer.tar");
    let manifest = json!([{ "Config": format!("{id}.json"), "RepoTags": [name], "Layers": [layer_name] }]);
    let mut archive = Builder::new(io::BufWriter::new(File::create(path)?));
    archive.append_data(&mut header(size), &layer_name, layer()?)?;
    append(&mut archive, &format!("{id}.json"), config.as_bytes())?;
    append(&mut archive, "manifest.json", manifest.to_string().as_bytes())?;
    archive.into_inner()?.flush()?;
    Ok(())
}

/// One entry of a tar, without the end that follows the last.
pub(crate) fn entry(name: &str, content: &[u8]) -> Outcome<Vec<u8>> {
    let mut builder = Builder::new(vec![]);
    append(&mut builder, name, content)?;
    Ok(std::mem::take(builder.get_mut()))
}

fn append(builder: &mut Builder<impl Write>, name: &str, content: &[u8]) -> io::Result<()> {
    builder.append_data(&mut header(content.len() as u64), name, content)
}

fn header(size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_size(size);
    header.set_mode(0o644);
    header
}

pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// A writer that only hashes.
pub(crate) struct Hashing(pub(crate) Sha256);

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
