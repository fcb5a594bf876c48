//! Waiting for ends: of this run, of the next, of the container.

use strata_proto::runtime::v1::{
    ContainerSpec, WaitCondition, WaitContainerRequest, container_service_client::ContainerServiceClient,
    exit_status::Kind,
};
use tonic::{Code, Status};

use crate::{
    containers::{create, guest, import_guest, remove, start},
    faults::{malformed, refused},
    node::{Node, RUNNING},
};

over_both!(RUNNING; who_does_not_run_is_not_waited_for, the_next_exit_is_one_that_is_yet_to_come,
    a_removal_is_waited_for, conditions_are_those_of_the_list);

async fn wait_for(node: &Node, name: &str, condition: i32) -> Result<Kind, Status> {
    let request = WaitContainerRequest { container: name.to_owned(), condition };
    let mut client = ContainerServiceClient::new(node.channel("runtime"));
    Ok(client.wait_container(request).await?.into_inner().exit.unwrap().kind.unwrap())
}

async fn wait(node: &Node, name: &str, condition: WaitCondition) -> Kind {
    wait_for(node, name, condition.into()).await.unwrap()
}

/// Waits meanwhile, and has begun to when this returns.
async fn waiting(node: &Node, name: &str, condition: WaitCondition) -> tokio::task::JoinHandle<Kind> {
    let request = WaitContainerRequest { container: name.to_owned(), condition: condition.into() };
    let mut client = ContainerServiceClient::new(node.channel("runtime"));
    let wait =
        tokio::spawn(
            async move { client.wait_container(request).await.unwrap().into_inner().exit.unwrap().kind.unwrap() },
        );
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    assert!(!wait.is_finished(), "{condition:?} has not come");
    wait
}

async fn who_does_not_run_is_not_waited_for(node: &Node) {
    import_guest(node).await;
    create(node, ContainerSpec { name: "box".into(), ..guest(&["exit", "7"]) }).await.unwrap();

    assert_eq!(wait(node, "box", WaitCondition::NotRunning).await, Kind::Code(0), "it never ran");

    start(node, "box").await.unwrap();
    assert_eq!(wait(node, "box", WaitCondition::NotRunning).await, Kind::Code(7));
    assert_eq!(wait(node, "box", WaitCondition::Unspecified).await, Kind::Code(7), "and again");
    remove(node, "box").await;
}

async fn the_next_exit_is_one_that_is_yet_to_come(node: &Node) {
    import_guest(node).await;
    create(node, ContainerSpec { name: "box".into(), ..guest(&["exit", "7"]) }).await.unwrap();
    for _ in 0..2 {
        // Before the first run, and after it.
        let next = waiting(node, "box", WaitCondition::NextExit).await;
        start(node, "box").await.unwrap();
        assert_eq!(next.await.unwrap(), Kind::Code(7));
    }
    let next = waiting(node, "box", WaitCondition::NextExit).await;
    remove(node, "box").await;
    assert_eq!(next.await.unwrap(), Kind::Code(7), "who is removed exits no more");
}

async fn a_removal_is_waited_for(node: &Node) {
    import_guest(node).await;
    let spec = ContainerSpec { name: "once".into(), auto_remove: true, ..guest(&["await", "/go"]) };
    create(node, spec).await.unwrap();
    create(node, ContainerSpec { name: "made".into(), ..guest(&["noop"]) }).await.unwrap();
    start(node, "once").await.unwrap();
    let once = waiting(node, "once", WaitCondition::Removed).await;
    let made = waiting(node, "made", WaitCondition::Removed).await;

    remove(node, "once").await;
    remove(node, "made").await;

    assert_eq!((once.await.unwrap(), made.await.unwrap()), (Kind::Signal(9), Kind::Code(0)));
}

async fn conditions_are_those_of_the_list(node: &Node) {
    import_guest(node).await;
    create(node, ContainerSpec { name: "box".into(), ..guest(&["noop"]) }).await.unwrap();
    malformed(wait_for(node, "box", 99).await, "condition");
    refused(wait_for(node, "nobody", 1).await, Code::NotFound, "FAULT_CONTAINER_NOT_FOUND");
    remove(node, "box").await;
}
