//! Registries: what the store fetches and sends for its clients, and what a build asks its client for. The registry is
//! Debian's `docker-registry`.

use sha2::{Digest, Sha256};
use strata_proto::{
    builder::v1::{
        BuildCredentials, BuildRequest, BuildStart, build_request, build_response::Event as BuildEvent,
        build_service_client::BuildServiceClient,
    },
    store::v1::{
        CheckLoginRequest, DeleteImageRequest, GetImageRequest, LayerCompression, PrepareSnapshotRequest,
        PullCompleted, PullImageRequest, PullImageResponse, PushCompleted, PushImageRequest, ReadTagsRequest,
        RemoveSnapshotRequest, ResolveImageRequest, ResolveManifestRequest, TransferState,
        image_service_client::ImageServiceClient, pull_image_response::Event, push_image_response::Event as PushEvent,
        registry_service_client::RegistryServiceClient, snapshot_service_client::SnapshotServiceClient,
    },
    types::v1::{Platform, RegistryCredentials, RegistryPassword, registry_credentials::Proof},
};
use strata_tests::{DockerRegistry, Tar};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, transport::Channel};

use crate::{
    faults::{malformed, refused},
    images::{import, tar},
    leases::hold,
    node::{ALL, Node, STORE, eventually},
};

over_both!(STORE; a_pull_tells_of_its_layers_and_ends_with_the_image, what_is_there_is_neither_sent_nor_fetched_again,
    a_lease_holds_what_is_pulled_for_it, tags_and_manifests_are_read_from_the_registry,
    an_image_is_resolved_without_its_layers_and_pulled_as_it_was_then,
    credentials_are_needed_tried_and_not_told, what_is_not_there_says_where_it_is_not,
    malformed_requests_to_registries_are_refused, a_pull_that_nobody_listens_to_leaves_no_image,
    containers_start_from_what_is_on_its_way_to_the_disk_and_who_leaves_then_stops_nothing);

mod builds {
    use super::*;
    over_both!(ALL; a_build_asks_its_client_for_credentials_once);
}

fn client(node: &Node) -> RegistryServiceClient<Channel> {
    RegistryServiceClient::new(node.channel("store"))
}

async fn pull(node: &Node, request: PullImageRequest) -> Result<(PullCompleted, Vec<PullImageResponse>), Status> {
    let mut events = client(node).pull_image(request).await?.into_inner();
    let mut all = vec![];
    while let Some(event) = events.message().await? {
        all.push(event);
    }
    match all.last().and_then(|last| last.event.clone()) {
        Some(Event::Completed(completed)) => Ok((completed, all)),
        other => panic!("a pull ends with {other:?}"),
    }
}

async fn push(node: &Node, request: PushImageRequest) -> Result<(PushCompleted, Vec<TransferState>), Status> {
    let mut events = client(node).push_image(request).await?.into_inner();
    let (mut states, mut completed) = (vec![], None);
    while let Some(event) = events.message().await? {
        assert!(completed.is_none(), "the end comes last");
        match event.event {
            Some(PushEvent::Progress(progress)) => states.push(progress.state()),
            Some(PushEvent::Completed(end)) => completed = Some(end),
            None => panic!("an empty event"),
        }
    }
    Ok((completed.expect("a push says how it ended"), states))
}

fn of(reference: &str) -> PullImageRequest {
    PullImageRequest { reference: reference.to_owned(), ..Default::default() }
}

fn to(reference: &str) -> PushImageRequest {
    PushImageRequest { reference: reference.to_owned(), ..Default::default() }
}

fn password(registry: &DockerRegistry, password: &str) -> RegistryCredentials {
    let password = RegistryPassword { username: DockerRegistry::USER.into(), password: password.into() };
    RegistryCredentials { registry: registry.host(), proof: Some(Proof::Password(password)) }
}

async fn remove(node: &Node, reference: &str) {
    let request = DeleteImageRequest { reference: reference.into(), force: true, ..Default::default() };
    ImageServiceClient::new(node.channel("store")).delete_image(request).await.unwrap();
}

async fn get(node: &Node, reference: &str) -> Result<String, Status> {
    let request = GetImageRequest { reference: reference.into(), ..Default::default() };
    let mut client = ImageServiceClient::new(node.channel("store"));
    Ok(client.get_image(request).await?.into_inner().image.unwrap().id)
}

