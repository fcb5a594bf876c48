//! Taking away what a later entry replaces. Contents that leave the tree this way move into the table of contents,
//! since the archive's bytes must still be there when it is rebuilt.

use super::{Applier, Place};
use crate::error::Error;
use crate::place;
use crate::toc::Recorder;
use crate::tree::join;
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

impl Applier<'_> {
    /// Removes whatever has this name.
    pub(super) fn remove(&mut self, recorder: &mut Recorder, place: &Place) -> Result<(), Error> {
        // Cached parents may be symlinks or lie below what goes.
        self.parents.clear();
        self.remove_at(recorder, &place.directory, &place.name, &place.path)
    }

    fn remove_at(&mut self, recorder: &mut Recorder, parent: &OwnedFd, name: &[u8], path: &[u8]) -> Result<(), Error> {
        let failed = |error| Error::disk("remove", path, error);
        self.forget(recorder, path)?;
        match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
            Err(Errno::ISDIR) => {}
            result => return result.map_err(failed),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = rustix::fs::openat(parent, name, flags, Mode::empty()).map_err(failed)?;
        for child in place::list(&directory).map_err(failed)? {
            self.remove_at(recorder, &directory, &child, &join(path, &child))?;
        }
        rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR).map_err(failed)
    }

    /// Forgets a name that is about to go, and saves the content behind it.
    fn forget(&mut self, recorder: &mut Recorder, path: &[u8]) -> Result<(), Error> {
        let Some((inode, other)) = self.tree.remove(path) else { return Ok(()) };
        let Some(index) = self.tree.inodes[inode].content else { return Ok(()) };
        if recorder.contents[index].path != path {
            return Ok(());
        }
        if let Some(other) = other {
            recorder.contents[index].path = other;
            return Ok(());
        }
        recorder.reserve(recorder.contents[index].size)?;
        let mut bytes = Vec::new();
        recorder.contents[index].read(self.root, |part| {
            bytes.extend_from_slice(part);
            Ok(())
        })?;
        recorder.contents[index].inline = Some(bytes);
        Ok(())
    }
}
