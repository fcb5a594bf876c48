//! Who may do what: every method for every role, what takes a grant, what is recorded, and requests that lie about their
//! method.

use std::{collections::BTreeMap, fs, time::Duration};

use strata_proto::{
    access::v1::{VerifyAuditRequest, VerifyAuditResponse, audit_service_client::AuditServiceClient},
    runtime::v1 as runtime,
    types::v1::Permission,
};
use tonic::{Code, Request, Status, client::Grpc, codegen::http::uri::PathAndQuery, transport::Channel};
use tonic_prost::ProstCodec;

use crate::{
    certificates::Pair,
    node::{ALL, Node, Transport, block_on},
};

const DENIED: &str = "FAULT_PERMISSION_DENIED";

/// Which roles have which permission: the table of the README.
const TABLE: [(Permission, &[&str]); 6] = [
    (Permission::View, &["viewer", "builder", "operator", "admin"]),
    (Permission::Push, &["builder", "operator", "admin"]),
    (Permission::Snapshot, &["builder", "operator", "admin"]),
    (Permission::Build, &["builder", "admin"]),
    (Permission::Run, &["operator", "admin"]),
    (Permission::Admin, &["admin"]),
];

/// Calls a method, whatever its kind, with an empty message. Only whether it was refused is of interest: what waits for more
/// is cut off.
async fn call(channel: &Channel, path: &str) -> Result<(), Status> {
    let mut grpc = Grpc::new(channel.clone());
    grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let path = PathAndQuery::try_from(path).expect("a path");
    let request = Request::new(tokio_stream::once(()));
    let answer = async {
        let mut answers = grpc.streaming(request, path, ProstCodec::<(), ()>::default()).await?.into_inner();
        answers.message().await.map(|_| ())
    };
    tokio::time::timeout(Duration::from_millis(1500), answer).await.unwrap_or(Ok(()))
}

fn is_denied(answer: &Result<(), Status>) -> bool {
    answer.as_ref().is_err_and(|status| {
        let is_denied = status.code() == Code::PermissionDenied;
        assert!(!is_denied || strata_rpc::reason_of(status).as_deref() == Some(DENIED), "{status:?}");
        is_denied
    })
}

fn service_of(path: &str) -> &'static [&'static str] {
    match path {
        path if path.starts_with("/strata.store.") => &["store"],
        path if path.starts_with("/strata.builder.") => &["builder"],
        path if path.starts_with("/strata.runtime.") => &["runtime"],
        path if path.starts_with("/strata.access.") => ALL,
        path => panic!("{path} is of no service that the test knows"),
    }
}

#[test]
fn every_method_is_for_the_roles_that_the_table_says() {
    let node = Node::start(Transport::Tcp, ALL);
    let table: BTreeMap<i32, &[&str]> = TABLE.iter().map(|(permission, roles)| (*permission as i32, *roles)).collect();
    let methods: Vec<_> = strata_proto::methods().collect();
    assert!(methods.len() > 60, "{} methods", methods.len());
    block_on(async {
        for role in ["viewer", "builder", "operator", "admin", "janitor"] {
            let pair = node.authority.with_role(role);
            let channels: BTreeMap<_, _> = ALL.iter().map(|name| (*name, node.channel_as(name, &pair))).collect();
            for (path, permission) in &methods {
                let may = table[&(*permission as i32)].contains(&role);
                for service in service_of(path) {
                    let answer = call(&channels[service], path).await;

                    assert_eq!(is_denied(&answer), !may, "{path} of {service} as {role}: {answer:?}");
                }
            }
        }
    });
}

/// CVE-2026-33186, row 125: what is routed is what was looked up, byte by byte.
#[test]
fn a_path_that_is_nearly_that_of_a_method_reaches_nothing() {
    let node = Node::start(Transport::Tcp, &["store"]);
    let pair = node.authority.with_role("viewer");
    block_on(async {
        let channel = node.channel_as("store", &pair);
        let service = "strata.store.v1.SystemService";
        assert!(is_denied(&call(&channel, &format!("/{service}/Prune")).await), "the method itself");
        for path in [
            format!("//{service}/Prune"),
            format!("/{service}//Prune"),
            format!("/{service}/Prune/"),
            format!("/{service}/prune"),
            format!("/{service}/%50rune"),
            format!("/{service}%2fPrune"),
            format!("/x/../{service}/Prune"),
            format!("/{service}/Prune?x=1/../../GetInfo"),
            format!("/{service}/"),
            format!("/{service}"),
            "/".to_owned(),
            "/grpc.health.v1.Health/../../strata.store.v1.SystemService/Prune".to_owned(),
        ] {
            let answer = call(&channel, &path).await;

            let code = answer.as_ref().err().map(Status::code);
            let is_refused = matches!(code, Some(Code::Unimplemented | Code::PermissionDenied));
            assert!(is_refused, "{path}: {answer:?}");
        }
    });
}