async fn a_pull_tells_of_its_layers_and_ends_with_the_image(node: &Node) {
    let registry = DockerRegistry::open();
    let name = registry.image("team/words:1");
    let made = import(node.channel("store"), &name, tar("one")).await.unwrap();
    let (pushed, sent) = push(node, to(&name)).await.unwrap();
    assert_eq!(pushed.name, name);
    assert!(sent.contains(&TransferState::Compressing) && sent.last() == Some(&TransferState::Done), "{sent:?}");
    remove(node, &name).await;
    get(node, &name).await.expect_err("it is removed");

    let (pulled, events) = pull(node, of(&name)).await.unwrap();

    let Some(Event::Resolved(resolved)) = &events[0].event else { panic!("the first event is {:?}", events[0]) };
    assert_eq!(resolved.target, pushed.target);
    assert_eq!(resolved.layers.len(), 1);
    let ended = events.iter().any(|event| match &event.event {
        Some(Event::Progress(progress)) => {
            assert_eq!(progress.digest, resolved.layers[0].digest);
            matches!(progress.state(), TransferState::Done | TransferState::Exists)
        }
        _ => false,
    });
    assert!(ended, "{events:?}");
    assert_eq!((pulled.target, pulled.name.as_str(), pulled.was_current), (pushed.target, name.as_str(), false));
    assert_eq!(pulled.image.unwrap().id, made.id, "the config travels byte for byte");
    assert_eq!(get(node, &name).await.unwrap(), made.id);
}

async fn containers_start_from_what_is_on_its_way_to_the_disk_and_who_leaves_then_stops_nothing(node: &Node) {
    let registry = DockerRegistry::open();
    let name = registry.image("words:1");
    let made = import(node.channel("store"), &name, tar("one")).await.unwrap();
    push(node, to(&name)).await.unwrap();
    for volatile in [true, false] {
        remove(node, &name).await;
        let mut events = client(node).pull_image(of(&name)).await.unwrap().into_inner();
        loop {
            match events.message().await.unwrap().and_then(|message| message.event) {
                Some(Event::Usable(_)) => break,
                Some(Event::Completed(_)) | None => panic!("it is usable before it is completed"),
                Some(Event::Resolved(_) | Event::Progress(_)) => {}
            }
        }
        drop(events);

        let key = format!("key-{volatile}");
        let request = PrepareSnapshotRequest { key, image: name.clone(), volatile, ..Default::default() };
        let mut snapshots = SnapshotServiceClient::new(node.channel("store"));
        let prepared = snapshots.prepare_snapshot(request).await.unwrap().into_inner();

        assert!(!prepared.image_config_json.is_empty());
        if !volatile {
            // It waited for the end.
            assert_eq!(get(node, &name).await.unwrap(), made.id);
        }
        eventually("the pull has ended", async || get(node, &name).await.is_ok()).await;
        assert_eq!(get(node, &name).await.unwrap(), made.id);
        let remove = RemoveSnapshotRequest { key: format!("key-{volatile}"), ..Default::default() };
        snapshots.remove_snapshot(remove).await.unwrap();
    }
}

async fn what_is_there_is_neither_sent_nor_fetched_again(node: &Node) {
    let registry = DockerRegistry::open();
    let name = registry.image("words:1");
    import(node.channel("store"), &name, tar("one")).await.unwrap();
    push(node, to(&name)).await.unwrap();

    let (_, sent) = push(node, to(&name)).await.unwrap();
    assert_eq!(sent.last(), Some(&TransferState::Exists), "{sent:?}");
    pull(node, of(&name)).await.unwrap();
    let (pulled, events) = pull(node, of(&name)).await.unwrap();

    assert!(pulled.was_current && events.len() == 1, "{events:?}");
    let zstd = PushImageRequest {
        compression: LayerCompression::Zstd.into(),
        force_compression: true,
        ..to(&registry.image("words:1"))
    };
    let (other, _) = push(node, zstd).await.unwrap();
    assert_ne!(other.target, pulled.target);
    let (newer, _) = pull(node, of(&name)).await.unwrap();
    assert_eq!((newer.was_current, newer.target), (false, other.target));
}

