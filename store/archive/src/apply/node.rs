//! What entries make: files, directories, links, devices and overlay's marks, each with its metadata, and what they
//! replace. How it is made is for the ground to say.

use super::{Applier, Ground, Place, Replaces, Whiteouts};
use crate::entry::{Entry, Type};
use crate::error::{Error, Name};
use crate::owner;
use crate::place;
use crate::stream::Stream;
use crate::tree::{Inode, Kind, Time, Tree};
use rustix::io::Errno;
use std::io::Read;

/// What every file system of interest can store; times outside are clamped, as the kernel does.
const TIMES: std::ops::RangeInclusive<i64> = -0x8000_0000..=0x3_7fff_ffff;

/// Largest major and minor number that the kernel takes from who makes a device; of larger ones it takes a part.
const DEVICES: (u32, u32) = (0xfff, 0xf_ffff);

impl<G: Ground> Applier<'_, G> {
    /// Makes what an entry describes.
    pub(super) fn node<R: Read>(
        &mut self,
        stream: &mut Stream<'_, R>,
        place: &Place<G::Directory>,
        entry: Entry,
    ) -> Result<(), Error> {
        match entry.kind {
            Type::Regular => self.regular(stream, place, entry),
            Type::Directory => self.directory_entry(stream, place, &entry),
            Type::Link => self.hard_link(stream, place, &entry),
            Type::Symlink => self.symlink(stream, place, entry),
            Type::Char | Type::Block | Type::Fifo => self.special(stream, place, &entry),
        }
    }

    fn regular<R: Read>(
        &mut self,
        stream: &mut Stream<'_, R>,
        place: &Place<G::Directory>,
        entry: Entry,
    ) -> Result<(), Error> {
        let failed = |error: std::io::Error| Error::disk("write", &place.path, error);
        let ground = self.ground;
        // Set-id bits wait until owner and content are final.
        let mode = entry.mode & 0o777;
        let mut file = self.create(stream, place, |tree| ground.make_file(tree, place, mode))?;
        let mut hash = blake3::Hasher::new();
        let pieces = entry.sparse.as_ref().map_or(&[][..], |sparse| &sparse.pieces);
        let whole = [(0, entry.size)];
        for (offset, length) in if entry.sparse.is_none() { &whole[..] } else { pieces } {
            let mut at = *offset;
            stream.content(*length, |bytes| {
                hash.update(bytes);
                ground.write(&mut file, at, bytes).map_err(failed)?;
                at += bytes.len() as u64;
                Ok(())
            })?;
        }
        let size = entry.sparse.as_ref().map_or(entry.size, |sparse| sparse.size);
        if entry.sparse.is_some() {
            ground.set_length(&mut file, size).map_err(failed)?;
        }
        let mut inode = inode(Kind::Regular, &entry);
        inode.size = size;
        ground.finish_file(&file, &place.path, &mut inode)?;
        if entry.size > 0 {
            let pieces = pieces.to_vec();
            let hash = *hash.finalize().as_bytes();
            inode.content = Some(stream.recorder.content(place.path.clone(), entry.size, hash, pieces));
        }
        self.tree.insert(place.path.clone(), inode);
        stream.padding(entry.size)
    }

    fn directory_entry<R: Read>(
        &mut self,
        stream: &mut Stream<'_, R>,
        place: &Place<G::Directory>,
        entry: &Entry,
    ) -> Result<(), Error> {
        let mut is_opaque = false;
        loop {
            match self.ground.make_directory(&self.tree, place) {
                Ok(()) => break,
                Err(Errno::EXIST) => {}
                Err(error) => return Err(Error::disk("make", &place.path, error)),
            }
            let found = self.ground.kind(&self.tree, place).map_err(|error| Error::disk("read", &place.path, error))?;
            if found == Kind::Directory {
                break;
            }
            if self.options.replaces == Replaces::SameKind {
                return Err(Error::Overwrite { path: Name(place.path.clone()), is_directory: true });
            }
            // What stood here had already replaced any directory below; the new one must not bring it back.
            is_opaque = self.tree.get(&place.path).is_some();
            self.remove(&mut stream.recorder, place)?;
        }
        let directory = self.ground.open_to_change(&place.directory, &place.name, &place.path)?;
        self.update_directory(&directory, place.path.clone(), entry)?;
        if is_opaque { self.mark_opaque(&place.path) } else { Ok(()) }
    }

    /// Gives the root the metadata of its entry.
    pub(super) fn root_entry(&mut self, entry: &Entry) -> Result<(), Error> {
        let root = self.ground.open(&self.tree, b"").map_err(|error| Error::disk("open", b"", error))?;
        let root = self.ground.open_to_change(&root, b".", b"")?;
        self.update_directory(&root, Vec::new(), entry)
    }

    fn update_directory(&mut self, directory: &G::Directory, path: Vec<u8>, entry: &Entry) -> Result<(), Error> {
        let mut inode = inode(Kind::Directory, entry);
        let mut dropped: Vec<&[u8]> = Vec::new();
        if let Some(known) = self.tree.get(&path) {
            inode.is_opaque = known.is_opaque;
            let gone = known.xattrs.keys().filter(|name| !inode.xattrs.contains_key(*name));
            dropped.extend(gone.map(Vec::as_slice));
        }
        self.ground.update_directory(directory, &path, &mut inode, &dropped)?;
        match self.tree.get_mut(&path) {
            Some(known) => {
                inode.names = known.names;
                *known = inode;
            }
            None => {
                self.tree.insert(path, inode);
            }
        }
        Ok(())
    }

    fn hard_link<R: Read>(
        &mut self,
        stream: &mut Stream<'_, R>,
        place: &Place<G::Directory>,
        entry: &Entry,
    ) -> Result<(), Error> {
        let target = self.target(&place.path, &entry.link)?;
        let absent = || Error::LinkTarget { path: Name(place.path.clone()), target: Name(entry.link.clone()) };
        if target.path == place.path {
            return Err(Error::entry(&place.path, "the hard link names itself"));
        }
        if target.path.strip_prefix(&*place.path).is_some_and(|rest| rest.starts_with(b"/")) {
            return Err(Error::entry(&place.path, "the hard link replaces the directory of its target"));
        }
        if owner::is_restricted() && self.tree.get(&target.path).is_some_and(|inode| inode.kind.is_device()) {
            // It was not made.
            self.tree.link(place.path.clone(), &target.path);
            return Ok(());
        }
        match self.ground.kind(&self.tree, &target).map_err(|_| absent())? {
            Kind::Directory => return Err(Error::entry(&place.path, "the hard link names a directory")),
            Kind::Whiteout => return Err(absent()),
            _ => {}
        }
        let ground = self.ground;
        self.create(stream, place, |tree| ground.link(tree, &target, place))?;
        self.tree.link(place.path.clone(), &target.path);
        Ok(())
    }

    fn symlink<R: Read>(
        &mut self,
        stream: &mut Stream<'_, R>,
        place: &Place<G::Directory>,
        entry: Entry,
    ) -> Result<(), Error> {
        if entry.link.is_empty() || entry.link.len() >= place::PATH_MAX {
            return Err(Error::entry(&place.path, "the symlink's target is empty or too long"));
        }
        let ground = self.ground;
        self.create(stream, place, |tree| ground.make_symlink(tree, place, &entry.link))?;
        let mut inode = inode(Kind::Symlink, &entry);
        inode.mode = 0o777;
        inode.link = entry.link;
        ground.finish_unopenable(place, &mut inode)?;
        self.tree.insert(place.path.clone(), inode);
        Ok(())
    }

    fn special<R: Read>(
        &mut self,
        stream: &mut Stream<'_, R>,
        place: &Place<G::Directory>,
        entry: &Entry,
    ) -> Result<(), Error> {
        let kind = match entry.kind {
            Type::Char => Kind::Char,
            Type::Block => Kind::Block,
            _ => Kind::Fifo,
        };
        if kind == Kind::Char && entry.device == (0, 0) {
            return Err(Error::entry(&place.path, "a device 0/0 is overlay's own mark"));
        }
        if entry.device.0 > DEVICES.0 || entry.device.1 > DEVICES.1 {
            return Err(Error::entry(&place.path, "the device number is out of range"));
        }
        let mut inode = inode(kind, entry);
        inode.device = entry.device;
        let ground = self.ground;
        if self.create(stream, place, |tree| ground.make_special(tree, place, &inode))? {
            ground.finish_unopenable(place, &mut inode)?;
        }
        self.tree.insert(place.path.clone(), inode);
        Ok(())
    }

    /// Makes something new, in place of what may be there.
    fn create<R: Read, T>(
        &mut self,
        stream: &mut Stream<'_, R>,
        place: &Place<G::Directory>,
        make: impl Fn(&Tree) -> Result<T, Errno>,
    ) -> Result<T, Error> {
        let failed = |error| Error::disk("make", &place.path, error);
        match make(&self.tree) {
            Err(Errno::EXIST) => {
                self.check_replaced(place)?;
                self.remove(&mut stream.recorder, place)?;
                make(&self.tree).map_err(failed)
            }
            result => result.map_err(failed),
        }
    }

    /// Refuses to take the place of a directory with something else, where that is not wanted.
    fn check_replaced(&self, place: &Place<G::Directory>) -> Result<(), Error> {
        let is_refused = self.options.replaces == Replaces::SameKind
            && self.ground.kind(&self.tree, place).is_ok_and(|kind| kind == Kind::Directory);
        match is_refused {
            true => Err(Error::Overwrite { path: Name(place.path.clone()), is_directory: false }),
            false => Ok(()),
        }
    }

    /// Makes a directory that no entry has described yet.
    pub(super) fn make_implied_directory(
        &mut self,
        parent: &G::Directory,
        name: &[u8],
        path: &[u8],
    ) -> Result<(), Error> {
        let is_whiteout = self.tree.get(path).is_some_and(|inode| inode.kind == Kind::Whiteout);
        let inode = Inode::implied_directory(self.options.owner.unwrap_or((0, 0)));
        self.ground.make_implied(parent, name, path, is_whiteout, &inode)?;
        if is_whiteout {
            self.tree.remove(path);
        }
        self.tree.insert(path.to_vec(), inode);
        if is_whiteout { self.mark_opaque(path) } else { Ok(()) }
    }

    /// Hides a name of lower layers. What this archive itself has of that name stays.
    pub(super) fn hide<R: Read>(
        &mut self,
        stream: &mut Stream<'_, R>,
        place: &Place<G::Directory>,
    ) -> Result<(), Error> {
        match self.tree.get(&place.path).map(|inode| inode.kind) {
            Some(Kind::Directory) => self.mark_opaque(&place.path),
            // Being there, it hides what is below already.
            Some(_) => Ok(()),
            None => {
                let (ground, mark) = (self.ground, Inode::new(Kind::Whiteout));
                self.create(stream, place, |tree| ground.make_special(tree, place, &mark))?;
                self.tree.insert(place.path.clone(), mark);
                Ok(())
            }
        }
    }

    /// Hides everything that lower layers have in a directory.
    pub(super) fn make_opaque_directory(&mut self, names: &[&[u8]]) -> Result<(), Error> {
        let (_, path) = self.directory(names)?;
        self.mark_opaque(&path)
    }

    fn mark_opaque(&mut self, path: &[u8]) -> Result<(), Error> {
        if self.options.whiteouts != Whiteouts::Oci {
            return Ok(());
        }
        self.ground.mark_opaque(path)?;
        let owner = self.options.owner.unwrap_or((0, 0));
        if self.tree.get(path).is_none() {
            self.tree.insert(path.to_vec(), Inode::implied_directory(owner));
        }
        if let Some(inode) = self.tree.get_mut(path) {
            inode.is_opaque = true;
        }
        Ok(())
    }

    /// Sets what making entries would have changed: times of directories, and default ACLs. Deepest first.
    pub(super) fn finish_directories(&mut self) -> Result<(), Error> {
        let Self { ground, tree, .. } = self;
        for (path, index) in tree.names.iter().rev() {
            let inode = &mut tree.inodes[*index];
            if inode.kind == Kind::Directory && !(path.is_empty() && inode.is_implied) {
                ground.finish_directory(path, inode)?;
            }
        }
        Ok(())
    }
}

fn inode(kind: Kind, entry: &Entry) -> Inode {
    let seconds = entry.mtime.seconds.clamp(*TIMES.start(), *TIMES.end());
    Inode {
        mode: entry.mode,
        uid: entry.uid,
        gid: entry.gid,
        mtime: Time { seconds, ..entry.mtime },
        xattrs: entry.xattrs.clone(),
        ..Inode::new(kind)
    }
}
