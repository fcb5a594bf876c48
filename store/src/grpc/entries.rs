//! Entries of layers as messages: bounded in number and in bytes, made as fast as the client takes them.

use bytes::Bytes;
use prost::Message;
use prost_types::Timestamp;
use strata_archive::{Listed, ListedKind, Toc};
use strata_proto::store::v1::{LayerEntry, LayerEntryKind, ReadLayerEntriesResponse};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

/// Most entries in one message.
const MOST_ENTRIES: usize = 4096;

/// A message is sent once it has so many bytes; an entry may add two paths of 4 KiB and a target.
const ENOUGH_BYTES: usize = 256 * 1024;

/// Messages that wait for the client.
const WAITING: usize = 4;

/// Streams the entries of a table of contents from a thread of its own, which ends with its receiver.
pub(super) fn stream(toc: Toc) -> ReceiverStream<Result<ReadLayerEntriesResponse, Status>> {
    let (sender, receiver) = mpsc::channel(WAITING);
    tokio::task::spawn_blocking(move || {
        let (mut entries, mut bytes) = (Vec::new(), 0);
        for listed in toc.entries() {
            let entry = message(&listed);
            bytes += entry.encoded_len();
            entries.push(entry);
            if entries.len() == MOST_ENTRIES || bytes >= ENOUGH_BYTES {
                let full = std::mem::take(&mut entries);
                bytes = 0;
                if sender.blocking_send(Ok(ReadLayerEntriesResponse { entries: full })).is_err() {
                    return;
                }
            }
        }
        if !entries.is_empty() {
            // A client that left wants no rest.
            let _ = sender.blocking_send(Ok(ReadLayerEntriesResponse { entries }));
        }
    });
    ReceiverStream::new(receiver)
}

fn message(listed: &Listed<'_>) -> LayerEntry {
    let digest = |digest: Option<[u8; 32]>| digest.map_or_else(Bytes::new, |bytes| Bytes::copy_from_slice(&bytes));
    LayerEntry {
        path: absolute(listed.path),
        kind: kind(listed.kind).into(),
        mode: listed.mode,
        uid: listed.uid,
        gid: listed.gid,
        size_bytes: listed.size,
        modified_at: listed.modified.and_then(timestamp),
        target: Bytes::copy_from_slice(listed.target),
        blake3: digest(listed.blake3),
        attributes_blake3: digest(listed.attributes),
        hard_link: listed.hard_link.map_or_else(Bytes::new, absolute),
        device_major: listed.device.0,
        device_minor: listed.device.1,
        is_implied: listed.is_implied,
        is_opaque: listed.is_opaque,
    }
}

fn absolute(path: &[u8]) -> Bytes {
    [b"/", path].concat().into()
}

fn timestamp((seconds, nanoseconds): (i64, i64)) -> Option<Timestamp> {
    Some(Timestamp { seconds, nanos: i32::try_from(nanoseconds).ok()? })
}

fn kind(kind: ListedKind) -> LayerEntryKind {
    match kind {
        ListedKind::Regular => LayerEntryKind::Regular,
        ListedKind::Directory => LayerEntryKind::Directory,
        ListedKind::Symlink => LayerEntryKind::Symlink,
        ListedKind::CharacterDevice => LayerEntryKind::CharacterDevice,
        ListedKind::BlockDevice => LayerEntryKind::BlockDevice,
        ListedKind::Fifo => LayerEntryKind::Fifo,
        ListedKind::Whiteout => LayerEntryKind::Whiteout,
    }
}