fn spec(change: impl FnOnce(&mut runtime::ContainerSpec)) -> runtime::ContainerSpec {
    let mut spec = runtime::ContainerSpec {
        root: Some(runtime::container_spec::Root::Image("nothing".to_owned())),
        ..Default::default()
    };
    change(&mut spec);
    spec
}

fn bind(target: &str) -> runtime::MountSpec {
    let source = runtime::BindSource { path: "/etc".to_owned(), ..Default::default() };
    runtime::MountSpec {
        target: target.to_owned(),
        source: Some(runtime::mount_spec::Source::Bind(source)),
        ..Default::default()
    }
}

fn volume(options: &[(&str, &str)]) -> runtime::MountSpec {
    let options = options
        .iter()
        .map(|(name, value)| runtime::VolumeOption { name: (*name).to_owned(), value: (*value).to_owned() })
        .collect();
    let source = runtime::VolumeSource { name: "v".to_owned(), options, ..Default::default() };
    runtime::MountSpec {
        target: "/v".to_owned(),
        source: Some(runtime::mount_spec::Source::Volume(source)),
        ..Default::default()
    }
}

fn syslog(address: &str) -> Option<runtime::LogSpec> {
    let option = runtime::LogOption { name: "syslog-address".to_owned(), value: address.to_owned() };
    Some(runtime::LogSpec { driver: "syslog".to_owned(), options: vec![option] })
}

fn apart(change: impl FnOnce(&mut runtime::Isolation)) -> runtime::ContainerSpec {
    let mut isolation = runtime::Isolation::default();
    change(&mut isolation);
    spec(|spec| spec.isolation = Some(isolation))
}

fn of_the_host() -> Option<runtime::Sharing> {
    Some(runtime::Sharing { mode: runtime::SharingMode::Host.into(), container: String::new() })
}

fn unconfined() -> Option<runtime::SystemCalls> {
    Some(runtime::SystemCalls { kind: Some(runtime::system_calls::Kind::IsUnconfined(true)) })
}

fn device_at(path: &str) -> runtime::HostDevice {
    runtime::HostDevice { host_path: path.to_owned(), ..Default::default() }
}

fn any_device() -> runtime::DeviceRule {
    runtime::DeviceRule { kind: "c".to_owned(), access: "r".to_owned(), ..Default::default() }
}

/// What takes a grant, and which.
fn dangerous() -> Vec<(&'static str, &'static str, runtime::ContainerSpec)> {
    let device = |value| ("device", value);
    vec![
        ("privileged", "a privileged container", spec(|spec| spec.is_privileged = true)),
        ("privileged", "a capability", spec(|spec| spec.cap_add = vec!["SYS_ADMIN".to_owned()])),
        ("host-mounts", "a bind", spec(|spec| spec.mounts = vec![bind("/x")])),
        (
            "host-mounts",
            "a volume that is a directory of the host",
            spec(|spec| spec.mounts = vec![volume(&[("type", "none"), ("o", "bind"), device("/etc")])]),
        ),
        ("devices", "a device", spec(|spec| spec.cdi_devices = vec!["vendor.com/class=one".to_owned()])),
        ("host-namespaces", "the host's network", spec(|spec| spec.network = runtime::NetworkMode::Host.into())),
        ("host-mounts", "a log that goes to a socket", spec(|spec| spec.log = syslog("unixgram:///dev/log"))),
        ("host-namespaces", "a log that goes to a port", spec(|spec| spec.log = syslog("udp://127.0.0.1:514"))),
        ("host-namespaces", "a cgroup of the host", spec(|spec| spec.cgroup_parent = "/system".to_owned())),
        ("host-namespaces", "the host's processes", apart(|apart| apart.pid = of_the_host())),
        ("host-namespaces", "the host's shared memory", apart(|apart| apart.ipc = of_the_host())),
        ("host-namespaces", "the host's name", apart(|apart| apart.has_host_name = true)),
        ("host-namespaces", "the host's cgroups", apart(|apart| apart.sees_host_cgroups = true)),
        ("privileged", "no filter of system calls", apart(|apart| apart.system_calls = unconfined())),
        ("privileged", "unmasked paths", apart(|apart| apart.is_unmasked = true)),
        ("privileged", "writable cgroups", apart(|apart| apart.has_writable_cgroups = true)),
        ("privileged", "new privileges", apart(|apart| apart.no_new_privileges = Some(false))),
        ("privileged", "to be spared from the OOM killer", spec(|spec| spec.oom_score_adj = Some(-1))),
        ("devices", "a device by its path", apart(|apart| apart.devices = vec![device_at("/dev/fuse")])),
        ("devices", "a rule for devices", apart(|apart| apart.device_rules = vec![any_device()])),
    ]
}

