//! Containers: from a spec to an exit status, with every refusal on the way.

use std::collections::HashMap;

use strata_proto::runtime::v1::{
    Container, ContainerSpec, ContainerState, CreateContainerRequest, DeleteContainerRequest, EntryPoint, ExitStatus,
    GetContainerRequest, KillContainerRequest, Limits, ListContainersRequest, MountSpec, PruneContainersRequest,
    ReadLogsRequest, StartContainerRequest, StopContainerRequest, TmpfsSource, WaitContainerRequest,
    container_service_client::ContainerServiceClient, container_spec::Root, exit_status::Kind, mount_spec,
};
use strata_proto::types::v1::Platform;
use strata_tests::Tar;
use tonic::{Code, Status, transport::Channel};

use crate::{
    faults::{malformed, refused},
    images::import,
    node::{Node, RUNNING},
};

over_both!(RUNNING; a_container_runs_and_tells_how_it_ended, logs_are_read_followed_and_cut_to_a_tail,
    a_container_is_found_by_id_name_and_prefix, names_and_ids_are_taken_once, what_does_not_run_says_so,
    a_program_that_is_not_there_fails_at_the_start, containers_are_listed_in_pages,
    malformed_specs_name_the_field, what_is_missing_is_named,
    a_follower_that_leaves_changes_nothing);

fn client(node: &Node) -> ContainerServiceClient<Channel> {
    ContainerServiceClient::new(node.channel("runtime"))
}

/// Imports the guest image.
pub async fn import_guest(node: &Node) {
    import(node.channel("store"), "guest", Tar::of_guest().bytes()).await.unwrap();
}

/// A container of the guest that does this.
pub fn guest(words: &[&str]) -> ContainerSpec {
    ContainerSpec {
        root: Some(Root::Image("guest".into())),
        entry_point: Some(EntryPoint { args: vec!["/guest".into()] }),
        command: words.iter().map(|&word| word.to_owned()).collect(),
        ..Default::default()
    }
}

/// Creates a container.
pub async fn create(node: &Node, spec: ContainerSpec) -> Result<Container, Status> {
    let request = CreateContainerRequest { id: String::new(), spec: Some(spec) };
    Ok(client(node).create_container(request).await?.into_inner().container.unwrap())
}

/// Starts a container.
pub async fn start(node: &Node, name: &str) -> Result<Container, Status> {
    let request = StartContainerRequest { container: name.to_owned(), terminal_size: None };
    Ok(client(node).start_container(request).await?.into_inner().container.unwrap())
}

/// Finds a container.
pub async fn get(node: &Node, name: &str) -> Result<Container, Status> {
    let request = GetContainerRequest { container: name.to_owned() };
    Ok(client(node).get_container(request).await?.into_inner().container.unwrap())
}

/// Removes a container, whatever it does.
pub async fn remove(node: &Node, name: &str) {
    let container = name.to_owned();
    let request = DeleteContainerRequest { container, force: true, allow_missing: false, volumes: false };
    client(node).delete_container(request).await.unwrap();
}

pub async fn wait(node: &Node, name: &str) -> Result<ExitStatus, Status> {
    let request = WaitContainerRequest { container: name.to_owned(), condition: 0 };
    Ok(client(node).wait_container(request).await?.into_inner().exit.unwrap())
}

/// What a container wrote: standard output, standard error.
pub async fn logs(node: &Node, name: &str, follow: bool, tail: Option<u64>) -> Result<(String, String), Status> {
    let request = ReadLogsRequest { container: name.to_owned(), follow, tail, ..Default::default() };
    let mut stream = client(node).read_logs(request).await?.into_inner();
    let (mut out, mut err) = (String::new(), String::new());
    while let Some(message) = stream.message().await? {
        assert!(message.written_at.is_some());
        let text = String::from_utf8(message.chunk.to_vec()).unwrap();
        if message.is_stderr { &mut err } else { &mut out }.push_str(&text);
    }
    Ok((out, err))
}

/// Waits for the end of a container; its exit code, and what it wrote.
pub async fn end(node: &Node, name: &str) -> (Option<Kind>, String) {
    let exit = wait(node, name).await.unwrap();
    (exit.kind, logs(node, name, false, None).await.unwrap().0)
}

