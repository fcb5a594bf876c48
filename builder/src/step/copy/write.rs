//! What a COPY or ADD found, as entries of a layer; contents that the store lacks are fetched from the client.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::archive;
use super::filter::Filter;
use super::find::{Bytes, Found, ListedBelow, Named, Sources};
use super::transfer::Target;
use crate::context::{self, Blake3, Item, Node, Selected, items};
use crate::contexts::Local;
use crate::error::Error;
use crate::peers::{Entry, Listed, Placement};
use crate::solve::Build;

/// Entries in the making, and the contents that they need.
#[derive(Debug, Default)]
struct Writing {
    entries: Vec<Entry>,
    wanted: HashMap<Blake3, u64>,
    /// Places among the entries of files that may be archives.
    archives: Vec<usize>,
}

/// The entries of what was found. `unpacks`: archives of a context are.
pub(super) async fn entries(
    build: &Build,
    sources: &Sources,
    target: &Target,
    unpacks: bool,
) -> Result<Vec<Entry>, Error> {
    let mut writing = Writing::default();
    for (found, filter) in &sources.found {
        match found {
            Found::Context { local, selected } => {
                writing.context(build, (local, selected), filter, target, unpacks).await?;
            }
            Found::Tree { layers, top, below } => writing.tree(layers, top, below, filter, target),
            Found::Content(named) => writing.content(build, named, target).await?,
        }
    }
    if sources.found.is_empty() {
        // The patterns of --parents match nothing: only the destination is made.
        writing.entries.push(directory(target, None));
    }
    fetch(build, writing.wanted).await?;
    archive::unpack(build, &mut writing.entries, &writing.archives, target).await?;
    Ok(writing.entries)
}

/// A directory as destination: one that is there is left as it is, but for its time.
fn directory(target: &Target, modified: Option<i64>) -> Entry {
    Entry { modified, ..Entry::new(target.destination(), Placement::Directory { explicit: false }) }
}

impl Writing {
    async fn context(
        &mut self,
        build: &Build,
        (local, selected): (&Arc<Local>, &Selected),
        filter: &Filter,
        target: &Target,
        unpacks: bool,
    ) -> Result<(), Error> {
        let Node::Directory(digest) = &selected.node else {
            let modified = context::modified(selected, &local.name, &build.session).await?;
            if unpacks && matches!(selected.node, Node::File { .. }) {
                self.archives.push(self.entries.len());
            }
            let item = Item {
                path: Vec::new(),
                mode: selected.mode,
                node: selected.node.clone(),
                attributes: selected.attributes.clone(),
                modified,
                same_file: 0,
                is_implied: false,
            };
            let entry = self.item(item, target);
            self.entries.push(Entry { name_in_directory: selected.name.clone(), ..entry });
            return Ok(());
        };
        let enters = |path: &[u8]| filter.enters(path);
        let (all, modified) = items(digest, &selected.path, Some(&local.name), &enters, &build.session).await?;
        self.entries.push(directory(target, Some(modified)));
        for item in filter.apply(all) {
            let entry = self.item(item, target);
            self.entries.push(entry);
        }
        Ok(())
    }

    fn item(&mut self, item: Item, target: &Target) -> Entry {
        let mode = Some(target.bits(item.mode, matches!(item.node, Node::Directory(_))));
        let placement = match item.node {
            Node::Directory(_) => Placement::Directory { explicit: !item.is_implied },
            Node::Symlink(to) => Placement::Symlink(to),
            Node::Special(special) => Placement::Special(special),
            Node::File { blake3, size } => {
                self.wanted.insert(blake3, size);
                Placement::File { blake3, size, same_file: item.same_file }
            }
        };
        Entry {
            below: item.path,
            mode,
            owner: Some(target.owner.unwrap_or_default()),
            modified: Some(item.modified),
            attributes: item.attributes,
            ..Entry::new(target.destination(), placement)
        }
    }

    fn tree(&mut self, layers: &Arc<[String]>, top: &Listed, below: &[ListedBelow], filter: &Filter, target: &Target) {
        let copy = |path: &[u8], listed: &Listed, alone: bool, implied: bool| {
            let placement = Placement::Copy { layers: Arc::clone(layers), path: path.to_vec(), alone, implied };
            let mode = target.mode.as_ref().map(|mode| mode.apply(listed.mode & 0o7777, listed.is_directory()));
            Entry { mode, owner: target.owner, ..Entry::new(target.destination(), placement) }
        };
        let is_each_its_own = matches!(target.mode, Some(strata_dockerfile::meta::Mode::Symbolic(_)));
        if !top.is_directory() || (filter.is_open() && !is_each_its_own) {
            self.entries.push(copy(&top.path, top, false, false));
            return;
        }
        self.entries.push(directory(target, top.modified));
        for one in below {
            let entry = copy(&one.listed.path, &one.listed, true, one.is_implied);
            self.entries.push(Entry { below: one.path.clone(), ..entry });
        }
    }

    async fn content(&mut self, build: &Build, named: &Named, target: &Target) -> Result<(), Error> {
        let (blake3, size) = match &named.bytes {
            Bytes::Own(bytes) => {
                build.store.put_content(bytes.clone(), &build.lease).await?;
                (*blake3::hash(bytes).as_bytes(), bytes.len() as u64)
            }
            Bytes::Stored { blake3, size } => (*blake3, *size),
            Bytes::Remote { file, .. } => (file.blake3, file.size),
        };
        if named.unpacks {
            self.archives.push(self.entries.len());
        }
        self.entries.push(Entry {
            name_in_directory: named.name.clone().into_bytes(),
            mode: Some(target.bits(named.mode, false)),
            owner: Some(target.owner.unwrap_or_default()),
            modified: named.modified,
            ..Entry::new(target.destination(), Placement::File { blake3, size, same_file: 0 })
        });
        Ok(())
    }
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
