//! Contents that came for a layer that is not whole yet, in one file: digest, size, bytes, one after the other. Nothing in
//! it is there that was not checked; what a cut leaves behind the last whole content is cut off when it is opened again.
//! It lies with the partial blobs, and goes as they do when nobody continues it.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use strata_archive::Part;
use strata_types::Digest;

use super::peer::wrong;
use crate::blob::{Claim, claim_partial};
use crate::{Error, Result, Store, disk};

const PIECE: usize = 256 * 1024;
/// Digest and size.
const HEADER: u64 = 40;

/// Contents of one layer, for one writer and one reader at a time.
#[derive(Debug)]
pub(super) struct Pack {
    file: File,
    path: PathBuf,
    state: Mutex<State>,
    changed: Condvar,
    // Given up after the file is closed.
    _claim: Claim,
}

#[derive(Debug, Default)]
struct State {
    places: HashMap<[u8; 32], Place>,
    end: u64,
    /// Nothing more comes.
    is_over: bool,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    offset: u64,
    size: u64,
}

impl Pack {
    /// Opens what is there for a layer, reading it once, or begins with nothing. On a thread that may block.
    pub(super) fn open(store: &Store, diff_id: &Digest) -> Result<Self> {
        let (claim, path) = claim_partial(store, format!("contents-{}", diff_id.as_hex()))?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(&path).map_err(|source| Error::io("open", &path, source))?;
        let pack = Self { file, path, state: Mutex::default(), changed: Condvar::new(), _claim: claim };
        pack.scan().map_err(|source| Error::io("read", &pack.path, source))?;
        Ok(pack)
    }

    /// Finds the contents that are whole, and cuts off what follows them.
    fn scan(&self) -> io::Result<()> {
        let length = self.file.metadata()?.len();
        let mut state = self.state();
        let mut piece = vec![0; PIECE];
        while length - state.end >= HEADER {
            let (mut digest, mut size) = ([0; 32], [0; 8]);
            self.file.read_exact_at(&mut digest, state.end)?;
            self.file.read_exact_at(&mut size, state.end + 32)?;
            let place = Place { offset: state.end + HEADER, size: u64::from_le_bytes(size) };
            if place.size > length - place.offset {
                break;
            }
            let mut hasher = blake3::Hasher::new();
            self.read(place, &mut piece, |bytes| {
                hasher.update(bytes);
                Ok(())
            })?;
            if hasher.finalize().as_bytes() != &digest {
                break;
            }
            state.places.insert(digest, place);
            state.end = place.offset + place.size;
        }
        self.file.set_len(state.end)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, place: Place, piece: &mut [u8], mut sink: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let mut done = 0;
        while done < place.size {
            let wanted = piece.len().min(usize::try_from(place.size - done).unwrap_or(usize::MAX));
            self.file.read_exact_at(&mut piece[..wanted], place.offset + done)?;
            sink(&piece[..wanted])?;
            done += wanted as u64;
        }
        Ok(())
    }

    /// Says whether a content has come.
    pub(super) fn has(&self, blake3: &[u8; 32]) -> bool {
        self.state().places.contains_key(blake3)
    }

    /// Says whether none has come.
    pub(super) fn is_empty(&self) -> bool {
        self.state().places.is_empty()
    }

    /// Takes the next content. A wrong one is refused, and is not there.
    pub(super) fn append(&self, part: &Part, bytes: &mut dyn Read) -> Result<()> {
        let failed = |source| Error::io("write", &self.path, source);
        let start = self.state().end;
        let mut hasher = blake3::Hasher::new();
        let mut piece = vec![0; PIECE.min(usize::try_from(part.size).unwrap_or(PIECE)).max(1)];
        let mut done = 0;
        while done < part.size {
            let wanted = piece.len().min(usize::try_from(part.size - done).unwrap_or(usize::MAX));
            bytes.read_exact(&mut piece[..wanted]).map_err(of_the_stream)?;
            hasher.update(&piece[..wanted]);
            self.file.write_all_at(&piece[..wanted], start + HEADER + done).map_err(failed)?;
            done += wanted as u64;
        }
        let found = hasher.finalize();
        if found.as_bytes() != &part.blake3 {
            let expected = blake3::Hash::from_bytes(part.blake3).to_hex();
            return Err(crate::content::Error::DigestMismatch {
                expected: expected.to_string(),
                found: found.to_hex().to_string(),
                size: part.size,
            }
            .into());
        }
        // Last: a content without its head is not there.
        let mut header = [0; HEADER as usize];
        header[..32].copy_from_slice(&part.blake3);
        header[32..].copy_from_slice(&part.size.to_le_bytes());
        self.file.write_all_at(&header, start).map_err(failed)?;
        let mut state = self.state();
        state.places.insert(part.blake3, Place { offset: start + HEADER, size: part.size });
        state.end = start + HEADER + part.size;
        drop(state);
        self.changed.notify_all();
        Ok(())
    }

