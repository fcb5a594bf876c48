//! Secrets: kept, found without their values, given to containers, and kept from those who may not know them.

use std::{collections::HashMap, os::unix::fs::PermissionsExt, time::SystemTime};

use strata_proto::runtime::v1::{
    ContainerSecret, ContainerSpec, CreateSecretRequest, DeleteSecretRequest, GetSecretRequest, ListSecretsRequest,
    MountSpec, ReadSecretRequest, Secret, SecretFile, TmpfsSource, WatchEventsRequest, container_secret::Form,
    mount_spec, secret_service_client::SecretServiceClient,
};
use tonic::{Code, Status, transport::Channel};

use crate::{
    containers::{create, end, get, guest, import_guest, remove, start},
    events::watch,
    faults::{malformed, refused},
    node::{ALL, Node, RUNNING, Transport, block_on},
};

over_both!(RUNNING; a_secret_is_kept_once_and_found_without_its_value, names_values_and_wishes_are_checked,
    secrets_are_listed_in_pages, a_container_has_its_secrets_as_files_and_variables,
    a_secret_that_a_container_has_stays, a_secret_that_gets_another_value_is_told_at_the_next_start,
    what_happens_to_secrets_is_told_without_their_values);

fn client(node: &Node) -> SecretServiceClient<Channel> {
    SecretServiceClient::new(node.channel("runtime"))
}

fn named(name: &str, value: &str) -> CreateSecretRequest {
    CreateSecretRequest { name: name.into(), value: value.to_owned().into(), ..Default::default() }
}

async fn keep(node: &Node, request: CreateSecretRequest) -> Result<Secret, Status> {
    Ok(client(node).create_secret(request).await?.into_inner().secret.unwrap())
}

async fn find(node: &Node, secret: &str) -> Result<Secret, Status> {
    let request = GetSecretRequest { secret: secret.into() };
    Ok(client(node).get_secret(request).await?.into_inner().secret.unwrap())
}

async fn read(node: &Node, secret: &str) -> Result<Vec<u8>, Status> {
    Ok(client(node).read_secret(ReadSecretRequest { secret: secret.into() }).await?.into_inner().value.to_vec())
}

async fn delete(node: &Node, secret: &str) -> Result<(), Status> {
    let request = DeleteSecretRequest { secret: secret.into(), allow_missing: false };
    client(node).delete_secret(request).await.map(drop)
}

fn file(secret: &str, target: &str) -> ContainerSecret {
    let file = SecretFile { target: target.into(), ..Default::default() };
    ContainerSecret { secret: secret.into(), form: Some(Form::File(file)) }
}

fn variable(secret: &str, name: &str) -> ContainerSecret {
    ContainerSecret { secret: secret.into(), form: Some(Form::Variable(name.into())) }
}

fn with(secrets: Vec<ContainerSecret>, words: &[&str]) -> ContainerSpec {
    ContainerSpec { secrets, ..guest(words) }
}

async fn a_secret_is_kept_once_and_found_without_its_value(node: &Node) {
    let labels = HashMap::from([("tier".to_owned(), "back".to_owned())]);
    let made = keep(node, CreateSecretRequest { labels: labels.clone(), ..named("pw", "hunter2") }).await.unwrap();

    assert_eq!((made.name.as_str(), made.id.len(), &made.labels), ("pw", 25, &labels));
    assert!(made.created_at.is_some() && made.created_at == made.updated_at && made.container_ids.is_empty());
    for text in ["pw", &made.id, &made.id[..5]] {
        assert_eq!(find(node, text).await.unwrap(), made, "{text}");
    }
    assert_eq!(read(node, "pw").await.unwrap(), b"hunter2");
    let again = refused(keep(node, named("pw", "other")).await, Code::AlreadyExists, "FAULT_NAME_TAKEN");
    assert!(!again.resource("secret", "pw").message.contains("other"));
    let replaced = keep(node, CreateSecretRequest { replace: true, ..named("pw", "other") }).await.unwrap();
    assert_eq!((replaced.id, replaced.created_at), (made.id, made.created_at));
    assert_eq!(read(node, "pw").await.unwrap(), b"other");
    delete(node, "pw").await.unwrap();
    refused(find(node, "pw").await, Code::NotFound, "FAULT_SECRET_NOT_FOUND").resource("secret", "pw");
    refused(delete(node, "pw").await, Code::NotFound, "FAULT_SECRET_NOT_FOUND");
    let request = DeleteSecretRequest { secret: "pw".into(), allow_missing: true };
    client(node).delete_secret(request).await.unwrap();
}