async fn a_container_runs_and_tells_how_it_ended(node: &Node) {
    import_guest(node).await;
    for (words, kind) in [(["exit", "0"], Kind::Code(0)), (["exit", "42"], Kind::Code(42))] {
        let container = create(node, guest(&words)).await.unwrap();
        assert_eq!((container.state(), container.pid, container.exit), (ContainerState::Created, 0, None));
        assert_eq!(container.id.len(), 64);

        start(node, &container.id).await.unwrap();

        assert_eq!(wait(node, &container.id).await.unwrap().kind, Some(kind.clone()));
        let ended = get(node, &container.id).await.unwrap();
        assert_eq!((ended.state(), ended.exit.unwrap().kind), (ContainerState::Exited, Some(kind)));
        assert!(ended.started_at.is_some() && ended.finished_at.is_some());
        let process = ended.process.unwrap();
        assert_eq!(process.args[0], "/guest");
        remove(node, &container.id).await;
    }
    let container = create(node, guest(&["sleep", "300"])).await.unwrap();
    let running = start(node, &container.id).await.unwrap();
    assert!(running.pid > 0 && running.state() == ContainerState::Running);
    assert_eq!(start(node, &container.id).await.unwrap().pid, running.pid, "starting a running one changes nothing");
    let kill = KillContainerRequest { container: container.id.clone(), signal: "SIGKILL".into() };
    client(node).kill_container(kill).await.unwrap();
    assert_eq!(wait(node, &container.id).await.unwrap().kind, Some(Kind::Signal(9)));
    let pruned = client(node).prune_containers(PruneContainersRequest::default()).await.unwrap().into_inner();
    assert_eq!(pruned.deleted, [container.id]);
}

async fn logs_are_read_followed_and_cut_to_a_tail(node: &Node) {
    import_guest(node).await;
    let container = create(node, guest(&["then", "say", "out", "err", "+", "tick", "3", "50"])).await.unwrap();
    start(node, &container.id).await.unwrap();

    let (out, err) = logs(node, &container.id, true, None).await.unwrap();

    assert_eq!((out.as_str(), err.as_str()), ("out\ntick 0\ntick 1\ntick 2\n", "err\n"));
    wait(node, &container.id).await.unwrap();
    assert_eq!(logs(node, &container.id, false, None).await.unwrap(), (out, err));
    assert_eq!(logs(node, &container.id, false, Some(2)).await.unwrap().0, "tick 1\ntick 2\n");
    assert_eq!(logs(node, &container.id, false, Some(0)).await.unwrap().0, "");
    remove(node, &container.id).await;
    let gone = logs(node, &container.id, false, None).await;
    refused(gone, Code::NotFound, "FAULT_CONTAINER_NOT_FOUND").resource("container", &container.id);
}

async fn a_follower_that_leaves_changes_nothing(node: &Node) {
    import_guest(node).await;
    let container = create(node, guest(&["tick", "10", "50"])).await.unwrap();
    start(node, &container.id).await.unwrap();
    let request = ReadLogsRequest { container: container.id.clone(), follow: true, ..Default::default() };
    let mut stream = client(node).read_logs(request).await.unwrap().into_inner();
    stream.message().await.unwrap().unwrap();

    drop(stream);

    assert_eq!(wait(node, &container.id).await.unwrap().kind, Some(Kind::Code(0)));
    assert_eq!(logs(node, &container.id, false, None).await.unwrap().0.lines().count(), 10);
    remove(node, &container.id).await;
}

async fn a_container_is_found_by_id_name_and_prefix(node: &Node) {
    import_guest(node).await;
    let spec = |name: &str| Some(ContainerSpec { name: name.into(), ..guest(&["noop"]) });
    let id = |digit: &str| format!("abc{}", digit.repeat(61));
    for (digit, name) in [("1", "first"), ("2", "second")] {
        let request = CreateContainerRequest { id: id(digit), spec: spec(name) };
        client(node).create_container(request).await.unwrap();
    }

    for reference in ["first", "abc1", &id("1"), &id("1")[..12]] {
        assert_eq!(get(node, reference).await.unwrap().id, id("1"), "{reference}");
    }
    refused(get(node, "abc").await, Code::InvalidArgument, "FAULT_CONTAINER_AMBIGUOUS");
    refused(get(node, "third").await, Code::NotFound, "FAULT_CONTAINER_NOT_FOUND").resource("container", "third");
    for reference in ["first", "second"] {
        remove(node, reference).await;
    }
}

