//! How layers are kept: as directories, or as EROFS images. A layer's name below the layer root is a directory or a
//! file, which says by itself what it is: layers of both forms are used side by side, whichever new ones get. What
//! builds make are always directories.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use rustix::process::{Resource, Rlimit};
use sha2::{Digest as _, Sha256};
use strata_archive::{Applied, ApplyOptions, Toc};
use strata_types::Digest;

use super::{make_directory, open_directory};
use crate::tree::View;
use crate::{Error, Paths, Result};

/// How layers that come as archives are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// As directories. Everywhere.
    #[default]
    Dirs,
    /// As images that the kernel mounts. For root, from Linux 6.15 on.
    Erofs,
}

impl Backend {
    /// Makes sure that this host can use layers of this form.
    pub fn check(self, paths: &Paths) -> Result<()> {
        match self {
            Self::Dirs => Ok(()),
            Self::Erofs => try_image(paths).map_err(|reason| Error::NoImages { reason: reason.into() }),
        }
    }

    /// Unpacks an archive that is not compressed under a new name.
    pub(super) fn apply(self, target: &Path, tar: impl Read) -> Result<Applied> {
        let options = ApplyOptions::default();
        match self {
            Self::Dirs => {
                make_directory(target)?;
                let root = open_directory(target)?;
                let applied = strata_archive::apply(tar, root.as_fd(), &options);
                applied.map_err(|source| Error::Archive { source })
            }
            Self::Erofs => {
                let image = File::options().read(true).write(true).create_new(true).open(target);
                let image = image.map_err(|source| Error::io("make", target, source))?;
                strata_erofs::write(tar, &image, &options).map_err(|error| Error::image(target, error))
            }
        }
    }
}

/// Uses a small image in every way in which images are used.
fn try_image(paths: &Paths) -> Result<(), Error> {
    if strata_archive::owner::is_restricted() {
        let problem =
            io::Error::other("only root of the first user namespace may mount them, and this service is rootless");
        return Err(Error::io("mount images below", paths.root(), problem));
    }
    let directory = paths.ingest().join(crate::lease::random_text(16));
    let empty = directory.join("empty");
    fs::create_dir_all(&empty).map_err(|source| Error::io("make", &empty, source))?;
    let tried = (|| {
        Backend::Erofs.apply(&directory.join("image"), &[0; 1024][..])?;
        let images = Images::new(&directory);
        let tree = images.tree("image")?;
        View::open(&[tree], &empty)?;
        Ok(())
    })();
    // What is left goes at the next start.
    let _ = fs::remove_dir_all(&directory);
    tried
}

/// The images of a store that are mounted, each once, attached nowhere: a mount is the descriptor that holds it, and
/// whoever stacks it holds it too. It stays until its file is gone, so that all containers share its page cache.
#[derive(Debug)]
pub struct Images {
    layers: PathBuf,
    mounted: Mutex<HashMap<PathBuf, OwnedFd>>,
}

impl Images {
    /// Knows the images in the directory of layers.
    pub fn new(layers: &Path) -> Self {
        Self { layers: layers.to_path_buf(), mounted: Mutex::default() }
    }

    /// Returns where the tree of a layer is to be seen by any process with the rights of this one: its directory, or
    /// the descriptor that holds its mount. Good for as long as the layer is there and this process lives.
    pub fn tree(&self, layer: &str) -> Result<PathBuf> {
        self.tree_at(&self.layers.join(layer))
    }

    /// Returns the same of a directory or an image anywhere, which may be an index of layers.
    pub fn tree_at(&self, path: &Path) -> Result<PathBuf> {
        if !is_image(path)? {
            return Ok(path.to_path_buf());
        }
        let mut mounted = self.mounted.lock().unwrap_or_else(|poison| poison.into_inner());
        if let Some(mount) = mounted.get(path) {
            return Ok(seen(mount));
        }
        if mounted.is_empty() {
            raise_limit();
        }
        let image = open(path)?;
        let devices = strata_erofs::devices(&image).map_err(|error| Error::image(path, error))?;
        let devices = devices.iter().map(|layer| open(&self.layers.join(layer))).collect::<Result<Vec<_>>>()?;
        let mount = strata_erofs::mount(&image, &devices).map_err(|error| Error::image(path, error))?;
        let tree = seen(&mount);
        mounted.insert(path.to_path_buf(), mount);
        Ok(tree)
    }

