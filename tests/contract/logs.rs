//! Logs: what of them is read, how they are emptied, what becomes of output.

use strata_proto::runtime::v1::{
    ClearLogsRequest, Container, ContainerSpec, LogOption, LogSpec, ReadLogsRequest, ReadLogsResponse,
    container_service_client::ContainerServiceClient,
};
use tonic::{Code, Status, transport::Channel};

use crate::{
    containers::{create, get, guest, import_guest, remove, start, wait},
    faults::{malformed, refused},
    node::{Node, RUNNING},
};

over_both!(RUNNING; what_is_read_is_cut_by_time, lines_are_joined_where_that_is_asked_for, attributes_come_with_lines,
    a_log_is_emptied, options_are_checked_and_shown, a_log_that_is_not_kept_is_not_read);

fn client(node: &Node) -> ContainerServiceClient<Channel> {
    ContainerServiceClient::new(node.channel("runtime"))
}

async fn read(node: &Node, request: ReadLogsRequest) -> Result<Vec<ReadLogsResponse>, Status> {
    let mut stream = client(node).read_logs(request).await?.into_inner();
    let mut all = vec![];
    while let Some(message) = stream.message().await? {
        all.push(message);
    }
    Ok(all)
}

fn texts(messages: &[ReadLogsResponse]) -> Vec<&str> {
    messages.iter().map(|message| std::str::from_utf8(&message.chunk).unwrap()).collect()
}

fn of(container: &Container) -> ReadLogsRequest {
    ReadLogsRequest { container: container.id.clone(), ..Default::default() }
}

fn kept(driver: &str, options: &[(&str, &str)]) -> Option<LogSpec> {
    let option = |(name, value): &(&str, &str)| LogOption { name: (*name).into(), value: (*value).into() };
    Some(LogSpec { driver: driver.into(), options: options.iter().map(option).collect() })
}

/// Runs a container of the guest to its end.
async fn ran(node: &Node, spec: ContainerSpec) -> Container {
    let container = create(node, spec).await.unwrap();
    start(node, &container.id).await.unwrap();
    wait(node, &container.id).await.unwrap();
    container
}

async fn what_is_read_is_cut_by_time(node: &Node) {
    import_guest(node).await;
    let container = ran(node, guest(&["tick", "4", "50"])).await;
    let all = read(node, of(&container)).await.unwrap();
    assert_eq!(texts(&all), ["tick 0\n", "tick 1\n", "tick 2\n", "tick 3\n"]);
    let (since, until) = (all[1].written_at, all[2].written_at);

    let later = read(node, ReadLogsRequest { since, ..of(&container) }).await.unwrap();
    let between = read(node, ReadLogsRequest { since, until, ..of(&container) }).await.unwrap();
    let last = read(node, ReadLogsRequest { until, tail: Some(1), ..of(&container) }).await.unwrap();

    assert_eq!((later.as_slice(), between.as_slice(), last.as_slice()), (&all[1..], &all[1..3], &all[2..3]));
    let none = Some(prost_types::Timestamp { seconds: i64::MAX, nanos: 0 });
    malformed(read(node, ReadLogsRequest { since: none, ..of(&container) }).await, "since");
    malformed(read(node, ReadLogsRequest { until: none, ..of(&container) }).await, "until");
    remove(node, &container.id).await;
}

async fn lines_are_joined_where_that_is_asked_for(node: &Node) {
    import_guest(node).await;
    let container = ran(node, guest(&["spam", "20000"])).await;

    let joined = read(node, ReadLogsRequest { joins_lines: true, ..of(&container) }).await.unwrap();

    let expected: String = (0..20_000).map(|number| format!("line {number}\n")).collect();
    assert_eq!(texts(&joined).concat(), expected);
    assert!(joined.len() < 100 && joined.iter().all(|message| message.chunk.len() <= 64 << 10), "{}", joined.len());
    remove(node, &container.id).await;
}

