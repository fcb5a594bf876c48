//! What a COPY or ADD found, as entries of a layer; contents that the store lacks are fetched from the client.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::archive;
use super::filter::Filter;
use super::find::{Bytes, Found, ListedBelow, Named, Sources};
use super::transfer::Target;
use crate::context::{self, Blake3, Item, Node, Selected, Walk};
use crate::contexts::Local;
use crate::error::Error;
use crate::peers::{Entry, Feed, Identity, Listed, Outcome, Placement, Tree, feed};
use crate::solve::Build;

/// Entries that are sent at once.
const AT_ONCE: usize = 4096;

/// Entries in the making, and the contents that they need.
struct Writing<'a> {
    build: &'a Build,
    target: &'a Target,
    feed: Feed,
    entries: Vec<Entry>,
    wanted: HashMap<Blake3, u64>,
    /// Places among the entries of files that may be archives.
    archives: Vec<usize>,
}

/// Writes what was found as a layer. `unpacks`: archives of a context are.
pub(super) async fn layer(
    build: &Build,
    sources: &Sources,
    target: &Target,
    unpacks: bool,
    (tree, step): (Tree, &Identity),
) -> Result<Outcome, Error> {
    let (feed, entries) = feed();
    let feeding = tell(build, sources, target, unpacks, feed);
    let writing = build.store.write_tree(tree, entries, step, &build.lease);
    tokio::pin!(feeding, writing);
    // An answer before the end is a refusal: nothing more is to be fed. A feed that fails ends the call.
    tokio::select! {
        biased;
        written = &mut writing => written,
        fed = &mut feeding => match fed {
            Ok(()) => writing.await,
            Err(error) => Err(error),
        },
    }
}

/// Tells the entries of what was found, a part at a time, when the store has what they need.
async fn tell(build: &Build, sources: &Sources, target: &Target, unpacks: bool, feed: Feed) -> Result<(), Error> {
    let (entries, wanted, archives) = Default::default();
    let mut writing = Writing { build, target, feed, entries, wanted, archives };
    for (found, filter) in &sources.found {
        match found {
            Found::Context { local, selected } => writing.context(local, selected, filter, unpacks).await?,
            Found::Tree { layers, top, below } => writing.tree(layers, top, below, filter).await?,
            Found::Content(named) => writing.content(named).await?,
        }
    }
    if sources.found.is_empty() {
        // The patterns of --parents match nothing: only the destination is made.
        writing.entries.push(directory(target, None));
    }
    writing.flush().await?;
    writing.feed.end().await;
    Ok(())
}

/// A directory as destination: one that is there is left as it is, but for its time.
fn directory(target: &Target, modified: Option<i64>) -> Entry {
    Entry { modified, ..Entry::new(target.destination(), Placement::Directory { explicit: false }) }
}

impl Writing<'_> {
    async fn push(&mut self, entry: Entry) -> Result<(), Error> {
        self.entries.push(entry);
        if self.entries.len() < AT_ONCE { Ok(()) } else { self.flush().await }
    }

    /// Sends what has come together.
    async fn flush(&mut self) -> Result<(), Error> {
        fetch(self.build, std::mem::take(&mut self.wanted)).await?;
        archive::unpack(self.build, &mut self.entries, &self.archives, self.target).await?;
        self.archives.clear();
        self.feed.send(std::mem::take(&mut self.entries)).await;
        Ok(())
    }

    async fn context(
        &mut self,
        local: &Arc<Local>,
        selected: &Selected,
        filter: &Filter,
        unpacks: bool,
    ) -> Result<(), Error> {
        let session = &self.build.session;
        let Node::Directory(digest) = &selected.node else {
            let modified = match session.has_details() {
                true => context::modified(selected, &local.name, session).await?,
                false => 0,
            };
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
            let entry = self.item(item);
            return self.push(Entry { name_in_directory: selected.name.clone(), ..entry }).await;
        };
        let details_of = session.has_details().then_some(local.name.as_str());
        let mut walk = Walk::new(digest, &selected.path, details_of, |path: &[u8]| filter.enters(path));
        let mut parts = filter.in_parts();
        let mut is_first = true;
        while let Some(items) = walk.next(session).await? {
            if std::mem::take(&mut is_first) {
                self.push(directory(self.target, details_of.map(|_| walk.modified))).await?;
            }
            for item in parts.apply(items) {
                let entry = self.item(item);
                self.push(entry).await?;
            }
        }
        Ok(())
    }

    fn item(&mut self, item: Item) -> Entry {
        let target = self.target;
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
            modified: self.build.session.has_details().then_some(item.modified),
            attributes: item.attributes,
            ..Entry::new(target.destination(), placement)
        }
    }

    async fn tree(
        &mut self,
        layers: &Arc<[String]>,
        top: &Listed,
        below: &[ListedBelow],
        filter: &Filter,
    ) -> Result<(), Error> {
        let target = self.target;
        let copy = |path: &[u8], listed: &Listed, alone: bool, implied: bool| {
            let placement = Placement::Copy { layers: Arc::clone(layers), path: path.to_vec(), alone, implied };
            let mode = target.mode.as_ref().map(|mode| mode.apply(listed.mode & 0o7777, listed.is_directory()));
            Entry { mode, owner: target.owner, ..Entry::new(target.destination(), placement) }
        };
        let is_each_its_own = matches!(target.mode, Some(strata_dockerfile::meta::Mode::Symbolic(_)));
        if !top.is_directory() || (filter.is_open() && !is_each_its_own) {
            return self.push(copy(&top.path, top, false, false)).await;
        }
        self.push(directory(target, top.modified)).await?;
        for one in below {
            let entry = copy(&one.listed.path, &one.listed, true, one.is_implied);
            self.push(Entry { below: one.path.clone(), ..entry }).await?;
        }
        Ok(())
    }

    async fn content(&mut self, named: &Named) -> Result<(), Error> {
        let (build, target) = (self.build, self.target);
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
        self.push(Entry {
            name_in_directory: named.name.clone().into_bytes(),
            mode: Some(target.bits(named.mode, false)),
            owner: Some(target.owner.unwrap_or_default()),
            modified: named.modified,
            ..Entry::new(target.destination(), Placement::File { blake3, size, same_file: 0 })
        })
        .await
    }
}

/// Brings the contents that the store lacks from the client.
async fn fetch(build: &Build, wanted: HashMap<Blake3, u64>) -> Result<(), Error> {
    if wanted.is_empty() {
        return Ok(());
    }
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
