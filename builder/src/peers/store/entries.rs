//! Entries of a tree on their way to the store, a part at a time.

use bytes::Bytes;
use futures_util::Stream;
use strata_proto::store::v1 as pb;
use tokio::sync::mpsc;

use super::{Entry, Placement};
use crate::context::Special;

/// Entries in one message.
const TOGETHER: usize = 4096;
/// Parts on their way.
const WAITING: usize = 2;

/// Where entries are told.
#[derive(Debug)]
pub struct Feed(mpsc::Sender<Option<Vec<Entry>>>);

/// Where they come out.
#[derive(Debug)]
pub struct Entries(mpsc::Receiver<Option<Vec<Entry>>>);

/// A way for entries.
pub fn feed() -> (Feed, Entries) {
    let (sender, receiver) = mpsc::channel(WAITING);
    (Feed(sender), Entries(receiver))
}

impl Feed {
    /// Tells some. Who does not want them any more says why elsewhere.
    pub async fn send(&self, entries: Vec<Entry>) {
        if !entries.is_empty() {
            let _ = self.0.send(Some(entries)).await;
        }
    }

    /// That was all.
    pub async fn end(&self) {
        let _ = self.0.send(None).await;
    }
}

impl Entries {
    /// A few that are known.
    pub fn of(entries: Vec<Entry>) -> Self {
        let (sender, receiver) = mpsc::channel(WAITING);
        // There is room for both.
        let _ = sender.try_send(Some(entries));
        let _ = sender.try_send(None);
        Self(receiver)
    }

    /// Messages of entries. A feed that breaks off has no end: what came of it must not be taken for all.
    pub(super) fn messages(self) -> impl Stream<Item = pb::WriteTreeRequest> + Send + 'static {
        futures_util::stream::unfold((self.0, Vec::new().into_iter()), |(mut receiver, mut rest)| async move {
            loop {
                let some: Vec<pb::TreeEntry> = rest.by_ref().take(TOGETHER).map(|one| entry(&one)).collect();
                if !some.is_empty() {
                    let part = pb::write_tree_request::Part::Entries(pb::TreeEntries { entries: some });
                    return Some((pb::WriteTreeRequest { part: Some(part) }, (receiver, rest)));
                }
                rest = match receiver.recv().await {
                    Some(Some(entries)) => entries.into_iter(),
                    Some(None) => return None,
                    None => std::future::pending().await,
                };
            }
        })
    }
}

fn entry(entry: &Entry) -> pb::TreeEntry {
    use pb::tree_entry::Source;
    let source = match &entry.placement {
        Placement::Directory { explicit } => Source::Directory(pb::TreeDirectory { explicit: *explicit }),
        Placement::File { blake3, size, same_file } => {
            Source::File(pb::TreeFile { blake3: hex::encode(blake3), size_bytes: *size, same_file: *same_file })
        }
        Placement::Special(Special { kind, major, minor }) => {
            Source::Special(pb::TreeSpecial { r#type: *kind, major: *major, minor: *minor })
        }
        Placement::Symlink(target) => Source::Symlink(pb::TreeSymlink { target: Bytes::copy_from_slice(target) }),
        Placement::Copy { layers, path, alone, implied } => Source::Copy(pb::TreeCopy {
            layer_ids: layers.to_vec(),
            path: Bytes::copy_from_slice(path),
            contents_only: true,
            alone: *alone,
            implied: *implied,
        }),
        Placement::Archive(blake3) => Source::Archive(pb::TreeArchive { blake3: hex::encode(blake3) }),
    };
    pb::TreeEntry {
        destination: Bytes::copy_from_slice(&entry.destination),
        below: Bytes::copy_from_slice(&entry.below),
        source: Some(source),
        mode: entry.mode,
        uid: entry.owner.map(|owner| owner.0),
        gid: entry.owner.map(|owner| owner.1),
        modified_at: entry.modified.map(|at| prost_types::Timestamp {
            seconds: at.div_euclid(1_000_000_000),
            nanos: at.rem_euclid(1_000_000_000) as i32,
        }),
        attributes: entry.attributes.iter().map(attribute).collect(),
        name_in_directory: Bytes::copy_from_slice(&entry.name_in_directory),
    }
}

fn attribute((name, value): &(String, Vec<u8>)) -> pb::TreeAttribute {
    pb::TreeAttribute { name: name.clone(), value: Bytes::copy_from_slice(value) }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt, StreamExt};

    use super::*;

    fn directory(name: String) -> Entry {
        Entry::new(name.into_bytes(), Placement::Directory { explicit: true })
    }

    fn count(message: &pb::WriteTreeRequest) -> usize {
        match &message.part {
            Some(pb::write_tree_request::Part::Entries(entries)) => entries.entries.len(),
            _ => 0,
        }
    }

    #[tokio::test]
    async fn many_entries_are_several_messages() {
        let all = (0..TOGETHER + 1).map(|number| directory(format!("/{number}"))).collect();

        let messages: Vec<_> = Entries::of(all).messages().collect().await;

        assert_eq!(messages.iter().map(count).collect::<Vec<_>>(), [TOGETHER, 1]);
    }

    #[tokio::test]
    async fn a_feed_that_breaks_off_has_no_end() {
        let (feed, entries) = feed();
        let mut messages = Box::pin(entries.messages());
        feed.send(vec![directory("/a".to_owned())]).await;
        assert_eq!(messages.next().await.as_ref().map(count), Some(1));

        drop(feed);

        assert!(messages.next().now_or_never().is_none());
    }
}
