//! Other limits for containers: at once and for later, all of them or none.

use strata_proto::runtime::v1::{
    ContainerSpec, Limits, UpdateContainerRequest, container_service_client::ContainerServiceClient,
};
use tonic::{Code, Status};

use crate::{
    containers::{create, get, guest, import_guest, remove, start},
    faults::{malformed, refused},
    node::{Node, RUNNING},
};

over_both!(RUNNING; limits_change_in_the_record_and_in_force, what_makes_no_sense_changes_nothing,
    what_the_kernel_refuses_changes_nothing);

async fn update(node: &Node, name: &str, limits: Limits) -> Result<Limits, Status> {
    let request = UpdateContainerRequest { container: name.to_owned(), limits: Some(limits) };
    let reply = ContainerServiceClient::new(node.channel("runtime")).update_container(request).await?;
    Ok(reply.into_inner().container.unwrap().spec.unwrap().limits.unwrap())
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
