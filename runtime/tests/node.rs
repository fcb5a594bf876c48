//! A node as it is installed: the runtime's and the store's own binaries, and nothing else. Skipped aloud where
//! `strata-runtime`, `strata-store` or `strata-init` are not built beside the tests. Needs root.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use strata_proto::{
    runtime::v1::{
        self as wire, container_service_client::ContainerServiceClient, exit_status::Kind, run_request, run_response,
        stream_service_client::StreamServiceClient, system_service_client::SystemServiceClient,
    },
    store::v1::{
        ImportImageHeader, ImportImageRequest, ListSnapshotsRequest, image_service_client::ImageServiceClient,
        import_image_request::Part, snapshot_service_client::SnapshotServiceClient,
    },
};
use strata_rpc::Endpoint;
use tonic::{Status, transport::Channel};

struct Node {
    dir: tempfile::TempDir,
    runtime: Child,
    containers: ContainerServiceClient<Channel>,
    streams: StreamServiceClient<Channel>,
    store: Channel,
}

fn binary(name: &str) -> Option<PathBuf> {
    let exe = std::env::current_exe().ok()?;
    let path = exe.parent()?.parent()?.join(name);
    path.exists().then_some(path)
}

async fn node() -> Node {
    let built = ["strata-runtime", "strata-store", "strata-init"].iter().all(|name| binary(name).is_some());
    assert!(rustix::process::geteuid().is_root(), "this test needs root");
    assert!(built, "this test needs the binaries of runtime, store and init beside it: `make build` puts them there");
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    // The interfaces of this host are left as they are.
    std::fs::create_dir(dir.path().join("etc")).unwrap();
    std::fs::write(dir.path().join("etc/runtime.toml"), "[networks]\ndefault = \"none\"\n").unwrap();
    let runtime = spawn(dir.path());
    let channel = connect(dir.path(), "runtime").await;
    // The runtime starts its store by itself: a sweep is its first work.
    let store = connect(dir.path(), "store").await;
    let (containers, streams) =
        (ContainerServiceClient::new(channel.clone()), StreamServiceClient::new(channel.clone()));
    let node = Node { dir, runtime, containers, streams, store };
    node.import().await;
    node
}

fn spawn(dir: &Path) -> Child {
    let mut command = Command::new(binary("strata-runtime").unwrap());
    command.env("STRATA_ROOT", dir).stdin(Stdio::null()).stdout(Stdio::null());
    command.spawn().unwrap()
}

