//! Transfers: an image goes from one store to another through a client that understands nothing of it; what either
//! store is told that makes no sense is refused, and leaves nothing.

use std::future::pending;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use strata_proto::store::v1::{
    GetImageRequest, Image, ListImagesRequest, ReceiveCompleted, ReceiveImageRequest, ReceiveImageResponse,
    ReceiveImageStart, SendImageRequest, SendImageResponse, SendImageStart, TransferAnswer, TransferBlob,
    TransferDocument, TransferEnd, TransferHead, TransferImage, TransferQuestion, VerifyRequest,
    image_service_client::ImageServiceClient, receive_image_request as to_target, receive_image_response as of_target,
    send_image_request as to_source, send_image_response as of_source, system_service_client::SystemServiceClient,
    transfer_answer::Part, transfer_question::About, transfer_service_client::TransferServiceClient, verify_response,
};
use strata_proto::types::v1::{Descriptor, Platform};
use strata_tests::Tar;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use crate::{
    faults::{malformed, refused},
    images::{import, tar},
    node::{Node, STORE, eventually, nothing_left},
};

over_both!(STORE; an_image_goes_to_another_store_as_it_is, of_an_update_only_what_changed_moves,
    what_is_not_there_is_not_sent, a_store_does_not_receive_from_itself, a_source_that_lies_leaves_nothing,
    a_transfer_that_is_dropped_names_nothing_and_is_continued, questions_that_make_no_sense_are_refused,
    starts_that_make_no_sense_are_refused);

type Said = (mpsc::Sender<ReceiveImageRequest>, Streaming<ReceiveImageResponse>);
type Answered = (mpsc::Sender<SendImageRequest>, Streaming<SendImageResponse>);

async fn send(node: &Node, start: Option<to_source::Event>) -> Result<Answered, Status> {
    let (sender, receiver) = mpsc::channel(4);
    sender.send(SendImageRequest { event: start }).await.unwrap();
    let mut client = TransferServiceClient::new(node.channel("store"));
    Ok((sender, client.send_image(ReceiverStream::new(receiver)).await?.into_inner()))
}

async fn receive(node: &Node, start: Option<to_target::Event>) -> Result<Said, Status> {
    let (sender, receiver) = mpsc::channel(4);
    sender.send(ReceiveImageRequest { event: start }).await.unwrap();
    let mut client = TransferServiceClient::new(node.channel("store"));
    Ok((sender, client.receive_image(ReceiverStream::new(receiver)).await?.into_inner()))
}

fn sending(reference: &str) -> Option<to_source::Event> {
    Some(to_source::Event::Start(SendImageStart { reference: reference.to_owned() }))
}

fn receiving(name: &str) -> ReceiveImageStart {
    ReceiveImageStart { name: name.to_owned(), ..Default::default() }
}

fn start(start: ReceiveImageStart) -> Option<to_target::Event> {
    Some(to_target::Event::Start(start))
}

/// Hands questions and answers back and forth, as many bytes of answers as allowed.
async fn relay(source: &Node, target: &Node, reference: &str, most: usize) -> Result<ReceiveCompleted, Status> {
    let (asking, mut answered) = send(source, sending(reference)).await?;
    let (answering, mut said) = receive(target, start(receiving(reference))).await?;
    let answers = async {
        let mut passed = 0;
        while let Some(message) = answered.message().await? {
            let Some(of_source::Event::Answer(answer)) = message.event else { continue };
            if let Some(Part::Chunk(chunk)) = &answer.part {
                passed += chunk.len();
                assert!((1..=262_144).contains(&chunk.len()), "{} bytes", chunk.len());
            }
            if passed > most {
                return Err(Status::cancelled("the test cuts the stream"));
            }
            let event = Some(to_target::Event::Answer(answer));
            if answering.send(ReceiveImageRequest { event }).await.is_err() {
                pending::<()>().await;
            }
        }
        Err(Status::aborted("the source ended its stream"))
    };
    let questions = async {
        while let Some(message) = said.message().await? {
            match message.event {
                Some(of_target::Event::Question(question)) => {
                    let event = Some(to_source::Event::Question(question));
                    let _ = asking.send(SendImageRequest { event }).await;
                }
                Some(of_target::Event::Completed(completed)) => return Ok(completed),
                _ => {}
            }
        }
        Err(Status::aborted("the target ended its stream"))
    };
    tokio::select! {
        completed = questions => completed,
        failed = answers => failed,
    }
}

async fn get(node: &Node, reference: &str) -> Result<Image, Status> {
    let request = GetImageRequest { reference: reference.to_owned(), ..Default::default() };
    let mut client = ImageServiceClient::new(node.channel("store"));
    Ok(client.get_image(request).await?.into_inner().image.unwrap())
}

async fn is_empty(node: &Node) -> bool {
    let mut client = ImageServiceClient::new(node.channel("store"));
    client.list_images(ListImagesRequest::default()).await.unwrap().into_inner().images.is_empty()
}

