//! Builds: a conversation about a Merkle tree that ends in an image, or in one refusal that names the line.

mod tree;

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use strata_proto::builder::v1::{
    BuildCancel, BuildCompleted, BuildPull, BuildRequest, BuildResponse, BuildStart, ContextContent, ContextDirectory,
    ContextFile, ContextRoot, StepState, build_request, build_response::Event,
    build_service_client::BuildServiceClient, build_start::RemoteContext,
};
use strata_proto::{
    runtime::v1::{ListContainersRequest, container_service_client::ContainerServiceClient},
    store::v1::{
        ExportSnapshotRequest, GetImageRequest, ListLeasesRequest, ListSnapshotsRequest,
        image_service_client::ImageServiceClient, lease_service_client::LeaseServiceClient,
        snapshot_service_client::SnapshotServiceClient,
    },
};
use strata_tests::Tar;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};
use tree::Tree;

use crate::{
    contents::digest,
    faults::{malformed, refused},
    images::import,
    node::{ALL, Node, eventually},
};

over_both!(ALL; a_context_is_asked_for_once_and_becomes_an_image, a_step_runs_and_its_output_is_told,
    a_mistake_in_the_dockerfile_names_its_place, what_a_build_lacks_is_named, a_source_that_cannot_be_had_is_named_without_its_credentials,
    a_step_that_fails_says_how,
    a_context_that_lies_is_refused, a_root_that_follows_is_waited_for_where_it_counts, a_root_that_nobody_announced_is_refused,
    contents_that_nobody_takes_hold_no_build_up, malformed_starts_name_the_field, a_build_that_is_dropped_leaves_nothing,
    a_build_that_is_given_up_says_so_when_it_has_cleaned_up, files_of_a_build_are_kept_until_the_call_ends,
    a_build_tells_what_happens_and_how_steps_hang_together);

/// What a build said before its end.
#[derive(Debug, Default)]
struct Said {
    asked_directories: usize,
    asked_contents: usize,
    asked_details: usize,
    output: Vec<u8>,
    cached: Vec<String>,
}

fn start(dockerfile: &str, tree: &Tree) -> BuildStart {
    BuildStart {
        names: vec!["made".into()],
        dockerfile: Bytes::copy_from_slice(dockerfile.as_bytes()),
        dockerfile_name: "Dockerfile".into(),
        context_root: tree.root.clone(),
        has_details: true,
        ..Default::default()
    }
}

fn event(event: build_request::Event) -> BuildRequest {
    BuildRequest { event: Some(event) }
}

async fn begin(
    node: &Node,
    start: BuildStart,
) -> Result<(mpsc::Sender<BuildRequest>, Streaming<BuildResponse>), Status> {
    let (sender, receiver) = mpsc::channel(64);
    sender.send(event(build_request::Event::Start(start))).await.unwrap();
    let mut client = BuildServiceClient::new(node.channel("builder"));
    Ok((sender, client.build(ReceiverStream::new(receiver)).await?.into_inner()))
}

/// Answers what the builder asks for from the tree.
async fn build(node: &Node, start: BuildStart, tree: &Tree) -> Result<(BuildCompleted, Said), Status> {
    let (sender, mut events) = begin(node, start).await?;
    let mut said = Said::default();
    let mut completed = None;
    while let Some(message) = events.message().await? {
        assert_eq!(completed, None, "completed is the last event");
        let message = message.event.unwrap();
        for answer in tree.answers(&message) {
            sender.send(answer).await.unwrap();
        }
        match message {
            Event::NeedDirectories(need) => said.asked_directories += need.digests.len(),
            Event::NeedContents(need) => said.asked_contents += need.blake3.len(),
            Event::NeedDetails(need) => said.asked_details += need.paths.len(),
            Event::Step(step) if step.state() == StepState::Cached => said.cached.push(step.name),
            Event::Output(output) => said.output.extend_from_slice(&output.chunk),
            Event::Completed(end) => completed = Some(end),
            _ => {}
        }
    }
    Ok((completed.expect("a build that succeeds says so"), said))
}

async fn import_guest(node: &Node) {
    import(node.channel("store"), "guest", Tar::of_guest().bytes()).await.unwrap();
}