async fn create(node: &Node, pair: &Pair, spec: runtime::ContainerSpec) -> Status {
    let channel = node.channel_as("runtime", pair);
    let request = runtime::CreateContainerRequest { spec: Some(spec), ..Default::default() };
    let answer =
        runtime::container_service_client::ContainerServiceClient::new(channel).create_container(request).await;
    answer.expect_err("there is no such image")
}

/// CVE-2024-41110 and CVE-2026-34040, row 124: it is judged on the message that the handler gets.
#[test]
fn what_is_dangerous_takes_a_grant_of_its_own() {
    let grants = ["privileged", "host-mounts", "devices", "host-namespaces"];
    let rules: String =
        grants.iter().map(|grant| format!("\"spiffe://strata/operator/{grant}\" = [\"{grant}\"]\n")).collect();
    let mut node = Node::with_rules(&format!("[access.grants]\n{rules}"));
    node.start_service("store");
    node.start_service("runtime");
    block_on(async {
        let operator = node.authority.with_role("operator");
        let admin = node.authority.with_role("admin");
        let plain = create(&node, &operator, spec(|_| {})).await;
        assert_eq!(strata_rpc::reason_of(&plain).as_deref(), Some("FAULT_IMAGE_NOT_FOUND"), "{plain:?}");
        for (needed, what, spec) in dangerous() {
            let refused = create(&node, &operator, spec.clone()).await;
            assert_eq!(strata_rpc::reason_of(&refused).as_deref(), Some(DENIED), "{what}: {refused:?}");
            assert_eq!(strata_rpc::fault::metadata_of(&refused)["grant"], needed, "{what}");
            for held in grants {
                let pair = node.authority.with_name(&format!("spiffe://strata/operator/{held}"));
                let answer = create(&node, &pair, spec.clone()).await;
                let is_denied = strata_rpc::reason_of(&answer).as_deref() == Some(DENIED);
                assert_eq!(is_denied, held != needed, "{what} with {held}: {answer:?}");
            }
            let answer = create(&node, &admin, spec).await;
            assert_ne!(strata_rpc::reason_of(&answer).as_deref(), Some(DENIED), "{what} of an admin");
        }
        let viewer = create(&node, &node.authority.with_role("viewer"), spec(|_| {})).await;
        assert_eq!(strata_rpc::reason_of(&viewer).as_deref(), Some(DENIED), "{viewer:?}");
    });
}

/// A builder's certificate, stolen, starts steps of builds and nothing that is not one.
#[test]
fn a_step_of_a_build_takes_the_same_grants() {
    let node = Node::start(Transport::Tcp, &["store", "runtime"]);
    block_on(async {
        let channel = node.channel_as("runtime", &node.authority.with_role("builder"));
        let mut streams = runtime::stream_service_client::StreamServiceClient::new(channel);
        for (grant, what, spec) in dangerous() {
            let start = runtime::RunStart { spec: Some(spec), ..Default::default() };
            let first = runtime::RunRequest { event: Some(runtime::run_request::Event::Start(start)) };
            let mut events = streams.run(tokio_stream::once(first)).await.unwrap().into_inner();

            let refused = events.message().await.expect_err(what);

            assert_eq!(strata_rpc::reason_of(&refused).as_deref(), Some(DENIED), "{what}: {refused:?}");
            assert_eq!(strata_rpc::fault::metadata_of(&refused)["grant"], grant, "{what}");
        }
    });
}

