//! Searches of registries: Debian's `docker-registry`, which lists what it has, and one that answers searches itself.

use strata_proto::{
    store::v1::{
        FoundRepository, PushImageRequest, SearchRepositoriesRequest, registry_service_client::RegistryServiceClient,
    },
    types::v1::{RegistryCredentials, RegistryPassword, registry_credentials::Proof},
};
use strata_tests::{Answer, DockerRegistry, FaultyRegistry};
use tonic::{Code, Status};

use crate::{
    faults::{malformed, refused},
    images::{import, tar},
    node::{Node, STORE},
};

over_both!(STORE; what_a_registry_lists_is_searched_with_the_credentials_it_wants, a_registry_that_searches_is_asked,
    what_cannot_be_searched_is_refused);

async fn search(node: &Node, request: SearchRepositoriesRequest) -> Result<Vec<FoundRepository>, Status> {
    let mut client = RegistryServiceClient::new(node.channel("store"));
    Ok(client.search_repositories(request).await?.into_inner().repositories)
}

fn for_term(registry: &str, term: &str) -> SearchRepositoriesRequest {
    SearchRepositoriesRequest { registry: registry.into(), term: term.into(), ..Default::default() }
}

async fn what_a_registry_lists_is_searched_with_the_credentials_it_wants(node: &Node) {
    let registry = DockerRegistry::closed();
    let password =
        RegistryPassword { username: DockerRegistry::USER.into(), password: DockerRegistry::PASSWORD.into() };
    let me = RegistryCredentials { registry: registry.host(), proof: Some(Proof::Password(password)) };
    for name in ["team/words", "team/others", "words"] {
        let reference = registry.image(&format!("{name}:1"));
        import(node.channel("store"), &reference, tar("one")).await.unwrap();
        let push = PushImageRequest { reference, credentials: vec![me.clone()], ..Default::default() };
        let mut events = RegistryServiceClient::new(node.channel("store")).push_image(push).await.unwrap().into_inner();
        while events.message().await.unwrap().is_some() {}
    }
    let known = |term, limit| SearchRepositoriesRequest {
        limit,
        credentials: vec![me.clone()],
        ..for_term(&registry.host(), term)
    };
    let names = |found: Vec<FoundRepository>| found.into_iter().map(|found| found.name).collect::<Vec<_>>();

    let anonymous = search(node, for_term(&registry.host(), "words")).await;
    let words = names(search(node, known("words", 0)).await.unwrap());
    let all = names(search(node, known("", 0)).await.unwrap());
    let one = names(search(node, known("", 1)).await.unwrap());
    let none = names(search(node, known("elsewhere", 0)).await.unwrap());

    refused(anonymous, Code::Unauthenticated, "FAULT_REGISTRY_UNAUTHORIZED").fact("registry", &registry.host());
    assert_eq!(words, [registry.image("words"), registry.image("team/words")], "the very one comes first");
    assert_eq!((all.len(), one.len(), none.len()), (3, 1, 0), "{all:?} {one:?} {none:?}");
}

async fn a_registry_that_searches_is_asked(node: &Node) {
    let registry = FaultyRegistry::start(vec![], |asked, answer| {
        match asked.target.as_str() {
        "/v1/search?q=app&n=25" => Answer::new(200).body(
            r#"{"results":[{"name":"team/app","description":"first","star_count":3,"is_official":true},{"name":"A:b"}]}"#,
        ),
        _ => answer,
    }
    });

    let found = search(node, for_term(&registry.host(), "app")).await.unwrap();

    let expected = FoundRepository {
        name: format!("{}/team/app", registry.host()),
        description: "first".into(),
        stars: 3,
        is_official: true,
        is_automated: false,
    };
    assert_eq!(found, [expected]);
}

async fn what_cannot_be_searched_is_refused(node: &Node) {
    let deaf = FaultyRegistry::start(vec![], |_, answer| answer);

    let neither = search(node, for_term(&deaf.host(), "app")).await;
    refused(neither, Code::FailedPrecondition, "FAULT_REGISTRY_REFUSED").fact("registry", &deaf.host());
    let down = search(node, for_term("127.0.0.1:9", "app")).await;
    refused(down, Code::Unavailable, "FAULT_REGISTRY_UNAVAILABLE").fact("registry", "127.0.0.1:9");
    for registry in ["", "no host", "reg.example/team", "https://reg.example"] {
        malformed(search(node, for_term(registry, "app")).await, "registry");
    }
    malformed(search(node, for_term("docker.io", "")).await, "term");
    malformed(search(node, for_term(&deaf.host(), &"a".repeat(257))).await, "term");
    let many = SearchRepositoriesRequest { limit: 101, ..for_term(&deaf.host(), "app") };
    malformed(search(node, many).await, "limit");
    let proofless = RegistryCredentials { registry: "reg.example".into(), proof: None };
    let proofless = SearchRepositoriesRequest { credentials: vec![proofless], ..for_term(&deaf.host(), "app") };
    malformed(search(node, proofless).await, "credentials.proof");
}
