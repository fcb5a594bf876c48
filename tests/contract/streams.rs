//! Streams of processes: attach, exec and run; who leaves takes along what is theirs and nothing else.

use bytes::Bytes;
use strata_proto::runtime::v1::{
    AttachRequest, AttachStart, Detach, EndOfInput, ExecRequest, ExecStart, ExitStatus, Input, ListContainersRequest,
    Output, RunRequest, RunStart, attach_request, attach_response, container_service_client::ContainerServiceClient,
    exec_request, exec_response, exit_status::Kind, input, output, run_request, run_response,
    stream_service_client::StreamServiceClient,
};
use strata_proto::runtime::v1::{ContainerSpec, ContainerState};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, transport::Channel};

use crate::{
    containers::{create, end, get, guest, import_guest, remove, start},
    faults::{malformed, refused},
    node::{Node, RUNNING, eventually},
};

over_both!(RUNNING; attaching_and_starting_loses_no_output, who_detaches_leaves_the_container_running,
    exec_runs_beside_and_says_how_it_ended, an_attached_exec_goes_with_its_client, a_run_leaves_nothing,
    a_run_that_is_dropped_leaves_nothing, input_is_bounded_and_start_comes_first,
    what_was_sent_before_detaching_arrives, an_exec_that_is_detached_from_goes_on, several_clients_see_the_same);

fn client(node: &Node) -> StreamServiceClient<Channel> {
    StreamServiceClient::new(node.channel("runtime"))
}

#[derive(Debug, Default)]
struct Said {
    out: Vec<u8>,
    err: Vec<u8>,
    exit: Option<ExitStatus>,
}

impl Said {
    fn take(&mut self, output: Output) {
        match output.stream.unwrap() {
            output::Stream::Stdout(bytes) => self.out.extend_from_slice(&bytes),
            output::Stream::Stderr(bytes) => self.err.extend_from_slice(&bytes),
        }
    }

    #[track_caller]
    fn says(&self, out: &str, err: &str, kind: Kind) {
        assert_eq!(
            (String::from_utf8_lossy(&self.out).as_ref(), String::from_utf8_lossy(&self.err).as_ref()),
            (out, err)
        );
        assert_eq!(self.exit.as_ref().and_then(|exit| exit.kind.clone()), Some(kind));
    }
}

fn attach_start(container: &str, has_stdin: bool, start_container: bool) -> AttachRequest {
    let start = AttachStart { container: container.to_owned(), has_stdin, start_container, terminal_size: None };
    AttachRequest { event: Some(attach_request::Event::Start(start)) }
}

fn attach_input(event: input::Event) -> AttachRequest {
    AttachRequest { event: Some(attach_request::Event::Input(Input { event: Some(event) })) }
}

async fn attach(node: &Node, messages: Vec<AttachRequest>) -> Result<Said, Status> {
    let (sender, receiver) = mpsc::channel(64);
    for message in messages {
        sender.send(message).await.unwrap();
    }
    let mut events = client(node).attach(ReceiverStream::new(receiver)).await?.into_inner();
    let (mut said, mut has_started) = (Said::default(), false);
    while let Some(message) = events.message().await? {
        match message.event.unwrap() {
            attach_response::Event::Started(started) => {
                assert!(started.container.is_some() && !has_started);
                has_started = true;
            }
            attach_response::Event::Output(output) => said.take(output),
            attach_response::Event::Exited(exit) => said.exit = Some(exit),
        }
    }
    assert!(has_started, "the first event says so");
    drop(sender);
    Ok(said)
}

async fn attaching_and_starting_loses_no_output(node: &Node) {
    import_guest(node).await;
    let container = create(node, ContainerSpec { has_stdin: true, ..guest(&["cat"]) }).await.unwrap();
    let text: Bytes = "all of it\n".repeat(20_000).into();
    let mut messages = vec![attach_start(&container.id, true, true)];
    messages.push(attach_input(input::Event::Stdin(text.clone())));
    messages.push(attach_input(input::Event::EndOfInput(EndOfInput {})));

    let said = attach(node, messages).await.unwrap();

    assert_eq!(said.out.len(), text.len());
    said.says(std::str::from_utf8(&text).unwrap(), "", Kind::Code(0));
    remove(node, &container.id).await;
    let both = create(node, guest(&["say", "out", "err"])).await.unwrap();
    attach(node, vec![attach_start(&both.id, false, true)]).await.unwrap().says("out\n", "err\n", Kind::Code(0));
    remove(node, &both.id).await;
    let signalled = create(node, guest(&["trap", "5", "SIGUSR1"])).await.unwrap();
    start(node, &signalled.id).await.unwrap();
    eventually("it is ready", async || get(node, &signalled.id).await.unwrap().state() == ContainerState::Running)
        .await;
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    let messages = vec![attach_start(&signalled.id, false, false), attach_input(input::Event::Signal("USR1".into()))];
    assert_eq!(attach(node, messages).await.unwrap().exit.unwrap().kind, Some(Kind::Code(5)));
    remove(node, &signalled.id).await;
}