async fn a_context_is_asked_for_once_and_becomes_an_image(node: &Node) {
    import_guest(node).await;
    let tree = Tree::new(&[("a", "one"), ("sub/b", "two"), ("sub/empty", "")]);
    let dockerfile = "FROM guest\nCOPY . /app/\nLABEL x=y\n";

    let (first, said) = build(node, start(dockerfile, &tree), &tree).await.unwrap();
    let (second, again) = build(node, start(dockerfile, &tree), &tree).await.unwrap();

    assert_eq!((said.asked_directories, said.asked_contents, said.asked_details), (2, 2, 2), "{said:?}");
    assert_eq!((again.asked_directories, again.asked_contents, again.asked_details), (0, 0, 0), "{again:?}");
    assert_eq!(first.image_id, second.image_id);
    assert_eq!(second.names, ["docker.io/library/made:latest"]);
    assert!(second.cached_steps > 0 && second.cached_steps <= second.steps, "{second:?}");
    let mut images = ImageServiceClient::new(node.channel("store"));
    let request = GetImageRequest { reference: "made".into(), ..Default::default() };
    let image = images.get_image(request).await.unwrap().into_inner().image.unwrap();
    assert_eq!((image.id, image.layers.len()), (first.image_id, 2));
    let layers: Vec<String> = image.layers.into_iter().map(|layer| layer.layer_id).collect();
    assert_eq!(crate::trees::read_file(node, &layers, "/app/sub/b", 0).await.unwrap(), b"two");

    let changed = Tree::new(&[("a", "one"), ("sub/b", "changed"), ("sub/empty", "")]);
    let (third, said) = build(node, start(dockerfile, &changed), &changed).await.unwrap();
    assert_eq!((said.asked_directories, said.asked_contents), (2, 1), "only what is new is sent: {said:?}");
    assert_ne!(third.image_id, second.image_id);
}

async fn a_step_runs_and_its_output_is_told(node: &Node) {
    import_guest(node).await;
    let tree = Tree::default();
    let dockerfile = "FROM guest\nRUN [\"/guest\", \"echo\", \"hello\", \"from\", \"a\", \"step\"]\n";
    let start = BuildStart { context_root: Bytes::new(), ..start(dockerfile, &tree) };

    let (_, said) = build(node, start.clone(), &tree).await.unwrap();
    let (_, again) = build(node, start.clone(), &tree).await.unwrap();
    let (_, anew) = build(node, BuildStart { no_cache: true, ..start }, &tree).await.unwrap();

    assert_eq!(String::from_utf8_lossy(&said.output), "hello from a step\n");
    assert!(again.output.is_empty() && again.cached.iter().any(|name| name.contains("RUN")), "{again:?}");
    assert_eq!(String::from_utf8_lossy(&anew.output), "hello from a step\n");
}

async fn a_mistake_in_the_dockerfile_names_its_place(node: &Node) {
    let tree = Tree::new(&[("a", "one")]);

    let answer = build(node, start("FROM scratch\nCOPPY a /\n", &tree), &tree).await;
    let refusal = refused(answer, Code::InvalidArgument, "FAULT_DOCKERFILE_INVALID");
    let refusal = refusal.fact("file", "Dockerfile").fact("line", "2").fact("column", "1");
    assert!(refusal.metadata["suggestion"].contains("COPY"), "{refusal:?}");
    assert!(refusal.metadata["excerpt"].contains("COPPY a /") && refusal.metadata["excerpt"].contains('^'));

    let answer = build(node, start("# check=error=true\nFROM scratch\n", &tree), &tree).await;
    refused(answer, Code::InvalidArgument, "FAULT_UNSUPPORTED").fact("line", "1");
    let answer = build(node, start("FROM scratch\nRUN --device=x,required true\n", &tree), &tree).await;
    refused(answer, Code::NotFound, "FAULT_DEVICE_NOT_FOUND").fact("line", "2");
    let answer = build(node, start("FROM scratch\nRUN --security=insecure true\n", &tree), &tree).await;
    refused(answer, Code::PermissionDenied, "FAULT_NOT_ALLOWED").fact("line", "2");
}