async fn a_lease_holds_what_is_pulled_for_it(node: &Node) {
    let registry = DockerRegistry::open();
    let name = registry.image("words:1");
    import(node.channel("store"), &name, tar("one")).await.unwrap();
    let (pushed, _) = push(node, to(&name)).await.unwrap();
    remove(node, &name).await;
    let lease = hold(node.channel("store")).await;
    let by_digest = format!("{}@{}", registry.image("words"), pushed.target.unwrap().digest);

    let (pulled, _) = pull(node, PullImageRequest { lease_id: lease.id.clone(), ..of(&by_digest) }).await.unwrap();

    assert_eq!(pulled.name, "", "a digest sets no name");
    assert_eq!(get(node, &by_digest).await.unwrap(), pulled.image.unwrap().id);
    let nobody = PullImageRequest { lease_id: "nobody".into(), ..of(&name) };
    refused(pull(node, nobody).await, Code::NotFound, "FAULT_LEASE_NOT_FOUND");
}

async fn tags_and_manifests_are_read_from_the_registry(node: &Node) {
    let registry = DockerRegistry::open();
    for tag in ["1", "2"] {
        let name = registry.image(&format!("words:{tag}"));
        import(node.channel("store"), &name, tar(tag)).await.unwrap();
        push(node, to(&name)).await.unwrap();
    }

    let request = ReadTagsRequest { reference: registry.image("words"), credentials: vec![] };
    let mut parts = client(node).read_tags(request).await.unwrap().into_inner();
    let mut tags = vec![];
    while let Some(part) = parts.message().await.unwrap() {
        tags.extend(part.tags);
    }
    tags.sort();
    let request = ResolveManifestRequest { reference: registry.image("words:1"), credentials: vec![] };
    let manifest = client(node).resolve_manifest(request).await.unwrap().into_inner();

    assert_eq!(tags, ["1", "2"]);
    let descriptor = manifest.descriptor.unwrap();
    assert_eq!(descriptor.size_bytes, manifest.document_json.len() as u64);
    let json: serde_json::Value = serde_json::from_slice(&manifest.document_json).unwrap();
    assert_eq!(json["mediaType"], descriptor.media_type);
}

async fn an_image_is_resolved_without_its_layers_and_pulled_as_it_was_then(node: &Node) {
    let registry = DockerRegistry::open();
    let name = registry.image("words:1");
    let made = import(node.channel("store"), &name, tar("one")).await.unwrap();
    let (pushed, _) = push(node, to(&name)).await.unwrap();
    remove(node, &name).await;
    let request = |reference: &str| ResolveImageRequest { reference: reference.to_owned(), ..Default::default() };

    let resolved = client(node).resolve_image(request(&name)).await.unwrap().into_inner();

    refused(get(node, &name).await, Code::NotFound, "FAULT_IMAGE_NOT_FOUND");
    let target = pushed.target.unwrap();
    assert_eq!((resolved.target.as_ref(), resolved.manifest.as_ref()), (Some(&target), Some(&target)));
    assert_eq!(format!("sha256:{}", hex::encode(Sha256::digest(&resolved.config_json))), made.id);
    let config: serde_json::Value = serde_json::from_slice(&resolved.config_json).unwrap();
    assert_eq!(config["rootfs"]["diff_ids"], serde_json::json!(resolved.diff_ids));
    // The tag moves; the pull takes what it stood for, and gives that the name.
    import(node.channel("store"), &name, tar("two")).await.unwrap();
    push(node, to(&name)).await.unwrap();
    remove(node, &name).await;
    let known = PullImageRequest { digest: target.digest.clone(), ..of(&name) };
    let (pulled, _) = pull(node, known.clone()).await.unwrap();
    assert_eq!((pulled.target, pulled.name.as_str()), (Some(target.clone()), name.as_str()));
    assert_eq!(get(node, &name).await.unwrap(), made.id);
    assert!(pull(node, known).await.unwrap().0.was_current);

    let absent = client(node).resolve_image(request(&registry.image("words:none"))).await;
    refused(absent, Code::NotFound, "FAULT_REGISTRY_NOT_FOUND");
    let platform = Some(Platform { os: "linux".into(), architecture: "s390x".into(), variant: String::new() });
    let other = client(node).resolve_image(ResolveImageRequest { platform, ..request(&name) }).await;
    refused(other, Code::NotFound, "FAULT_PLATFORM_NOT_FOUND");
    malformed(client(node).resolve_image(request("UPPER")).await, "reference");
    malformed(pull(node, PullImageRequest { digest: "sha256:1".into(), ..of(&name) }).await, "digest");
    let twice = format!("{}@{}", registry.image("words"), target.digest);
    malformed(pull(node, PullImageRequest { digest: target.digest, ..of(&twice) }).await, "digest");
}

