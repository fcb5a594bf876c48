//! Archives of images: saved to equal bytes, loaded as the same images, refused with their reason.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use bytes::Bytes;
use strata_proto::store::v1::{
    ArchiveFormat, ArchiveLayers, DeleteImageRequest, GetImageRequest, ListImagesRequest, LoadImagesHeader,
    LoadImagesRequest, LoadImagesResponse, SaveImagesRequest, archive_service_client::ArchiveServiceClient,
    image_service_client::ImageServiceClient, load_images_request::Part,
};
use strata_proto::types::v1::{OpenFile, Platform};
use strata_rpc::handed::Handed;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use crate::{
    faults::{malformed, refused},
    images::{import, tar},
    node::{Node, STORE, Transport, eventually, nothing_left},
};

over_both!(STORE; equal_images_are_saved_to_equal_bytes_and_loaded_as_themselves, a_save_of_what_is_not_there_is_refused,
    what_is_no_image_archive_is_refused_and_leaves_nothing, a_load_that_is_dropped_leaves_nothing,
    a_save_that_is_dropped_leaves_nothing, malformed_requests_are_refused,
    an_open_file_is_used_on_the_same_host_and_refused_from_another,
    what_an_open_file_holds_is_checked_and_a_load_of_it_can_be_dropped);

fn of(references: &[&str], format: ArchiveFormat) -> SaveImagesRequest {
    let references = references.iter().map(|text| (*text).to_owned()).collect();
    SaveImagesRequest { references, format: format.into(), ..Default::default() }
}

async fn save(node: &Node, request: SaveImagesRequest) -> Result<Vec<u8>, Status> {
    let mut client = ArchiveServiceClient::new(node.channel("store"));
    let mut chunks = client.save_images(request).await?.into_inner();
    let mut bytes = Vec::new();
    while let Some(message) = chunks.message().await? {
        assert!((1..=262_144).contains(&message.chunk.len()), "{} bytes", message.chunk.len());
        bytes.extend_from_slice(&message.chunk);
    }
    Ok(bytes)
}

fn header(platform: Option<Platform>) -> LoadImagesRequest {
    LoadImagesRequest { part: Some(Part::Header(LoadImagesHeader { platform, file: None })) }
}

fn with_file(file: &File) -> LoadImagesRequest {
    LoadImagesRequest { part: Some(Part::Header(LoadImagesHeader { platform: None, file: Some(open(file)) })) }
}

fn open(file: &File) -> OpenFile {
    let Handed { number, boot_id, device, inode } = Handed::of(file).unwrap();
    OpenFile { number, boot_id, device, inode }
}

async fn load_file(node: &Node, file: &File) -> Result<LoadImagesResponse, Status> {
    let mut client = ArchiveServiceClient::new(node.channel("store"));
    Ok(client.load_images(tokio_stream::iter([with_file(file)])).await?.into_inner())
}

fn chunk(bytes: impl Into<Bytes>) -> LoadImagesRequest {
    LoadImagesRequest { part: Some(Part::Chunk(bytes.into())) }
}

async fn load(node: &Node, bytes: Vec<u8>) -> Result<LoadImagesResponse, Status> {
    let bytes = Bytes::from(bytes);
    let mut messages = vec![header(None)];
    let pieces = (0..bytes.len()).step_by(262_144);
    messages.extend(pieces.map(|at| chunk(bytes.slice(at..bytes.len().min(at + 262_144)))));
    let mut client = ArchiveServiceClient::new(node.channel("store"));
    Ok(client.load_images(tokio_stream::iter(messages)).await?.into_inner())
}

async fn delete(node: &Node, reference: &str) {
    let request = DeleteImageRequest { reference: reference.to_owned(), force: true, ..Default::default() };
    ImageServiceClient::new(node.channel("store")).delete_image(request).await.unwrap();
}

async fn is_empty(node: &Node) -> bool {
    let mut client = ImageServiceClient::new(node.channel("store"));
    client.list_images(ListImagesRequest::default()).await.unwrap().into_inner().images.is_empty()
}

