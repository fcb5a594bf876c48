//! What an image is, line by line: read from an archive that any engine saves.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{Read, Seek},
    path::Path,
};

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tar::{Archive, EntryType};

/// An image as lines, by aspect.
#[derive(Debug, Clone, Default)]
pub struct Description {
    pub aspects: BTreeMap<&'static str, Vec<String>>,
}

/// One path of the flattened tree.
#[derive(Debug, Clone)]
struct Node {
    kind: char,
    mode: u32,
    owner: (u64, u64),
    mtime: u64,
    /// Content, target or device.
    what: String,
    xattrs: BTreeMap<String, Vec<u8>>,
    /// Paths with the same number are one file.
    identity: usize,
}

type Tree = BTreeMap<String, Node>;

impl Description {
    /// Reads a docker-archive.
    pub fn read(archive: &Path) -> Self {
        let documents = members(archive, |name| name.ends_with(".json") || !name.contains("layer.tar"));
        let manifest: Value = serde_json::from_slice(&documents["manifest.json"]).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let config: Value = serde_json::from_slice(&documents[&text(&manifest[0]["Config"])]).unwrap();
        let layers: Vec<String> = manifest[0]["Layers"].as_array().unwrap().iter().map(text).collect();
        let mut tree = Tree::new();
        for layer in &layers {
            let wanted = resolve(archive, layer);
            let bytes = members(archive, |name| name == wanted).remove(&wanted).unwrap();
            apply(&mut tree, &bytes);
        }
        let aspects = [
            ("tree", lines(&tree)),
            ("mtime", times(&tree)),
            ("config", config_lines(&config)),
            ("history", history_lines(&config)),
            ("layers", layer_lines(&config, layers.len())),
        ];
        Self { aspects: aspects.into() }
    }
}

/// Members of a tar whose names are wanted.
fn members(archive: &Path, wanted: impl Fn(&str) -> bool) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut file = File::open(archive).unwrap();
    file.rewind().unwrap();
    for entry in Archive::new(file).entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().to_string_lossy().trim_start_matches("./").to_owned();
        if entry.header().entry_type().is_file() && wanted(&name) {
            let mut bytes = vec![];
            entry.read_to_end(&mut bytes).unwrap();
            found.insert(name, bytes);
        }
    }
    found
}

/// Docker saves a layer that it has twice as a link.
fn resolve(archive: &Path, name: &str) -> String {
    for entry in Archive::new(File::open(archive).unwrap()).entries().unwrap() {
        let entry = entry.unwrap();
        if entry.path().unwrap().to_string_lossy() == name && !entry.header().entry_type().is_file() {
            let target = entry.link_name().unwrap().unwrap().to_string_lossy().into_owned();
            let from = Path::new(name).parent().unwrap_or(Path::new("")).join(target);
            let mut parts: Vec<String> = vec![];
            for part in from.components() {
                match part.as_os_str().to_str().unwrap() {
                    ".." => drop(parts.pop()),
                    part => parts.push(part.to_owned()),
                }
            }
            return parts.join("/");
        }
    }
    name.to_owned()
}

/// Puts a layer on a tree.
fn apply(tree: &mut Tree, layer: &[u8]) {
    let plain;
    let layer = match layer.starts_with(&[0x1f, 0x8b]) {
        true => {
            let mut bytes = vec![];
            flate2::read::MultiGzDecoder::new(layer).read_to_end(&mut bytes).unwrap();
            plain = bytes;
            &plain[..]
        }
        false => layer,
    };
    let mut made = BTreeSet::new();
    for entry in Archive::new(layer).entries().unwrap() {
        let mut entry = entry.unwrap();
        let path =
            format!("/{}", String::from_utf8_lossy(&entry.path_bytes()).trim_start_matches("./").trim_matches('/'));
        let (directory, name) = path.rsplit_once('/').unwrap();
        if name == ".wh..wh..opq" {
            tree.retain(|other, _| !other.starts_with(&format!("{directory}/")) || made.contains(other));
            continue;
        }
        if let Some(hidden) = name.strip_prefix(".wh.") {
            let hidden = format!("{directory}/{hidden}");
            tree.retain(|other, _| *other != hidden && !other.starts_with(&format!("{hidden}/")));
            continue;
        }
        let node = node(&mut entry, tree);
        if node.kind != 'd' {
            tree.retain(|other, _| !other.starts_with(&format!("{path}/")));
        }
        made.insert(path.clone());
        tree.insert(path, node);
    }
}

