//! Nodes that are only written down: the list of what was made so far is all there is, and the archive itself is where
//! contents are. Nothing is lost by that, since an archive says everything about its tree.

use super::attributes;
use super::ground::{Ground, Place};
use crate::error::Error;
use crate::toc::Content;
use crate::tree::{Inode, Kind, Tree};
use rustix::io::Errno;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// Longest name in a directory.
const NAME_MAX: usize = 255;
/// Bytes read at a time.
const BUFFER: usize = 256 * 1024;

/// A list over the copy of its archive.
pub(super) struct Listing<'a> {
    pub(super) copy: &'a File,
    /// Where in the copy the archive starts.
    pub(super) start: u64,
}

/// A path stands for what it leads to.
impl Ground for Listing<'_> {
    type Directory = ();
    type File = ();

    fn open(&self, tree: &Tree, path: &[u8]) -> Result<(), Errno> {
        if path.is_empty() {
            return Ok(());
        }
        match tree.get(path) {
            Some(inode) if inode.kind == Kind::Directory => Ok(()),
            Some(_) => Err(Errno::NOTDIR),
            None => Err(Errno::NOENT),
        }
    }

    fn enter(&self, tree: &Tree, (): &(), name: &[u8], path: &[u8]) -> Result<(), Errno> {
        if name.len() > NAME_MAX { Err(Errno::NAMETOOLONG) } else { self.open(tree, path) }
    }

    fn read_link(&self, tree: &Tree, _place: (&(), &[u8]), path: &[u8]) -> Result<Vec<u8>, Errno> {
        match tree.get(path) {
            Some(inode) if inode.kind == Kind::Symlink => Ok(inode.link.clone()),
            Some(_) => Err(Errno::INVAL),
            None => Err(Errno::NOENT),
        }
    }

    fn open_to_change(&self, (): &(), _name: &[u8], _path: &[u8]) -> Result<(), Error> {
        Ok(())
    }

    fn names(&self, tree: &Tree, (): &(), path: &[u8]) -> Result<Vec<Vec<u8>>, Errno> {
        let prefix = below(path);
        let children = within(tree, &prefix).map(|path| &path[prefix.len()..]);
        Ok(children.filter(|name| !name.contains(&b'/')).map(<[u8]>::to_vec).collect())
    }

    fn kind(&self, tree: &Tree, place: &Place<()>) -> Result<Kind, Errno> {
        tree.get(&place.path).map(|inode| inode.kind).ok_or(Errno::NOENT)
    }

    fn make_file(&self, tree: &Tree, place: &Place<()>, _mode: u32) -> Result<(), Errno> {
        free(tree, place)
    }

    fn write(&self, (): &mut (), _offset: u64, _bytes: &[u8]) -> std::io::Result<()> {
        Ok(())
    }

    fn set_length(&self, (): &mut (), _length: u64) -> std::io::Result<()> {
        Ok(())
    }

    fn finish_file(&self, (): &(), path: &[u8], inode: &mut Inode) -> Result<(), Error> {
        attributes::keep(path, inode)
    }

    fn make_directory(&self, tree: &Tree, place: &Place<()>) -> Result<(), Errno> {
        free(tree, place)
    }

    fn make_implied(&self, (): &(), name: &[u8], path: &[u8], _whiteout: bool, _inode: &Inode) -> Result<(), Error> {
        if name.len() > NAME_MAX { Err(Error::disk("make", path, Errno::NAMETOOLONG)) } else { Ok(()) }
    }

    fn update_directory(&self, (): &(), path: &[u8], inode: &mut Inode, _dropped: &[&[u8]]) -> Result<(), Error> {
        attributes::keep(path, inode)
    }

    fn mark_opaque(&self, _path: &[u8]) -> Result<(), Error> {
        Ok(())
    }

    fn finish_directory(&self, _path: &[u8], _inode: &mut Inode) -> Result<(), Error> {
        Ok(())
    }

    fn link(&self, tree: &Tree, _target: &Place<()>, place: &Place<()>) -> Result<(), Errno> {
        free(tree, place)
    }

    fn make_symlink(&self, tree: &Tree, place: &Place<()>, _target: &[u8]) -> Result<(), Errno> {
        free(tree, place)
    }

    fn make_special(&self, tree: &Tree, place: &Place<()>, _inode: &Inode) -> Result<bool, Errno> {
        free(tree, place).map(|()| true)
    }

    fn finish_unopenable(&self, place: &Place<()>, inode: &mut Inode) -> Result<(), Error> {
        attributes::keep(&place.path, inode)
    }

    fn unlink(&self, tree: &Tree, (): &(), _name: &[u8], path: &[u8]) -> Result<(), Errno> {
        // The name itself is forgotten already; what has none below it is gone with it.
        if within(tree, &below(path)).next().is_some() { Err(Errno::ISDIR) } else { Ok(()) }
    }

    fn remove_directory(&self, (): &(), _name: &[u8]) -> Result<(), Errno> {
        Ok(())
    }

    fn read(&self, content: &Content, sink: &mut dyn FnMut(&[u8])) -> Result<(), Error> {
        let failed = |source| Error::Read { source };
        let mut buffer = vec![0; BUFFER.min(usize::try_from(content.size).unwrap_or(BUFFER))];
        let mut done = 0;
        while done < content.size {
            let wanted = buffer.len().min(usize::try_from(content.size - done).unwrap_or(usize::MAX));
            let at = self.start + content.offset + done;
            self.copy.read_exact_at(&mut buffer[..wanted], at).map_err(failed)?;
            sink(&buffer[..wanted]);
            done += wanted as u64;
        }
        Ok(())
    }
}

/// Says whether a name can be taken.
fn free(tree: &Tree, place: &Place<()>) -> Result<(), Errno> {
    match tree.get(&place.path) {
        _ if place.name.len() > NAME_MAX => Err(Errno::NAMETOOLONG),
        Some(_) => Err(Errno::EXIST),
        None => Ok(()),
    }
}

/// What all paths below a directory start with.
fn below(directory: &[u8]) -> Vec<u8> {
    crate::tree::join(directory, b"")
}

/// Lists the paths that start so.
fn within<'a>(tree: &'a Tree, prefix: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let from = tree.names.range::<[u8], _>((std::ops::Bound::Excluded(prefix), std::ops::Bound::Unbounded));
    from.map(|(path, _)| path.as_slice()).take_while(move |path| path.starts_with(prefix))
}