    /// Nothing more comes: who waits for it waits in vain.
    pub(super) fn end(&self) {
        self.state().is_over = true;
        self.changed.notify_all();
    }

    /// Writes a content, once it has come.
    pub(super) fn write_to(&self, part: &Part, out: &mut dyn Write) -> Result<()> {
        let place = {
            let mut state = self.state();
            loop {
                if let Some(place) = state.places.get(&part.blake3) {
                    break *place;
                }
                if state.is_over {
                    return Err(Error::Interrupted);
                }
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        };
        if place.size != part.size {
            return Err(wrong("a recipe gives one content two sizes"));
        }
        let mut piece = vec![0; PIECE];
        let written = self.read(place, &mut piece, |bytes| out.write_all(bytes));
        written.map_err(|source| Error::io("read", &self.path, source))
    }

    /// Throws all of it away.
    pub(super) fn discard(&self) -> Result<()> {
        disk::remove(&self.path)
    }
}

/// Why bytes of the other store could not be read: what ended them, or that they are not what they should be.
pub(super) fn of_the_stream(error: io::Error) -> Error {
    match error.downcast::<Error>() {
        Ok(error) => error,
        Err(error) => wrong(format!("its contents cannot be read: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::fixture;

    fn part(bytes: &[u8]) -> Part {
        Part::new(0, bytes.len() as u64, *blake3::hash(bytes).as_bytes())
    }

    fn diff_id() -> Digest {
        crate::blob::digest(b"a layer")
    }

    fn written(pack: &Pack, bytes: &[u8]) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        pack.write_to(&part(bytes), &mut out).map(|()| out)
    }

    #[tokio::test]
    async fn contents_are_there_after_a_cut_and_what_was_cut_is_not() {
        let (_directory, store) = fixture::store().await;
        let long = vec![7; 3 * PIECE + 5];
        let pack = Pack::open(&store, &diff_id()).unwrap();
        pack.append(&part(b"one"), &mut &b"one"[..]).unwrap();
        pack.append(&part(&long), &mut &long[..]).unwrap();
        let error = pack.append(&part(b"two"), &mut &b"tw"[..]).unwrap_err();
        assert!(matches!(error, Error::Transfer { .. }), "{error}");
        drop(pack);

        let pack = Pack::open(&store, &diff_id()).unwrap();
        pack.end();

        assert_eq!(written(&pack, b"one").unwrap(), b"one");
        assert_eq!(written(&pack, &long).unwrap(), long);
        assert!(!pack.has(&part(b"two").blake3));
        assert!(matches!(written(&pack, b"two"), Err(Error::Interrupted)));
        pack.append(&part(b"two"), &mut &b"two"[..]).unwrap();
        assert_eq!(written(&pack, b"two").unwrap(), b"two");
        pack.discard().unwrap();
        drop(pack);
        assert!(Pack::open(&store, &diff_id()).unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_wrong_content_is_refused_and_a_damaged_one_comes_again() {
        let (_directory, store) = fixture::store().await;
        let pack = Pack::open(&store, &diff_id()).unwrap();
        let error = pack.append(&part(b"one"), &mut &b"eno"[..]).unwrap_err();
        assert!(matches!(error, Error::Content(crate::content::Error::DigestMismatch { .. })), "{error}");
        assert!(pack.is_empty());
        for bytes in [b"one", b"two"] {
            pack.append(&part(bytes), &mut &bytes[..]).unwrap();
        }
        pack.file.write_all_at(b"x", HEADER + 3 + HEADER).unwrap();
        drop(pack);

        let pack = Pack::open(&store, &diff_id()).unwrap();

        assert!(pack.has(&part(b"one").blake3) && !pack.has(&part(b"two").blake3));
        assert_eq!(pack.file.metadata().unwrap().len(), HEADER + 3);
    }

    #[tokio::test]
    async fn who_reads_waits_for_what_is_to_come() {
        let (_directory, store) = fixture::store().await;
        let pack = Arc::new(Pack::open(&store, &diff_id()).unwrap());
        let reader = std::thread::spawn({
            let pack = Arc::clone(&pack);
            move || (written(&pack, b"one").unwrap(), written(&pack, b"never"))
        });

        pack.append(&part(b"one"), &mut &b"one"[..]).unwrap();
        pack.end();

        let (one, never) = reader.join().unwrap();
        assert_eq!(one, b"one");
        assert!(matches!(never, Err(Error::Interrupted)));
    }

    #[tokio::test]
    async fn one_content_has_one_size() {
        let (_directory, store) = fixture::store().await;
        let pack = Pack::open(&store, &diff_id()).unwrap();
        pack.append(&part(b"one"), &mut &b"one"[..]).unwrap();

        let lie = Part::new(0, 2, part(b"one").blake3);

        let error = pack.write_to(&lie, &mut Vec::new()).unwrap_err();
        assert!(matches!(error, Error::Transfer { .. }), "{error}");
    }
}
