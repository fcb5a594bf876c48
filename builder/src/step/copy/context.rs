//! What a COPY or ADD selects from the build context, written as a layer.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::{Target, Transfer, place};
use crate::context::{Blake3, Node, Selected, Selection, walk};
use crate::error::Error;
use crate::peers::{Entry, Identity, Outcome, Placement, Tree};
use crate::solve::{Build, StageWork};

pub(super) async fn write(
    build: &Arc<Build>,
    (work, step): (&StageWork, &Identity),
    transfer: &Transfer<'_>,
    selection: Selection,
    heredocs: Vec<(String, String)>,
    target: &Target,
    previous: String,
) -> Result<Outcome, Error> {
    let mut entries = Vec::new();
    let mut wanted = HashMap::new();
    for selected in &selection.matches {
        expand_selected(build, selected, target, &mut entries, &mut wanted).await?;
    }
    for (name, text) in heredocs {
        let bytes = text.into_bytes();
        let node = Node::File { blake3: *blake3::hash(&bytes).as_bytes(), size: bytes.len() as u64 };
        build.store.put_content(bytes, &build.lease).await?;
        let selected = Selected { name: name.clone().into_bytes(), path: name.into_bytes(), mode: 0o644, node };
        entries.push(file_entry(&selected, target));
    }
    fetch(build, wanted).await?;
    if transfer.unpacks {
        super::archive::unpack(build, &mut entries, target).await?;
    }
    let tree = Tree { parents: work.draft.layers.clone(), previous, entries };
    build.store.write_tree(tree, step, &build.lease).await
}

async fn expand_selected(
    build: &Build,
    selected: &Selected,
    target: &Target,
    entries: &mut Vec<Entry>,
    wanted: &mut HashMap<Blake3, u64>,
) -> Result<(), Error> {
    let Node::Directory(digest) = &selected.node else {
        if let Node::File { blake3, size } = &selected.node {
            wanted.insert(*blake3, *size);
        }
        entries.push(file_entry(selected, target));
        return Ok(());
    };
    let owner = Some(target.owner);
    entries.push(Entry {
        destination: target.path.clone(),
        name_in_directory: Vec::new(),
        placement: Placement::Directory { explicit: false },
        mode: Some(target.bits(selected.mode, true)),
        owner,
    });
    for (path, entry) in walk(digest, &build.session).await? {
        let Ok(path) = std::str::from_utf8(&path) else {
            let path = String::from_utf8_lossy(&path).into_owned();
            return Err(Error::Context {
                problem: format!("the name {path:?} is not UTF-8, which is not supported yet"),
            });
        };
        let is_directory = matches!(entry.node, Node::Directory(_));
        let placement = match entry.node {
            Node::Directory(_) => Placement::Directory { explicit: true },
            Node::Symlink(to) => Placement::Symlink(to),
            Node::File { blake3, size } => {
                wanted.insert(blake3, size);
                Placement::File { blake3, size }
            }
        };
        entries.push(Entry {
            destination: format!("{}/{path}", target.path.trim_end_matches('/')),
            name_in_directory: Vec::new(),
            placement,
            mode: Some(target.bits(entry.mode, is_directory)),
            owner,
        });
    }
    Ok(())
}

fn file_entry(selected: &Selected, target: &Target) -> Entry {
    let (destination, name_in_directory) = place(target, &selected.name, false);
    let placement = match &selected.node {
        Node::File { blake3, size } => Placement::File { blake3: *blake3, size: *size },
        Node::Symlink(to) => Placement::Symlink(to.clone()),
        Node::Directory(_) => Placement::Directory { explicit: true },
    };
    let mode = Some(target.bits(selected.mode, false));
    Entry { destination, name_in_directory, placement, mode, owner: Some(target.owner) }
}

/// Brings the contents that the store lacks from the client.
async fn fetch(build: &Build, wanted: HashMap<Blake3, u64>) -> Result<(), Error> {
    let all: Vec<Blake3> = wanted.keys().copied().collect();
    let missing = build.store.missing(&all, &build.lease).await?;
    if missing.is_empty() {
        return Ok(());
    }
    let (sender, receiver) = mpsc::channel(16);
    let ask = build.session.contents(missing, sender);
    let put = build.store.put_contents(receiver, wanted, &build.lease);
    let (asked, stored) = tokio::join!(ask, put);
    // A client that broke off is why the store got less than it was told.
    asked.and(stored)
}