async fn who_detaches_leaves_the_container_running(node: &Node) {
    import_guest(node).await;
    let container = create(node, guest(&["tick", "100000", "20"])).await.unwrap();
    let (sender, receiver) = mpsc::channel(4);
    sender.send(attach_start(&container.id, false, true)).await.unwrap();
    let mut events = client(node).attach(ReceiverStream::new(receiver)).await.unwrap().into_inner();
    for _ in 0..3 {
        events.message().await.unwrap().unwrap();
    }

    drop((sender, events));

    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert_eq!(get(node, &container.id).await.unwrap().state(), ContainerState::Running);
    remove(node, &container.id).await;
}

fn exec_start(container: &str, words: &[&str]) -> ExecStart {
    let args = [&["/guest"], words].concat().into_iter().map(str::to_owned).collect();
    ExecStart { container: container.to_owned(), args, ..Default::default() }
}

async fn exec(node: &Node, start: ExecStart) -> Result<Said, Status> {
    let (sender, receiver) = mpsc::channel(4);
    sender.send(ExecRequest { event: Some(exec_request::Event::Start(start)) }).await.unwrap();
    let mut events = client(node).exec(ReceiverStream::new(receiver)).await?.into_inner();
    let mut said = Said::default();
    while let Some(message) = events.message().await? {
        match message.event.unwrap() {
            exec_response::Event::Started(started) => assert!(started.pid > 0),
            exec_response::Event::Output(output) => said.take(output),
            exec_response::Event::Exited(exit) => said.exit = Some(exit),
        }
    }
    drop(sender);
    Ok(said)
}

async fn exec_runs_beside_and_says_how_it_ended(node: &Node) {
    import_guest(node).await;
    let container = create(node, guest(&["sleep", "300"])).await.unwrap();
    let id = container.id.as_str();
    refused(exec(node, exec_start(id, &["noop"])).await, Code::FailedPrecondition, "FAULT_NOT_RUNNING");
    start(node, id).await.unwrap();

    exec(node, exec_start(id, &["say", "out", "err"])).await.unwrap().says("out\n", "err\n", Kind::Code(0));
    exec(node, exec_start(id, &["exit", "9"])).await.unwrap().says("", "", Kind::Code(9));
    let env = ExecStart { env: vec!["A=b".into()], ..exec_start(id, &["env"]) };
    assert!(String::from_utf8_lossy(&exec(node, env).await.unwrap().out).contains("A=b\n"));
    let detached = ExecStart { is_detached: true, ..exec_start(id, &["write", "/tmp/mark", "x"]) };
    assert_eq!(exec(node, detached).await.unwrap().exit, None, "the stream ends after `started`");
    eventually("the detached process did its work", async || {
        exec(node, exec_start(id, &["exists", "/tmp/mark"])).await.unwrap().exit.unwrap().kind == Some(Kind::Code(0))
    })
    .await;
    let absent = ExecStart { args: vec!["/absent".into()], ..exec_start(id, &[]) };
    let refusal = refused(exec(node, absent).await, Code::FailedPrecondition, "FAULT_START_FAILED");
    refusal.fact("exit_code", "127");
    malformed(exec(node, ExecStart { args: vec![], ..exec_start(id, &[]) }).await, "start.args");
    malformed(exec(node, ExecStart { env: vec!["=".into()], ..exec_start(id, &["noop"]) }).await, "start.env");
    refused(exec(node, exec_start("nobody", &["noop"])).await, Code::NotFound, "FAULT_CONTAINER_NOT_FOUND");
    remove(node, id).await;
}