async fn what_a_build_lacks_is_named(node: &Node) {
    import_guest(node).await;
    let tree = Tree::new(&[("a", "one")]);

    let base = start("# a comment\nFROM nobody/made:this\n", &tree);
    let base = build(node, BuildStart { pull: BuildPull::Never.into(), ..base }, &tree).await;
    let refusal = refused(base, Code::NotFound, "FAULT_BASE_IMAGE_NOT_FOUND").fact("line", "2");
    assert!(refusal.metadata["image"].contains("nobody/made:this"), "{refusal:?}");
    let source = build(node, start("FROM guest\nCOPY a absent /x/\n", &tree), &tree).await;
    refused(source, Code::NotFound, "FAULT_SOURCE_NOT_FOUND").fact("line", "2").fact("path", "absent");
    let ignored = BuildStart { ignore_file: "secret*\n".into(), ..start("FROM guest\nCOPY secret.txt /\n", &tree) };
    let refusal = refused(build(node, ignored, &tree).await, Code::NotFound, "FAULT_SOURCE_NOT_FOUND");
    refusal.fact("path", "secret.txt").fact("ignored_by", "secret*");
}

async fn a_source_that_cannot_be_had_is_named_without_its_credentials(node: &Node) {
    let tree = Tree::new(&[("a", "one")]);
    let url = "http://name:canary@127.0.0.1:1/x";

    let answer = build(node, start(&format!("FROM scratch\nADD {url} /\n"), &tree), &tree).await;
    let refusal = refused(answer, Code::FailedPrecondition, "FAULT_SOURCE_UNAVAILABLE");
    refusal.fact("line", "2").fact("url", "http://xxxxx@127.0.0.1:1/x");
    let remote_context = Some(RemoteContext::ContextUrl(url.into()));
    let start = BuildStart { remote_context, context_root: Bytes::new(), ..start("FROM scratch\n", &tree) };
    let answer = build(node, start, &tree).await;
    let refusal = refused(answer, Code::FailedPrecondition, "FAULT_SOURCE_UNAVAILABLE");
    refusal.fact("url", "http://xxxxx@127.0.0.1:1/x");
}

async fn a_step_that_fails_says_how(node: &Node) {
    import_guest(node).await;
    let tree = Tree::new(&[("a", "one")]);
    let dockerfile = "FROM guest\nCOPY a /a\nRUN [\"/guest\", \"exit\", \"7\"]\n";

    let answer = build(node, start(dockerfile, &tree), &tree).await;

    let refusal = refused(answer, Code::FailedPrecondition, "FAULT_STEP_FAILED");
    let refusal = refusal.fact("exit_code", "7").fact("line", "3").fact("file", "Dockerfile");
    assert!(refusal.metadata["excerpt"].contains("/guest"), "{refusal:?}");
    is_empty(node).await;
}

async fn a_context_that_lies_is_refused(node: &Node) {
    import_guest(node).await;
    let dockerfile = "FROM guest\nCOPY . /app/\n";
    let honest = Tree::new(&[("a", "one"), ("sub/b", "two")]);

    let mut other = Tree::new(&[("a", "one"), ("sub/b", "two")]);
    let wrong = ContextDirectory::default();
    other.directories.insert(other.root.clone(), wrong);
    let answer = build(node, start(dockerfile, &other), &other).await;
    refused(answer, Code::InvalidArgument, "FAULT_CONTEXT_INVALID");

    let mut other = Tree::new(&[("a", "three"), ("sub/b", "four")]);
    other.contents.values_mut().for_each(|bytes| *bytes = Bytes::from_static(b"altered"));
    let answer = build(node, start(dockerfile, &other), &other).await;
    refused(answer, Code::InvalidArgument, "FAULT_CONTEXT_INVALID");

    let mut other = Tree::new(&[("a", "one"), ("sub/b", "two")]);
    other.has_odd_details = true;
    let answer = build(node, start(dockerfile, &other), &other).await;
    refused(answer, Code::InvalidArgument, "FAULT_CONTEXT_INVALID");

    let (sender, mut events) = begin(node, start(dockerfile, &honest)).await.unwrap();
    drop(sender);
    let silent = async {
        loop {
            match events.message().await {
                Ok(Some(_)) => {}
                end => return end,
            }
        }
    };
    refused(silent.await, Code::InvalidArgument, "FAULT_CONTEXT_INVALID");
    build(node, start(dockerfile, &honest), &honest).await.unwrap();
    is_empty(node).await;
}