async fn names_values_and_wishes_are_checked(node: &Node) {
    for name in ["", ".", "..", "../x", "a/b", ".new", "a,b", "a=b", &"s".repeat(254)] {
        malformed(keep(node, named(name, "x")).await, "name");
        refused(find(node, name).await, Code::NotFound, "FAULT_SECRET_NOT_FOUND");
    }
    malformed(keep(node, named("empty", "")).await, "value");
    malformed(keep(node, named("large", &"x".repeat(500 * 1024 + 1))).await, "value");
    keep(node, named("largest", &"x".repeat(500 * 1024))).await.unwrap();
    let binary = CreateSecretRequest { value: vec![0xff, 0, 1].into(), ..named("binary", "") };
    keep(node, binary).await.unwrap();

    import_guest(node).await;
    for (secret, field) in [
        (file("largest", "../up"), "spec.secrets[0].file.target"),
        (file("largest", "/proc/self/environ"), "spec.secrets[0].file.target"),
        (variable("largest", "A=B"), "spec.secrets[0].variable"),
        (file("", ""), "spec.secrets[0].secret"),
    ] {
        malformed(create(node, with(vec![secret], &["noop"])).await, field);
    }
    let twice = vec![file("largest", "/one"), file("binary", "/one")];
    malformed(create(node, with(twice, &["noop"])).await, "spec.secrets[1]");
    let twice = vec![variable("largest", "A"), variable("largest", "A")];
    malformed(create(node, with(twice, &["noop"])).await, "spec.secrets[1]");
    let source = Some(mount_spec::Source::Tmpfs(TmpfsSource::default()));
    let mount = MountSpec { target: "/run/secrets/binary".into(), source, ..Default::default() };
    let spec = ContainerSpec { mounts: vec![mount], ..with(vec![file("binary", "")], &["noop"]) };
    malformed(create(node, spec).await, "spec.secrets[0]");
    let missing = create(node, with(vec![file("nothing", "")], &["noop"])).await;
    refused(missing, Code::NotFound, "FAULT_SECRET_NOT_FOUND").resource("secret", "nothing");
    let unfit = create(node, with(vec![variable("binary", "A")], &["noop"])).await;
    refused(unfit, Code::FailedPrecondition, "FAULT_SECRET_UNFIT").fact("variable", "A");
    assert!(find(node, "binary").await.unwrap().container_ids.is_empty(), "nothing is half made");
}

async fn secrets_are_listed_in_pages(node: &Node) {
    for name in ["e", "c", "a", "d", "b"] {
        keep(node, named(name, "x")).await.unwrap();
    }
    let (mut found, mut page_token) = (vec![], String::new());
    loop {
        let page = client(node).list_secrets(ListSecretsRequest { page_size: 2, page_token }).await.unwrap();
        let page = page.into_inner();
        assert!(page.secrets.len() <= 2);
        found.extend(page.secrets.into_iter().map(|secret| secret.name));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(found, ["a", "b", "c", "d", "e"]);
    let wrong = ListSecretsRequest { page_token: "x".into(), ..Default::default() };
    refused(client(node).list_secrets(wrong).await, Code::InvalidArgument, "FAULT_INVALID_ARGUMENT");
}

async fn a_container_has_its_secrets_as_files_and_variables(node: &Node) {
    import_guest(node).await;
    let made = keep(node, named("pw", "hunter2")).await.unwrap();
    let own = SecretFile { target: "/etc/key".into(), uid: 5, gid: 6, mode: Some(0o440) };
    let own = ContainerSecret { secret: made.id[..8].to_owned(), form: Some(Form::File(own)) };
    let wanted = vec![file("pw", ""), file("pw", "sub/key"), own, variable("pw", "TOKEN"), variable(&made.id, "")];
    let words = ["then", "read", "/run/secrets/pw", "+", "read", "/run/secrets/sub/key", "+", "read", "/etc/key"];
    let words = [&words[..], &["+", "echo", "", "+", "env"]].concat();

    let container = create(node, with(wanted, &words)).await.unwrap();

    let secrets = container.spec.unwrap().secrets;
    let read_only = |target: &str, uid, gid, mode| {
        Some(Form::File(SecretFile { target: target.into(), uid, gid, mode: Some(mode) }))
    };
    let shown: Vec<_> = secrets.into_iter().map(|secret| (secret.secret, secret.form)).collect();
    let pw = || "pw".to_owned();
    assert_eq!(
        shown,
        [
            (pw(), read_only("/run/secrets/pw", 0, 0, 0o444)),
            (pw(), read_only("/run/secrets/sub/key", 0, 0, 0o444)),
            (pw(), read_only("/etc/key", 5, 6, 0o440)),
            (pw(), Some(Form::Variable("TOKEN".into()))),
            (pw(), Some(Form::Variable("pw".into()))),
        ]
    );
    assert_eq!(find(node, "pw").await.unwrap().container_ids, std::slice::from_ref(&container.id));
    start(node, &container.id).await.unwrap();
    let (_, said) = end(node, &container.id).await;
    assert!(said.starts_with("hunter2hunter2hunter2\n"), "{said}");
    assert!(said.lines().any(|line| line == "TOKEN=hunter2") && said.lines().any(|line| line == "pw=hunter2"));
    let shown = get(node, &container.id).await.unwrap();
    assert!(!shown.process.unwrap().env.iter().any(|pair| pair.starts_with("TOKEN=")));
    remove(node, &container.id).await;

    let stat = with(vec![file("pw", "/k")], &["then", "stat", "/k", "+", "write", "/k", "x"]);
    let container = create(node, stat).await.unwrap();
    start(node, &container.id).await.unwrap();
    let (exit, said) = end(node, &container.id).await;
    assert_ne!(exit, Some(strata_proto::runtime::v1::exit_status::Kind::Code(0)), "it is read-only: {said}");
    remove(node, &container.id).await;
    delete(node, "pw").await.unwrap();
}

async fn a_secret_that_a_container_has_stays(node: &Node) {
    import_guest(node).await;
    keep(node, named("pw", "hunter2")).await.unwrap();
    let spec = ContainerSpec { name: "holder".into(), ..with(vec![file("pw", "")], &["noop"]) };
    let container = create(node, spec).await.unwrap();

    let kept = refused(delete(node, "pw").await, Code::FailedPrecondition, "FAULT_SECRET_IN_USE");

    assert!(kept.message.contains("container holder"), "{kept:?}");
    kept.fact("holders", &container.id);
    remove(node, "holder").await;
    delete(node, "pw").await.unwrap();
    let directory = node.root("runtime").join("secrets");
    assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 0);
    assert_eq!(std::fs::metadata(directory).unwrap().permissions().mode() & 0o777, 0o700);
}

