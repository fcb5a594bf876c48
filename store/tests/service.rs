//! The service as a process: what a client sees over its socket, and what is left after kill -9.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use strata_proto::store::v1::{
    self as proto, blob_service_client::BlobServiceClient, image_service_client::ImageServiceClient,
    lease_service_client::LeaseServiceClient, system_service_client::SystemServiceClient,
};
use strata_rpc::Endpoint;
use tonic::transport::Channel;
use tonic::{Code, Streaming};

struct Service {
    base: tempfile::TempDir,
    child: Child,
}

impl Service {
    async fn start() -> (Self, Channel) {
        let base = tempfile::tempdir_in("/var/tmp").unwrap();
        let child = spawn(base.path());
        let service = Self { base, child };
        let channel = service.connect().await;
        (service, channel)
    }

    fn socket(&self) -> PathBuf {
        self.base.path().join("store.sock")
    }

    async fn connect(&self) -> Channel {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let endpoint = Endpoint::parse(&format!("unix:{}", self.socket().display())).unwrap();
            match strata_rpc::connect_eager(&endpoint, None).await {
                Ok(channel) => return channel,
                Err(error) if Instant::now() > deadline => panic!("the service does not answer: {error}"),
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }

    /// Kills it, and starts it again on the same root.
    async fn kill_and_restart(&mut self) -> Channel {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.child = spawn(self.base.path());
        self.connect().await
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(base: &Path) -> Child {
    Command::new(env!("CARGO_BIN_EXE_strata-store"))
        .arg("--listen")
        .arg(format!("unix:{}", base.join("store.sock").display()))
        .arg("--root")
        .arg(base.join("root"))
        .stderr(Stdio::null())
        .spawn()
        .expect("the service starts")
}

async fn hold(channel: &Channel) -> (String, Streaming<proto::HoldLeaseResponse>) {
    let request = proto::HoldLeaseRequest { holder: "test".into(), grace: None };
    let mut stream = LeaseServiceClient::new(channel.clone()).hold_lease(request).await.unwrap().into_inner();
    let lease = stream.message().await.unwrap().unwrap().lease.unwrap();
    (lease.id, stream)
}

async fn put(channel: &Channel, lease: &str, content: &'static [u8]) -> Result<proto::Blob, tonic::Status> {
    use proto::put_blob_request::Part;
    let header = proto::PutBlobHeader { expected_digest: None, lease_id: lease.into() };
    let parts = [Part::Header(header), Part::Chunk(Bytes::from_static(content))];
    let messages = parts.map(|part| proto::PutBlobRequest { part: Some(part) });
    let response = BlobServiceClient::new(channel.clone()).put_blob(tokio_stream::iter(messages)).await?;
    Ok(response.into_inner().blob.unwrap())
}

fn archive(files: usize) -> Vec<u8> {
    let tree = tempfile::tempdir().unwrap();
    for number in 0..files {
        std::fs::write(tree.path().join(format!("file-{number}")), vec![number as u8; 3000]).unwrap();
    }
    let made = Command::new("tar").arg("-C").arg(tree.path()).args(["-c", "."]).output().unwrap();
    assert!(made.status.success());
    made.stdout
}

async fn import(channel: &Channel, name: &str, archive: &[u8]) -> Result<proto::Image, tonic::Status> {
    use proto::import_image_request::Part;
    let header = proto::ImportImageHeader { name: name.into(), ..Default::default() };
    let chunks = archive.chunks(65_536).map(|chunk| Part::Chunk(Bytes::copy_from_slice(chunk)));
    let messages: Vec<_> = std::iter::once(Part::Header(header))
        .chain(chunks)
        .map(|part| proto::ImportImageRequest { part: Some(part) })
        .collect();
    let response = ImageServiceClient::new(channel.clone()).import_image(tokio_stream::iter(messages)).await?;
    Ok(response.into_inner().image.unwrap())
}

/// Damages that verify names, and what it read.
async fn verify(channel: &Channel) -> (Vec<proto::Damage>, proto::VerifyCompleted) {
    use proto::verify_response::Event;
    let client = &mut SystemServiceClient::new(channel.clone());
    let mut stream = client.verify(proto::VerifyRequest {}).await.unwrap().into_inner();
    let (mut damaged, mut completed) = (Vec::new(), None);
    while let Some(message) = stream.message().await.unwrap() {
        match message.event.unwrap() {
            Event::Damage(damage) => damaged.push(damage),
            Event::Completed(end) => completed = Some(end),
        }
    }
    (damaged, completed.expect("a check ends with its summary"))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_put_under_a_lease_is_read_back() {
    let (_service, channel) = Service::start().await;
    let (lease, _stream) = hold(&channel).await;

    let blob = put(&channel, &lease, b"hello").await.unwrap();

    let request = proto::ReadBlobRequest { digest: blob.digest, offset_bytes: 1 };
    let mut stream = BlobServiceClient::new(channel).read_blob(request).await.unwrap().into_inner();
    assert_eq!(stream.message().await.unwrap().unwrap().chunk, "ello");
    assert!(stream.message().await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_have_their_code_and_reason() {
    let (_service, channel) = Service::start().await;

    let no_lease = put(&channel, "none", b"x").await.unwrap_err();
    let request = proto::GetImageRequest { reference: "nothing".into(), ..Default::default() };
    let no_image = ImageServiceClient::new(channel.clone()).get_image(request).await.unwrap_err();
    let lying = import(&channel, "a:1", &archive(3)[..2000]).await.unwrap_err();

    for (status, code, reason) in [
        (no_lease, Code::NotFound, "FAULT_LEASE_NOT_FOUND"),
        (no_image, Code::NotFound, "FAULT_IMAGE_NOT_FOUND"),
        (lying, Code::InvalidArgument, "FAULT_ARCHIVE_INVALID"),
    ] {
        assert_eq!((status.code(), strata_rpc::reason_of(&status).as_deref()), (code, Some(reason)), "{status:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_service_on_the_same_root_ends_with_an_error() {
    let (service, _channel) = Service::start().await;

    let second = Command::new(env!("CARGO_BIN_EXE_strata-store"))
        .arg("--listen")
        .arg(format!("unix:{}", service.base.path().join("other.sock").display()))
        .arg("--root")
        .arg(service.base.path().join("root"))
        .output()
        .unwrap();

    let said = String::from_utf8_lossy(&second.stderr).into_owned() + &String::from_utf8_lossy(&second.stdout);
    assert!(!second.status.success() && said.contains("another service"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_at_any_moment_loses_no_acknowledged_image_and_damages_none() {
    let (mut service, mut channel) = Service::start().await;
    let archives: Vec<Vec<u8>> = (1..=4).map(|number| archive(number * 60)).collect();
    let mut acknowledged = Vec::new();

    for round in 0..16_u64 {
        let importing = channel.clone();
        let archives = archives.clone();
        let work = tokio::spawn(async move {
            let mut done = Vec::new();
            for (number, archive) in archives.iter().enumerate() {
                let name = format!("r{round}:{number}");
                if import(&importing, &name, archive).await.is_ok() {
                    done.push(name);
                }
            }
            done
        });
        tokio::time::sleep(Duration::from_millis(round * round)).await;
        channel = service.kill_and_restart().await;
        acknowledged.extend(work.await.unwrap());
        let (damaged, _) = verify(&channel).await;
        assert_eq!(damaged, [], "round {round}");
    }

    for name in &acknowledged {
        let request = proto::GetImageRequest { reference: name.clone(), ..Default::default() };
        ImageServiceClient::new(channel.clone()).get_image(request).await.expect(name);
    }
    assert!(!acknowledged.is_empty(), "no round got as far as an acknowledged image");
    let left = std::fs::read_dir(service.base.path().join("root/ingest")).unwrap().count();
    assert_eq!(left, 0);
}
