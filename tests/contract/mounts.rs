//! Cache mounts: who holds one, and how they come and go.

use bytes::Bytes;
use strata_proto::store::v1::{
    CacheMount, CacheSeed, CacheSharing, ExportCacheMountRequest, HoldCacheMountRequest, HoldCacheMountResponse,
    ImportCacheMountRequest, ListCacheMountsRequest, RemoveCacheMountRequest,
    cache_mount_service_client::CacheMountServiceClient, import_cache_mount_request::Part,
};
use tonic::{Status, Streaming, transport::Channel};

use crate::{
    faults::malformed,
    node::{Node, STORE, eventually},
};

over_both!(STORE; a_mount_is_held_until_its_stream_is_dropped, mounts_are_exported_imported_and_removed,
    malformed_wishes_name_the_field);

type Client = CacheMountServiceClient<Channel>;

async fn hold(
    client: &mut Client,
    request: HoldCacheMountRequest,
) -> Result<(HoldCacheMountResponse, Streaming<HoldCacheMountResponse>), Status> {
    let mut stream = client.hold_cache_mount(request).await?.into_inner();
    let first = stream.message().await?.expect("it is held");
    Ok((first, stream))
}

async fn list(client: &mut Client) -> Vec<CacheMount> {
    let mut request = ListCacheMountsRequest { page_size: 1, page_token: String::new() };
    let mut all = Vec::new();
    loop {
        let page = client.list_cache_mounts(request.clone()).await.unwrap().into_inner();
        all.extend(page.mounts);
        if page.next_page_token.is_empty() {
            return all;
        }
        request.page_token = page.next_page_token;
    }
}

fn locked(id: &str) -> HoldCacheMountRequest {
    HoldCacheMountRequest { id: id.into(), sharing: CacheSharing::Locked.into(), seed: None }
}

async fn a_mount_is_held_until_its_stream_is_dropped(node: &Node) {
    let mut client = Client::new(node.channel("store"));
    let (first, stream) = hold(&mut client, locked("held")).await.unwrap();
    let mount = first.mount.unwrap();
    assert!(mount.is_in_use && mount.id == "held" && std::path::Path::new(&first.path).is_dir());
    let remove = RemoveCacheMountRequest { key: mount.key.clone(), allow_missing: false };
    let status = client.remove_cache_mount(remove).await.unwrap_err();
    assert_eq!(strata_rpc::reason_of(&status).as_deref(), Some("FAULT_CACHE_MOUNT_IN_USE"));

    let mut other = client.clone();
    let next = tokio::spawn(async move { hold(&mut other, locked("held")).await.map(|(first, _)| first.path) });
    drop(stream);

    assert_eq!(next.await.unwrap().unwrap(), first.path);
}

async fn mounts_are_exported_imported_and_removed(node: &Node) {
    let mut client = Client::new(node.channel("store"));
    let (first, stream) = hold(&mut client, locked("one")).await.unwrap();
    std::fs::write(std::path::Path::new(&first.path).join("file"), "content").unwrap();
    let key = first.mount.unwrap().key;
    let mut chunks =
        client.export_cache_mount(ExportCacheMountRequest { key: key.clone() }).await.unwrap().into_inner();
    let mut tar = Vec::new();
    while let Some(message) = chunks.message().await.unwrap() {
        tar.extend_from_slice(&message.chunk);
    }
    let parts = |id: &str, tar: &[u8]| {
        let first = ImportCacheMountRequest { part: Some(Part::Id(id.into())) };
        let chunk = |chunk: &[u8]| ImportCacheMountRequest { part: Some(Part::Chunk(Bytes::copy_from_slice(chunk))) };
        tokio_stream::iter(std::iter::once(first).chain(tar.chunks(1000).map(chunk)).collect::<Vec<_>>())
    };

    let made = client.import_cache_mount(parts("two", &tar)).await.unwrap().into_inner().mount.unwrap();
    let status = client.import_cache_mount(parts("one", &tar)).await.unwrap_err();
    assert_eq!(strata_rpc::reason_of(&status).as_deref(), Some("FAULT_CACHE_MOUNT_IN_USE"));

    drop(stream);
    assert_eq!(made.id, "two");
    let (second, stream) = hold(&mut client, locked("two")).await.unwrap();
    assert_eq!(std::fs::read(std::path::Path::new(&second.path).join("file")).unwrap(), b"content");
    drop(stream);
    for key in [key, made.key] {
        eventually("it is free, and goes", async || {
            let request = RemoveCacheMountRequest { key: key.clone(), allow_missing: true };
            client.clone().remove_cache_mount(request).await.is_ok()
        })
        .await;
        let status =
            client.remove_cache_mount(RemoveCacheMountRequest { key, allow_missing: false }).await.unwrap_err();
        assert_eq!(strata_rpc::reason_of(&status).as_deref(), Some("FAULT_CACHE_MOUNT_NOT_FOUND"));
    }
    assert!(list(&mut client).await.iter().all(|mount| mount.id != "one" && mount.id != "two"));
}

async fn malformed_wishes_name_the_field(node: &Node) {
    let mut client = Client::new(node.channel("store"));
    let mut wrong = async |request: HoldCacheMountRequest, field: &str| {
        malformed(client.hold_cache_mount(request).await, field);
    };
    let seed = |seed: CacheSeed| HoldCacheMountRequest { seed: Some(seed), ..locked("x") };
    let base = || CacheSeed { base: "0".repeat(64), ..Default::default() };

    wrong(locked(""), "id").await;
    wrong(locked(&"x".repeat(5000)), "id").await;
    wrong(HoldCacheMountRequest { sharing: 77, ..locked("x") }, "sharing").await;
    wrong(seed(CacheSeed::default()), "seed.base").await;
    wrong(seed(CacheSeed { mode: Some(0o10000), ..base() }), "seed.mode").await;
    wrong(seed(CacheSeed { layer_ids: vec!["../x".into()], ..base() }), "seed.layer_ids").await;
    wrong(seed(CacheSeed { path: "a\0b".into(), ..base() }), "seed.path").await;
    let chunk = ImportCacheMountRequest { part: Some(Part::Chunk(Bytes::from_static(b"x"))) };
    malformed(client.import_cache_mount(tokio_stream::iter([chunk])).await, "id");
}
