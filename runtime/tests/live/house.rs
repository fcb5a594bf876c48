//! A runtime service in this process, over a store of plain directories, and a client of it.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use strata_proto::runtime::v1::{
    self as wire, attach_request, attach_response, container_service_client::ContainerServiceClient, exec_request,
    exec_response, exit_status::Kind, input, output, run_request, run_response,
    stream_service_client::StreamServiceClient,
};
use strata_rpc::{
    Drain, Endpoint,
    access::{self, Access, Policy, Surface},
    serve::{Config as Serving, Listen, Server},
};
use strata_runtime::{
    config::{Cdi, Config, DefaultNetwork, File, Networks},
    engine::Engine,
    launch::Launcher,
    presence::Presence,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming, transport::Channel};

use super::directories::Directories;

/// A service and its client.
pub struct House {
    dir: tempfile::TempDir,
    store: Arc<Directories>,
    service: Option<tokio::runtime::Runtime>,
    channel: Channel,
    generation: u32,
}

/// How a run ended.
#[derive(Debug)]
pub struct Ended {
    pub stdout: String,
    pub stderr: String,
    pub exit: Option<Kind>,
    pub points: Vec<wire::CreatedMountPoint>,
}

/// A run under way.
pub struct Running {
    pub id: String,
    _input: mpsc::Sender<wire::RunRequest>,
    _output: Streaming<wire::RunResponse>,
}

/// Makes a house, or says why not.
pub async fn house() -> House {
    assert!(rustix::process::geteuid().is_root(), "this test needs root");
    assert!(init().is_some(), "this test needs strata-init beside it: `make build` puts it there");
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    let base = dir.path().join("base");
    make_base(&base);
    let store = Arc::new(Directories::new(dir.path().join("snapshots"), base));
    let (service, channel) = serve(dir.path(), store.clone(), 0).await;
    House { dir, store, service: Some(service), channel, generation: 0 }
}

fn init() -> Option<PathBuf> {
    let exe = std::env::current_exe().ok()?;
    let path = exe.parent()?.parent()?.join("strata-init");
    path.exists().then_some(path)
}

/// A root file system of the host's shell and a few programs.
fn make_base(base: &Path) {
    for dir in ["bin", "etc", "proc", "sys", "dev", "tmp", "home/worker"] {
        std::fs::create_dir_all(base.join(dir)).unwrap();
    }
    std::fs::write(base.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\nworker:x:1234:1234::/home/worker:/bin/sh\n")
        .unwrap();
    std::fs::write(base.join("etc/group"), "root:x:0:\nworker:x:1234:\nextra:x:1300:worker\n").unwrap();
    for program in ["sh", "cat", "sleep", "true", "echo", "id", "ls", "seq", "stty", "hostname", "grep"] {
        let path = ["/bin", "/usr/bin"].map(|dir| Path::new(dir).join(program)).into_iter().find(|path| path.exists());
        let path = std::fs::canonicalize(path.unwrap_or_else(|| panic!("no {program} on this host"))).unwrap();
        std::fs::copy(&path, base.join("bin").join(program)).unwrap();
        let libraries = Command::new("ldd").arg(&path).output().unwrap();
        for word in String::from_utf8_lossy(&libraries.stdout).split_whitespace().filter(|word| word.starts_with('/')) {
            let target = base.join(&word[1..]);
            std::fs::create_dir_all(target.parent().unwrap()).unwrap();
            std::fs::copy(word, target).unwrap();
        }
    }
}

/// Serves on a runtime of its own, so that dropping that is like killing the service.
async fn serve(dir: &Path, store: Arc<Directories>, generation: u32) -> (tokio::runtime::Runtime, Channel) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let socket = dir.join(format!("runtime{generation}.sock"));
    // The interfaces of this host are left as they are.
    let networks = Networks { default: DefaultNetwork::None, ..Networks::default() };
    let file = File { init: init(), cdi: Cdi { spec_dirs: vec![dir.join("cdi")] }, networks, ..Default::default() };
    let config = Config {
        root: dir.join("runtime"),
        run: dir.join("run"),
        file,
        waker: None,
        program: "/nonexistent".into(),
        log: String::new(),
    };
    let listen = Serving::new(Listen::Unix(socket.clone()));
    let root = dir.to_owned();
    let ready = runtime.spawn(async move {
        let server = Server::new("runtime", listen).unwrap();
        let presence = Presence::new(|| Box::new(()), |_| {});
        let engine = Engine::open(config.clone(), store, Launcher::open(config).unwrap(), presence).await.unwrap();
        let drain: Drain = server.drain();
        let routes = strata_runtime::routes_of(&engine, &drain);
        drop(engine);
        let access = Access::new("runtime", Policy::new(access::Config::default()).unwrap(), &root);
        tokio::spawn(async move { server.serve(routes, &Surface::STRATA, access).await });
    });
    ready.await.unwrap();
    (runtime, strata_rpc::connect(&Endpoint::Unix(socket), None).unwrap())
}