async fn is_whole(node: &Node) {
    let mut client = SystemServiceClient::new(node.channel("store"));
    let mut events = client.verify(VerifyRequest {}).await.unwrap().into_inner();
    while let Some(message) = events.message().await.unwrap() {
        assert!(matches!(message.event, Some(verify_response::Event::Completed(_))), "{message:?}");
    }
}

/// Bytes without any order, always the same of one seed.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// An archive of files of 16 KiB with these seeds.
fn files(seeds: impl IntoIterator<Item = u64>) -> Vec<u8> {
    let all = seeds.into_iter().enumerate();
    all.fold(Tar::default(), |tar, (place, seed)| tar.file(&format!("f{place}"), 0o644, &noise(seed, 16_384))).bytes()
}

async fn an_image_goes_to_another_store_as_it_is(source: &Node) {
    let target = source.another();
    let made = import(source.channel("store"), "words:1", tar("one")).await.unwrap();

    let completed = relay(source, &target, "words:1", usize::MAX).await.unwrap();

    let found = get(&target, "words:1").await.unwrap();
    assert_eq!((&found.id, &found.manifest, &found.names), (&made.id, &made.manifest, &made.names));
    assert_eq!(found.config_json, get(source, "words:1").await.unwrap().config_json);
    assert_eq!((completed.target, completed.image_id), (made.manifest, made.id));
    assert_eq!(completed.name, "docker.io/library/words:1");
    is_whole(&target).await;
    let again = relay(source, &target, "words:1", usize::MAX).await.unwrap();
    assert!(again.moved_bytes < completed.moved_bytes, "what is there does not move: {again:?}");
}

async fn of_an_update_only_what_changed_moves(source: &Node) {
    let target = source.another();
    for node in [source, &target] {
        import(node.channel("store"), "base:1", files(0..60)).await.unwrap();
    }
    let made = import(source.channel("store"), "base:2", files((0..57).chain(100..103))).await.unwrap();

    let completed = relay(source, &target, "base:2", usize::MAX).await.unwrap();

    // Noise is as large compressed as it is.
    assert!(completed.moved_bytes * 100 <= 60 * 16_384 * 15, "{completed:?}");
    assert_eq!(completed.spared_bytes, 57 * 16_384);
    assert_eq!(get(&target, "base:2").await.unwrap().id, made.id);
    is_whole(&target).await;
}

async fn what_is_not_there_is_not_sent(source: &Node) {
    let target = source.another();

    let unknown = relay(source, &target, "none:1", usize::MAX).await;
    refused(unknown, Code::NotFound, "FAULT_IMAGE_NOT_FOUND").resource("image", "none:1");
    import(source.channel("store"), "words:1", tar("one")).await.unwrap();
    let (asking, mut answered) = send(source, sending("words:1")).await.unwrap();
    let digest = format!("sha256:{}", "7".repeat(64));
    for (id, about) in [
        About::Document(TransferDocument { digest: digest.clone() }),
        About::Blob(TransferBlob { digest, offset_bytes: 0 }),
    ]
    .into_iter()
    .enumerate()
    {
        let question = TransferQuestion { id: id as u32, about: Some(about) };
        asking.send(SendImageRequest { event: Some(to_source::Event::Question(question)) }).await.unwrap();
        let answer = answered.message().await.unwrap().unwrap();
        let head = TransferHead { is_absent: true, ..Default::default() };
        let expected = TransferAnswer { id: id as u32, part: Some(Part::Head(head)) };
        assert_eq!(answer.event, Some(of_source::Event::Answer(expected)));
    }
    assert!(is_empty(&target).await);
}

async fn a_store_does_not_receive_from_itself(node: &Node) {
    import(node.channel("store"), "words:1", tar("one")).await.unwrap();

    let same = relay(node, node, "words:1", usize::MAX).await;

    refused(same, Code::FailedPrecondition, "FAULT_SAME_STORE");
}

/// Answers the first question of a receiver with these parts; returns how that ends.
async fn lie(target: &Node, parts: Vec<Part>) -> Result<ReceiveCompleted, Status> {
    let (answering, mut said) = receive(target, start(receiving("words:1"))).await?;
    loop {
        match said.message().await?.expect("it ends with an error").event {
            Some(of_target::Event::Question(TransferQuestion { id, about })) => {
                assert_eq!(about, Some(About::Image(TransferImage {})));
                for part in parts.clone() {
                    let answer = TransferAnswer { id, part: Some(part) };
                    let event = Some(to_target::Event::Answer(answer));
                    // It may have heard enough.
                    if answering.send(ReceiveImageRequest { event }).await.is_err() {
                        break;
                    }
                }
            }
            Some(of_target::Event::Completed(completed)) => return Ok(completed),
            _ => {}
        }
    }
}

