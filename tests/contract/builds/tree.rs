//! A context as a client holds it: a Merkle tree, and the answers to what a builder asks of it.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use prost::Message;
use strata_proto::builder::v1::{
    BuildRequest, ContextContent, ContextDetails, ContextDirectories, ContextDirectory, ContextEntry, ContextFile,
    DirectoryDetails, build_request, build_response::Event, context_entry,
};

use super::event;
use crate::contents::digest;

/// A context: its directories and contents by digest.
#[derive(Default)]
pub(super) struct Tree {
    pub(super) root: Bytes,
    pub(super) directories: HashMap<Bytes, ContextDirectory>,
    pub(super) contents: HashMap<Bytes, Bytes>,
    /// It tells the time of one entry too many.
    pub(super) has_odd_details: bool,
}

enum Branch {
    File(Bytes),
    Directory(BTreeMap<String, Branch>),
}

impl Tree {
    pub(super) fn new(files: &[(&str, &str)]) -> Self {
        let mut top = BTreeMap::new();
        for (path, text) in files {
            let (mut at, mut parts) = (&mut top, path.split('/').peekable());
            while let Some(part) = parts.next() {
                if parts.peek().is_none() {
                    at.insert(part.to_owned(), Branch::File(Bytes::copy_from_slice(text.as_bytes())));
                    break;
                }
                let next = at.entry(part.to_owned()).or_insert_with(|| Branch::Directory(BTreeMap::new()));
                let Branch::Directory(next) = next else { panic!("{part} is a file") };
                at = next;
            }
        }
        let mut tree = Self::default();
        tree.root = tree.add(&top);
        tree
    }

    fn add(&mut self, directory: &BTreeMap<String, Branch>) -> Bytes {
        let mut entries = vec![];
        for (name, branch) in directory {
            let (mode, node) = match branch {
                Branch::File(bytes) => {
                    let blake3 = digest(bytes);
                    self.contents.insert(blake3.clone(), bytes.clone());
                    (0o644, context_entry::Node::File(ContextFile { blake3, size_bytes: bytes.len() as u64 }))
                }
                Branch::Directory(below) => (0o755, context_entry::Node::Directory(self.add(below))),
            };
            let name = Bytes::copy_from_slice(name.as_bytes());
            entries.push(ContextEntry { name, mode, node: Some(node), attributes: vec![] });
        }
        let message = ContextDirectory { entries };
        let blake3 = digest(&message.encode_to_vec());
        self.directories.insert(blake3.clone(), message);
        blake3
    }

    /// The details of a directory: all times are the same second, no file has two names.
    fn details(&self, path: &[u8]) -> DirectoryDetails {
        let mut at = &self.directories[&self.root];
        for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
            let entry = at.entries.iter().find(|entry| entry.name == name).expect("a path of the tree");
            let Some(context_entry::Node::Directory(digest)) = &entry.node else { panic!("no directory") };
            at = &self.directories[digest];
        }
        let time = 1_600_000_000_000_000_000;
        let entries_modified_ns = vec![time; at.entries.len() + usize::from(self.has_odd_details)];
        DirectoryDetails { modified_ns: time, entries_modified_ns, same_file: vec![] }
    }

    /// What a client says to what the builder asks for.
    pub(super) fn answers(&self, asked: &Event) -> Vec<BuildRequest> {
        match asked {
            Event::NeedDirectories(need) => {
                let directories = need.digests.iter().map(|digest| self.directories[digest].clone()).collect();
                vec![event(build_request::Event::Directories(ContextDirectories { directories, continues: false }))]
            }
            Event::NeedDetails(need) => {
                let directories = need.paths.iter().map(|path| self.details(path)).collect();
                vec![event(build_request::Event::Details(ContextDetails { directories }))]
            }
            Event::NeedContents(need) => {
                let content = |blake3: &Bytes| {
                    let (blake3, chunk) = (blake3.clone(), self.contents[blake3].clone());
                    event(build_request::Event::Content(ContextContent { blake3, chunk, last: true }))
                };
                need.blake3.iter().map(content).collect()
            }
            _ => vec![],
        }
    }
}