    /// Returns the image whose tree is to be seen here, if it is one.
    pub fn image_at(&self, tree: &Path) -> Option<PathBuf> {
        let mounted = self.mounted.lock().unwrap_or_else(|poison| poison.into_inner());
        mounted.iter().find(|(_, mount)| seen(mount) == tree).map(|(image, _)| image.clone())
    }

    /// Says whether there is such a layer.
    pub fn has(&self, layer: &str) -> bool {
        crate::disk::exists(&self.layers.join(layer))
    }

    /// Lets go of the mounts of images that are gone.
    pub fn sweep(&self) {
        let mut mounted = self.mounted.lock().unwrap_or_else(|poison| poison.into_inner());
        mounted.retain(|image, _| crate::disk::exists(image));
    }
}

fn open(image: &Path) -> Result<File> {
    File::open(image).map_err(|source| Error::io("open", image, source))
}

/// The dot makes the path one of a directory, which is opened without following a link.
fn seen(mount: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/{}/fd/{}/.", std::process::id(), mount.as_raw_fd()))
}

/// Every image takes a descriptor, of which a service is given few, but may take more.
fn raise_limit() {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    // Should it fail, whoever finds no descriptor says so.
    let _ = rustix::process::setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

/// Says which form the layer at this path has.
fn is_image(path: &Path) -> Result<bool> {
    let found = fs::symlink_metadata(path).map_err(|source| Error::io("look at", path, source))?;
    Ok(found.is_file())
}

/// Reads the table of contents of a layer with this diff-id. The caller has checked the digest of the bytes.
pub(crate) fn table_of(bytes: &[u8], diff_id: &Digest) -> Result<Toc> {
    let toc = Toc::decode(bytes).map_err(|source| Error::Archive { source })?;
    if toc.diff_id() == diff_id.to_string() { Ok(toc) } else { Err(differs("its table of contents is of another")) }
}

fn differs(reason: &'static str) -> Error {
    Error::Archive { source: strata_archive::Error::Damaged { path: strata_archive::Name(Vec::new()), reason } }
}

/// Writes the exact archive that a layer was unpacked from, by its table of contents; what is not as it was ends in an
/// error. Each byte is checked once: contents in a tree by the table, an archive in an image by its diff-id.
pub(crate) fn write_archive(layer: &Path, toc: &Toc, out: &mut impl Write) -> Result<()> {
    if !is_image(layer)? {
        let root = open_directory(layer)?;
        return toc.rebuild(root.as_fd(), out).map_err(|source| Error::Archive { source });
    }
    let failed = |source| Error::io("read", layer, source);
    let image = File::open(layer).map_err(failed)?;
    let mut tar = strata_erofs::archive(image, toc.tar_size()).map_err(|error| Error::image(layer, error))?;
    let mut hasher = Sha256::new();
    let mut piece = vec![0; 256 * 1024];
    loop {
        let count = tar.read(&mut piece).map_err(failed)?;
        if count == 0 {
            break;
        }
        hasher.update(&piece[..count]);
        let written = out.write_all(&piece[..count]);
        written.map_err(|source| Error::Archive { source: strata_archive::Error::Write { source } })?;
    }
    if Digest::from_sha256_bytes(hasher.finalize().into()).to_string() != toc.diff_id() {
        return Err(differs("the archive in its image differs"));
    }
    Ok(())
}

/// Says what differs in a layer from its table of contents: where, and what.
pub(crate) fn verify(layer: &Path, tree: &Path, toc: &Toc) -> Result<Vec<(String, String)>> {
    let root = open_directory(tree)?;
    let damage = strata_archive::verify(toc, root.as_fd()).map_err(|source| Error::Archive { source })?;
    let mut found: Vec<_> = damage.into_iter().map(|damage| (damage.path.to_string(), damage.reason)).collect();
    if is_image(layer)?
        && let Err(error) = write_archive(layer, toc, &mut io::sink())
    {
        // The tree is not all of it: what an archive says besides is in the image alone.
        found.push((String::new(), strata_rpc::fault::chain(&error)));
    }
    Ok(found)
}

impl Error {
    /// An image that cannot be written or used.
    fn image(path: &Path, error: strata_erofs::Error) -> Self {
        match error {
            strata_erofs::Error::Archive(source) => Self::Archive { source },
            source => Self::LayerImage { path: path.to_path_buf(), source },
        }
    }
}

#[cfg(test)]
mod tests;