impl House {
    /// Writes a CDI spec file.
    pub fn describe(&self, name: &str, text: &str) {
        let directory = self.dir.path().join("cdi");
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join(name), text).unwrap();
    }

    /// A path of the house.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// One page of devices.
    pub async fn devices(&self, page_size: u32, page_token: String) -> Result<wire::ListDevicesResponse, Status> {
        let mut client = wire::device_service_client::DeviceServiceClient::new(self.channel.clone());
        Ok(client.list_devices(wire::ListDevicesRequest { page_size, page_token }).await?.into_inner())
    }

    /// A spec of the base image.
    pub fn spec(args: &[&str]) -> wire::ContainerSpec {
        wire::ContainerSpec {
            root: Some(wire::container_spec::Root::Image("base".into())),
            command: args.iter().map(|arg| arg.to_string()).collect(),
            ..Default::default()
        }
    }

    pub fn mount(target: &str, is_read_only: bool, source: wire::mount_spec::Source) -> wire::MountSpec {
        wire::MountSpec { target: target.into(), is_read_only, source: Some(source), ..Default::default() }
    }

    fn containers(&self) -> ContainerServiceClient<Channel> {
        ContainerServiceClient::new(self.channel.clone())
    }

    fn streams(&self) -> StreamServiceClient<Channel> {
        StreamServiceClient::new(self.channel.clone())
    }

    /// Ends the service without a word.
    pub async fn crash(&mut self) {
        let service = self.service.take().unwrap();
        tokio::task::spawn_blocking(move || service.shutdown_timeout(Duration::from_secs(2))).await.unwrap();
    }

    pub async fn restart(&mut self) {
        self.generation += 1;
        let (service, channel) = serve(self.dir.path(), self.store.clone(), self.generation).await;
        (self.service, self.channel) = (Some(service), channel);
    }

    pub async fn run(&self, spec: wire::ContainerSpec) -> Result<Ended, Status> {
        self.run_with(spec, &[]).await
    }

    pub async fn run_with(&self, spec: wire::ContainerSpec, inputs: &[&'static [u8]]) -> Result<Ended, Status> {
        let start = wire::RunStart { spec: Some(spec), ..Default::default() };
        let mut requests = vec![run_request::Event::Start(start)];
        requests.extend(events(inputs).map(run_request::Event::Input));
        let requests = requests.into_iter().map(|event| wire::RunRequest { event: Some(event) });
        let requests = tokio_stream::iter(requests.collect::<Vec<_>>());
        let mut stream = self.streams().run(requests).await?.into_inner();
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        while let Some(message) = stream.message().await? {
            match message.event.unwrap() {
                run_response::Event::Started(_) => {}
                run_response::Event::Output(chunk) => keep(chunk, &mut stdout, &mut stderr),
                run_response::Event::Exited(exited) => {
                    return Ok(Ended {
                        stdout: String::from_utf8(stdout).unwrap(),
                        stderr: String::from_utf8(stderr).unwrap(),
                        exit: exited.exit.unwrap().kind,
                        points: exited.created_mount_points,
                    });
                }
            }
        }
        panic!("the stream ended without an exit");
    }

    /// Starts a run and leaves it running.
    pub async fn begin(&self, spec: wire::ContainerSpec) -> Running {
        let (input, requests) = mpsc::channel(4);
        let start = wire::RunStart { spec: Some(spec), ..Default::default() };
        input.send(wire::RunRequest { event: Some(run_request::Event::Start(start)) }).await.unwrap();
        let mut output = self.streams().run(ReceiverStream::new(requests)).await.unwrap().into_inner();
        match output.message().await.unwrap().unwrap().event.unwrap() {
            run_response::Event::Started(started) => {
                Running { id: started.container_id, _input: input, _output: output }
            }
            other => panic!("{other:?}"),
        }
    }

    pub async fn attach(
        &self,
        container: &str,
        terminal_size: Option<wire::TerminalSize>,
        inputs: &[&'static [u8]],
    ) -> Vec<attach_response::Event> {
        let (container, has_stdin) = (container.to_owned(), !inputs.is_empty());
        let start = wire::AttachStart { container, has_stdin, start_container: true, terminal_size };
        let (sender, requests) = mpsc::channel(8);
        let request = |event| wire::AttachRequest { event: Some(event) };
        sender.send(request(attach_request::Event::Start(start))).await.unwrap();
        for bytes in inputs {
            let event = Some(input::Event::Stdin(bytes.to_vec().into()));
            sender.send(request(attach_request::Event::Input(wire::Input { event }))).await.unwrap();
        }
        let mut stream = self.streams().attach(ReceiverStream::new(requests)).await.unwrap().into_inner();
        let mut seen = Vec::new();
        while let Some(message) = stream.message().await.unwrap() {
            seen.push(message.event.unwrap());
        }
        assert!(matches!(seen.last(), Some(attach_response::Event::Exited(_))), "{seen:?}");
        seen
    }

    pub async fn exec(&self, container: &str, args: &[&str]) -> Result<(String, Option<Kind>), Status> {
        let args = args.iter().map(|arg| arg.to_string()).collect();
        let start = wire::ExecStart { container: container.into(), args, ..Default::default() };
        let request = wire::ExecRequest { event: Some(exec_request::Event::Start(start)) };
        let mut stream = self.streams().exec(tokio_stream::iter([request])).await?.into_inner();
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        while let Some(message) = stream.message().await? {
            match message.event.unwrap() {
                exec_response::Event::Started(started) => assert_ne!(started.pid, 0),
                exec_response::Event::Output(chunk) => keep(chunk, &mut stdout, &mut stderr),
                exec_response::Event::Exited(exit) => return Ok((String::from_utf8(stdout).unwrap(), exit.kind)),
            }
        }
        panic!("the stream ended without an exit");
    }

    pub async fn create(&self, spec: wire::ContainerSpec) -> Result<wire::Container, Status> {
        let request = wire::CreateContainerRequest { id: String::new(), spec: Some(spec) };
        Ok(self.containers().create_container(request).await?.into_inner().container.unwrap())
    }

    pub async fn start(&self, container: &str) -> Result<(), Status> {
        let request = wire::StartContainerRequest { container: container.into(), terminal_size: None };
        self.containers().start_container(request).await.map(drop)
    }

    pub async fn get(&self, container: &str) -> Result<wire::Container, Status> {
        let request = wire::GetContainerRequest { container: container.into() };
        Ok(self.containers().get_container(request).await?.into_inner().container.unwrap())
    }

    pub async fn stop(&self, container: &str, timeout: Duration) -> Result<(), Status> {
        let timeout = Some(prost_types::Duration::try_from(timeout).unwrap());
        let request = wire::StopContainerRequest { container: container.into(), timeout, signal: String::new() };
        self.containers().stop_container(request).await.map(drop)
    }

    pub async fn delete(&self, container: &str, force: bool) -> Result<(), Status> {
        let container = container.into();
        let request = wire::DeleteContainerRequest { container, force, allow_missing: false, volumes: false };
        self.containers().delete_container(request).await.map(drop)
    }

    pub async fn prune(&self) -> Vec<String> {
        self.containers().prune_containers(wire::PruneContainersRequest::default()).await.unwrap().into_inner().deleted
    }

    pub async fn wait(&self, container: &str) -> Option<Kind> {
        let request = wire::WaitContainerRequest { container: container.into(), condition: 0 };
        self.containers().wait_container(request).await.unwrap().into_inner().exit.unwrap().kind
    }

    pub async fn logs(&self, container: &str, tail: Option<u64>) -> String {
        let request = wire::ReadLogsRequest { container: container.into(), tail, ..Default::default() };
        let mut stream = self.containers().read_logs(request).await.unwrap().into_inner();
        let mut text = String::new();
        while let Some(line) = stream.message().await.unwrap() {
            text.push_str(std::str::from_utf8(&line.chunk).unwrap());
        }
        text
    }

    pub async fn pause(&self, container: &str) -> Result<(), Status> {
        let request = wire::PauseContainerRequest { container: container.into() };
        self.containers().pause_container(request).await.map(drop)
    }

    fn record(&self, id: &str) -> (PathBuf, serde_json::Value) {
        let path = self.dir.path().join("runtime/containers").join(id).join("record.json");
        let record = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        (path, record)
    }

    /// Changes the record of a container on disk.
    pub fn change_record(&self, id: &str, change: impl FnOnce(&mut serde_json::Value)) {
        let (path, mut record) = self.record(id);
        change(&mut record);
        std::fs::write(path, serde_json::to_vec(&record).unwrap()).unwrap();
    }

    /// Sends a signal to the monitor of a container, which its record names.
    pub fn signal_monitor(&self, id: &str, signal: rustix::process::Signal) {
        let (_, record) = self.record(id);
        let pid = record["state"]["running"]["monitor"]["pid"].as_i64().unwrap();
        rustix::process::kill_process(rustix::process::Pid::from_raw(pid as i32).unwrap(), signal).unwrap();
    }

    /// Waits until something is so.
    pub async fn eventually(&self, what: &str, is_so: impl AsyncFn(&Self) -> bool) {
        for _ in 0..1000 {
            if is_so(self).await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{what} did not happen");
    }

    /// Nothing is left: no container, snapshot, socket or mount.
    pub async fn is_clean(&self) {
        let nothing_in = |dir: &str| {
            let entries = std::fs::read_dir(self.dir.path().join(dir)).unwrap();
            let left: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
            assert!(left.is_empty(), "{left:?}");
        };
        // An exec's socket goes with its monitor, a moment after the exit was told.
        self.eventually("the last monitor's end", async |house| {
            std::fs::read_dir(house.dir.path().join("run/c")).unwrap().count() == 0
        })
        .await;
        assert!(self.store.is_empty());
        nothing_in("runtime/containers");
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(&*self.dir.path().to_string_lossy()));
    }
}

impl Drop for House {
    fn drop(&mut self) {
        if let Some(service) = self.service.take() {
            service.shutdown_background();
        }
    }
}

fn events(inputs: &[&'static [u8]]) -> impl Iterator<Item = wire::Input> {
    let stdin = inputs.iter().map(|bytes| input::Event::Stdin(bytes.to_vec().into()));
    let end = (!inputs.is_empty()).then_some(input::Event::EndOfInput(wire::EndOfInput {}));
    stdin.chain(end).map(|event| wire::Input { event: Some(event) })
}

fn keep(chunk: wire::Output, stdout: &mut Vec<u8>, stderr: &mut Vec<u8>) {
    match chunk.stream.unwrap() {
        output::Stream::Stdout(bytes) => stdout.extend_from_slice(&bytes),
        output::Stream::Stderr(bytes) => stderr.extend_from_slice(&bytes),
    }
}

/// What an attached client saw, as text.
pub fn output_of(events: Vec<attach_response::Event>) -> String {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    for event in events {
        if let attach_response::Event::Output(chunk) = event {
            keep(chunk, &mut stdout, &mut stderr);
        }
    }
    String::from_utf8(stdout).unwrap()
}

/// The exit of a container.
pub fn code(container: &wire::Container) -> Option<Kind> {
    container.exit.clone().and_then(|exit| exit.kind)
}