async fn equal_images_are_saved_to_equal_bytes_and_loaded_as_themselves(node: &Node) {
    let one = import(node.channel("store"), "one:1", tar("one")).await.unwrap();
    let two = import(node.channel("store"), "two:1", tar(&"two ".repeat(200_000))).await.unwrap();
    let request = of(&["one:1", "two:1"], ArchiveFormat::Docker);

    let bytes = save(node, request.clone()).await.unwrap();
    let unspecified = SaveImagesRequest { format: 0, ..request.clone() };
    assert!(
        bytes == save(node, unspecified).await.unwrap(),
        "a docker-archive is the default, and equal bytes the rule"
    );
    assert!(bytes != save(node, of(&["one:1", "two:1"], ArchiveFormat::Oci)).await.unwrap());
    let zstd = SaveImagesRequest { layers: ArchiveLayers::Zstd.into(), ..request.clone() };
    assert!(bytes != save(node, zstd).await.unwrap());
    delete(node, "one:1").await;
    delete(node, "two:1").await;
    let loaded = load(node, bytes.clone()).await.unwrap().images;

    let ids: Vec<&str> = loaded.iter().map(|image| image.image_id.as_str()).collect();
    assert_eq!(ids, [&one.id, &two.id]);
    assert_eq!(loaded[0].names, ["docker.io/library/one:1"]);
    let request = GetImageRequest { reference: "two:1".into(), ..Default::default() };
    let found = ImageServiceClient::new(node.channel("store")).get_image(request).await.unwrap().into_inner();
    let found = found.image.unwrap();
    assert_eq!((found.id, found.layers[0].diff_id.clone()), (two.id, two.layers[0].diff_id.clone()));
    assert_eq!(found.manifest, loaded[1].target);
    assert!(bytes == save(node, of(&["one:1", "two:1"], ArchiveFormat::Docker)).await.unwrap(), "save, load, save");
}

async fn a_save_of_what_is_not_there_is_refused(node: &Node) {
    import(node.channel("store"), "one:1", tar("one")).await.unwrap();

    let unknown = save(node, of(&["one:1", "two:1"], ArchiveFormat::Oci)).await;
    refused(unknown, Code::NotFound, "FAULT_IMAGE_NOT_FOUND").resource("image", "two:1");
    let platform = Platform { os: "linux".into(), architecture: "s390x".into(), variant: String::new() };
    let other = SaveImagesRequest { platform: Some(platform), ..of(&["one:1"], ArchiveFormat::Oci) };
    let refusal = refused(save(node, other).await, Code::NotFound, "FAULT_PLATFORM_NOT_FOUND");
    assert!(refusal.message.contains("linux/s390x"), "{}", refusal.message);
}

/// CVE-2021-20291, row 70: after each refusal the next load works.
async fn what_is_no_image_archive_is_refused_and_leaves_nothing(node: &Node) {
    let files = node.files("store");
    import(node.channel("store"), "one:1", tar(&"long ".repeat(2000))).await.unwrap();
    let whole = save(node, of(&["one:1"], ArchiveFormat::Oci)).await.unwrap();
    delete(node, "one:1").await;
    // A layer that is here is not unpacked again.
    nothing_left(node, "store", &files).await;

    let half = whole[..whole.len() / 2].to_vec();
    refused(load(node, half).await, Code::InvalidArgument, "FAULT_ARCHIVE_INVALID");
    refused(load(node, vec![7; 5000]).await, Code::InvalidArgument, "FAULT_ARCHIVE_INVALID");
    let packed = zstd::encode_all(&whole[..], 3).unwrap();
    let cut = packed[..packed.len() / 2].to_vec();
    refused(load(node, cut).await, Code::InvalidArgument, "FAULT_ARCHIVE_INVALID");
    let root_file_system = load(node, tar("one")).await;
    let refusal = refused(root_file_system, Code::InvalidArgument, "FAULT_IMAGE_INVALID");
    assert!(refusal.message.contains("import"), "{}", refusal.message);
    let mut damaged = whole.clone();
    let layer = whole.windows(2).position(|pair| pair == [0x1f, 0x8b]).unwrap();
    damaged[layer + 40] ^= 0xff;
    refused(load(node, damaged).await, Code::DataLoss, "FAULT_DIGEST_MISMATCH");

    assert!(is_empty(node).await);
    nothing_left(node, "store", &files).await;
    assert_eq!(load(node, packed).await.unwrap().images.len(), 1);
}

