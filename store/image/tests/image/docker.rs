//! docker-archives as Docker and others have written them over the years.

use std::io::Cursor;

use serde_json::{Value, json};
use strata_image::{Archive, Codec, Error, Format, Limits, Plan, Platforms, Result, digest};
use strata_types::{Digest, media_type};
use tempfile::tempdir;

use crate::memory::{Memory, compress, transfer};
use crate::tar::Tar;

fn open(bytes: Vec<u8>) -> Result<Archive> {
    Archive::from_stream(Cursor::new(bytes), tempdir().unwrap().path(), &Limits::default(), &mut ())
}

fn load(archive: &Archive) -> Result<Memory> {
    let plan = Plan::new(archive, archive.roots(), &Platforms::Host, &Limits::default())?;
    let mut memory = Memory::default();
    transfer(&plan, archive, &mut memory)?;
    Ok(memory)
}

fn layer(content: &str) -> Vec<u8> {
    Tar::default().file("file", content).end()
}

fn config(diff_ids: &[Digest]) -> String {
    json!({"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": diff_ids}}).to_string()
}

fn list(config: &str, tags: Value, layers: &[&str]) -> Value {
    json!({"Config": config, "RepoTags": tags, "Layers": layers})
}

fn id(number: u8) -> String {
    format!("{number:02x}").repeat(32)
}

#[test]
fn an_old_archive_with_legacy_directories_and_linked_layers_is_read() {
    let (one, two) = (layer("one"), layer("two"));
    let config = config(&[digest(&one), digest(&two), digest(&one)]);
    let config_name = format!("{}.json", digest(config.as_bytes()).as_hex());
    let paths = [1, 2, 3].map(|number| format!("{}/layer.tar", id(number)));
    let manifest = list(&config_name, json!(["debian:12", "me/app"]), &[&paths[0], &paths[1], &paths[2]]);
    let archive = Tar::default()
        .node(&format!("{}/", id(1)), b'5', "")
        .file(&format!("{}/VERSION", id(1)), "1.0")
        .file(&format!("{}/json", id(1)), "{}")
        .file(&paths[0], &one)
        .file(&paths[1], &two)
        .node(&paths[2], b'2', &format!("../{}/layer.tar", id(1)))
        .file(&config_name, &config)
        .file("manifest.json", json!([manifest]).to_string())
        .file("repositories", "{}")
        .end();

    let archive = open(archive).unwrap();
    let memory = load(&archive).unwrap();

    assert_eq!(archive.format(), Format::DockerArchive);
    let names: Vec<_> = archive.roots()[0].names.iter().map(|name| name.familiar()).collect();
    assert_eq!(names, ["debian:12", "me/app:latest"]);
    assert_eq!(memory.0.len(), 4, "two layers, a config and a manifest");
    assert_eq!(memory.0[&digest(config.as_bytes())], config.as_bytes(), "the image id is Docker's");
    let manifest: Value = serde_json::from_slice(&memory.0[&archive.roots()[0].descriptor.digest]).unwrap();
    assert_eq!(manifest["layers"][2]["digest"], json!(digest(&one)));
}

#[test]
fn layers_by_digest_hard_links_and_compressed_layers_are_read() {
    let (one, two) = (layer("one"), layer("two"));
    let gzip = compress(&two, Codec::Gzip(6));
    let config = config(&[digest(&one), digest(&two), digest(&one)]);
    let named = format!("{}.tar", digest(&one).as_hex());
    let manifest = list("config.json", Value::Null, &[&named, "two.tar.gz", "again.tar"]);
    let archive = Tar::default()
        .file(&named, &one)
        .file("two.tar.gz", &gzip)
        .node("again.tar", b'1', &named)
        .file("config.json", &config)
        .file("manifest.json", json!([manifest]).to_string())
        .end();

    let archive = open(archive).unwrap();
    let memory = load(&archive).unwrap();

    assert!(archive.roots()[0].names.is_empty());
    assert_eq!(memory.0[&digest(&gzip)], gzip);
    let manifest: Value = serde_json::from_slice(&memory.0[&archive.roots()[0].descriptor.digest]).unwrap();
    assert_eq!(manifest["layers"][1]["mediaType"], media_type::OCI_LAYER_GZIP);
}

#[test]
fn several_images_share_layers_and_one_image_may_stand_twice() {
    let one = layer("one");
    let configs = [config(&[digest(&one)]), config(&[])];
    let images = [
        list("a.json", json!(["a:1"]), &["one.tar"]),
        list("b.json", json!(["b:1"]), &[]),
        list("a.json", json!(["a:2"]), &["one.tar"]),
    ];
    let archive = Tar::default()
        .file("a.json", &configs[0])
        .file("b.json", &configs[1])
        .file("one.tar", &one)
        .file("manifest.json", json!(images).to_string())
        .end();

    let archive = open(archive).unwrap();

    let names: Vec<Vec<_>> =
        archive.roots().iter().map(|root| root.names.iter().map(|name| name.familiar()).collect()).collect();
    assert_eq!(names, [vec!["a:1", "a:2"], vec!["b:1"]]);
    assert_eq!(load(&archive).unwrap().0.len(), 5);
}

#[test]
fn an_archive_that_contradicts_itself_is_refused() {
    let one = layer("one");
    let good = config(&[digest(&one)]);
    let other = config(&[digest(b"other")]);
    let wrong_name = format!("{}.json", id(7));
    let build = |name: &str, config: &str, layers: &[&str], tags: Value| {
        let tar = Tar::default().file(name, config).file("one.tar", &one);
        tar.file("manifest.json", json!([list(name, tags, layers)]).to_string()).end()
    };

    let none = Value::Null;
    let count = open(build("c.json", &good, &["one.tar", "one.tar"], none.clone()));
    assert!(matches!(count, Err(Error::Document { .. })), "{count:?}");
    let missing = open(build("c.json", &good, &["two.tar"], none.clone()));
    assert!(matches!(missing, Err(Error::Member { .. })), "{missing:?}");
    let escape = open(build("c.json", &good, &["../../etc/passwd"], none.clone()));
    assert!(matches!(escape, Err(Error::Member { .. })), "{escape:?}");
    let name = open(build(&wrong_name, &good, &["one.tar"], none.clone()));
    assert!(matches!(name, Err(Error::DigestMismatch { .. })), "{name:?}");
    let tag = open(build("c.json", &good, &["one.tar"], json!(["../../x:1"])));
    assert!(matches!(tag, Err(Error::Document { .. })), "{tag:?}");
    // Whether an uncompressed layer has its diff-id shows when it is read, and nothing is kept.
    let diff_id = load(&open(build("c.json", &other, &["one.tar"], none)).unwrap());
    assert!(matches!(diff_id, Err(Error::DigestMismatch { .. })), "{diff_id:?}");
}

#[test]
fn what_is_no_image_archive_is_named_as_such() {
    let empty = open(Tar::default().end());
    assert!(matches!(empty, Err(Error::NotAnArchive { .. })), "{empty:?}");
    let ancient = open(Tar::default().file("repositories", "{}").end());
    assert!(matches!(ancient, Err(Error::NotAnArchive { reason }) if reason.contains("1.10")));
    let text = open(b"hello".repeat(500));
    assert!(matches!(text, Err(Error::Tar { .. })), "{text:?}");
}