async fn credentials_are_needed_tried_and_not_told(node: &Node) {
    let registry = DockerRegistry::closed();
    let name = registry.image("words:1");
    import(node.channel("store"), &name, tar("one")).await.unwrap();
    let good = password(&registry, DockerRegistry::PASSWORD);
    let bad = password(&registry, "canary-4711");
    let check = |credentials| CheckLoginRequest { credentials: Some(credentials) };

    let anonymous = refused(push(node, to(&name)).await, Code::Unauthenticated, "FAULT_REGISTRY_UNAUTHORIZED");
    anonymous.fact("registry", &registry.host()).fact("repository", "words");
    let wrong = PushImageRequest { credentials: vec![bad.clone()], ..to(&name) };
    let wrong = refused(push(node, wrong).await, Code::Unauthenticated, "FAULT_REGISTRY_UNAUTHORIZED");
    assert!(wrong.message.contains("ctl login") && !wrong.message.contains("canary"), "{wrong:?}");
    let login = client(node).check_login(check(bad)).await;
    refused(login, Code::Unauthenticated, "FAULT_REGISTRY_UNAUTHORIZED").fact("registry", &registry.host());
    let kept = client(node).check_login(check(good.clone())).await.unwrap().into_inner();
    assert_eq!(kept.credentials, Some(good.clone()), "a registry without tokens has the password kept");
    // Credentials of one host are nobody else's.
    let elsewhere = RegistryCredentials { registry: "elsewhere.example".into(), ..good.clone() };
    let foreign = PushImageRequest { credentials: vec![elsewhere], ..to(&name) };
    refused(push(node, foreign).await, Code::Unauthenticated, "FAULT_REGISTRY_UNAUTHORIZED");
    push(node, PushImageRequest { credentials: vec![good.clone()], ..to(&name) }).await.unwrap();
    remove(node, &name).await;
    pull(node, PullImageRequest { credentials: vec![good], ..of(&name) }).await.unwrap();

    let log = node.log("store");
    assert!(!log.contains("canary-4711") && !log.contains(DockerRegistry::PASSWORD), "a secret in {log}");
}

async fn what_is_not_there_says_where_it_is_not(node: &Node) {
    let registry = DockerRegistry::open();
    let name = registry.image("team/words:1");

    let absent = refused(pull(node, of(&name)).await, Code::NotFound, "FAULT_REGISTRY_NOT_FOUND");
    let absent = absent.fact("registry", &registry.host()).fact("repository", "team/words").fact("item", "1");
    assert!(absent.message.contains(&registry.host()) && absent.message.contains("team/words"), "{absent:?}");
    refused(push(node, to(&name)).await, Code::NotFound, "FAULT_IMAGE_NOT_FOUND");
    import(node.channel("store"), &name, tar("one")).await.unwrap();
    push(node, to(&name)).await.unwrap();
    let platform = Platform { os: "linux".into(), architecture: "s390x".into(), variant: String::new() };
    let other = PullImageRequest { platform: Some(platform), ..of(&name) };
    refused(pull(node, other).await, Code::NotFound, "FAULT_PLATFORM_NOT_FOUND");
    let down = pull(node, of("127.0.0.1:9/words:1")).await;
    refused(down, Code::Unavailable, "FAULT_REGISTRY_UNAVAILABLE").fact("registry", "127.0.0.1:9");
}