async fn an_attached_exec_goes_with_its_client(node: &Node) {
    import_guest(node).await;
    let container = create(node, guest(&["sleep", "300"])).await.unwrap();
    start(node, &container.id).await.unwrap();
    let (sender, receiver) = mpsc::channel(4);
    let words = exec_start(&container.id, &["tick", "100000", "20"]);
    sender.send(ExecRequest { event: Some(exec_request::Event::Start(words)) }).await.unwrap();
    let mut events = client(node).exec(ReceiverStream::new(receiver)).await.unwrap().into_inner();
    let Some(exec_response::Event::Started(started)) = events.message().await.unwrap().unwrap().event else {
        panic!("the first event is `started`")
    };
    let process = format!("/proc/{}/cmdline", started.pid);
    assert!(std::fs::read_to_string(&process).unwrap().contains("tick"));

    drop((sender, events));

    eventually("the process is gone", async || {
        std::fs::read(&process).is_ok_and(|words| words.is_empty()) || !std::path::Path::new(&process).exists()
    })
    .await;
    assert_eq!(get(node, &container.id).await.unwrap().state(), ContainerState::Running);
    remove(node, &container.id).await;
}

fn detach() -> Option<input::Event> {
    Some(input::Event::Detach(Detach {}))
}

async fn what_was_sent_before_detaching_arrives(node: &Node) {
    import_guest(node).await;
    let container = create(node, ContainerSpec { has_stdin: true, ..guest(&["cat"]) }).await.unwrap();
    let text: Bytes = "all of it\n".repeat(20_000).into();
    let mut messages = vec![attach_start(&container.id, true, true)];
    for chunk in text.chunks(50_000) {
        messages.push(attach_input(input::Event::Stdin(text.slice_ref(chunk))));
    }
    messages.push(attach_input(input::Event::EndOfInput(EndOfInput {})));
    messages.push(attach_input(detach().unwrap()));

    assert_eq!(attach(node, messages).await.unwrap().exit, None, "the stream ends, whatever the process does");

    assert_eq!(end(node, &container.id).await, (Some(Kind::Code(0)), String::from_utf8(text.to_vec()).unwrap()));
    remove(node, &container.id).await;
}

async fn an_exec_that_is_detached_from_goes_on(node: &Node) {
    import_guest(node).await;
    let container = create(node, guest(&["sleep", "300"])).await.unwrap();
    start(node, &container.id).await.unwrap();
    let (sender, receiver) = mpsc::channel(4);
    let words = exec_start(&container.id, &["then", "await", "/go", "+", "write", "/done", "x"]);
    sender.send(ExecRequest { event: Some(exec_request::Event::Start(words)) }).await.unwrap();
    let input = exec_request::Event::Input(Input { event: detach() });
    sender.send(ExecRequest { event: Some(input) }).await.unwrap();
    let mut events = client(node).exec(ReceiverStream::new(receiver)).await.unwrap().into_inner();
    let mut seen = vec![];
    while let Some(message) = events.message().await.unwrap() {
        seen.push(message.event.unwrap());
    }

    assert!(matches!(seen[..], [exec_response::Event::Started(_)]), "{seen:?}");
    exec(node, exec_start(&container.id, &["write", "/go", "x"])).await.unwrap();
    let done = exec(node, exec_start(&container.id, &["await", "/done"])).await.unwrap();
    done.says("", "", Kind::Code(0));
    let (sender, receiver) = mpsc::channel(4);
    sender.send(run_start(guest(&["sleep", "300"]))).await.unwrap();
    let input = run_request::Event::Input(Input { event: detach() });
    sender.send(RunRequest { event: Some(input) }).await.unwrap();
    let mut events = client(node).run(ReceiverStream::new(receiver)).await.unwrap().into_inner();
    let refusal = loop {
        match events.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("a run that nobody sees goes on"),
            Err(status) => break Err::<(), _>(status),
        }
    };
    malformed(refusal, "input.detach");
    remove(node, &container.id).await;
}