fn root(digest: &Bytes) -> BuildRequest {
    event(build_request::Event::Root(ContextRoot { digest: digest.clone() }))
}

fn start_of_following(dockerfile: &str, tree: &Tree) -> BuildStart {
    BuildStart { context_root: Bytes::new(), context_root_follows: true, ..start(dockerfile, tree) }
}

async fn a_root_that_follows_is_waited_for_where_it_counts(node: &Node) {
    import_guest(node).await;
    let tree = Tree::new(&[("a", "one"), ("sub/b", "two")]);
    let dockerfile = "FROM guest\nRUN [\"/guest\", \"echo\", \"begun\"]\nCOPY . /app/\n";
    let known = BuildStart { names: vec!["known".into()], ..start(dockerfile, &tree) };
    let (known, _) = build(node, known, &tree).await.unwrap();

    let following = BuildStart { no_cache: true, ..start_of_following(dockerfile, &tree) };
    let (sender, mut events) = begin(node, following).await.unwrap();
    let mut is_told = false;
    while let Some(message) = events.message().await.unwrap() {
        let message = message.event.unwrap();
        if matches!(message, Event::Output(_)) && !std::mem::replace(&mut is_told, true) {
            sender.send(root(&tree.root)).await.unwrap();
        }
        for answer in tree.answers(&message) {
            sender.send(answer).await.unwrap();
        }
        if let Event::Completed(completed) = message {
            assert_eq!(completed.steps, known.steps);
        }
    }
    assert!(is_told, "a step that needs nothing of the context waits for its root");

    let (sender, mut events) = begin(node, start_of_following(dockerfile, &tree)).await.unwrap();
    sender.send(root(&tree.root)).await.unwrap();
    let mut cached = None;
    while let Some(message) = events.message().await.unwrap() {
        if let Event::Completed(completed) = message.event.unwrap() {
            cached = Some(completed);
        }
    }
    let cached = cached.expect("a build that succeeds says so");
    assert_eq!(cached.cached_steps, cached.steps, "{cached:?}");

    let unused = start_of_following("FROM guest\nLABEL a=b\n", &tree);
    build(node, unused, &tree).await.expect("a build without a COPY waits for no root");
    is_empty(node).await;
}

async fn a_root_that_nobody_announced_is_refused(node: &Node) {
    import_guest(node).await;
    let tree = Tree::new(&[("a", "one")]);
    let dockerfile = "FROM guest\nRUN [\"/guest\", \"sleep\", \"1\"]\nCOPY a /a\n";
    let announced = || start_of_following(dockerfile, &tree);
    let short = Bytes::from_static(b"short");

    for (start, roots) in [
        (start(dockerfile, &tree), vec![&tree.root]),
        (announced(), vec![&tree.root, &tree.root]),
        (announced(), vec![&short]),
    ] {
        let (sender, mut events) = begin(node, BuildStart { no_cache: true, ..start }).await.unwrap();
        for digest in roots {
            sender.send(root(digest)).await.unwrap();
        }
        let end = loop {
            match events.message().await {
                Ok(Some(_)) => {}
                end => break end,
            }
        };
        refused(end, Code::InvalidArgument, "FAULT_CONTEXT_INVALID");
    }

    // Nor is one waited for that cannot come any more.
    let (sender, mut events) = begin(node, start_of_following("FROM guest\nCOPY a /a\n", &tree)).await.unwrap();
    drop(sender);
    let end = loop {
        match events.message().await {
            Ok(Some(_)) => {}
            end => break end,
        }
    };
    refused(end, Code::InvalidArgument, "FAULT_CONTEXT_INVALID");
    is_empty(node).await;
}

