//! Layouts in all their forms: as tar, compressed tar, stream and directory, written here and by others.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::os::unix::fs::FileExt;

use serde_json::json;
use strata_image::{Archive, Codec, Error, Format, Limits, Plan, Platforms, Root, digest, save};
use strata_types::{Platform, media_type};
use tempfile::tempdir;

use crate::memory::{Memory, compress, root, transfer};
use crate::tar::Tar;

/// Two names, an index of two platforms with an attestation, and shared layers.
fn sample() -> (Memory, Vec<Root>) {
    let mut memory = Memory::default();
    let base = memory.layer("base", Some(Codec::Gzip(6)));
    let plain = memory.layer("plain", None);
    let zstd = memory.layer("zstd", Some(Codec::Zstd(3)));
    let amd64 = memory.image("linux/amd64", &[base.clone(), plain]);
    let arm64 = memory.image("linux/arm64", &[base.clone(), zstd]);
    let mut attestation = memory.image("linux/amd64", &[]);
    let marks = [("vnd.docker.reference.type".to_owned(), "attestation-manifest".to_owned())];
    attestation.annotations.extend(marks);
    let index = memory.index(&[(&amd64, "linux/amd64"), (&arm64, "linux/arm64"), (&attestation, "unknown/unknown")]);
    let other = memory.image("linux/amd64", &[base]);
    let roots = vec![root(&index, &["debian:12", "example.org/os:stable"]), root(&other, &["me/app:12"])];
    (memory, roots)
}

fn plan(memory: &Memory, roots: &[Root], platforms: &Platforms) -> Plan {
    Plan::new(memory, roots, platforms, &Limits::default()).unwrap()
}

fn saved(memory: &Memory, roots: &[Root], format: Format) -> Vec<u8> {
    save::tar(&plan(memory, roots, &Platforms::All), memory, format, vec![]).unwrap()
}

fn from_stream(bytes: &[u8]) -> Archive {
    Archive::from_stream(Cursor::new(bytes.to_vec()), tempdir().unwrap().path(), &Limits::default(), &mut ()).unwrap()
}

fn from_file(bytes: &[u8]) -> Archive {
    let mut file = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut file, bytes).unwrap();
    std::io::Seek::rewind(&mut file).unwrap();
    Archive::from_file(file, tempdir().unwrap().path(), &Limits::default(), &mut ()).unwrap()
}

fn loaded(archive: &Archive) -> Memory {
    let plan = Plan::new(archive, archive.roots(), &Platforms::All, &Limits::default()).unwrap();
    let mut memory = Memory::default();
    let moved = transfer(&plan, archive, &mut memory).unwrap();
    assert_eq!((moved.blobs, moved.bytes), (plan.blobs().len() as u64, plan.size()));
    assert_eq!(transfer(&plan, archive, &mut memory).unwrap().blobs, 0, "a second load moves nothing");
    memory
}

#[test]
fn what_is_saved_is_read_compressed_or_not() {
    let (memory, roots) = sample();
    for format in [Format::OciLayout, Format::DockerArchive] {
        let bytes = saved(&memory, &roots, format);
        for stream in [bytes.clone(), compress(&bytes, Codec::Gzip(1)), compress(&bytes, Codec::Zstd(3))] {
            let file = from_file(&stream);
            assert!(loaded(&file) == loaded(&from_stream(&stream)), "{format:?} from a file");
            let archive = from_stream(&stream);

            assert_eq!(archive.format(), Format::OciLayout);
            assert_eq!(archive.roots(), roots);
            assert_eq!(loaded(&archive), memory);
        }
    }
}

/// The members of an archive.
fn members(bytes: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let file = tempfile::tempfile().unwrap();
    file.write_all_at(bytes, 0).unwrap();
    let found = strata_archive::members(&file, 1000).unwrap();
    let content = |member: &strata_archive::Member| {
        let start = usize::try_from(member.offset).unwrap();
        bytes[start..start + usize::try_from(member.size).unwrap()].to_vec()
    };
    found.iter().map(|member| (String::from_utf8(member.path.clone()).unwrap(), content(member))).collect()
}

