//! Files of containers: looked at, read and written, whether the container runs or not.

use strata_proto::runtime::v1::{
    ContainerSpec, FileOwner, FileStat, ReadFilesRequest, StatFileRequest, WriteFilesHeader, WriteFilesRequest,
    file_service_client::FileServiceClient, write_files_request::Part,
};
use strata_tests::Tar;
use tonic::{Code, Status, transport::Channel};

use crate::{
    containers::{create, guest, import_guest, remove, start},
    faults::{malformed, refused},
    node::{Node, RUNNING},
};

over_both!(RUNNING; files_go_in_and_out_of_what_runs_and_what_does_not, what_is_missing_or_in_the_way_is_named,
    malformed_requests_name_the_field);

fn client(node: &Node) -> FileServiceClient<Channel> {
    FileServiceClient::new(node.channel("runtime"))
}

async fn stat(node: &Node, container: &str, path: &str) -> Result<FileStat, Status> {
    let request = StatFileRequest { container: container.into(), path: path.into() };
    Ok(client(node).stat_file(request).await?.into_inner().file.unwrap())
}

async fn read(node: &Node, container: &str, path: &str, name: &str) -> Result<Vec<u8>, Status> {
    let request = ReadFilesRequest { container: container.into(), path: path.into(), name: name.into() };
    let mut stream = client(node).read_files(request).await?.into_inner();
    let mut bytes = vec![];
    while let Some(reply) = stream.message().await? {
        bytes.extend_from_slice(&reply.chunk);
    }
    Ok(bytes)
}

async fn write(node: &Node, container: &str, path: &str, archive: Vec<u8>) -> Result<(), Status> {
    let owner = Some(FileOwner { uid: 7, gid: 8 });
    let header = WriteFilesHeader { container: container.into(), path: path.into(), owner };
    let message = |part| WriteFilesRequest { part: Some(part) };
    let mut messages = vec![message(Part::Header(header))];
    messages.extend(archive.chunks(1000).map(|chunk| message(Part::Chunk(chunk.to_vec().into()))));
    client(node).write_files(tokio_stream::iter(messages)).await.map(drop)
}

/// Names in an archive, and what is in its first file.
fn listed(archive: &[u8]) -> (Vec<String>, String) {
    let mut archive = tar::Archive::new(archive);
    let (mut names, mut text) = (vec![], String::new());
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        names.push(entry.path().unwrap().display().to_string());
        if text.is_empty() {
            text = std::io::read_to_string(&mut entry).unwrap();
        }
    }
    (names, text)
}

async fn both(node: &Node) -> [&'static str; 2] {
    import_guest(node).await;
    create(node, ContainerSpec { name: "up".into(), ..guest(&["sleep", "300"]) }).await.unwrap();
    start(node, "up").await.unwrap();
    create(node, ContainerSpec { name: "down".into(), ..guest(&["noop"]) }).await.unwrap();
    ["up", "down"]
}

async fn files_go_in_and_out_of_what_runs_and_what_does_not(node: &Node) {
    for container in both(node).await {
        write(node, container, "/", Tar::default().file("new", 0o644, b"content").bytes()).await.unwrap();

        let found = stat(node, container, "/new").await.unwrap();
        assert_eq!((found.mode & 0o170_000, found.size_bytes), (0o100_000, 7), "{container}");
        let (names, text) = listed(&read(node, container, "/new", "").await.unwrap());
        assert_eq!((names.as_slice(), text.as_str()), (&["new".to_owned()][..], "content"));
        let (names, _) = listed(&read(node, container, "/new", "other").await.unwrap());
        assert_eq!(names, ["other"]);
        remove(node, container).await;
    }
}

async fn what_is_missing_or_in_the_way_is_named(node: &Node) {
    for container in both(node).await {
        let archive = || Tar::default().file("guest/inside", 0o644, b"x").bytes();
        refused(stat(node, container, "/none").await, Code::NotFound, "FAULT_PATH_NOT_FOUND");
        refused(read(node, container, "/none", "").await, Code::NotFound, "FAULT_PATH_NOT_FOUND");
        refused(stat(node, container, "/guest/").await, Code::FailedPrecondition, "FAULT_NOT_A_DIRECTORY");
        refused(write(node, container, "/none", archive()).await, Code::NotFound, "FAULT_PATH_NOT_FOUND");
        let onto = write(node, container, "/guest", archive()).await;
        refused(onto, Code::FailedPrecondition, "FAULT_NOT_A_DIRECTORY");
        let kernel = read(node, container, "/proc/self", "").await;
        assert!(kernel.is_err(), "{kernel:?}");
        refused(write(node, container, "/proc", archive()).await, Code::FailedPrecondition, "FAULT_KERNEL_FILE");
        let wrong = write(node, container, "/", b"this is no archive, whatever one makes of it".to_vec()).await;
        refused(wrong, Code::InvalidArgument, "FAULT_ARCHIVE_INVALID");
        remove(node, container).await;
    }
    refused(stat(node, "absent", "/").await, Code::NotFound, "FAULT_CONTAINER_NOT_FOUND");
}

async fn malformed_requests_name_the_field(node: &Node) {
    import_guest(node).await;
    create(node, ContainerSpec { name: "down".into(), ..guest(&["noop"]) }).await.unwrap();

    malformed(stat(node, "down", "/a\0b").await, "path");
    malformed(stat(node, "down", &"/a".repeat(3000)).await, "path");
    for name in ["a/b", "..", "a\0b"] {
        malformed(read(node, "down", "/guest", name).await, "name");
    }
    let chunk = WriteFilesRequest { part: Some(Part::Chunk(vec![0; 512].into())) };
    malformed(client(node).write_files(tokio_stream::iter(vec![chunk])).await, "header");
    remove(node, "down").await;
}
