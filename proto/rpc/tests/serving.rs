//! Serving in one process: who gets in over TCP, how a service drains, what a failure tells.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rcgen::{
    CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType, date_time_ymd,
};
use strata_rpc::{
    Drain,
    access::{self, Access, Policy},
    connect, connect_eager,
    identity::{ClientTls, ServerTls, init_crypto},
    serve::{Config, Error, Listen, Server, Stopped},
};
use tokio::task::JoinHandle;
use tonic::{Code, service::Routes, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

#[path = "sample/lamp.rs"]
mod lamp;

struct Running {
    drain: Drain,
    endpoint: strata_rpc::Endpoint,
    calls: Arc<AtomicUsize>,
    done: JoinHandle<Result<Stopped, Error>>,
}

/// The rules of a service without configuration. What they record is lost with the process.
fn access() -> Access {
    let root = tempfile::tempdir().unwrap().keep();
    Access::new("lamp", Policy::new(access::Config::default()).unwrap(), &root)
}

fn start(config: Config) -> Running {
    init_crypto();
    let server = Server::new("lamp", config).unwrap();
    let (drain, endpoint) = (server.drain(), server.endpoint());
    let calls = Arc::new(AtomicUsize::new(0));
    let routes = Routes::new(lamp::Lamp { drain: drain.clone(), calls: calls.clone() });
    Running {
        drain,
        endpoint,
        calls,
        done: tokio::spawn(async { server.serve(routes, &lamp::SURFACE, access()).await }),
    }
}

fn on(path: &Path) -> Config {
    Config::new(Listen::Unix(path.to_owned()))
}

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn certificate(authority: &Authority, until_year: i32) -> (String, String) {
    let mut params = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    params.subject_alt_names.push(SanType::URI("spiffe://strata/viewer/a-test".try_into().unwrap()));
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(until_year, 1, 1);
    let key = KeyPair::generate().unwrap();
    (params.signed_by(&key, authority).unwrap().pem(), key.serialize_pem())
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tcp_only_a_valid_certificate_of_the_authority_gets_in() {
    let ours = authority("ours");
    let foreign = authority("foreign");
    let (cert, key) = certificate(&ours, 4000);
    let mut config = Config::new(Listen::Tcp("127.0.0.1:0".parse().unwrap()));
    assert!(matches!(Server::new("lamp", config.clone()), Err(Error::NeedsTls)));
    config.tls = Some(ServerTls::from_pem(ours.pem(), cert, key).unwrap());
    let running = start(config);

    let ask = |(cert, key): (String, String)| {
        let channel = connect(&running.endpoint, Some(&ClientTls::from_pem(ours.pem(), cert, key))).unwrap();
        async move { tokio::time::timeout(Duration::from_secs(10), lamp::call(channel, "Ping")).await.unwrap() }
    };
    ask(certificate(&ours, 4000)).await.expect("a valid certificate was refused");
    assert!(ask(certificate(&foreign, 4000)).await.is_err(), "a foreign certificate got in");
    assert!(ask(certificate(&ours, 2021)).await.is_err(), "an expired certificate got in");

    let strata_rpc::Endpoint::Tcp { port, .. } = running.endpoint else { panic!("not tcp") };
    let bare = tonic::transport::ClientTlsConfig::new()
        .ca_certificate(tonic::transport::Certificate::from_pem(ours.pem()))
        .domain_name("localhost");
    let channel =
        Channel::from_shared(format!("https://127.0.0.1:{port}")).unwrap().tls_config(bare).unwrap().connect_lazy();
    assert!(lamp::call(channel, "Ping").await.is_err(), "a client without certificate got in");
    let plain = Channel::from_shared(format!("http://127.0.0.1:{port}")).unwrap().connect_lazy();
    let refused = tokio::time::timeout(Duration::from_secs(10), lamp::call(plain, "Ping")).await;
    assert!(!matches!(refused, Ok(Ok(_))), "a client without TLS got in");

    assert_eq!(running.calls.load(Ordering::Relaxed), 1, "a refused client reached the handler");

    // And the client believes only its authority.
    let (cert, key) = certificate(&foreign, 4000);
    let wary = ClientTls::from_pem(foreign.pem(), cert, key);
    assert!(connect_eager(&running.endpoint, Some(&wary)).await.is_err(), "a foreign server was believed");

    running.drain.start();
    assert_eq!(running.done.await.unwrap().unwrap(), Stopped::Drained);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_ends_long_calls_well_and_takes_the_socket_away() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lamp.sock");
    let running = start(on(&path));
    let channel = connect_eager(&running.endpoint, None).await.unwrap();
    lamp::call(channel.clone(), "Ping").await.unwrap();
    let long = tokio::spawn(lamp::call(channel, "Wait"));
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!long.is_finished());

    let tidied = running.drain.clone();
    let (tell, told) = tokio::sync::oneshot::channel();
    running.drain.spawn(async move {
        tidied.cancelled().await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        tell.send(()).unwrap();
    });
    running.drain.start();
    long.await.unwrap().expect("a long call was cut off");
    assert_eq!(running.done.await.unwrap().unwrap(), Stopped::Drained);
    told.await.expect("the stop did not wait for a task");
    assert!(!path.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_does_not_end_is_cut_off_at_the_deadline() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(Config { drain_deadline: Duration::from_millis(300), ..on(&dir.path().join("lamp.sock")) });
    let channel = connect_eager(&running.endpoint, None).await.unwrap();
    let hung = tokio::spawn(lamp::call(channel, "Hang"));
    tokio::time::sleep(Duration::from_millis(50)).await;
    running.drain.start();
    assert_eq!(running.done.await.unwrap().unwrap(), Stopped::Deadline);
    hung.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_reflection_are_served() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(on(&dir.path().join("lamp.sock")));
    let channel = connect_eager(&running.endpoint, None).await.unwrap();
    let answer = HealthClient::new(channel.clone()).check(HealthCheckRequest::default()).await.unwrap();
    assert_eq!(answer.into_inner().status, 1);

    use tonic_reflection::pb::{v1, v1alpha};
    let ask = v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(v1::server_reflection_request::MessageRequest::ListServices(String::new())),
    };
    let mut client = v1::server_reflection_client::ServerReflectionClient::new(channel.clone());
    let first = client.server_reflection_info(tokio_stream::once(ask)).await.unwrap().into_inner().message().await;
    let Some(v1::server_reflection_response::MessageResponse::ListServicesResponse(list)) =
        first.unwrap().unwrap().message_response
    else {
        panic!("no list")
    };
    assert!(list.service.iter().any(|service| service.name == "grpc.health.v1.Health"));
    let ask = v1alpha::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(v1alpha::server_reflection_request::MessageRequest::ListServices(String::new())),
    };
    let mut client = v1alpha::server_reflection_client::ServerReflectionClient::new(channel);
    assert!(client.server_reflection_info(tokio_stream::once(ask)).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_internal_fault_tells_its_reason_but_not_its_cause() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(on(&dir.path().join("lamp.sock")));
    let channel = connect_eager(&running.endpoint, None).await.unwrap();
    let status = lamp::call(channel.clone(), "Fail").await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Internal, "the lamp is broken"));
    assert_eq!(strata_rpc::reason_of(&status).as_deref(), Some("FAULT_BROKEN"));
    assert!(status.metadata().get_bin("strata-cause-bin").is_none(), "the cause left the service");
    assert!(status.metadata().contains_key("x-request-id"));
    assert_eq!(lamp::call(channel, "Nothing").await.unwrap_err().code(), Code::Unimplemented);
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_counted_by_methods_that_there_are_and_codes() {
    let dir = tempfile::tempdir().unwrap();
    init_crypto();
    let server = Server::new("lamp", on(&dir.path().join("lamp.sock"))).unwrap();
    let (drain, endpoint, metrics) = (server.drain(), server.endpoint(), server.metrics());
    let routes = Routes::new(lamp::Lamp { drain: drain.clone(), ..Default::default() });
    let done = tokio::spawn(async { server.serve(routes, &lamp::SURFACE, access()).await });
    let channel = connect_eager(&endpoint, None).await.unwrap();
    for _ in 0..2 {
        lamp::call(channel.clone(), "Ping").await.unwrap();
    }
    lamp::call(channel.clone(), "Fail").await.unwrap_err();
    HealthClient::new(channel.clone()).check(HealthCheckRequest::default()).await.unwrap();
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.unwrap();
    let path = tonic::codegen::http::uri::PathAndQuery::from_static("/made.up.Service/Method");
    let codec = tonic_prost::ProstCodec::<(), ()>::default();
    client.unary(tonic::Request::new(()), path, codec).await.unwrap_err();
    // Its client goes before it has ended.
    tokio::time::timeout(Duration::from_millis(200), lamp::call(channel, "Hang")).await.unwrap_err();
    drop(client);

    let rows = [
        "strata_grpc_requests_total{code=\"OK\",method=\"strata.test.Lamp/Ping\",service=\"lamp\"} 2",
        "strata_grpc_requests_total{code=\"INTERNAL\",method=\"strata.test.Lamp/Fail\",service=\"lamp\"} 1",
        "strata_grpc_requests_total{code=\"OK\",method=\"grpc.health.v1.Health/Check\",service=\"lamp\"} 1",
        "strata_grpc_requests_total{code=\"UNIMPLEMENTED\",method=\"unknown\",service=\"lamp\"} 1",
        "strata_grpc_requests_total{code=\"CANCELLED\",method=\"strata.test.Lamp/Hang\",service=\"lamp\"} 1",
        "strata_grpc_request_duration_seconds_count{method=\"strata.test.Lamp/Ping\",service=\"lamp\"} 2",
        "strata_grpc_requests_in_flight{service=\"lamp\"} 0",
    ];
    let begun = std::time::Instant::now();
    loop {
        let text = metrics.text().await;
        // The end of a call reaches who counts a moment after its client.
        if rows.iter().all(|row| text.lines().any(|line| line == *row)) {
            assert!(!text.contains("made.up"), "{text}");
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{text}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drain.start();
    done.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_service_on_a_live_socket_is_refused_and_a_stale_one_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lamp.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let running = start(on(&path));
    lamp::call(connect_eager(&running.endpoint, None).await.unwrap(), "Ping").await.unwrap();
    assert!(matches!(Server::new("lamp", on(&path)), Err(Error::Socket(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_service_stops_but_not_while_a_client_or_a_task_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lamp.sock");
    let config = Config { idle_timeout: Some(Duration::from_millis(200)), ..on(&path) };
    let server = Server::new("lamp", config).unwrap();
    let (endpoint, busy) = (server.endpoint(), server.idle().busy());
    let routes = Routes::new(lamp::Lamp { drain: server.drain(), ..Default::default() });
    let done = tokio::spawn(async { server.serve(routes, &lamp::SURFACE, access()).await });
    tokio::time::sleep(Duration::from_millis(500)).await;
    let channel = connect_eager(&endpoint, None).await.expect("stopped while busy");
    lamp::call(channel.clone(), "Ping").await.unwrap();
    drop(busy);
    tokio::time::sleep(Duration::from_millis(500)).await;
    lamp::call(channel.clone(), "Ping").await.expect("stopped under a connected client");
    drop(channel);
    let stopped = tokio::time::timeout(Duration::from_secs(5), done).await.expect("did not stop");
    assert_eq!(stopped.unwrap().unwrap(), Stopped::Idle);
    assert!(!path.exists());
}
