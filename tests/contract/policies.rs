//! What a container's life is to be: restart policies, what it depends on, health checks; and how far it is apart.

use std::time::Duration;

use strata_proto::runtime::v1::{
    Container, ContainerSpec, ContainerState, DeleteContainerRequest, Dependency, FixedLimits, HealthCheck,
    HealthStatus, HostDevice, Isolation, RestartKind, RestartPolicy, Sharing, SharingMode, StopContainerRequest,
    container_service_client::ContainerServiceClient,
};
use tonic::{Code, transport::Channel};

use crate::{
    containers::{create, get, guest, import_guest, start},
    faults::{malformed, refused},
    node::{Node, RUNNING},
};

over_both!(RUNNING; what_fails_is_restarting_until_it_is_given_up, a_stop_ends_a_restart, dependencies_are_names,
    health_is_told_from_start_to_end, what_cannot_be_is_refused_by_its_field);

fn client(node: &Node) -> ContainerServiceClient<Channel> {
    ContainerServiceClient::new(node.channel("runtime"))
}

fn policy(kind: RestartKind, attempts: u32) -> Option<RestartPolicy> {
    Some(RestartPolicy { kind: kind.into(), attempts })
}

async fn remove(node: &Node, name: &str) {
    let request = DeleteContainerRequest { container: name.into(), force: true, allow_missing: false, volumes: false };
    client(node).delete_container(request).await.unwrap();
}

