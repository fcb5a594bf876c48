//! Files that are put into a directory together: whole, or none.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::RenameFlags;

use crate::error::{Error, Result};

/// A file to be: its name, text, and who may read it.
pub(super) struct Pem {
    pub name: String,
    pub text: String,
    pub mode: u32,
}

impl Pem {
    /// A certificate, which everybody may see.
    pub(super) fn certificate(name: impl Into<String>, text: String) -> Self {
        Self { name: name.into(), text, mode: 0o644 }
    }

    /// A private key, for its owner only.
    pub(super) fn key(name: impl Into<String>, text: String) -> Self {
        Self { name: name.into(), text, mode: 0o600 }
    }
}

/// Names what is there already: a lost key cannot be made again.
pub(super) fn refuse_existing<'a>(dir: &Path, names: impl IntoIterator<Item = &'a str>) -> Result<()> {
    let there: Vec<_> = names.into_iter().filter(|name| fs::symlink_metadata(dir.join(name)).is_ok()).collect();
    if there.is_empty() {
        return Ok(());
    }
    Err(Error::new(format!("{} exists already in {}", there.join(", "), dir.display()))
        .hint("nothing was changed; choose another directory, or remove these files if nothing uses them"))
}

pub(super) fn cannot(what: &str, path: &Path, error: impl std::fmt::Display) -> Error {
    Error::new(format!("cannot {what} {}: {error}", path.display()))
}

/// Puts all files into the directory, or none.
pub(super) fn place(dir: &Path, files: &[Pem]) -> Result<()> {
    let mut made = Made::default();
    if !dir.is_dir() {
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700).create(dir).map_err(|error| cannot("create", dir, error))?;
        made.dir = Some(dir.to_owned());
    }
    let stage = dir.join(format!(".tls-init.{}", std::process::id()));
    DirBuilder::new().mode(0o700).create(&stage).map_err(|error| cannot("create", &stage, error))?;
    made.stage = Some(stage.clone());
    for file in files {
        let path = stage.join(&file.name);
        write(&path, file).map_err(|error| cannot("write", &path, error))?;
    }
    for file in files {
        let (from, to) = (stage.join(&file.name), dir.join(&file.name));
        let here = rustix::fs::CWD;
        rustix::fs::renameat_with(here, &from, here, &to, RenameFlags::NOREPLACE)
            .map_err(|error| cannot("create", &to, io::Error::from(error)))?;
        made.files.push(to);
    }
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|error| cannot("write", dir, error))?;
    made.keep();
    Ok(())
}

fn write(path: &Path, pem: &Pem) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(pem.mode).open(path)?;
    file.write_all(pem.text.as_bytes())?;
    file.sync_all()
}

/// What was made so far; dropping it takes everything away again.
#[derive(Default)]
struct Made {
    dir: Option<PathBuf>,
    stage: Option<PathBuf>,
    files: Vec<PathBuf>,
}

impl Made {
    fn keep(mut self) {
        self.files.clear();
        self.dir = None;
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        // Errors: the first one is told, and what cannot be removed is named by the next `tls init`.
        for file in &self.files {
            let _ = fs::remove_file(file);
        }
        if let Some(stage) = &self.stage {
            let _ = fs::remove_dir_all(stage);
        }
        if let Some(dir) = &self.dir {
            let _ = fs::remove_dir(dir);
        }
    }
}