async fn malformed_requests_to_registries_are_refused(node: &Node) {
    let platform = Platform { os: "linux".into(), architecture: "amd64".into(), variant: String::new() };

    malformed(pull(node, of("UPPER")).await, "reference");
    let both = PullImageRequest { platform: Some(platform.clone()), all_platforms: true, ..of("words") };
    malformed(pull(node, both).await, "platform");
    let shapeless = Platform { os: "a/b".into(), ..platform };
    malformed(pull(node, PullImageRequest { platform: Some(shapeless), ..of("words") }).await, "platform");
    let nameless = RegistryCredentials { registry: "no host".into(), proof: Some(Proof::IdentityToken("x".into())) };
    malformed(
        pull(node, PullImageRequest { credentials: vec![nameless], ..of("words") }).await,
        "credentials.registry",
    );
    let proofless = RegistryCredentials { registry: "reg.example".into(), proof: None };
    malformed(pull(node, PullImageRequest { credentials: vec![proofless], ..of("words") }).await, "credentials.proof");
    malformed(client(node).check_login(CheckLoginRequest::default()).await, "credentials");
    malformed(push(node, PushImageRequest { compression: 99, ..to("words") }).await, "compression");
    malformed(push(node, PushImageRequest { force_compression: true, ..to("words") }).await, "force_compression");
    malformed(push(node, to(&format!("words@sha256:{}", "0".repeat(64)))).await, "reference");
}

async fn a_pull_that_nobody_listens_to_leaves_no_image(node: &Node) {
    let registry = DockerRegistry::open();
    let noise: Vec<u8> = (0..4_u32 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let archive = Tar::default().file("noise", 0o644, &noise).bytes();
    import(node.channel("store"), &registry.image("noise:1"), archive).await.unwrap();
    push(node, to(&registry.image("noise:1"))).await.unwrap();
    remove(node, &registry.image("noise:1")).await;
    let wire = registry.wire();
    wire.break_after(1 << 20);
    let name = wire.image("noise:1");

    let mut events = client(node).pull_image(of(&name)).await.unwrap().into_inner();
    events.message().await.unwrap().expect("it is resolved");
    drop(events);

    // The wire is broken for good: had the pull gone on, it would try again for a while.
    refused(get(node, &name).await, Code::NotFound, "FAULT_IMAGE_NOT_FOUND");
    wire.mend();
    pull(node, of(&name)).await.unwrap();
    assert!(get(node, &name).await.is_ok());
}

async fn a_build_asks_its_client_for_credentials_once(node: &Node) {
    let registry = DockerRegistry::closed();
    let name = registry.image("words:1");
    import(node.channel("store"), &name, tar("one")).await.unwrap();
    let good = password(&registry, DockerRegistry::PASSWORD);
    push(node, PushImageRequest { credentials: vec![good.clone()], ..to(&name) }).await.unwrap();
    remove(node, &name).await;
    let dockerfile = format!("FROM {name} AS a\nFROM {name}\nCOPY --from=a /etc/words /copied\n");

    let denied = build(node, &dockerfile, vec![]).await.map(|(asked, _)| asked);
    refused(denied, Code::NotFound, "FAULT_BASE_IMAGE_NOT_FOUND");
    let (asked, image) = build(node, &dockerfile, vec![good]).await.unwrap();

    assert_eq!(asked, [registry.host()], "one question for two stages");
    assert_eq!(get(node, "made").await.unwrap(), image);
}

/// Builds; answers with the registries that were asked about, and the image.
async fn build(
    node: &Node,
    dockerfile: &str,
    credentials: Vec<RegistryCredentials>,
) -> Result<(Vec<String>, String), Status> {
    let (sender, receiver) = mpsc::channel(8);
    let start = BuildStart {
        names: vec!["made".into()],
        dockerfile: dockerfile.as_bytes().to_vec().into(),
        dockerfile_name: "Dockerfile".into(),
        has_credentials: true,
        ..Default::default()
    };
    sender.send(BuildRequest { event: Some(build_request::Event::Start(start)) }).await.unwrap();
    let mut client = BuildServiceClient::new(node.channel("builder"));
    let mut events = client.build(ReceiverStream::new(receiver)).await?.into_inner();
    let mut asked = vec![];
    while let Some(event) = events.message().await? {
        match event.event {
            Some(BuildEvent::NeedCredentials(need)) => {
                asked.push(need.registry.clone());
                let credentials = credentials.clone();
                let found = BuildCredentials { registry: need.registry, credentials, problem: String::new() };
                sender.send(BuildRequest { event: Some(build_request::Event::Credentials(found)) }).await.unwrap();
            }
            Some(BuildEvent::Completed(completed)) => return Ok((asked, completed.image_id)),
            _ => {}
        }
    }
    panic!("the build ended without an end")
}
