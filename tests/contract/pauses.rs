//! Pausing: processes that stand still, are refused company, and end all the same when they are told to.

use strata_proto::runtime::v1::{
    ContainerSpec, ContainerState, ExecRequest, ExecStart, KillContainerRequest, PauseContainerRequest,
    RestartContainerRequest, RunRequest, RunStart, StopContainerRequest, UnpauseContainerRequest,
    container_service_client::ContainerServiceClient, exec_request, exit_status::Kind, run_request, run_response,
    stream_service_client::StreamServiceClient,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, transport::Channel};

use crate::{
    containers::{create, end, get, guest, import_guest, logs, remove, start},
    faults::refused,
    node::{Node, RUNNING, eventually},
};

over_both!(RUNNING; paused_processes_stand_still_until_they_are_told_to_go_on, what_stands_still_ends_all_the_same,
    a_paused_run_goes_with_its_stream, only_what_runs_is_paused_and_only_what_is_paused_goes_on,
    nobody_comes_to_a_paused_container);

fn client(node: &Node) -> ContainerServiceClient<Channel> {
    ContainerServiceClient::new(node.channel("runtime"))
}

async fn pause(node: &Node, name: &str) -> Result<ContainerState, Status> {
    let request = PauseContainerRequest { container: name.to_owned() };
    Ok(client(node).pause_container(request).await?.into_inner().container.unwrap().state())
}

async fn unpause(node: &Node, name: &str) -> Result<ContainerState, Status> {
    let request = UnpauseContainerRequest { container: name.to_owned() };
    Ok(client(node).unpause_container(request).await?.into_inner().container.unwrap().state())
}

/// Makes and starts a container of this name, and waits for its first word.
async fn run(node: &Node, name: &str, words: &[&str]) {
    create(node, ContainerSpec { name: name.to_owned(), ..guest(words) }).await.unwrap();
    start(node, name).await.unwrap();
    eventually("it speaks", async || !logs(node, name, false, None).await.unwrap().0.is_empty()).await;
}

async fn paused_processes_stand_still_until_they_are_told_to_go_on(node: &Node) {
    import_guest(node).await;
    run(node, "clock", &["tick", "100000", "5"]).await;
    let said = async || logs(node, "clock", false, None).await.unwrap().0.len();
    let mut events = crate::events::watch(node, Default::default()).await;

    assert_eq!(pause(node, "clock").await.unwrap(), ContainerState::Paused);

    // What it said before is on its way to the log.
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    let before = said().await;
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    assert_eq!(said().await, before);
    assert!(get(node, "clock").await.unwrap().pid > 0);
    assert_eq!(unpause(node, "clock").await.unwrap(), ContainerState::Running);
    eventually("it goes on", async || said().await > before).await;
    let mut actions = vec![];
    for _ in 0..2 {
        actions.push(events.message().await.unwrap().unwrap().event.unwrap().action);
    }
    assert_eq!(actions, ["pause", "unpause"]);
    remove(node, "clock").await;
}

async fn what_stands_still_ends_all_the_same(node: &Node) {
    import_guest(node).await;
    for (name, words) in [("stopped", &["trap", "5", "SIGTERM"][..]), ("deaf", &["stubborn"])] {
        run(node, name, words).await;
        pause(node, name).await.unwrap();
        let timeout = prost_types::Duration { seconds: if name == "deaf" { 0 } else { 30 }, nanos: 0 };
        let stop = StopContainerRequest { container: name.to_owned(), timeout: Some(timeout), signal: String::new() };
        let stopped = client(node).stop_container(stop).await.unwrap().into_inner().container.unwrap();
        assert_eq!(stopped.state(), ContainerState::Exited);
        let expected = if name == "deaf" { Kind::Signal(9) } else { Kind::Code(5) };
        assert_eq!(stopped.exit.unwrap().kind, Some(expected), "the signal that stops reaches it first");
    }
    run(node, "killed", &["stubborn"]).await;
    pause(node, "killed").await.unwrap();
    let kill = |signal: &str| KillContainerRequest { container: "killed".into(), signal: signal.into() };
    client(node).kill_container(kill("USR1")).await.unwrap();
    assert_eq!(get(node, "killed").await.unwrap().state(), ContainerState::Paused, "other signals wait");
    client(node).kill_container(kill("KILL")).await.unwrap();
    assert_eq!(end(node, "killed").await.0, Some(Kind::Signal(9)));
    run(node, "again", &["stubborn"]).await;
    pause(node, "again").await.unwrap();
    let at_once = Some(prost_types::Duration::default());
    let restart = RestartContainerRequest { container: "again".into(), timeout: at_once, signal: String::new() };
    let restarted = client(node).restart_container(restart).await.unwrap().into_inner().container.unwrap();
    assert_eq!(restarted.state(), ContainerState::Running);
    pause(node, "again").await.unwrap();
    for name in ["stopped", "deaf", "killed", "again"] {
        remove(node, name).await;
    }
}

async fn a_paused_run_goes_with_its_stream(node: &Node) {
    import_guest(node).await;
    let (sender, receiver) = mpsc::channel(4);
    let run = RunStart { spec: Some(guest(&["stubborn"])), ..Default::default() };
    sender.send(RunRequest { event: Some(run_request::Event::Start(run)) }).await.unwrap();
    let mut streams = StreamServiceClient::new(node.channel("runtime"));
    let mut events = streams.run(ReceiverStream::new(receiver)).await.unwrap().into_inner();
    let Some(run_response::Event::Started(started)) = events.message().await.unwrap().unwrap().event else {
        panic!("it starts first");
    };
    pause(node, &started.container_id).await.unwrap();

    drop((sender, events));

    eventually("it is gone", async || get(node, &started.container_id).await.is_err()).await;
}

async fn only_what_runs_is_paused_and_only_what_is_paused_goes_on(node: &Node) {
    import_guest(node).await;
    let failed = Code::FailedPrecondition;
    refused(pause(node, "nobody").await, Code::NotFound, "FAULT_CONTAINER_NOT_FOUND").resource("container", "nobody");
    refused(unpause(node, "nobody").await, Code::NotFound, "FAULT_CONTAINER_NOT_FOUND");
    create(node, ContainerSpec { name: "box".into(), ..guest(&["stubborn"]) }).await.unwrap();
    refused(pause(node, "box").await, failed, "FAULT_NOT_RUNNING");
    refused(unpause(node, "box").await, failed, "FAULT_NOT_RUNNING");
    start(node, "box").await.unwrap();
    refused(unpause(node, "box").await, failed, "FAULT_NOT_PAUSED");
    pause(node, "box").await.unwrap();
    refused(pause(node, "box").await, failed, "FAULT_PAUSED");
    remove(node, "box").await;
}

async fn nobody_comes_to_a_paused_container(node: &Node) {
    import_guest(node).await;
    run(node, "box", &["stubborn"]).await;
    pause(node, "box").await.unwrap();
    let args = ["/guest", "noop"].map(str::to_owned).into();
    let exec = ExecStart { container: "box".into(), args, ..Default::default() };
    let request = ExecRequest { event: Some(exec_request::Event::Start(exec)) };
    let mut streams = StreamServiceClient::new(node.channel("runtime"));

    let mut executed = streams.exec(tokio_stream::iter([request])).await.unwrap().into_inner();

    let refusal = refused(executed.message().await, Code::FailedPrecondition, "FAULT_PAUSED");
    assert!(refusal.message.contains("box"), "{refusal:?}");
    refused(start(node, "box").await, Code::FailedPrecondition, "FAULT_PAUSED");
    remove(node, "box").await;
}
