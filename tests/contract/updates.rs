//! Other limits and restart policies for containers: at once and for later, all of it or nothing.

use std::time::Duration;

use strata_proto::runtime::v1::{
    Container, ContainerSpec, ContainerState, Limits, RestartKind, RestartPolicy, UpdateContainerRequest,
    container_service_client::ContainerServiceClient,
};
use tonic::{Code, Status};

use crate::{
    containers::{create, get, guest, import_guest, remove, start},
    faults::{malformed, refused},
    node::{Node, RUNNING},
};

over_both!(RUNNING; limits_change_in_the_record_and_in_force, what_makes_no_sense_changes_nothing,
    what_the_kernel_refuses_changes_nothing, another_restart_policy_is_that_of_the_next_end,
    what_waits_to_be_started_rests_when_its_policy_is_taken_away, what_removes_itself_gets_no_restart_policy);

async fn update(node: &Node, name: &str, limits: Limits) -> Result<Limits, Status> {
    let updated = change(node, name, UpdateContainerRequest { limits: Some(limits), ..Default::default() }).await?;
    Ok(updated.spec.unwrap().limits.unwrap())
}

async fn change(node: &Node, name: &str, what: UpdateContainerRequest) -> Result<Container, Status> {
    let request = UpdateContainerRequest { container: name.to_owned(), ..what };
    let reply = ContainerServiceClient::new(node.channel("runtime")).update_container(request).await?;
    Ok(reply.into_inner().container.unwrap())
}

/// An update of the restart policy alone.
fn policy(kind: RestartKind, attempts: u32) -> UpdateContainerRequest {
    let restart_policy = Some(RestartPolicy { kind: kind.into(), attempts });
    UpdateContainerRequest { restart_policy, ..Default::default() }
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

async fn limits(node: &Node, name: &str) -> Limits {
    get(node, name).await.unwrap().spec.unwrap().limits.unwrap()
}

/// What a controller says of the cgroup of a container, in the file of v1 or of v2.
async fn in_force(node: &Node, name: &str, controller: &str, v1: &str, v2: &str) -> String {
    let pid = get(node, name).await.unwrap().pid;
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let of = |line: &str| {
        let mut fields = line.split(':').skip(1);
        let (controllers, path) = (fields.next()?.to_owned(), fields.next()?.to_owned());
        Some((controllers, path))
    };
    let own = groups.lines().filter_map(of).find(|(list, _)| list.split(',').any(|one| one == controller));
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mount = |kind: &str, word: &str| {
        let is_it = |line: &&str| {
            line.contains(&format!(" - {kind} "))
                && line
                    .rsplit(' ')
                    .next()
                    .is_some_and(|options| word.is_empty() || options.split(',').any(|option| option == word))
        };
        mounts.lines().find(is_it).map(|line| line.split(' ').nth(4).unwrap().to_owned()).unwrap()
    };
    let path = match own {
        Some((_, path)) => format!("{}{path}/{v1}", mount("cgroup", controller)),
        None => {
            let path = groups.lines().find_map(|line| line.strip_prefix("0::")).unwrap();
            format!("{}{path}/{v2}", mount("cgroup2", ""))
        }
    };
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}")).trim().to_owned()
}

async fn limits_change_in_the_record_and_in_force(node: &Node) {
    import_guest(node).await;
    let pids = Limits { pids: Some(50), ..Default::default() };
    create(node, ContainerSpec { name: "box".into(), limits: Some(pids.clone()), ..guest(&["sleep", "300"]) })
        .await
        .unwrap();
    let memory = Limits { memory_bytes: Some(64 << 20), ..Default::default() };

    assert_eq!(update(node, "box", memory).await.unwrap(), Limits { memory_bytes: Some(64 << 20), ..pids });

    start(node, "box").await.unwrap();
    let memory = async || in_force(node, "box", "memory", "memory.limit_in_bytes", "memory.max").await;
    let most = async || in_force(node, "box", "pids", "pids.max", "pids.max").await;
    assert_eq!((memory().await, most().await), ((64 << 20).to_string(), "50".to_owned()));
    let more = Limits {
        memory_bytes: Some(128 << 20),
        pids: Some(0),
        nano_cpus: Some(500_000_000),
        cpu_shares: Some(512),
        cpuset_cpus: Some("0".to_owned()),
        ..Default::default()
    };
    update(node, "box", more).await.unwrap();
    assert_eq!((memory().await, most().await), ((128 << 20).to_string(), "max".to_owned()));
    assert_eq!(in_force(node, "box", "cpuset", "cpuset.cpus", "cpuset.cpus").await, "0");
    let quota = in_force(node, "box", "cpu", "cpu.cfs_quota_us", "cpu.max").await;
    assert!(quota.starts_with("50000"), "{quota}");
    let shares = in_force(node, "box", "cpu", "cpu.shares", "cpu.weight").await;
    assert!(["512", "59"].contains(&shares.as_str()), "{shares}");
    let none =
        Limits { memory_bytes: Some(0), nano_cpus: Some(0), cpuset_cpus: Some(String::new()), ..Default::default() };
    let left = update(node, "box", none).await.unwrap();
    assert_eq!(left, Limits { cpu_shares: Some(512), ..Default::default() });
    assert!(["max", "9223372036854771712"].contains(&memory().await.as_str()), "{}", memory().await);
    let quota = in_force(node, "box", "cpu", "cpu.cfs_quota_us", "cpu.max").await;
    assert!(quota == "-1" || quota.starts_with("max"), "{quota}");
    remove(node, "box").await;
}