async fn names_and_ids_are_taken_once(node: &Node) {
    import_guest(node).await;
    let named = || ContainerSpec { name: "one".into(), ..guest(&["noop"]) };
    let container = create(node, named()).await.unwrap();

    refused(create(node, named()).await, Code::AlreadyExists, "FAULT_NAME_TAKEN").fact("holder", &container.id);
    let same_id = CreateContainerRequest { id: container.id.clone(), spec: Some(guest(&["noop"])) };
    refused(client(node).create_container(same_id).await, Code::AlreadyExists, "FAULT_NAME_TAKEN");
    remove(node, "one").await;
    create(node, named()).await.unwrap();
    remove(node, "one").await;
}

async fn what_does_not_run_says_so(node: &Node) {
    import_guest(node).await;
    let container = create(node, guest(&["sleep", "300"])).await.unwrap();
    let name = container.id.as_str();
    let kill = |signal: &str| KillContainerRequest { container: name.to_owned(), signal: signal.into() };
    let stop = || StopContainerRequest {
        container: name.to_owned(),
        timeout: Some(prost_types::Duration { seconds: 0, nanos: 0 }),
        signal: String::new(),
    };
    let delete =
        |force| DeleteContainerRequest { container: name.to_owned(), force, allow_missing: false, volumes: false };

    refused(client(node).kill_container(kill("TERM")).await, Code::FailedPrecondition, "FAULT_NOT_RUNNING");
    start(node, name).await.unwrap();
    malformed(client(node).kill_container(kill("NOSUCH")).await, "signal");
    malformed(client(node).kill_container(kill("99")).await, "signal");
    refused(client(node).delete_container(delete(false)).await, Code::FailedPrecondition, "FAULT_RUNNING");
    let stopped = client(node).stop_container(stop()).await.unwrap().into_inner().container.unwrap();
    assert_eq!(stopped.state(), ContainerState::Exited);
    client(node).stop_container(stop()).await.unwrap();
    let negative = StopContainerRequest { timeout: Some(prost_types::Duration { seconds: -1, nanos: 0 }), ..stop() };
    malformed(client(node).stop_container(negative).await, "timeout");
    assert_eq!(client(node).delete_container(delete(false)).await.unwrap().into_inner().id, name);
    refused(client(node).delete_container(delete(true)).await, Code::NotFound, "FAULT_CONTAINER_NOT_FOUND");
    let missing = DeleteContainerRequest { allow_missing: true, ..delete(false) };
    client(node).delete_container(missing).await.unwrap();
}

async fn a_program_that_is_not_there_fails_at_the_start(node: &Node) {
    import_guest(node).await;
    for (program, code) in [("/absent", "127"), ("/etc", "126"), ("/etc/passwd", "126")] {
        let spec = ContainerSpec { entry_point: Some(EntryPoint { args: vec![program.into()] }), ..guest(&[]) };
        let container = create(node, spec).await.unwrap();

        let refusal = refused(start(node, &container.id).await, Code::FailedPrecondition, "FAULT_START_FAILED");

        let refusal = refusal.fact("exit_code", code);
        assert!(refusal.metadata.contains_key("step") && refusal.metadata.contains_key("errno"), "{refusal:?}");
        assert!(refusal.message.contains(program), "{refusal:?}");
        remove(node, &container.id).await;
    }
}

async fn containers_are_listed_in_pages(node: &Node) {
    import_guest(node).await;
    let mut expected = vec![];
    for _ in 0..5 {
        expected.push(create(node, guest(&["noop"])).await.unwrap().id);
    }
    expected.sort();

    let (mut ids, mut page_token) = (vec![], String::new());
    loop {
        let request = ListContainersRequest { page_size: 2, page_token, all: true };
        let page = client(node).list_containers(request).await.unwrap().into_inner();
        ids.extend(page.containers.into_iter().map(|container| container.id));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }

    assert_eq!(ids, expected);
    let running = client(node).list_containers(ListContainersRequest::default()).await.unwrap().into_inner();
    assert!(running.containers.is_empty(), "none of them runs");
    let foreign = ListContainersRequest { page_token: "x".into(), ..Default::default() };
    malformed(client(node).list_containers(foreign).await, "page_token");
    let pruned = client(node).prune_containers(PruneContainersRequest::default()).await.unwrap().into_inner();
    assert_eq!(pruned.deleted.len(), 5);
}