async fn a_load_that_is_dropped_leaves_nothing(node: &Node) {
    let files = node.files("store");
    let (sender, receiver) = mpsc::channel(16);
    sender.send(header(None)).await.unwrap();
    for _ in 0..4 {
        sender.send(chunk(vec![0; 262_144])).await.unwrap();
    }
    let mut client = ArchiveServiceClient::new(node.channel("store"));
    let loading = tokio::spawn(async move { client.load_images(ReceiverStream::new(receiver)).await });
    eventually("the chunks are taken", async || sender.capacity() == sender.max_capacity()).await;

    loading.abort();

    assert!(loading.await.unwrap_err().is_cancelled());
    nothing_left(node, "store", &files).await;
    assert!(is_empty(node).await);
}

async fn a_save_that_is_dropped_leaves_nothing(node: &Node) {
    let words: String = (0..400_000_u64).map(|number| format!("{} ", number * 7919 % 1_000_003)).collect();
    import(node.channel("store"), "one:1", tar(&words)).await.unwrap();
    let files = node.files("store");
    let mut client = ArchiveServiceClient::new(node.channel("store"));
    let mut chunks = client.save_images(of(&["one:1"], ArchiveFormat::Oci)).await.unwrap().into_inner();
    chunks.message().await.unwrap().unwrap();

    drop(chunks);

    nothing_left(node, "store", &files).await;
}

async fn malformed_requests_are_refused(node: &Node) {
    malformed(save(node, SaveImagesRequest::default()).await, "references");
    malformed(save(node, of(&["UPPER"], ArchiveFormat::Oci)).await, "reference");
    let format = SaveImagesRequest { format: 99, ..of(&["one"], ArchiveFormat::Oci) };
    malformed(save(node, format).await, "format");
    let layers = SaveImagesRequest { layers: 99, ..of(&["one"], ArchiveFormat::Oci) };
    malformed(save(node, layers).await, "layers");
    let mut client = ArchiveServiceClient::new(node.channel("store"));
    malformed(client.load_images(tokio_stream::iter([chunk("x")])).await, "header");
    malformed(client.load_images(tokio_stream::iter([header(None), chunk("")])).await, "chunk");
    let platform = Platform { os: "a/b".into(), ..Default::default() };
    malformed(client.load_images(tokio_stream::iter([header(Some(platform))])).await, "header.platform");
}

async fn an_open_file_is_used_on_the_same_host_and_refused_from_another(node: &Node) {
    import(node.channel("store"), "one:1", tar("one")).await.unwrap();
    let streamed = save(node, of(&["one:1"], ArchiveFormat::Docker)).await.unwrap();
    let path = node.house.path("saved.tar");
    let file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
    let request = SaveImagesRequest { file: Some(open(&file)), ..of(&["one:1"], ArchiveFormat::Docker) };

    let saved = save(node, request.clone()).await;

    if node.transport() == Transport::Tcp {
        refused(saved, Code::FailedPrecondition, "FAULT_FILE_UNREACHABLE");
        refused(load_file(node, &file).await, Code::FailedPrecondition, "FAULT_FILE_UNREACHABLE");
        return;
    }
    assert_eq!(saved.unwrap().len(), 0, "no chunks where there is a file");
    assert!(fs::read(&path).unwrap() == streamed, "the same bytes either way");
    malformed(save(node, request).await, "file");
    delete(node, "one:1").await;
    assert_eq!(load_file(node, &file).await.unwrap().images.len(), 1);
    // Whatever it is called now, and compressed too.
    fs::remove_file(&path).unwrap();
    assert_eq!(load_file(node, &file).await.unwrap().images.len(), 1);
    let packed = node.house.path("packed.tar");
    fs::write(&packed, zstd::encode_all(&streamed[..], 3).unwrap()).unwrap();
    assert_eq!(load_file(node, &File::open(&packed).unwrap()).await.unwrap().images.len(), 1);
    let two = [with_file(&file), chunk("more")];
    malformed(ArchiveServiceClient::new(node.channel("store")).load_images(tokio_stream::iter(two)).await, "chunk");
    // What its caller has not opened for that is refused.
    let only_read =
        SaveImagesRequest { file: Some(open(&File::open(&packed).unwrap())), ..of(&["one:1"], ArchiveFormat::Docker) };
    refused(save(node, only_read).await, Code::FailedPrecondition, "FAULT_FILE_UNREACHABLE");
}

