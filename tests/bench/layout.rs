//! Images as registries have them: an OCI layout whose layers are compressed by gzip, from a root file system tar.
//!
//! Compressing takes longer than all that is measured, so it is done once. What makes an image new in each round is a
//! small member in front of each layer: members that follow each other are one gzip file (RFC 1952, section 2.2), and
//! entries that follow each other one archive.

use std::{
    fs::{self, File},
    io::{self, BufReader, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use flate2::{Compression, GzBuilder, write::GzEncoder};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{
    Outcome,
    archive::{Hashing, architecture, entry},
};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// The layers of an image, without what makes it new.
pub(crate) struct Layers(Vec<Layer>);

struct Layer {
    /// Plain, and without the end of an archive, but for the last.
    tar: PathBuf,
    gzip: PathBuf,
}

impl Layers {
    /// Splits a tar into so many layers of about one size, in a directory of its own.
    pub(crate) fn split(tar: &Path, number: u64, directory: &Path) -> Outcome<Self> {
        fs::create_dir_all(directory)?;
        let length = tar.metadata()?.len();
        let starts = starts(tar)?;
        let mut layers = vec![];
        let mut from = 0;
        for index in 1..=number {
            let wanted = length / number * index;
            let to = if index == number { length } else { nearest(&starts, wanted) };
            layers.push(Layer::write(tar, from..to, &directory.join(format!("layer-{index}")))?);
            from = to;
        }
        Ok(Self(layers))
    }

    /// Writes an image of them to an empty directory; a mark for each layer, by its number, makes it new.
    pub(crate) fn write(&self, directory: &Path, name: &str, mark: impl Fn(usize) -> String) -> Outcome<()> {
        let blobs = directory.join("blobs/sha256");
        fs::create_dir_all(&blobs)?;
        let (mut diff_ids, mut descriptors) = (vec![], vec![]);
        for (index, layer) in self.0.iter().enumerate() {
            let first = entry(&format!("bench-mark-{index}"), mark(index).as_bytes())?;
            let mut plain = Hashing(Sha256::new());
            plain.write_all(&first)?;
            io::copy(&mut File::open(&layer.tar)?, &mut plain)?;
            diff_ids.push(format!("sha256:{}", hex::encode(plain.0.finalize())));
            let mut member = gzip(vec![]);
            member.write_all(&first)?;
            descriptors.push(blob(&blobs, LAYER, member.finish()?.chain(File::open(&layer.gzip)?))?);
        }
        let history: Vec<Value> = diff_ids.iter().map(|_| json!({ "created_by": "bench" })).collect();
        let config = json!({
            "architecture": architecture(), "os": "linux", "config": { "Cmd": ["/bin/sh"] }, "history": history,
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        let config = blob(&blobs, CONFIG, config.to_string().as_bytes())?;
        let manifest =
            json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": descriptors }).to_string();
        let mut manifest = blob(&blobs, MANIFEST, manifest.as_bytes())?;
        manifest["annotations"] =
            json!({ "org.opencontainers.image.ref.name": name, "io.containerd.image.name": name });
        let index = json!({ "schemaVersion": 2, "manifests": [manifest] });
        fs::write(directory.join("index.json"), index.to_string())?;
        fs::write(directory.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
        Ok(())
    }
}

impl Layer {
    fn write(tar: &Path, range: std::ops::Range<u64>, to: &Path) -> Outcome<Self> {
        let layer = Self { tar: to.with_extension("tar"), gzip: to.with_extension("tar.gz") };
        let mut source = File::open(tar)?;
        source.seek(SeekFrom::Start(range.start))?;
        let mut plain = File::create(&layer.tar)?;
        io::copy(&mut source.take(range.end - range.start), &mut plain)?;
        if range.end < tar.metadata()?.len() {
            // The end of an archive, which the last part has.
            plain.write_all(&[0; 1024])?;
        }
        let mut compressed = gzip(File::create(&layer.gzip)?);
        io::copy(&mut File::open(&layer.tar)?, &mut compressed)?;
        compressed.finish()?;
        Ok(layer)
    }
}

/// Level 6 is what all tools write if nobody asks for another.
fn gzip<W: Write>(to: W) -> GzEncoder<W> {
    GzBuilder::new().write(to, Compression::new(6))
}

/// Writes a blob under its digest; returns its descriptor.
fn blob(blobs: &Path, media_type: &str, mut content: impl Read) -> Outcome<Value> {
    let part = blobs.join("part");
    let mut file = File::create(&part)?;
    let (mut hash, mut size) = (Sha256::new(), 0);
    let mut buffer = vec![0; 256 << 10];
    loop {
        let count = content.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        hash.update(&buffer[..count]);
        file.write_all(&buffer[..count])?;
        size += count;
    }
    let digest = hex::encode(hash.finalize());
    fs::rename(part, blobs.join(&digest))?;
    Ok(json!({ "mediaType": media_type, "digest": format!("sha256:{digest}"), "size": size }))
}

/// Where entries start, those that describe the next one included.
fn starts(tar: &Path) -> Outcome<Vec<u64>> {
    let mut archive = tar::Archive::new(BufReader::new(File::open(tar)?));
    let (mut starts, mut is_described) = (vec![], false);
    for entry in archive.entries()?.raw(true) {
        let entry = entry?;
        let kind = entry.header().entry_type();
        if !is_described {
            starts.push(entry.raw_header_position());
        }
        is_described = kind.is_pax_local_extensions() || kind.is_gnu_longname() || kind.is_gnu_longlink();
    }
    Ok(starts)
}

fn nearest(starts: &[u64], wanted: u64) -> u64 {
    let next = starts.partition_point(|start| *start < wanted);
    starts.get(next).or(starts.last()).copied().unwrap_or(0)
}

/// Writes a tar of about so many bytes: all of another as it is, then below `copy-1/`, and so on.
pub(crate) fn grown(tar: &Path, to: &Path, bytes: u64) -> Outcome<()> {
    let mut builder = tar::Builder::new(io::BufWriter::new(File::create(to)?));
    let (mut written, mut copies) = (0, 0);
    while written < bytes {
        let prefix = if copies == 0 { PathBuf::new() } else { PathBuf::from(format!("copy-{copies}")) };
        copies += 1;
        let mut archive = tar::Archive::new(BufReader::new(File::open(tar)?));
        for entry in archive.entries()? {
            let mut entry = entry?;
            if written >= bytes {
                break;
            }
            written += 512 + entry.size().next_multiple_of(512);
            let mut header = entry.header().clone();
            let path = prefix.join(entry.path()?.strip_prefix(".").unwrap_or(&entry.path()?));
            let path = if path.as_os_str().is_empty() { PathBuf::from("./") } else { path };
            match entry.link_name()? {
                Some(target) if header.entry_type().is_hard_link() => {
                    let target = prefix.join(target.strip_prefix(".").unwrap_or(&target));
                    builder.append_link(&mut header, path, target)?;
                }
                Some(target) => builder.append_link(&mut header, path, target)?,
                None => builder.append_data(&mut header, path, &mut entry)?,
            }
        }
    }
    builder.into_inner()?.flush()?;
    Ok(())
}

/// Writes a layout as one tar, as `load` takes it.
pub(crate) fn archive(layout: &Path, to: &Path) -> Outcome<()> {
    let mut builder = tar::Builder::new(io::BufWriter::new(File::create(to)?));
    builder.append_dir_all("", layout)?;
    builder.into_inner()?.flush()?;
    Ok(())
}