#[test]
fn the_configuration_gives_and_takes_roles() {
    let mut node = Node::with_rules(
        "[access.subjects]\n\"spiffe://strata/admin/lost\" = \"none\"\n\"https://ci.example/x\" = \"viewer\"\n",
    );
    node.start_service("store");
    block_on(async {
        for (name, look, change) in [
            ("spiffe://strata/admin/lost", false, false),
            ("spiffe://strata/admin/found", true, true),
            ("https://ci.example/x", true, false),
            ("https://ci.example/y", false, false),
            ("spiffe://elsewhere/admin/x", false, false),
        ] {
            let channel = node.channel_as("store", &node.authority.with_name(name));
            let may_look = !is_denied(&call(&channel, "/strata.store.v1.ImageService/ListImages").await);
            let may_change = !is_denied(&call(&channel, "/strata.store.v1.SystemService/Prune").await);
            assert_eq!((may_look, may_change), (look, change), "{name}");
        }
    });
}

#[test]
fn a_service_with_rules_that_nobody_can_mean_does_not_start() {
    for (rules, said) in [
        ("[access]\nroles = 1\n", "roles"),
        ("[access.users]\n\"no such user\" = \"viewer\"\n", "no such user"),
        ("[access.subjects]\n\"spiffe://strata/a/b\" = \"root\"\n", "root"),
        ("[access.grants]\nbob = [\"devices\"]\n", "bob"),
    ] {
        let node = Node::with_rules(rules);
        let command = node.command("store", "tcp:127.0.0.1:0");

        let refused = strata_tests::Running::spawn(command).finish_within(Duration::from_secs(20)).fails();

        assert!(refused.stderr.contains(said) && refused.stderr.contains("strata.toml"), "{rules}: {}", refused.stderr);
    }
}

async fn verify(channel: Channel) -> VerifyAuditResponse {
    AuditServiceClient::new(channel).verify_audit(VerifyAuditRequest::default()).await.unwrap().into_inner()
}

#[test]
fn whatever_comes_over_tcp_is_recorded_with_what_was_decided() {
    let mut node = Node::start(Transport::Tcp, &["store"]);
    block_on(async {
        let viewer = node.channel_as("store", &node.authority.with_role("viewer"));
        call(&viewer, "/strata.store.v1.ImageService/ListImages").await.unwrap();
        assert!(is_denied(&call(&viewer, "/strata.store.v1.SystemService/Prune").await));
        call(&node.channel("store"), "/strata.store.v1.SystemService/Prune").await.unwrap();

        let found = verify(node.channel("store")).await;

        assert!(found.broken.is_none() && found.records >= 4, "{found:?}");
        let text = fs::read_to_string(node.root("store").join("audit/audit.log")).unwrap();
        let records: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let told = |method: &str| -> Vec<(String, String, String)> {
            let of = |record: &serde_json::Value, key: &str| record[key].as_str().unwrap_or("-").to_owned();
            let records = records.iter().filter(|record| of(record, "method").ends_with(method));
            records.map(|record| (of(record, "subject"), of(record, "decision"), of(record, "code"))).collect()
        };
        let [viewer, admin] = ["viewer", "admin"].map(|role| format!("spiffe://strata/{role}/a-test"));
        let row =
            |subject: &String, decision: &str, code: &str| (subject.clone(), decision.to_owned(), code.to_owned());
        assert_eq!(told("/ListImages"), [row(&viewer, "allowed", "OK")]);
        let pruned = [row(&viewer, "denied", "-"), row(&admin, "allowed", "-"), row(&admin, "ended", "OK")];
        assert_eq!(told("/Prune"), pruned);
        assert!(text.contains("\"peer\":\"127.0.0.1:"), "{text}");
    });
    node.stop("store");
    let path = node.root("store").join("audit/audit.log");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replacen("\"denied\"", "\"allowed\"", 1)).unwrap();
    node.start_service("store");
    block_on(async {
        let broken = verify(node.channel("store")).await.broken.expect("a changed record shows");
        assert_eq!((broken.file.as_str(), broken.line), ("audit.log", 2), "{broken:?}");
    });
}

#[test]
fn what_cannot_be_recorded_is_not_done() {
    let node = Node::start(Transport::Tcp, &["store"]);
    fs::write(node.root("store").join("audit"), "in the way").unwrap();
    block_on(async {
        let refused = call(&node.channel("store"), "/strata.store.v1.SystemService/Prune").await.unwrap_err();

        assert_eq!(strata_rpc::reason_of(&refused).as_deref(), Some("FAULT_AUDIT_UNAVAILABLE"), "{refused:?}");
    });
    fs::remove_file(node.root("store").join("audit")).unwrap();
}