async fn what_an_open_file_holds_is_checked_and_a_load_of_it_can_be_dropped(node: &Node) {
    if node.transport() == Transport::Tcp {
        return;
    }
    let files = node.files("store");
    import(node.channel("store"), "one:1", tar(&"long ".repeat(2000))).await.unwrap();
    let whole = save(node, of(&["one:1"], ArchiveFormat::Oci)).await.unwrap();
    delete(node, "one:1").await;
    nothing_left(node, "store", &files).await;
    let path = node.house.path("archive.tar");
    let load = async |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        load_file(node, &File::open(&path).unwrap()).await
    };

    refused(load(&whole[..whole.len() / 2]).await, Code::InvalidArgument, "FAULT_ARCHIVE_INVALID");
    refused(load(&[7; 5000]).await, Code::InvalidArgument, "FAULT_ARCHIVE_INVALID");
    refused(load(b"").await, Code::InvalidArgument, "FAULT_IMAGE_INVALID");
    let mut damaged = whole.clone();
    let layer = whole.windows(2).position(|pair| pair == [0x1f, 0x8b]).unwrap();
    damaged[layer + 40] ^= 0xff;
    refused(load(&damaged).await, Code::DataLoss, "FAULT_DIGEST_MISMATCH");
    nothing_left(node, "store", &files).await;

    let endless = endless(&path);
    let mut client = ArchiveServiceClient::new(node.channel("store"));
    let request = tokio_stream::iter([with_file(&endless)]);
    let loading = tokio::spawn(async move { client.load_images(request).await });
    eventually("a layer is begun", async || fs::read_dir(node.root("store").join("layers")).unwrap().count() > 0).await;
    loading.abort();

    assert!(loading.await.unwrap_err().is_cancelled());
    nothing_left(node, "store", &files).await;
    assert!(is_empty(node).await);
}

/// A docker-archive whose one layer has a file of 8 GiB, all of it hole.
fn endless(path: &std::path::Path) -> File {
    let size = 8_u64 << 30;
    let header = |name: &str, size: u64| {
        let mut header = tar::Header::new_gnu();
        header.set_path(name).unwrap();
        header.set_size(size);
        header.set_mode(0o644);
        header.set_cksum();
        header.as_bytes().to_vec()
    };
    let diff_id = "0".repeat(64);
    let config = format!(
        r#"{{"os":"linux","architecture":"amd64","rootfs":{{"type":"layers","diff_ids":["sha256:{diff_id}"]}}}}"#
    );
    let manifest = r#"[{"Config":"config","RepoTags":["endless:1"],"Layers":["layer.tar"]}]"#;
    let mut at = 0;
    let file = File::create(path).unwrap();
    let mut write = |bytes: &[u8], after: u64| {
        file.write_all_at(bytes, at).unwrap();
        at += (bytes.len() as u64).next_multiple_of(512) + after;
    };
    for (name, text) in [("config", config.as_str()), ("manifest.json", manifest)] {
        write(&header(name, text.len() as u64), 0);
        write(text.as_bytes(), 0);
    }
    write(&header("layer.tar", size + 512 + 1024), 0);
    write(&header("file", size), size + 1024);
    file.set_len(at + 1024).unwrap();
    File::open(path).unwrap()
}
