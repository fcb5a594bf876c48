//! What can be seen of the processes of a container.

use strata_proto::runtime::v1::{
    ReadProcessesRequest, ReadProcessesResponse, container_service_client::ContainerServiceClient,
};
use tonic::{Code, Status};

use crate::{
    containers::{create, get, guest, import_guest, remove, start},
    faults::{malformed, refused},
    node::{Node, RUNNING},
};

over_both!(RUNNING; the_processes_of_a_container_are_listed_and_no_others, what_ps_does_not_take_is_refused);

async fn list(node: &Node, container: &str, ps_args: &[&str]) -> Result<ReadProcessesResponse, Status> {
    let ps_args = ps_args.iter().map(|&word| word.to_owned()).collect();
    let request = ReadProcessesRequest { container: container.to_owned(), ps_args };
    Ok(ContainerServiceClient::new(node.channel("runtime")).read_processes(request).await?.into_inner())
}

async fn the_processes_of_a_container_are_listed_and_no_others(node: &Node) {
    import_guest(node).await;
    let container = create(node, guest(&["sleep", "300"])).await.unwrap();
    let other = create(node, guest(&["sleep", "301"])).await.unwrap();
    let id = container.id.as_str();
    start(node, &other.id).await.unwrap();
    refused(list(node, id, &[]).await, Code::FailedPrecondition, "FAULT_NOT_RUNNING");
    start(node, id).await.unwrap();
    let pid = get(node, id).await.unwrap().pid.to_string();

    let seen = list(node, id, &[]).await.unwrap();

    assert_eq!(seen.titles, ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]);
    let [process] = &seen.processes[..] else { panic!("{seen:?}") };
    let cells = process.cells.iter().map(String::as_str).collect::<Vec<_>>();
    assert_eq!((cells[0], cells[1], cells[5], cells[7]), ("root", pid.as_str(), "?", "/guest sleep 300"));
    let columns = list(node, id, &["-e", "-o", "pid,args"]).await.unwrap();
    assert_eq!(columns.titles, ["PID", "COMMAND"]);
    assert_eq!(columns.processes.len(), 1);
    assert_eq!(columns.processes[0].cells, [pid, "/guest sleep 300".to_owned()]);
    remove(node, id).await;
    remove(node, &other.id).await;
}

async fn what_ps_does_not_take_is_refused(node: &Node) {
    refused(list(node, "nobody", &[]).await, Code::NotFound, "FAULT_CONTAINER_NOT_FOUND");
    import_guest(node).await;
    let container = create(node, guest(&["sleep", "300"])).await.unwrap();
    start(node, &container.id).await.unwrap();
    // The third shows the processes of others where their number is expected.
    for args in [&["-o", "no-such-column"][..], &["-o", "comm"], &["-e", "-o", "comm=PID"], &["a\0b"]] {
        malformed(list(node, &container.id, args).await, "ps_args");
    }
    remove(node, &container.id).await;
}
