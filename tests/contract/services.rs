//! What every service offers: health, reflection, and a word about itself.

use std::collections::BTreeSet;

use strata_proto::{builder::v1 as builder, runtime::v1 as runtime, store::v1 as store, types::v1::ServiceInfo};
use tonic::{Code, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

use crate::node::{ALL, Node};

over_both!(ALL; every_service_is_healthy, every_service_describes_what_it_serves, every_service_says_what_it_is,
    what_no_service_offers_is_unimplemented);

async fn every_service_is_healthy(node: &Node) {
    for name in node.names() {
        let mut client = HealthClient::new(node.channel(name));

        let answer = client.check(HealthCheckRequest { service: String::new() }).await.unwrap().into_inner();

        assert_eq!(answer.status(), ServingStatus::Serving, "{name}");
    }
}

async fn ask(channel: Channel, question: MessageRequest) -> MessageResponse {
    let request = ServerReflectionRequest { host: String::new(), message_request: Some(question) };
    let mut client = ServerReflectionClient::new(channel).max_decoding_message_size(16 << 20);
    let mut answers = client.server_reflection_info(tokio_stream::once(request)).await.unwrap().into_inner();
    answers.message().await.unwrap().unwrap().message_response.unwrap()
}

/// Services of a package in the protos themselves.
fn promised(package: &str) -> BTreeSet<String> {
    use prost::Message;
    let set = prost_types::FileDescriptorSet::decode(strata_proto::DESCRIPTORS).unwrap();
    let files = set.file.into_iter().filter(|file| file.package() == package);
    files
        .flat_map(|file| file.service)
        .map(|service| format!("{package}.{}", service.name.unwrap_or_default()))
        .collect()
}

async fn every_service_describes_what_it_serves(node: &Node) {
    for name in node.names() {
        let answer = ask(node.channel(name), MessageRequest::ListServices(String::new())).await;

        let MessageResponse::ListServicesResponse(list) = answer else { panic!("{answer:?}") };
        let served: BTreeSet<String> = list.service.into_iter().map(|service| service.name).collect();
        let promised = promised(&format!("strata.{name}.v1"));
        assert!(!promised.is_empty() && promised.is_subset(&served), "{name} serves {served:?}");
        for symbol in promised {
            let answer = ask(node.channel(name), MessageRequest::FileContainingSymbol(symbol.clone())).await;
            assert!(matches!(answer, MessageResponse::FileDescriptorResponse(_)), "{symbol}: {answer:?}");
        }
    }
}

async fn info(node: &Node, name: &str) -> ServiceInfo {
    let channel = node.channel(name);
    match name {
        "store" => {
            let mut client = store::system_service_client::SystemServiceClient::new(channel);
            client.get_info(store::GetInfoRequest {}).await.unwrap().into_inner().info
        }
        "builder" => {
            let mut client = builder::system_service_client::SystemServiceClient::new(channel);
            client.get_info(builder::GetInfoRequest {}).await.unwrap().into_inner().info
        }
        _ => {
            let mut client = runtime::system_service_client::SystemServiceClient::new(channel);
            client.get_info(runtime::GetInfoRequest {}).await.unwrap().into_inner().info
        }
    }
    .unwrap()
}

async fn every_service_says_what_it_is(node: &Node) {
    for name in node.names() {
        let info = info(node, name).await;

        assert_eq!((info.name.as_str(), info.version.as_str()), (name, env!("CARGO_PKG_VERSION")));
        assert_eq!(i32::try_from(info.pid).unwrap(), node.pid(name));
        assert_eq!(info.root_path, node.root(name).to_str().unwrap());
        assert!(info.facts.iter().all(|fact| !fact.label.is_empty() && !fact.value.is_empty()), "{:?}", info.facts);
    }
}

async fn what_no_service_offers_is_unimplemented(node: &Node) {
    // The store is not asked for containers.
    let mut client = runtime::container_service_client::ContainerServiceClient::new(node.channel("store"));

    let status = client.get_container(runtime::GetContainerRequest { container: "x".into() }).await.unwrap_err();

    assert_eq!(status.code(), Code::Unimplemented);
}