async fn contents_that_nobody_takes_hold_no_build_up(node: &Node) {
    import_guest(node).await;
    let tree = Tree::default();
    let dockerfile = "FROM guest\nRUN [\"/guest\", \"then\", \"echo\", \"begun\", \"+\", \"sleep\", \"1\"]\n";
    let start = BuildStart { context_root: Bytes::new(), no_cache: true, ..start(dockerfile, &tree) };
    let (sender, mut events) = begin(node, start).await.unwrap();
    let flood = tokio::spawn(async move {
        let chunk = Bytes::from_static(b"nobody's");
        let content = ContextContent { blake3: digest(&chunk), chunk, last: true };
        while sender.send(event(build_request::Event::Content(content.clone()))).await.is_ok() {}
    });

    let end = tokio::time::timeout(Duration::from_secs(60), async {
        while let Some(message) = events.message().await.unwrap() {
            if let Event::Completed(_) = message.event.unwrap() {
                return true;
            }
        }
        false
    });

    assert!(end.await.expect("the build hangs"), "the stream ended without a result");
    drop(events);
    flood.await.unwrap();
    is_empty(node).await;
}

async fn malformed_starts_name_the_field(node: &Node) {
    let tree = Tree::new(&[("a", "one")]);
    let good = || start("FROM scratch\nCOPY a /\n", &tree);

    malformed(build(node, BuildStart { names: vec!["UPPER".into()], ..good() }, &tree).await, "names");
    malformed(build(node, BuildStart { network: 77, ..good() }, &tree).await, "network");
    let latin = Bytes::from_static(b"*.\xff\n");
    malformed(build(node, BuildStart { ignore_file: latin, ..good() }, &tree).await, "ignore_file");
    let short = Bytes::from_static(b"short");
    malformed(build(node, BuildStart { context_root: short, ..good() }, &tree).await, "context_root");
    malformed(build(node, BuildStart { context_root_follows: true, ..good() }, &tree).await, "context_root");
    for url in ["a/path", "ext::sh", "file:///etc", "https://host/x.git#-option", "https://host/x.git?nothing=1"] {
        let start = BuildStart { remote_context: Some(RemoteContext::ContextUrl(url.into())), ..good() };
        malformed(build(node, start, &tree).await, "context_url");
    }
    let archive = ContextFile { blake3: Bytes::from_static(b"short"), size_bytes: 1 };
    let start = BuildStart { remote_context: Some(RemoteContext::ContextArchive(archive)), ..good() };
    malformed(build(node, start, &tree).await, "context_archive");
    let start = BuildStart { dockerfile_url: "git@host:x".into(), ..good() };
    malformed(build(node, start, &tree).await, "dockerfile_url");
    let start = BuildStart { has_dockerfile_in_context: true, ..good() };
    malformed(build(node, start, &tree).await, "has_dockerfile_in_context");
    let mut client = BuildServiceClient::new(node.channel("builder"));
    let content = build_request::Event::Content(ContextContent::default());
    malformed(client.build(tokio_stream::once(event(content))).await, "start");
}

async fn a_build_that_is_dropped_leaves_nothing(node: &Node) {
    import_guest(node).await;
    let tree = Tree::new(&[("a", "one")]);
    let dockerfile =
        "FROM guest\nCOPY a /a\nRUN [\"/guest\", \"then\", \"echo\", \"begun\", \"+\", \"sleep\", \"300\"]\n";
    let (sender, mut events) = begin(node, start(dockerfile, &tree)).await.unwrap();
    loop {
        let message = events.message().await.unwrap().unwrap().event.unwrap();
        for answer in tree.answers(&message) {
            sender.send(answer).await.unwrap();
        }
        if let Event::Output(_) = message {
            break;
        }
    }

    drop((sender, events));

    is_empty(node).await;
}

async fn a_build_that_is_given_up_says_so_when_it_has_cleaned_up(node: &Node) {
    import_guest(node).await;
    let tree = Tree::default();
    let dockerfile = "FROM guest\nRUN [\"/guest\", \"then\", \"echo\", \"begun\", \"+\", \"sleep\", \"300\"]\n";
    let start = BuildStart { context_root: Bytes::new(), ..start(dockerfile, &tree) };
    let (sender, mut events) = begin(node, start).await.unwrap();
    let mut is_begun = false;
    let end = loop {
        match events.message().await {
            Ok(Some(message)) => {
                if matches!(message.event, Some(Event::Output(_))) && !std::mem::replace(&mut is_begun, true) {
                    sender.send(event(build_request::Event::Cancel(BuildCancel {}))).await.unwrap();
                }
            }
            end => break end,
        }
    };

    refused(end, Code::Cancelled, "FAULT_CANCELLED");
    is_empty(node).await;
}