#[test]
fn what_is_saved_twice_is_the_same_to_the_byte() {
    let (memory, roots) = sample();
    for format in [Format::OciLayout, Format::DockerArchive] {
        let first = saved(&memory, &roots, format);
        assert!(first == saved(&memory, &roots, format));
        assert!(first == saved(&loaded(&from_stream(&first)), &roots, format), "also after it was loaded");
    }
}

#[test]
fn one_platform_of_an_index_is_saved_as_one_image() {
    let (memory, roots) = sample();
    let arm64 = Platforms::Only(Platform::parse("linux/arm64").unwrap());

    let plan = plan(&memory, &roots[..1], &arm64);
    let archive = from_stream(&save::tar(&plan, &memory, Format::OciLayout, vec![]).unwrap());

    assert_eq!(plan.roots()[0].images.len(), 1);
    assert_eq!(plan.blobs().len(), 4, "manifest, config and two layers");
    assert_eq!(archive.roots()[0].descriptor.digest, plan.roots()[0].images[0].manifest.digest);
    assert_eq!(archive.roots()[0].names, roots[0].names);
    let refused = Plan::new(&memory, &roots, &arm64, &Limits::default());
    assert!(matches!(refused, Err(Error::NoPlatform { what, .. }) if what == "me/app:12"));
}

#[test]
fn docker_finds_its_list_of_images() {
    let (memory, roots) = sample();

    let members = members(&saved(&memory, &roots, Format::DockerArchive));

    let list: serde_json::Value = serde_json::from_slice(&members["manifest.json"]).unwrap();

    assert_eq!(list[0]["RepoTags"], json!(["debian:12", "example.org/os:stable"]));
    assert_eq!(list[1]["RepoTags"], json!(["me/app:12"]));
    for path in list[0]["Layers"].as_array().unwrap().iter().chain([&list[0]["Config"]]) {
        assert!(members.contains_key(path.as_str().unwrap()), "{path}");
    }
}

#[test]
fn a_tag_of_several_images_is_written_with_their_names() {
    let (memory, roots) = sample();

    let members = members(&saved(&memory, &roots, Format::OciLayout));

    let index: serde_json::Value = serde_json::from_slice(&members["index.json"]).unwrap();

    let names: Vec<_> = index["manifests"].as_array().unwrap().iter().map(|entry| &entry["annotations"]).collect();
    let reference = "org.opencontainers.image.ref.name";
    assert_eq!(names[0][reference], "docker.io/library/debian:12");
    assert_eq!(names[1][reference], "stable");
    assert_eq!(names[2][reference], "docker.io/me/app:12");
}

#[test]
fn unnamed_images_stay_apart_and_an_index_of_platforms_is_one_image() {
    let mut memory = Memory::default();
    let layer = memory.layer("x", None);
    let amd64 = memory.image("linux/amd64", std::slice::from_ref(&layer));
    let arm64 = memory.image("linux/arm64", std::slice::from_ref(&layer));
    let roots = [root(&amd64, &[]), root(&arm64, &[])];

    let apart = from_stream(&saved(&memory, &roots, Format::OciLayout));
    assert_eq!(apart.roots(), roots);

    let entry = |descriptor: &strata_types::Descriptor, architecture: &str| {
        let mut entry = serde_json::to_value(descriptor).unwrap();
        entry["platform"] = json!({"os": "linux", "architecture": architecture});
        entry
    };
    let index = json!({"schemaVersion": 2, "manifests": [entry(&amd64, "amd64"), entry(&arm64, "arm64")]});
    let archive = from_stream(&layout(&memory, &index.to_string()));
    assert_eq!(archive.roots().len(), 1);
    assert_eq!(archive.roots()[0].descriptor.digest, digest(index.to_string().as_bytes()));
    let plan = Plan::new(&archive, archive.roots(), &Platforms::All, &Limits::default()).unwrap();
    assert_eq!(plan.roots()[0].images.len(), 2);
}