async fn what_makes_no_sense_changes_nothing(node: &Node) {
    import_guest(node).await;
    let before = Limits { memory_bytes: Some(64 << 20), nano_cpus: Some(1_000_000_000), ..Default::default() };
    create(node, ContainerSpec { name: "box".into(), limits: Some(before.clone()), ..guest(&["sleep", "300"]) })
        .await
        .unwrap();
    let none = Limits::default;
    for (field, wrong) in [
        ("limits.memory_bytes", Limits { memory_bytes: Some(4096), ..none() }),
        ("limits.memory_swap_bytes", Limits { memory_swap_bytes: Some(32 << 20), ..none() }),
        ("limits.memory_reservation_bytes", Limits { memory_reservation_bytes: Some(65 << 20), ..none() }),
        ("limits.cpu_quota_us", Limits { cpu_quota_us: Some(50_000), ..none() }),
        ("limits.cpu_shares", Limits { cpu_shares: Some(1), pids: Some(5), ..none() }),
        ("limits.cpuset_cpus", Limits { cpuset_cpus: Some("a".into()), ..none() }),
        ("limits.blkio_weight", Limits { blkio_weight: Some(1001), ..none() }),
    ] {
        malformed(update(node, "box", wrong).await, field);
    }
    assert_eq!(limits(node, "box").await, before);
    refused(update(node, "nobody", none()).await, Code::NotFound, "FAULT_CONTAINER_NOT_FOUND");
    remove(node, "box").await;
}

async fn what_the_kernel_refuses_changes_nothing(node: &Node) {
    import_guest(node).await;
    let before = Limits { memory_bytes: Some(64 << 20), ..Default::default() };
    create(node, ContainerSpec { name: "box".into(), limits: Some(before.clone()), ..guest(&["sleep", "300"]) })
        .await
        .unwrap();
    start(node, "box").await.unwrap();
    // No machine has this processor; what is written before it is taken back.
    let wrong =
        Limits { memory_bytes: Some(32 << 20), pids: Some(9), cpuset_cpus: Some("8191".into()), ..Default::default() };

    let refusal = refused(update(node, "box", wrong).await, Code::FailedPrecondition, "FAULT_LIMIT_NOT_APPLIED");

    refusal.fact("field", "limits.cpuset_cpus");
    assert_eq!(limits(node, "box").await, before);
    assert_eq!(
        in_force(node, "box", "memory", "memory.limit_in_bytes", "memory.max").await,
        (64 << 20).to_string(),
        "what was changed before the refusal is as it was"
    );
    assert_eq!(in_force(node, "box", "pids", "pids.max", "pids.max").await, "max");
    remove(node, "box").await;
}

async fn another_restart_policy_is_that_of_the_next_end(node: &Node) {
    import_guest(node).await;
    create(node, ContainerSpec { name: "box".into(), ..guest(&["then", "sleep", "1", "+", "exit", "4"]) })
        .await
        .unwrap();
    start(node, "box").await.unwrap();
    let twice = policy(RestartKind::OnFailure, 2);

    let updated = change(node, "box", twice.clone()).await.unwrap();

    assert_eq!(updated.spec.unwrap().restart_policy, twice.restart_policy);
    let over = becomes(node, "box", |found| found.state() == ContainerState::Exited).await;
    assert_eq!((over.restart_count, over.spec.unwrap().restart_policy), (2, twice.restart_policy));
    // What is not named stays.
    let memory = Limits { memory_bytes: Some(64 << 20), ..Default::default() };
    update(node, "box", memory.clone()).await.unwrap();
    let found = change(node, "box", policy(RestartKind::No, 0)).await.unwrap().spec.unwrap();
    assert_eq!((found.limits.unwrap(), found.restart_policy), (memory, policy(RestartKind::No, 0).restart_policy));
    malformed(change(node, "box", policy(RestartKind::Always, 3)).await, "restart_policy");
    remove(node, "box").await;
}

async fn what_waits_to_be_started_rests_when_its_policy_is_taken_away(node: &Node) {
    import_guest(node).await;
    let restart_policy = policy(RestartKind::Always, 0).restart_policy;
    create(node, ContainerSpec { name: "box".into(), restart_policy, ..guest(&["exit", "4"]) }).await.unwrap();
    start(node, "box").await.unwrap();
    // By then the pauses are long enough.
    becomes(node, "box", |found| found.restart_count >= 5 && found.state() == ContainerState::Restarting).await;

    let updated = change(node, "box", policy(RestartKind::No, 0)).await.unwrap();

    assert_eq!(updated.state(), ContainerState::Exited);
    tokio::time::sleep(Duration::from_secs(4)).await;
    let found = get(node, "box").await.unwrap();
    assert_eq!((found.state(), found.restart_count), (ContainerState::Exited, updated.restart_count));
    remove(node, "box").await;
}

async fn what_removes_itself_gets_no_restart_policy(node: &Node) {
    import_guest(node).await;
    create(node, ContainerSpec { name: "box".into(), auto_remove: true, ..guest(&["sleep", "300"]) }).await.unwrap();

    malformed(change(node, "box", policy(RestartKind::Always, 0)).await, "restart_policy");

    change(node, "box", policy(RestartKind::No, 0)).await.unwrap();
    remove(node, "box").await;
}