async fn a_source_that_lies_leaves_nothing(target: &Node) {
    let files = target.files("store");
    let bytes = Bytes::from_static(b"{\"schemaVersion\":2}");
    let of = |bytes: &[u8], size_bytes: u64| {
        let digest = format!("sha256:{}", hex::encode(Sha256::digest(bytes)));
        let media_type = "application/vnd.oci.image.manifest.v1+json".to_owned();
        let descriptor = Some(Descriptor { media_type, digest, size_bytes });
        Part::Head(TransferHead { descriptor, ..Default::default() })
    };
    let head = of(&bytes, bytes.len() as u64);
    let end = || Part::End(TransferEnd {});
    let chunk = |bytes: &Bytes| Part::Chunk(bytes.clone());

    let other = Bytes::from_static(b"{\"schemaVersion\":3}");
    let wrong = lie(target, vec![head.clone(), chunk(&other), end()]).await;
    refused(wrong, Code::DataLoss, "FAULT_DIGEST_MISMATCH");
    let endless = std::iter::repeat_n(Part::Chunk(Bytes::from(vec![b' '; 262_144])), 64);
    for parts in [
        vec![chunk(&bytes)],
        vec![end()],
        vec![head.clone(), head.clone()],
        vec![head.clone(), chunk(&bytes), chunk(&bytes), end()],
        vec![head.clone(), Part::Chunk(Bytes::new())],
        vec![head.clone(), Part::Chunk(Bytes::from(vec![0; 262_145]))],
        vec![of(&bytes, u64::MAX), chunk(&bytes), end()],
        vec![Part::Head(TransferHead::default()), end()],
        std::iter::once(head.clone()).chain(endless).collect(),
    ] {
        refused(lie(target, parts).await, Code::InvalidArgument, "FAULT_TRANSFER_INVALID");
    }
    let no_image = lie(target, vec![head, chunk(&bytes), end()]).await;
    refused(no_image, Code::InvalidArgument, "FAULT_IMAGE_INVALID");

    assert!(is_empty(target).await);
    nothing_left(target, "store", &files).await;
}

async fn a_transfer_that_is_dropped_names_nothing_and_is_continued(source: &Node) {
    let target = source.another();
    let made = import(source.channel("store"), "large:1", files(0..1200)).await.unwrap();
    let all = 1200 * 16_384_u64;

    let cut = relay(source, &target, "large:1", all as usize / 20 * 19).await;
    assert_eq!(cut.unwrap_err().code(), Code::Cancelled);
    assert!(is_empty(&target).await);
    let completed = relay(source, &target, "large:1", usize::MAX).await.unwrap();

    assert_eq!(completed.image_id, made.id);
    // What was on its way comes again: a window of 8 MiB, and queues.
    assert!(completed.moved_bytes < all * 3 / 4, "{completed:?}");
    eventually("what came in part is gone", async || {
        target.files("store").iter().all(|path| !path.to_string_lossy().contains("/partials/"))
    })
    .await;
    is_whole(&target).await;
}

async fn questions_that_make_no_sense_are_refused(node: &Node) {
    import(node.channel("store"), "words:1", tar("one")).await.unwrap();
    let digest = get(node, "words:1").await.unwrap().id;
    let absurd = |offset_bytes| About::Blob(TransferBlob { digest: digest.clone(), offset_bytes });
    for (about, field) in [
        (None, "question.about"),
        (Some(About::Document(TransferDocument { digest: "x".into() })), "question.document.digest"),
        (Some(absurd(u64::MAX)), "question.blob.offset_bytes"),
    ] {
        let (asking, mut answered) = send(node, sending("words:1")).await.unwrap();
        let question = TransferQuestion { id: 0, about };
        asking.send(SendImageRequest { event: Some(to_source::Event::Question(question)) }).await.unwrap();
        malformed(answered.message().await, field);
    }
}

async fn starts_that_make_no_sense_are_refused(node: &Node) {
    malformed(send(node, None).await, "start");
    malformed(receive(node, None).await, "start");
    let (_asking, mut answered) = send(node, sending("Words:1")).await.unwrap();
    malformed(answered.message().await, "reference");
    malformed(receive(node, start(receiving("Words:1"))).await, "name");
    let platform = Some(Platform { os: "linux".into(), architecture: "amd64".into(), variant: String::new() });
    let both = ReceiveImageStart { platform, all_platforms: true, ..receiving("words:1") };
    malformed(receive(node, start(both)).await, "platform");
    let (answering, mut said) = receive(node, start(receiving("words:1"))).await.unwrap();
    let again = ReceiveImageRequest { event: start(receiving("words:1")) };
    answering.send(again).await.unwrap();
    let refusal = loop {
        match said.message().await {
            Ok(message) => assert!(matches!(message.unwrap().event, Some(of_target::Event::Question(_)))),
            refusal => break refusal,
        }
    };
    malformed(refusal, "event");
}