#[test]
fn a_layout_without_media_types_and_with_a_leading_dot_is_read() {
    let mut memory = Memory::default();
    let layer = memory.layer("x", None);
    let image = memory.image("linux/amd64", &[layer]);
    let mut entry = serde_json::to_value(&image).unwrap();
    entry["annotations"] = json!({"org.opencontainers.image.ref.name": "latest"});
    let mut tar = Tar::default()
        .node("./", b'5', "")
        .file("./index.json", json!({"schemaVersion": 2, "manifests": [entry]}).to_string())
        .file("./oci-layout", r#"{"imageLayoutVersion": "1.0.0"}"#)
        .node("./blobs", b'5', "")
        .node("./blobs/", b'5', "");
    for (digest, bytes) in &memory.0 {
        tar = tar.file(&format!("./blobs/sha256/{}", digest.as_hex()), bytes);
    }

    let archive = from_stream(&tar.end());

    assert_eq!(archive.roots()[0].tag.as_deref(), Some("latest"));
    assert_eq!(loaded(&archive), memory);
}

#[test]
fn a_sparse_layout_gives_what_it_has() {
    let (mut memory, roots) = sample();
    let whole = plan(&memory, &roots[..1], &Platforms::All);
    memory.0.remove(&whole.roots()[0].images[1].manifest.digest);

    let sparse = plan(&memory, &roots[..1], &Platforms::All);
    assert_eq!((sparse.roots()[0].images.len(), sparse.roots()[0].absent.len()), (1, 1));
    let arm64 = Platforms::Only(Platform::parse("linux/arm64").unwrap());
    let refused = Plan::new(&memory, &roots[..1], &arm64, &Limits::default());
    assert!(matches!(refused, Err(Error::BlobMissing { .. })), "{refused:?}");
}

/// A layout in a tar with this `index.json`.
fn layout(memory: &Memory, index: &str) -> Vec<u8> {
    let mut tar = Tar::default().file("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#).file("index.json", index);
    for (digest, bytes) in &memory.0 {
        tar = tar.file(&format!("blobs/sha256/{}", digest.as_hex()), bytes);
    }
    tar.end()
}

#[test]
fn artifacts_and_docker_types_travel_too() {
    let mut memory = Memory::default();
    let content = memory.put_bytes("application/x-chart", b"chart".to_vec());
    let config = memory.put_bytes("application/vnd.oci.empty.v1+json", b"{}".to_vec());
    let subject = json!({"mediaType": media_type::OCI_MANIFEST, "digest": digest(b"gone"), "size": 4});
    let artifact = memory.put_json(
        media_type::OCI_MANIFEST,
        &json!({
            "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "artifactType": "application/x-chart",
            "config": config, "layers": [content], "subject": subject
        }),
    );
    let (mut layer, diff_id) = memory.layer("x", Some(Codec::Gzip(6)));
    layer.media_type = media_type::DOCKER_LAYER_GZIP.into();
    let config = crate::memory::config("linux/amd64", &[(layer.clone(), diff_id)]);
    let config = memory.put_json(media_type::DOCKER_CONFIG, &config);
    let docker = memory.put_json(
        media_type::DOCKER_MANIFEST,
        &json!({"schemaVersion": 2, "mediaType": media_type::DOCKER_MANIFEST, "config": config, "layers": [layer]}),
    );
    let roots = [root(&artifact, &["a:1"]), root(&docker, &["b:1"])];

    let archive = from_stream(&saved(&memory, &roots, Format::OciLayout));

    assert_eq!(archive.roots(), roots);
    assert_eq!(loaded(&archive), memory);
    let plan = plan(&memory, &roots, &Platforms::All);
    let refused = save::tar(&plan, &memory, Format::DockerArchive, vec![]);
    assert!(matches!(refused, Err(Error::NoImage { what }) if what == "a:1"));
}
