//! Taking away what a later entry replaces. Contents that leave the tree this way move into the table of contents,
//! since the archive's bytes must still be there when it is rebuilt.

use super::{Applier, Ground, Place};
use crate::error::Error;
use crate::toc::Recorder;
use crate::tree::join;
use rustix::io::Errno;

impl<G: Ground> Applier<'_, G> {
    /// Removes whatever has this name.
    pub(super) fn remove(&mut self, recorder: &mut Recorder, place: &Place<G::Directory>) -> Result<(), Error> {
        // Cached parents may be symlinks or lie below what goes.
        self.parents.clear();
        self.remove_at(recorder, &place.directory, &place.name, &place.path)
    }

    fn remove_at(
        &mut self,
        recorder: &mut Recorder,
        parent: &G::Directory,
        name: &[u8],
        path: &[u8],
    ) -> Result<(), Error> {
        let failed = |error| Error::disk("remove", path, error);
        self.forget(recorder, path)?;
        match self.ground.unlink(&self.tree, parent, name, path) {
            Err(Errno::ISDIR) => {}
            result => return result.map_err(failed),
        }
        let directory = self.ground.open_to_change(parent, name, path)?;
        for child in self.ground.names(&self.tree, &directory, path).map_err(failed)? {
            self.remove_at(recorder, &directory, &child, &join(path, &child))?;
        }
        self.ground.remove_directory(parent, name).map_err(failed)
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
        self.ground.read(&recorder.contents[index], &mut |part| bytes.extend_from_slice(part))?;
        recorder.contents[index].inline = Some(bytes);
        Ok(())
    }
}