fn node(entry: &mut tar::Entry<'_, impl Read>, tree: &Tree) -> Node {
    let header = entry.header().clone();
    let target = entry.link_name_bytes().map(|name| String::from_utf8_lossy(&name).into_owned()).unwrap_or_default();
    if header.entry_type() == EntryType::Link {
        let target = format!("/{}", target.trim_start_matches("./").trim_matches('/'));
        return tree.get(&target).unwrap_or_else(|| panic!("a hard link to {target}, which is not there")).clone();
    }
    let mut xattrs = BTreeMap::new();
    for field in entry.pax_extensions().unwrap().into_iter().flatten() {
        let field = field.unwrap();
        if let Some(name) = field.key().unwrap_or_default().strip_prefix("SCHILY.xattr.") {
            xattrs.insert(name.to_owned(), field.value_bytes().to_vec());
        }
    }
    let (kind, what) = match header.entry_type() {
        EntryType::Directory => ('d', String::new()),
        EntryType::Symlink => ('l', format!("-> {target}")),
        EntryType::Fifo => ('p', String::new()),
        EntryType::Char | EntryType::Block => {
            ('c', format!("{:?}", (header.device_major().unwrap(), header.device_minor().unwrap())))
        }
        _ => {
            let mut bytes = vec![];
            entry.read_to_end(&mut bytes).unwrap();
            ('f', shown(&bytes))
        }
    };
    let next = tree.values().map(|node| node.identity + 1).max().unwrap_or(0);
    Node {
        kind,
        mode: if kind == 'l' { 0o777 } else { header.mode().unwrap() & 0o7777 },
        owner: (header.uid().unwrap(), header.gid().unwrap()),
        mtime: header.mtime().unwrap(),
        what,
        xattrs,
        identity: next,
    }
}

/// Short texts as they are, others as a digest.
fn shown(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if text.len() <= 80 => format!("{text:?}"),
        _ => format!("sha256:{}", hex::encode(Sha256::digest(bytes))),
    }
}

fn lines(tree: &Tree) -> Vec<String> {
    let mut first: BTreeMap<usize, &str> = BTreeMap::new();
    tree.iter()
        .filter(|(path, _)| *path != "/")
        .map(|(path, node)| {
            let Node { kind, mode, owner: (uid, gid), what, xattrs, identity, .. } = node;
            let xattrs: String = xattrs.iter().map(|(name, value)| format!(" {name}={}", hex::encode(value))).collect();
            let link = match first.get(identity) {
                Some(other) => format!(" = {other}"),
                None => {
                    first.insert(*identity, path);
                    String::new()
                }
            };
            let what = if what.is_empty() { String::new() } else { format!(" {what}") };
            format!("{kind} {mode:o} {uid}:{gid} {path}{what}{xattrs}{link}")
        })
        .collect()
}

/// What has the time that everything in a context has; what a step wrote has that of the step.
fn times(tree: &Tree) -> Vec<String> {
    let known = tree.iter().filter(|(_, node)| node.mtime == crate::case::MTIME as u64);
    known.map(|(path, node)| format!("{path} {}", node.mtime)).collect()
}

/// Every field but times, layers and history; empty ones are as absent ones.
fn config_lines(config: &Value) -> Vec<String> {
    let mut found = vec![];
    let mut add = |name: String, value: &Value| {
        let is_empty = match value {
            Value::Null => true,
            Value::String(text) => text.is_empty(),
            Value::Array(list) => list.is_empty(),
            Value::Object(map) => map.is_empty(),
            Value::Bool(value) => !value,
            Value::Number(_) => false,
        };
        if !is_empty {
            found.push(format!("{name} {value}"));
        }
    };
    for (name, value) in config.as_object().unwrap() {
        match name.as_str() {
            "created" | "rootfs" | "history" | "container_config" => {}
            "config" => value.as_object().unwrap().iter().for_each(|(key, value)| add(format!("config.{key}"), value)),
            _ => add(name.clone(), value),
        }
    }
    found.sort();
    found
}

fn history_lines(config: &Value) -> Vec<String> {
    let entries = config["history"].as_array().cloned().unwrap_or_default();
    let shown = |(index, entry): (usize, &Value)| {
        let empty = if entry["empty_layer"] == true { " (empty)" } else { "" };
        let comment = entry["comment"].as_str().filter(|text| *text != "buildkit.dockerfile.v0");
        let comment = comment.map_or(String::new(), |text| format!(" [{text}]"));
        format!("{index}: {}{empty}{comment}", entry["created_by"].as_str().unwrap_or_default())
    };
    entries.iter().enumerate().map(shown).collect()
}

/// As many layers as the history says, each with a time, none before the one below.
fn layer_lines(config: &Value, count: usize) -> Vec<String> {
    let entries = config["history"].as_array().cloned().unwrap_or_default();
    let full = entries.iter().filter(|entry| entry["empty_layer"] != true).count();
    let mut found = vec![format!("{count} layers, {full} in the history")];
    let times = entries.iter().filter(|entry| entry["created"].is_null()).count();
    if times > 0 {
        found.push(format!("{times} entries without a time"));
    }
    found
}