async fn malformed_specs_name_the_field(node: &Node) {
    import_guest(node).await;
    let good = || guest(&["noop"]);
    let limits = |memory_bytes| Some(Limits { memory_bytes, ..Default::default() });
    let tmpfs = |target: &str| MountSpec {
        target: target.into(),
        source: Some(mount_spec::Source::Tmpfs(TmpfsSource::default())),
        ..Default::default()
    };
    let no_source = MountSpec { source: None, ..tmpfs("/x") };
    let cases: Vec<(&str, ContainerSpec)> = vec![
        ("spec.name", ContainerSpec { name: "a/b".into(), ..good() }),
        ("spec.root", ContainerSpec { root: None, ..good() }),
        ("spec.root", ContainerSpec { root: Some(Root::Image(String::new())), ..good() }),
        ("spec.snapshot_key", ContainerSpec { root: Some(Root::SnapshotKey("../x".into())), ..good() }),
        ("spec.command", ContainerSpec { command: vec!["a\0b".into()], ..good() }),
        ("spec.env", ContainerSpec { env: vec!["=x".into()], ..good() }),
        ("spec.hostname", ContainerSpec { hostname: "a b".into(), ..good() }),
        ("spec.network", ContainerSpec { network: 99, ..good() }),
        ("spec.limits.memory_bytes", ContainerSpec { limits: limits(Some(4096)), ..good() }),
        ("spec.cap_add", ContainerSpec { cap_add: vec!["FLY".into()], ..good() }),
        ("spec.cdi_devices", ContainerSpec { cdi_devices: vec!["/dev/null".into()], ..good() }),
        ("spec.cap_drop", ContainerSpec { cap_drop: vec!["".into()], ..good() }),
        (
            "spec.platform",
            ContainerSpec { platform: Some(Platform { os: "a/b".into(), ..Default::default() }), ..good() },
        ),
        ("spec.stop_signal", ContainerSpec { stop_signal: "LOUD".into(), ..good() }),
        ("spec.mounts[0].target", ContainerSpec { mounts: vec![tmpfs("relative")], ..good() }),
        ("spec.mounts[0].target", ContainerSpec { mounts: vec![tmpfs("/../x")], ..good() }),
        ("spec.mounts[1].target", ContainerSpec { mounts: vec![tmpfs("/x"), tmpfs("/x/")], ..good() }),
        ("spec.mounts[0].source", ContainerSpec { mounts: vec![no_source], ..good() }),
    ];
    for (field, spec) in cases {
        malformed(create(node, spec).await, field);
    }
    let no_spec = CreateContainerRequest { id: String::new(), spec: None };
    malformed(client(node).create_container(no_spec).await, "spec");
    for bad in ["abc", "../x", &"A".repeat(64)] {
        let request = CreateContainerRequest { id: bad.into(), spec: Some(good()) };
        malformed(client(node).create_container(request).await, "id");
    }
    let all = ListContainersRequest { all: true, ..Default::default() };
    assert!(client(node).list_containers(all).await.unwrap().into_inner().containers.is_empty());
    let labels = HashMap::from([("any".to_owned(), "thing ../\0".to_owned())]);
    let labelled = create(node, ContainerSpec { labels: labels.clone(), ..good() }).await.unwrap();
    assert_eq!(labelled.spec.unwrap().labels, labels, "labels are inert");
    remove(node, &labelled.id).await;
}

async fn what_is_missing_is_named(node: &Node) {
    let absent = ContainerSpec { root: Some(Root::Image("nobody/made:this".into())), ..guest(&["noop"]) };

    let refusal = refused(create(node, absent).await, Code::NotFound, "FAULT_IMAGE_NOT_FOUND");

    assert_eq!(refusal.resource.unwrap().0, "image");
    refused(start(node, "nobody").await, Code::NotFound, "FAULT_CONTAINER_NOT_FOUND").resource("container", "nobody");
    refused(wait(node, "nobody").await, Code::NotFound, "FAULT_CONTAINER_NOT_FOUND");
    import_guest(node).await;
    let user = create(node, ContainerSpec { user: "nobody-of-this-name".into(), ..guest(&["noop"]) }).await;
    if let Ok(container) = user {
        refused(start(node, &container.id).await, Code::FailedPrecondition, "FAULT_START_FAILED");
        remove(node, &container.id).await;
    } else {
        refused(user, Code::FailedPrecondition, "FAULT_START_FAILED");
    }
}