async fn several_clients_see_the_same(node: &Node) {
    import_guest(node).await;
    let spec = ContainerSpec { has_stdin: true, ..guest(&["cat"]) };
    let container = create(node, spec).await.unwrap();
    let id = container.id.as_str();
    start(node, id).await.unwrap();
    let watch = async || attach(node, vec![attach_start(id, false, false)]).await.unwrap();
    let speak = async || {
        // The others are there, or not yet: they are asked to be by nothing that they could answer.
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        let text = attach_input(input::Event::Stdin("heard\n".into()));
        attach(node, vec![attach_start(id, true, false), text, attach_input(input::Event::EndOfInput(EndOfInput {}))])
            .await
            .unwrap()
    };

    let (one, other, speaker) = tokio::join!(watch(), watch(), speak());

    for said in [one, other, speaker] {
        said.says("heard\n", "", Kind::Code(0));
    }
    remove(node, id).await;
}

fn run_start(spec: ContainerSpec) -> RunRequest {
    let start = RunStart { id: String::new(), spec: Some(spec), terminal_size: None };
    RunRequest { event: Some(run_request::Event::Start(start)) }
}

async fn run(node: &Node, spec: ContainerSpec) -> Result<Said, Status> {
    let (sender, receiver) = mpsc::channel(4);
    sender.send(run_start(spec)).await.unwrap();
    let mut events = client(node).run(ReceiverStream::new(receiver)).await?.into_inner();
    let mut said = Said::default();
    while let Some(message) = events.message().await? {
        match message.event.unwrap() {
            run_response::Event::Started(started) => assert_eq!(started.container_id.len(), 64),
            run_response::Event::Output(output) => said.take(output),
            run_response::Event::Exited(exited) => said.exit = exited.exit,
        }
    }
    drop(sender);
    Ok(said)
}

async fn count(node: &Node) -> usize {
    let mut client = ContainerServiceClient::new(node.channel("runtime"));
    let all = ListContainersRequest { all: true, ..Default::default() };
    client.list_containers(all).await.unwrap().into_inner().containers.len()
}

async fn a_run_leaves_nothing(node: &Node) {
    import_guest(node).await;

    run(node, guest(&["say", "out", "err"])).await.unwrap().says("out\n", "err\n", Kind::Code(0));
    assert_eq!(count(node).await, 0, "it is gone when the stream has ended");
    run(node, guest(&["signal", "9"])).await.unwrap();
    let absent = ContainerSpec { command: vec![], entry_point: None, ..guest(&[]) };
    let absent = ContainerSpec { command: vec!["/absent".into()], ..absent };
    refused(run(node, absent).await, Code::FailedPrecondition, "FAULT_START_FAILED").fact("exit_code", "127");
    assert_eq!(count(node).await, 0);
    malformed(run(node, ContainerSpec { name: "a/b".into(), ..guest(&[]) }).await, "spec.name");
}

async fn a_run_that_is_dropped_leaves_nothing(node: &Node) {
    import_guest(node).await;
    let (sender, receiver) = mpsc::channel(4);
    sender.send(run_start(guest(&["tick", "100000", "20"]))).await.unwrap();
    let mut events = client(node).run(ReceiverStream::new(receiver)).await.unwrap().into_inner();
    for _ in 0..3 {
        events.message().await.unwrap().unwrap();
    }
    assert_eq!(count(node).await, 1);

    drop((sender, events));

    eventually("the container is gone", async || count(node).await == 0).await;
}

async fn input_is_bounded_and_start_comes_first(node: &Node) {
    import_guest(node).await;
    let container = create(node, ContainerSpec { has_stdin: true, ..guest(&["cat"]) }).await.unwrap();
    let id = container.id.as_str();

    let early = attach(node, vec![attach_input(input::Event::EndOfInput(EndOfInput {}))]).await;
    malformed(early, "event");
    let idle = attach(node, vec![attach_start(id, true, false)]).await;
    refused(idle, Code::FailedPrecondition, "FAULT_NOT_RUNNING");
    let large = attach_input(input::Event::Stdin(vec![0; 262_145].into()));
    malformed(attach(node, vec![attach_start(id, true, true), large]).await, "input.stdin");
    let signal = attach_input(input::Event::Signal("LOUD".into()));
    malformed(attach(node, vec![attach_start(id, true, true), signal]).await, "input.signal");
    malformed(attach(node, vec![attach_start(id, true, true), attach_start(id, true, true)]).await, "event");
    assert_eq!(get(node, id).await.unwrap().state(), ContainerState::Running, "a refused client only detaches");
    remove(node, id).await;
}