async fn a_secret_that_gets_another_value_is_told_at_the_next_start(node: &Node) {
    import_guest(node).await;
    keep(node, named("pw", "old")).await.unwrap();
    let wanted = vec![file("pw", ""), variable("pw", "TOKEN")];
    let container = create(node, with(wanted, &["then", "read", "/run/secrets/pw", "+", "echo", "", "+", "env"]));
    let container = container.await.unwrap();
    for value in ["old", "new"] {
        keep(node, CreateSecretRequest { replace: true, ..named("pw", value) }).await.unwrap();
        start(node, &container.id).await.unwrap();
        let (_, said) = end(node, &container.id).await;
        let last = said.rsplit("TOKEN=").next().unwrap();
        assert!(last.starts_with(&format!("{value}\n")) && said.contains(&format!("{value}\n")), "{said}");
    }
    // What was text when the container was made is so no longer.
    let binary = CreateSecretRequest { value: vec![0xff].into(), replace: true, ..named("pw", "") };
    keep(node, binary).await.unwrap();
    let unfit = refused(start(node, &container.id).await, Code::FailedPrecondition, "FAULT_SECRET_UNFIT");
    assert!(unfit.message.contains("TOKEN"), "{unfit:?}");
    remove(node, &container.id).await;
}

async fn what_happens_to_secrets_is_told_without_their_values(node: &Node) {
    let begin = SystemTime::now();
    let id = keep(node, named("pw", "hunter2")).await.unwrap().id;
    keep(node, CreateSecretRequest { replace: true, ..named("pw", "hunter3") }).await.unwrap();
    delete(node, "pw").await.unwrap();

    let request = WatchEventsRequest {
        since: Some(begin.into()),
        until: Some(SystemTime::now().into()),
        ..WatchEventsRequest::default()
    };
    let mut events = watch(node, request).await;
    let mut told = vec![];
    while let Some(reply) = events.message().await.unwrap() {
        let event = reply.event.unwrap();
        assert!(!format!("{event:?}").contains("hunter"), "{event:?}");
        assert_eq!((event.kind.as_str(), event.id.as_str()), ("secret", id.as_str()));
        assert_eq!(event.attributes["name"], "pw");
        told.push(event.action);
    }
    assert_eq!(told, ["create", "update", "remove"]);
}

/// Making one, looking for one and asking for its value are three things.
#[test]
fn values_are_for_administrators_and_their_audit_log_has_the_question_alone() {
    let node = Node::start(Transport::Tcp, ALL);
    block_on(async {
        let of = |role: &str| SecretServiceClient::new(node.channel_as("runtime", &node.authority.with_role(role)));
        of("operator").create_secret(named("pw", "hunter2")).await.unwrap();
        for (role, makes, reads) in
            [("viewer", false, false), ("builder", false, false), ("operator", true, false), ("admin", true, true)]
        {
            let denied = |status: &Status| {
                assert_eq!(strata_rpc::reason_of(status).as_deref(), Some("FAULT_PERMISSION_DENIED"), "{status:?}");
            };
            let found = of(role).get_secret(GetSecretRequest { secret: "pw".into() }).await;
            assert_eq!(found.unwrap().into_inner().secret.unwrap().name, "pw", "{role}");
            let request = CreateSecretRequest { replace: true, ..named("pw", "hunter2") };
            let made = of(role).create_secret(request).await.map(drop).inspect_err(denied);
            let read = of(role).read_secret(ReadSecretRequest { secret: "pw".into() }).await.inspect_err(denied);
            assert_eq!((made.is_ok(), read.is_ok()), (makes, reads), "{role}");
        }
    });
    let audit = std::fs::read_to_string(node.root("runtime").join("audit/audit.log")).unwrap();
    assert!(audit.contains("SecretService/ReadSecret") && !audit.contains("hunter"), "{audit}");
    assert!(!node.log("runtime").contains("hunter"));
}