async fn attributes_come_with_lines(node: &Node) {
    import_guest(node).await;
    let log = kept("json-file", &[("labels", "team"), ("tag", "{{.Name}}")]);
    let labels = [("team".to_owned(), "red".to_owned())].into();
    let spec = ContainerSpec { name: "web".into(), log, labels, ..guest(&["echo", "hello"]) };
    let container = ran(node, spec).await;

    let told =
        read(node, ReadLogsRequest { with_attributes: true, joins_lines: true, ..of(&container) }).await.unwrap();
    let untold = read(node, of(&container)).await.unwrap();

    let pairs: Vec<_> = told[0].attributes.iter().map(|one| (one.name.as_str(), one.value.as_str())).collect();
    assert_eq!(pairs, [("tag", "web"), ("team", "red")]);
    assert!(untold[0].attributes.is_empty());
    remove(node, &container.id).await;
}

async fn a_log_is_emptied(node: &Node) {
    import_guest(node).await;
    let container = create(node, guest(&["then", "echo", "before", "+", "sleep", "300"])).await.unwrap();
    let clear = async || client(node).clear_logs(ClearLogsRequest { container: container.id.clone() }).await;
    clear().await.unwrap();
    start(node, &container.id).await.unwrap();
    let mut follower =
        client(node).read_logs(ReadLogsRequest { follow: true, ..of(&container) }).await.unwrap().into_inner();
    assert_eq!(follower.message().await.unwrap().unwrap().chunk, "before\n");

    clear().await.unwrap();

    assert!(read(node, of(&container)).await.unwrap().is_empty());
    clear().await.unwrap();
    remove(node, &container.id).await;
    assert_eq!(follower.message().await.unwrap(), None);
    refused(clear().await, Code::NotFound, "FAULT_CONTAINER_NOT_FOUND");
}

async fn options_are_checked_and_shown(node: &Node) {
    import_guest(node).await;
    let with = |log| ContainerSpec { log, ..guest(&["noop"]) };
    for (log, field, said) in [
        (kept("gelf", &[]), "spec.log.driver", "json-file, local, journald, syslog, none"),
        (kept("", &[("max-sice", "1m")]), "spec.log", "max-size"),
        (kept("json-file", &[("max-size", "1m"), ("max-size", "2m")]), "spec.log.options", "twice"),
        (kept("local", &[("max-file", "0")]), "spec.log", "1 or more"),
    ] {
        let refusal = malformed(create(node, with(log)).await, field);
        assert!(refusal.message.contains(said), "{refusal:?}");
    }
    let usual = create(node, with(None)).await.unwrap();
    let own = create(node, with(kept("local", &[("max-file", "2"), ("compress", "false")]))).await.unwrap();
    assert_eq!(usual.spec.unwrap().log, kept("json-file", &[]));
    assert!(usual.log_path.ends_with("/log.json"));
    let shown = get(node, &own.id).await.unwrap();
    assert_eq!(shown.spec.unwrap().log, kept("local", &[("compress", "false"), ("max-file", "2")]));
    assert_eq!(shown.log_path, "");
    remove(node, &usual.id).await;
    remove(node, &own.id).await;
}

async fn a_log_that_is_not_kept_is_not_read(node: &Node) {
    import_guest(node).await;
    for spec in [
        ContainerSpec { log: kept("none", &[]), ..guest(&["echo", "hello"]) },
        ContainerSpec { has_no_log: true, ..guest(&["echo", "hello"]) },
    ] {
        let container = ran(node, spec).await;
        refused(read(node, of(&container)).await, Code::FailedPrecondition, "FAULT_NO_LOG");
        let cleared = client(node).clear_logs(ClearLogsRequest { container: container.id.clone() }).await;
        refused(cleared, Code::FailedPrecondition, "FAULT_NO_LOG");
        remove(node, &container.id).await;
    }
}