/// Looks until a container is so.
async fn becomes(node: &Node, name: &str, is: impl Fn(&Container) -> bool) -> Container {
    let looking = async {
        loop {
            let found = get(node, name).await.unwrap();
            if is(&found) {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), looking).await.expect("it became so in time")
}

async fn what_fails_is_restarting_until_it_is_given_up(node: &Node) {
    import_guest(node).await;
    let restart_policy = policy(RestartKind::OnFailure, 3);
    create(node, ContainerSpec { name: "web".into(), restart_policy, ..guest(&["exit", "4"]) }).await.unwrap();

    start(node, "web").await.unwrap();
    let waiting = becomes(node, "web", |web| web.state() == ContainerState::Restarting).await;
    assert!(waiting.restart_count > 0 && waiting.exit.is_some() && waiting.pid == 0);
    let over = becomes(node, "web", |web| web.state() == ContainerState::Exited).await;

    assert_eq!((over.restart_count, over.spec.unwrap().restart_policy), (3, restart_policy));
    remove(node, "web").await;
}

async fn a_stop_ends_a_restart(node: &Node) {
    import_guest(node).await;
    let restart_policy = policy(RestartKind::Always, 0);
    create(node, ContainerSpec { name: "web".into(), restart_policy, ..guest(&["exit", "0"]) }).await.unwrap();
    start(node, "web").await.unwrap();
    becomes(node, "web", |web| web.state() == ContainerState::Restarting).await;
    let request = DeleteContainerRequest { container: "web".into(), ..Default::default() };
    refused(client(node).delete_container(request).await, Code::FailedPrecondition, "FAULT_RUNNING");

    let mut client = client(node);
    let stopped = client.stop_container(StopContainerRequest { container: "web".into(), ..Default::default() });

    assert_eq!(stopped.await.unwrap().into_inner().container.unwrap().state(), ContainerState::Exited);
    remove(node, "web").await;
}

async fn dependencies_are_names(node: &Node) {
    import_guest(node).await;
    let on = |name: &str, is_required| vec![Dependency { container: name.into(), is_required }];
    let db = create(node, ContainerSpec { name: "db".into(), ..guest(&["sleep", "300"]) }).await.unwrap();
    let web = ContainerSpec { name: "web".into(), dependencies: on(&db.id, true), ..guest(&["sleep", "300"]) };
    let web = create(node, web).await.unwrap();
    assert_eq!(web.spec.unwrap().dependencies, on("db", true));

    start(node, "web").await.unwrap();
    assert_eq!(get(node, "db").await.unwrap().state(), ContainerState::Running);

    remove(node, "db").await;
    let cycle = ContainerSpec { name: "db".into(), dependencies: on("web", false), ..guest(&["noop"]) };
    refused(create(node, cycle).await, Code::InvalidArgument, "FAULT_DEPENDENCY_CYCLE");
    remove(node, "web").await;
    let lost = ContainerSpec { name: "lost".into(), ..guest(&["noop"]) };
    create(node, lost).await.unwrap();
    let web = ContainerSpec { name: "web".into(), dependencies: on("lost", true), ..guest(&["noop"]) };
    create(node, web).await.unwrap();
    remove(node, "lost").await;
    refused(start(node, "web").await, Code::FailedPrecondition, "FAULT_REQUIREMENT");
    remove(node, "web").await;
}

async fn health_is_told_from_start_to_end(node: &Node) {
    import_guest(node).await;
    let check = |test: &[&str]| HealthCheck {
        test: test.iter().map(|word| word.to_string()).collect(),
        interval: Some(prost_types::Duration { seconds: 0, nanos: 50_000_000 }),
        retries: 2,
        ..HealthCheck::default()
    };
    for (test, status) in [
        (&["CMD", "/guest", "noop"][..], HealthStatus::Healthy),
        (&["CMD", "/guest", "exit", "3"], HealthStatus::Unhealthy),
        (&["CMD", "/nothing"], HealthStatus::Unhealthy),
    ] {
        let health_check = Some(check(test));
        let made = create(node, ContainerSpec { name: "web".into(), health_check, ..guest(&["sleep", "300"]) });
        let made = made.await.unwrap();
        assert_eq!(made.health_check.unwrap().timeout.unwrap().seconds, 30, "what was not said is settled");
        let started = start(node, "web").await.unwrap();
        assert_eq!(started.health.unwrap().status(), HealthStatus::Starting);

        let told = becomes(node, "web", |web| web.health.as_ref().unwrap().status() == status).await;

        assert!(!told.health.unwrap().log.is_empty());
        remove(node, "web").await;
    }
}

async fn what_cannot_be_is_refused_by_its_field(node: &Node) {
    import_guest(node).await;
    let none = || guest(&["noop"]);
    let apart = |isolation: Isolation| ContainerSpec { isolation: Some(isolation), ..none() };
    let test = vec!["true".to_owned()];
    for (field, spec) in [
        (
            "spec.restart_policy",
            ContainerSpec { restart_policy: policy(RestartKind::Always, 0), auto_remove: true, ..none() },
        ),
        ("spec.restart_policy", ContainerSpec { restart_policy: policy(RestartKind::Always, 2), ..none() }),
        ("spec.dependencies", ContainerSpec { dependencies: vec![Dependency::default()], ..none() }),
        (
            "spec.health_check.test",
            ContainerSpec { health_check: Some(HealthCheck { test, ..Default::default() }), ..none() },
        ),
        ("spec.oom_score_adj", ContainerSpec { oom_score_adj: Some(1001), ..none() }),
        ("spec.cgroup_parent", ContainerSpec { cgroup_parent: "..".into(), ..none() }),
        (
            "spec.isolation.pid",
            apart(Isolation {
                pid: Some(Sharing { mode: SharingMode::Shareable.into(), container: String::new() }),
                ..Default::default()
            }),
        ),
        (
            "spec.isolation.devices",
            apart(Isolation {
                devices: vec![HostDevice { host_path: "dev".into(), ..Default::default() }],
                ..Default::default()
            }),
        ),
        (
            "spec.fixed_limits.memory_swappiness",
            ContainerSpec {
                fixed_limits: Some(FixedLimits { memory_swappiness: Some(101), ..Default::default() }),
                ..none()
            },
        ),
    ] {
        malformed(create(node, spec).await, field);
    }
}
