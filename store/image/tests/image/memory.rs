//! A store in memory, stricter than a real one: it takes nothing before what that refers to, and nothing twice. And
//! images to put in it.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::num::NonZeroUsize;

use serde_json::{Value, json};
use strata_image::{Blob, BlobSource, Checked, Codec, Compressor, Error, Plan, Result, Root, digest};
use strata_types::{Descriptor, Digest, Platform, Reference, media_type};

use crate::tar::Tar;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory(pub BTreeMap<Digest, Vec<u8>>);

impl BlobSource for Memory {
    fn size(&self, digest: &Digest) -> io::Result<Option<u64>> {
        Ok(self.0.get(digest).map(|bytes| bytes.len() as u64))
    }

    fn open(&self, digest: &Digest) -> io::Result<Option<Blob<'_>>> {
        Ok(self.0.get(digest).map(|bytes| Blob::new(bytes.len() as u64, Trickle(bytes))))
    }
}

/// What a transfer has moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Blobs that were not there.
    pub blobs: u64,
    /// Bytes of them.
    pub bytes: u64,
}

/// Moves the blobs of a plan that are not there, what refers to a blob after the blob.
pub fn transfer(plan: &Plan, source: &dyn BlobSource, memory: &mut Memory) -> Result<Moved> {
    let mut moved = Moved::default();
    for blob in plan.blobs().iter().rev() {
        let Descriptor { digest, size, .. } = blob.descriptor;
        if memory.0.contains_key(&digest) {
            continue;
        }
        let failed = |error: io::Error| match error.downcast::<Error>() {
            Ok(error) => error,
            Err(source) => Error::Source { digest, source },
        };
        let missing = || Error::BlobMissing { digest, needed_by: "the image".into() };
        let found = source.open(&digest).map_err(failed)?.ok_or_else(missing)?;
        let mut taken = vec![];
        Checked::new(found.reader, blob.descriptor.clone()).read_to_end(&mut taken).map_err(failed)?;
        memory.put(&blob.descriptor, taken);
        moved.blobs += 1;
        moved.bytes += size;
    }
    Ok(moved)
}

/// What a document refers to; nothing if it is none.
fn references(bytes: &[u8]) -> Vec<Digest> {
    let Ok(document) = serde_json::from_slice::<Value>(bytes) else { return vec![] };
    let lists = [&document["layers"], &document["manifests"]].into_iter().filter_map(Value::as_array).flatten();
    let entries = lists.chain(document.get("config").filter(|config| config.get("digest").is_some()));
    entries.filter_map(|entry| Digest::parse(entry["digest"].as_str()?).ok()).collect()
}

/// Reads in pieces of odd lengths.
struct Trickle<'a>(&'a [u8]);

impl Read for Trickle<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.0.len().min(buffer.len()).min(4099);
        buffer[..count].copy_from_slice(&self.0[..count]);
        self.0 = &self.0[count..];
        Ok(count)
    }
}

/// A layer: descriptor and diff-id.
pub type Layer = (Descriptor, Digest);

impl Memory {
    fn put(&mut self, blob: &Descriptor, taken: Vec<u8>) {
        assert_eq!((digest(&taken), taken.len() as u64), (blob.digest, blob.size), "a wrong blob came through");
        for digest in references(&taken) {
            assert!(self.0.contains_key(&digest), "{} came before {digest}, which it needs", blob.digest);
        }
        assert!(self.0.insert(blob.digest, taken).is_none(), "{} came twice", blob.digest);
    }

    pub fn put_bytes(&mut self, media_type: &str, bytes: Vec<u8>) -> Descriptor {
        let descriptor = Descriptor::new(media_type, digest(&bytes), bytes.len() as u64);
        self.0.insert(descriptor.digest, bytes);
        descriptor
    }

    pub fn put_json(&mut self, media_type: &str, document: &Value) -> Descriptor {
        self.put_bytes(media_type, serde_json::to_vec(document).unwrap())
    }

    pub fn layer(&mut self, content: &str, codec: Option<Codec>) -> Layer {
        let tar = Tar::default().file("file", content).end();
        let diff_id = digest(&tar);
        let descriptor = match codec {
            None => self.put_bytes(media_type::OCI_LAYER, tar),
            Some(codec) => {
                let media_type = match codec {
                    Codec::Gzip(_) => media_type::OCI_LAYER_GZIP,
                    Codec::Zstd(_) => media_type::OCI_LAYER_ZSTD,
                };
                self.put_bytes(media_type, compress(&tar, codec))
            }
        };
        (descriptor, diff_id)
    }

    pub fn image(&mut self, platform: &str, layers: &[Layer]) -> Descriptor {
        let config = config(platform, layers);
        let config = self.put_json(media_type::OCI_CONFIG, &config);
        self.put_json(media_type::OCI_MANIFEST, &manifest(&config, layers))
    }

    pub fn index(&mut self, entries: &[(&Descriptor, &str)]) -> Descriptor {
        let entries = entries.iter().map(|(descriptor, platform)| {
            let mut entry = serde_json::to_value(descriptor).unwrap();
            if !platform.is_empty() {
                entry["platform"] = serde_json::to_value(Platform::parse(platform).unwrap()).unwrap();
            }
            entry
        });
        let entries: Vec<_> = entries.collect();
        let document = json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": entries});
        self.put_json(media_type::OCI_INDEX, &document)
    }
}

pub fn config(platform: &str, layers: &[Layer]) -> Value {
    let platform = Platform::parse(platform).unwrap();
    let diff_ids: Vec<_> = layers.iter().map(|(_, diff_id)| diff_id).collect();
    let mut config = json!({
        "os": platform.os, "architecture": platform.architecture,
        "rootfs": {"type": "layers", "diff_ids": diff_ids}, "config": {"Env": ["A=b"], "Unknown": 1}
    });
    if let Some(variant) = platform.variant {
        config["variant"] = json!(variant);
    }
    config
}

pub fn manifest(config: &Descriptor, layers: &[Layer]) -> Value {
    let layers: Vec<_> = layers.iter().map(|(descriptor, _)| descriptor).collect();
    json!({"schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "config": config, "layers": layers})
}

pub fn compress(bytes: &[u8], codec: Codec) -> Vec<u8> {
    let mut compressor = Compressor::new(vec![], codec, NonZeroUsize::new(1));
    compressor.write_all(bytes).unwrap();
    compressor.finish().unwrap().0
}

pub fn root(descriptor: &Descriptor, names: &[&str]) -> Root {
    Root::new(descriptor.clone(), names.iter().map(|name| Reference::parse(name).unwrap()).collect())
}