async fn connect(dir: &Path, name: &str) -> Channel {
    let endpoint = Endpoint::Unix(dir.join("run").join(format!("{name}.sock")));
    for _ in 0..500 {
        if let Ok(channel) = strata_rpc::connect_eager(&endpoint, None).await {
            return channel;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{name} does not answer");
}

impl Node {
    async fn import(&self) {
        let base = self.dir.path().join("base");
        make_base(&base);
        let tar = Command::new("tar").arg("-C").arg(&base).arg("-cf").arg("-").arg(".").output().unwrap().stdout;
        let header = ImportImageHeader { name: "base:latest".into(), ..Default::default() };
        let mut parts = vec![ImportImageRequest { part: Some(Part::Header(header)) }];
        let chunks = tar.chunks(256 << 10).map(|chunk| Part::Chunk(chunk.to_vec().into()));
        parts.extend(chunks.map(|part| ImportImageRequest { part: Some(part) }));
        let mut images = ImageServiceClient::new(self.store.clone());
        images.import_image(tokio_stream::iter(parts)).await.unwrap();
    }

    fn spec(args: &[&str]) -> wire::ContainerSpec {
        wire::ContainerSpec {
            root: Some(wire::container_spec::Root::Image("base:latest".into())),
            command: args.iter().map(|arg| arg.to_string()).collect(),
            ..Default::default()
        }
    }

    async fn run(&self, mut spec: wire::ContainerSpec) -> Result<(String, Option<Kind>), Status> {
        spec.is_volatile = true;
        let start = wire::RunStart { spec: Some(spec), ..Default::default() };
        let request = wire::RunRequest { event: Some(run_request::Event::Start(start)) };
        let mut stream = self.streams.clone().run(tokio_stream::iter([request])).await?.into_inner();
        let mut text = Vec::new();
        while let Some(message) = stream.message().await? {
            match message.event.unwrap() {
                run_response::Event::Started(_) => {}
                run_response::Event::Output(output) => match output.stream.unwrap() {
                    wire::output::Stream::Stdout(bytes) | wire::output::Stream::Stderr(bytes) => text.extend(bytes),
                },
                run_response::Event::Exited(exited) => {
                    return Ok((String::from_utf8(text).unwrap(), exited.exit.unwrap().kind));
                }
            }
        }
        panic!("the stream ended without an exit");
    }

    async fn snapshots(&self) -> usize {
        let mut snapshots = SnapshotServiceClient::new(self.store.clone());
        snapshots.list_snapshots(ListSnapshotsRequest::default()).await.unwrap().into_inner().snapshots.len()
    }

    /// Kills the runtime without a word and starts it again.
    async fn kill_runtime(&mut self) {
        self.runtime.kill().unwrap();
        self.runtime.wait().unwrap();
        self.runtime = spawn(self.dir.path());
        let channel = connect(self.dir.path(), "runtime").await;
        self.containers = ContainerServiceClient::new(channel.clone());
        self.streams = StreamServiceClient::new(channel);
    }

    async fn get(&self, container: &str) -> Result<wire::Container, Status> {
        let request = wire::GetContainerRequest { container: container.into() };
        Ok(self.containers.clone().get_container(request).await?.into_inner().container.unwrap())
    }

    /// Stops both services; the store is found by its socket.
    async fn end(self) {
        use strata_proto::store::v1::{GetInfoRequest, system_service_client::SystemServiceClient as StoreSystem};
        let info = StoreSystem::new(self.store.clone()).get_info(GetInfoRequest {}).await.unwrap().into_inner();
        let store = rustix::process::Pid::from_raw(info.info.unwrap().pid as i32).unwrap();
        let runtime = rustix::process::Pid::from_child(&self.runtime);
        rustix::process::kill_process(runtime, rustix::process::Signal::TERM).unwrap();
        drop((self.containers, self.streams));
        let mut runtime = self.runtime;
        // Not on this thread: the client has a connection to close on it.
        let status = tokio::task::spawn_blocking(move || runtime.wait()).await.unwrap();
        assert!(status.unwrap().success());
        rustix::process::kill_process(store, rustix::process::Signal::TERM).unwrap();
        drop(self.store);
        for _ in 0..500 {
            if !self.dir.path().join("run/store.sock").exists() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the store did not stop");
    }
}

/// A root file system of the host's shell and a few programs.
fn make_base(base: &Path) {
    for dir in ["bin", "etc", "proc", "sys", "dev", "tmp"] {
        std::fs::create_dir_all(base.join(dir)).unwrap();
    }
    std::fs::write(base.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\n").unwrap();
    for program in ["sh", "cat", "sleep", "true"] {
        let path = std::fs::canonicalize(Path::new("/bin").join(program)).unwrap();
        std::fs::copy(&path, base.join("bin").join(program)).unwrap();
        let libraries = Command::new("ldd").arg(&path).output().unwrap();
        for word in String::from_utf8_lossy(&libraries.stdout).split_whitespace().filter(|word| word.starts_with('/')) {
            let target = base.join(&word[1..]);
            std::fs::create_dir_all(target.parent().unwrap()).unwrap();
            std::fs::copy(word, target).unwrap();
        }
    }
}

#[tokio::test]
async fn a_node_runs_containers_of_an_imported_image() {
    let node = node().await;

    let (text, exit) = node.run(Node::spec(&["sh", "-c", "echo $HOME; cat /etc/passwd; exit 4"])).await.unwrap();
    assert_eq!((text.as_str(), exit), ("/root\nroot:x:0:0::/root:/bin/sh\n", Some(Kind::Code(4))));
    let missing = node.run(Node::spec(&["nope"])).await.unwrap_err();
    assert_eq!(strata_rpc::fault::metadata_of(&missing).get("exit_code").map(String::as_str), Some("127"));
    let mut absent = Node::spec(&["true"]);
    absent.root = Some(wire::container_spec::Root::Image("absent".into()));
    let absent = node.run(absent).await.unwrap_err();
    assert_eq!(strata_rpc::reason_of(&absent).as_deref(), Some("FAULT_IMAGE_NOT_FOUND"), "{absent:?}");
    assert_eq!(node.snapshots().await, 0);

    let info = SystemServiceClient::new(connect(node.dir.path(), "runtime").await)
        .get_info(wire::GetInfoRequest {})
        .await
        .unwrap();
    assert_eq!(info.into_inner().info.unwrap().name, "runtime");
    node.end().await;
}

#[tokio::test]
async fn a_killed_runtime_finds_its_containers_and_clears_up_its_runs() {
    let mut node = node().await;
    let request = wire::CreateContainerRequest { id: String::new(), spec: Some(Node::spec(&["sleep", "1000"])) };
    let kept = node.containers.create_container(request).await.unwrap().into_inner().container.unwrap();
    let request = wire::StartContainerRequest { container: kept.id.clone(), terminal_size: None };
    let pid = node.containers.start_container(request).await.unwrap().into_inner().container.unwrap().pid;
    let start = wire::RunStart { spec: Some(Node::spec(&["sleep", "1000"])), ..Default::default() };
    let request = wire::RunRequest { event: Some(run_request::Event::Start(start)) };
    let requests = tokio_stream::StreamExt::chain(tokio_stream::iter([request]), tokio_stream::pending());
    let mut stream = node.streams.clone().run(requests).await.unwrap().into_inner();
    let started = stream.message().await.unwrap().unwrap();
    let Some(run_response::Event::Started(started)) = started.event else { panic!("{started:?}") };
    assert_eq!(node.snapshots().await, 2);

    node.kill_runtime().await;

    let found = node.get(&kept.id).await.unwrap();
    assert_eq!((found.pid, found.state()), (pid, wire::ContainerState::Running));
    for _ in 0..500 {
        if node.get(&started.container_id).await.is_err() && node.snapshots().await == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(node.get(&started.container_id).await.is_err(), "the run outlived its stream");
    let request =
        wire::DeleteContainerRequest { container: kept.id, force: true, allow_missing: false, volumes: false };
    node.containers.delete_container(request).await.unwrap();
    assert_eq!(node.snapshots().await, 0);
    node.end().await;
}