async fn files_of_a_build_are_kept_until_the_call_ends(node: &Node) {
    import_guest(node).await;
    let tree = Tree::new(&[("a", "one")]);
    let start = BuildStart { has_no_image: true, keeps_tree: true, ..start("FROM scratch\nCOPY a /a\n", &tree) };
    let (sender, mut events) = begin(node, start).await.unwrap();
    let completed = loop {
        let message = events.message().await.unwrap().unwrap().event.unwrap();
        for answer in tree.answers(&message) {
            sender.send(answer).await.unwrap();
        }
        if let Event::Completed(completed) = message {
            break completed;
        }
    };

    assert!(completed.image_id.is_empty() && completed.manifest.is_none(), "{completed:?}");
    let mut snapshots = SnapshotServiceClient::new(node.channel("store"));
    let request = ExportSnapshotRequest { key: completed.snapshot_key, path: String::new() };
    let mut chunks = snapshots.export_snapshot(request).await.unwrap().into_inner();
    let mut tar = Vec::new();
    while let Some(message) = chunks.message().await.unwrap() {
        tar.extend_from_slice(&message.chunk);
    }
    assert!(tar.windows(3).any(|bytes| bytes == b"one"), "the archive has the file");
    drop((sender, events));
    is_empty(node).await;
}

async fn a_build_tells_what_happens_and_how_steps_hang_together(node: &Node) {
    import_guest(node).await;
    let tree = Tree::default();
    let dockerfile = "FROM guest AS a\nRUN [\"/guest\", \"write\", \"/x\", \"y\"]\nFROM guest\nCOPY --from=a /x /x\n";
    let start = BuildStart { context_root: Bytes::new(), ..start(dockerfile, &tree) };
    let (_sender, mut events) = begin(node, start).await.unwrap();
    let (mut steps, mut parts) = (BTreeMap::new(), vec![]);
    while let Some(message) = events.message().await.unwrap() {
        match message.event.unwrap() {
            Event::Step(step) => {
                steps.insert(step.step, step);
            }
            Event::Part(part) => parts.push(part),
            _ => {}
        }
    }

    let of = |words: &str| steps.values().find(|step| step.name.contains(words)).unwrap_or_else(|| panic!("{steps:?}"));
    let (run, copy, export) = (of("RUN"), of("COPY"), of("exporting to image"));
    assert!(copy.inputs.contains(&run.step), "{copy:?} reads what {run:?} made");
    assert_eq!(run.inputs, [of("[a 1/2] FROM guest").step], "{run:?}");
    assert!(export.started_at.is_some() && export.took.is_some() && export.error.is_empty(), "{export:?}");
    let name = "naming to docker.io/library/made:latest";
    let named = parts.iter().find(|part| part.name == name).unwrap_or_else(|| panic!("{parts:?}"));
    assert!(named.step == export.step && named.completed_at.is_some(), "{named:?}");
}

/// No container, snapshot or lease is left.
async fn is_empty(node: &Node) {
    let mut containers = ContainerServiceClient::new(node.channel("runtime"));
    let all = ListContainersRequest { all: true, ..Default::default() };
    eventually("no container is left", async || {
        containers.list_containers(all.clone()).await.unwrap().into_inner().containers.is_empty()
    })
    .await;
    let mut snapshots = SnapshotServiceClient::new(node.channel("store"));
    eventually("no snapshot is left", async || {
        snapshots.list_snapshots(ListSnapshotsRequest::default()).await.unwrap().into_inner().snapshots.is_empty()
    })
    .await;
    let mut leases = LeaseServiceClient::new(node.channel("store"));
    eventually("no lease is left", async || {
        let leases = leases.list_leases(ListLeasesRequest::default()).await.unwrap().into_inner().leases;
        leases.iter().all(|lease| !lease.holder.starts_with("build"))
    })
    .await;
}
