//! Pushing to a registry that cuts, forgets and disagrees.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use futures_util::{
    StreamExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use strata_registry::{BlobSource, Cause, GrowingSource, Kind, Pushed, Target};
use strata_types::{Descriptor, media_type};

use crate::{
    anonymous, chain, digest_of, layer,
    model::{Model, unknown},
    repository, sample,
    server::{Reply, Server},
};

/// Settings with a size of chunks.
fn chunks_of(server: &Server, bytes: usize) -> String {
    format!("[host.\"{}\"]\nchunk_bytes = {bytes}", server.host())
}

fn steps(server: &Server) -> Vec<String> {
    server.seen().iter().map(|seen| seen.method.clone()).collect()
}

#[tokio::test]
async fn a_small_blob_takes_one_request_beside_the_look_and_the_start() {
    let bytes = sample(1_000);
    let model = Model::with_blobs(&[]);
    let server = model.serve().await;
    let repository = repository(&server.host(), "", anonymous());

    let pushed = tokio::spawn({
        let bytes = bytes.clone();
        async move { repository.push_blob(&layer(&bytes), &bytes, None).await }
    });

    assert_eq!(pushed.await.unwrap().unwrap(), Pushed::Sent);
    assert_eq!(steps(&server), ["HEAD", "POST", "PUT"]);
    assert!(model.has_blob(&bytes));
}

#[tokio::test]
async fn an_empty_blob_is_pushed_too() {
    let model = Model::with_blobs(&[]);
    let server = model.serve().await;
    let empty = Bytes::new();

    let pushed = repository(&server.host(), "", anonymous()).push_blob(&layer(&empty), &empty, None).await;

    assert_eq!(pushed.unwrap(), Pushed::Sent);
    assert!(model.has_blob(&empty));
}

#[tokio::test]
async fn a_large_blob_goes_as_one_stream_or_in_chunks() {
    let bytes = sample((3 << 20) + 17);
    for (chunk, least, expected) in [
        (None, None, vec!["HEAD", "POST", "PATCH", "PUT"]),
        (Some(2 << 20), None, vec!["HEAD", "POST", "PATCH", "PATCH", "PUT"]),
        (Some(1_000), Some(2 << 20), vec!["HEAD", "POST", "PATCH", "PATCH", "PUT"]),
    ] {
        let model = Model::with_blobs(&[]);
        *model.least_chunk.lock().unwrap() = least;
        let server = model.serve().await;
        let table = chunk.map(|chunk| chunks_of(&server, chunk)).unwrap_or_default();

        repository(&server.host(), &table, anonymous()).push_blob(&layer(&bytes), &bytes, None).await.unwrap();

        assert_eq!(steps(&server), expected);
        assert!(model.has_blob(&bytes));
    }
}

#[tokio::test]
async fn what_is_there_is_not_sent_and_what_is_next_door_is_mounted() {
    let bytes = sample(1_000);
    let model = Model::with_blobs(&[&bytes]);
    let server = model.serve().await;
    let there = repository(&server.host(), "", anonymous());
    assert_eq!(there.push_blob(&layer(&bytes), &bytes, Some("from/there")).await.unwrap(), Pushed::Present);
    assert_eq!(steps(&server), ["HEAD"]);

    let server = Server::start(move |seen| if seen.method == "HEAD" { unknown("") } else { model.reply(seen) }).await;
    let next_door = repository(&server.host(), "", anonymous());
    assert_eq!(next_door.push_blob(&layer(&bytes), &bytes, Some("from/there")).await.unwrap(), Pushed::Mounted);
    assert_eq!(next_door.push_blob(&layer(&bytes), &bytes, Some("from/elsewhere")).await.unwrap(), Pushed::Sent);
}

#[tokio::test]
async fn a_mount_asks_for_both_repositories() {
    let tokens = Server::start(|_| Reply::new(200).body(r#"{"token":"t"}"#)).await;
    let realm = format!("Bearer realm=\"http://{}/\"", tokens.host());
    let bytes = sample(1_000);
    let model = Model::with_blobs(&[&bytes]);
    let server = Server::start(move |seen| match (seen.header("authorization"), seen.method.as_str()) {
        (None, _) => Reply::new(401).header("WWW-Authenticate", &realm),
        (_, "HEAD") => unknown(""),
        _ => model.reply(seen),
    })
    .await;

    let repository = repository(&server.host(), "", anonymous());
    let pushed = repository.push_blob(&layer(&bytes), &bytes, Some("from/there")).await;

    assert_eq!(pushed.unwrap(), Pushed::Mounted);
    let scopes = tokens.seen().last().unwrap().parameters("scope");
    assert_eq!(scopes, ["repository:a/b:pull,push", "repository:from/there:pull"]);
}

#[tokio::test]
async fn an_upload_that_is_cut_goes_on_where_the_registry_stands() {
    let bytes = sample(3 << 20);
    for cut in [1, 4_096, 1 << 20, (3 << 20) - 1] {
        let model = Model::with_blobs(&[]);
        let server = model.serve().await;
        server.cut_next_body(cut);

        let pushed = repository(&server.host(), "", anonymous()).push_blob(&layer(&bytes), &bytes, None).await;

        assert_eq!(pushed.unwrap(), Pushed::Sent, "cut after {cut}");
        assert!(model.has_blob(&bytes));
        let received: usize = server.seen().iter().map(|seen| seen.body.len()).sum();
        // "0-0" of one byte cannot be told from none.
        assert!(received <= bytes.len() + 1, "cut after {cut}: {received} bytes were sent");
    }
}

#[tokio::test]
async fn a_small_upload_that_is_cut_is_sent_again() {
    let bytes = sample(5_000);
    let model = Model::with_blobs(&[]);
    let server = model.serve().await;
    server.cut_next_body(2_000);

    let pushed = repository(&server.host(), "", anonymous()).push_blob(&layer(&bytes), &bytes, None).await;

    assert_eq!(pushed.unwrap(), Pushed::Sent);
    assert!(model.has_blob(&bytes));
}

#[tokio::test]
async fn a_chunk_out_of_order_is_put_right() {
    let bytes = sample(3 << 20);
    let model = Model::with_blobs(&[]);
    let (shared, count) = (model.clone(), AtomicUsize::new(0));
    // The second chunk is forgotten: its answer is good, the third does not fit.
    let server = Server::start(move |seen| {
        let reply = shared.reply(seen);
        if seen.method == "PATCH" && count.fetch_add(1, Ordering::Relaxed) == 1 {
            shared.uploads.lock().unwrap().values_mut().for_each(|upload| upload.truncate(1 << 20));
        }
        reply
    })
    .await;

    let repository = repository(&server.host(), &chunks_of(&server, 1 << 20), anonymous());
    let pushed = repository.push_blob(&layer(&bytes), &bytes, None).await;

    assert_eq!(pushed.unwrap(), Pushed::Sent);
    assert!(model.has_blob(&bytes));
    assert!(server.count("GET /v2/a/b/blobs/uploads/") >= 1, "the registry was not asked where it stands");
}

#[tokio::test]
async fn an_upload_that_the_registry_forgot_begins_anew() {
    let bytes = sample(3 << 20);
    let model = Model::with_blobs(&[]);
    let (shared, count) = (model.clone(), AtomicUsize::new(0));
    let server = Server::start(move |seen| {
        if seen.method == "PATCH" && count.fetch_add(1, Ordering::Relaxed) == 1 {
            shared.uploads.lock().unwrap().clear();
        }
        shared.reply(seen)
    })
    .await;

    let repository = repository(&server.host(), &chunks_of(&server, 1 << 20), anonymous());
    let pushed = repository.push_blob(&layer(&bytes), &bytes, None).await;

    assert_eq!(pushed.unwrap(), Pushed::Sent);
    assert!(model.has_blob(&bytes));
    assert_eq!(server.count("POST"), 2);
}

#[tokio::test]
async fn an_answer_that_was_lost_is_found_out() {
    let bytes = sample(1_000);
    let model = Model::with_blobs(&[]);
    let shared = model.clone();
    let server = Server::start(move |seen| {
        let reply = shared.reply(seen);
        if seen.method == "PUT" { reply.cut(0) } else { reply }
    })
    .await;

    let pushed = repository(&server.host(), "", anonymous()).push_blob(&layer(&bytes), &bytes, None).await;

    assert_eq!(pushed.unwrap(), Pushed::Sent);
    assert_eq!(server.count("PUT"), 1);
}

#[tokio::test]
async fn a_registry_that_refuses_the_bytes_is_quoted_and_the_upload_cancelled() {
    let bytes = sample(1_000);
    let model = Model::with_blobs(&[]);
    let server = model.serve().await;
    let mut descriptor = layer(&bytes);
    descriptor.digest = digest_of(b"other");

    let error = repository(&server.host(), "", anonymous()).push_blob(&descriptor, &bytes, None).await.unwrap_err();

    assert!(chain(&error).contains("DIGEST_INVALID: not these bytes"), "{}", chain(&error));
    assert_eq!(steps(&server).last().unwrap(), "DELETE");
}

/// A file that cannot be read to its end.
struct Broken;

impl BlobSource for Broken {
    fn open(&self, _offset: u64) -> BoxFuture<'_, io::Result<BoxStream<'static, io::Result<Bytes>>>> {
        let parts = [Ok(sample(1 << 20)), Err(io::Error::other("the disk is broken"))];
        Box::pin(async move { Ok(stream::iter(parts).boxed()) })
    }
}

#[tokio::test]
async fn bytes_that_cannot_be_read_are_the_error() {
    let bytes = sample(3 << 20);
    let model = Model::with_blobs(&[]);
    let server = model.serve().await;

    let error = repository(&server.host(), "", anonymous()).push_blob(&layer(&bytes), &Broken, None).await.unwrap_err();

    assert_eq!(error.kind(), Kind::Local);
    assert!(chain(&error).contains("the disk is broken"), "{}", chain(&error));
    // A source that ends early is one too.
    let short = bytes.slice(..1_000);
    let error = repository(&server.host(), "", anonymous()).push_blob(&layer(&bytes), &short, None).await.unwrap_err();
    assert!(matches!(error.cause(), Some(Cause::Source { .. })), "{error:?}");
}

/// CVE-2025-6032, row 121.
#[tokio::test]
async fn an_upload_is_not_sent_to_a_place_in_the_clear() {
    let bytes = sample(1_000);
    let server = Server::start(|seen| match seen.method.as_str() {
        "HEAD" => unknown(""),
        _ => Reply::new(202).header("Location", "http://evil.test/upload"),
    })
    .await;

    let error = repository(&server.host(), "", anonymous()).push_blob(&layer(&bytes), &bytes, None).await.unwrap_err();

    assert!(matches!(error.cause(), Some(Cause::Redirect { .. })), "{error:?}");
}

#[tokio::test]
async fn a_manifest_is_pushed_and_removed() {
    let model = Model::with_blobs(&[]);
    let server = model.serve().await;
    let repository = repository(&server.host(), "", anonymous());
    let bytes = Bytes::from_static(br#"{"schemaVersion":2,"config":{},"layers":[]}"#);

    let digest =
        repository.push_manifest(&Target::Tag("v1".into()), media_type::OCI_MANIFEST, bytes.clone()).await.unwrap();

    assert_eq!(digest, digest_of(&bytes));
    assert!(repository.has_manifest(digest).await.unwrap());
    repository.delete_manifest(&Target::Digest(digest)).await.unwrap();
    assert!(!repository.has_manifest(digest).await.unwrap());
}

#[tokio::test]
async fn a_manifest_that_the_registry_renames_is_an_error() {
    let server: Server = Server::start(|_| Reply::new(201).header("Docker-Content-Digest", digest_of(b"other"))).await;
    let bytes = Bytes::from_static(br#"{"schemaVersion":2,"config":{},"layers":[]}"#);

    let repository = Arc::new(repository(&server.host(), "", anonymous()));
    let error = repository.push_manifest(&Target::Tag("v1".into()), media_type::OCI_MANIFEST, bytes).await.unwrap_err();

    assert_eq!(error.kind(), Kind::Corrupt);
}

/// Bytes that come one after the other, each time a permit is there, and break off or end.
#[derive(Clone)]
struct Slow {
    bytes: Bytes,
    permits: Arc<tokio::sync::Semaphore>,
    breaks: bool,
}

impl Slow {
    fn new(bytes: &Bytes, permits: usize, breaks: bool) -> Self {
        Self { bytes: bytes.clone(), permits: Arc::new(tokio::sync::Semaphore::new(permits)), breaks }
    }
}

impl BlobSource for Slow {
    fn open(&self, offset: u64) -> BoxFuture<'_, io::Result<BoxStream<'static, io::Result<Bytes>>>> {
        let next = |(this, at): (Self, usize)| async move {
            if at == this.bytes.len() && !this.breaks {
                return None;
            }
            this.permits.acquire().await.unwrap().forget();
            let end = this.bytes.len().min(at + (1 << 20));
            let piece = match at == this.bytes.len() {
                true => Err(io::Error::other("the disk burns")),
                false => Ok(this.bytes.slice(at..end)),
            };
            Some((piece, (this, end)))
        };
        let bytes = stream::unfold((self.clone(), offset as usize), next).boxed();
        Box::pin(async move { Ok(bytes) })
    }
}

impl GrowingSource for Slow {
    fn whole(&self) -> BoxFuture<'_, io::Result<Descriptor>> {
        Box::pin(async move {
            match self.breaks {
                true => std::future::pending().await,
                false => Ok(layer(&self.bytes)),
            }
        })
    }
}

#[tokio::test]
async fn a_blob_is_sent_while_it_is_made() {
    let bytes = sample((3 << 20) + 17);
    let model = Model::with_blobs(&[]);
    let server = model.serve().await;
    let slow = Slow::new(&bytes, 100, false);

    let pushed = repository(&server.host(), "", anonymous()).push_growing(digest_of(b"raw"), &slow).await;

    assert_eq!(pushed.unwrap(), Pushed::Sent);
    assert!(model.has_blob(&bytes));
    let patches: Vec<_> = server.seen().into_iter().filter(|seen| seen.method == "PATCH").collect();
    assert_eq!(patches.len(), 1);
    assert_eq!((patches[0].header("content-length"), patches[0].header("content-range")), (None, None));
}

#[tokio::test]
async fn what_turns_out_to_be_there_is_not_sent_to_the_end() {
    let bytes = sample(3 << 20);
    let model = Model::with_blobs(&[&bytes]);
    let server = model.serve().await;
    // It is known what it is, and not all of it will ever come.
    let slow = Slow::new(&bytes, 1, false);

    let pushed = repository(&server.host(), "", anonymous()).push_growing(digest_of(b"raw"), &slow).await;

    assert_eq!(pushed.unwrap(), Pushed::Present);
    assert_eq!(steps(&server).last().map(String::as_str), Some("DELETE"), "the upload is cancelled");
}

#[tokio::test]
async fn a_growing_blob_that_is_cut_or_breaks_is_an_error_and_its_upload_is_cancelled() {
    let bytes = sample(3 << 20);
    for (cut, breaks, kind) in [(Some(1 << 20), false, Kind::Unavailable), (None, true, Kind::Local)] {
        let model = Model::with_blobs(&[]);
        let server = model.serve().await;
        if let Some(cut) = cut {
            server.cut_next_body(cut);
        }
        let slow = Slow::new(&bytes, 100, breaks);

        let repository = repository(&server.host(), "", anonymous());
        let error = repository.push_growing(digest_of(b"raw"), &slow).await.unwrap_err();

        assert_eq!(error.kind(), kind, "{}", chain(&error));
        assert_eq!(steps(&server).last().map(String::as_str), Some("DELETE"));
        assert!(!model.has_blob(&bytes));
        if !breaks {
            // Whole, it goes as any other.
            assert_eq!(repository.push_blob(&layer(&bytes), &bytes, None).await.unwrap(), Pushed::Sent);
        }
    }
}

#[tokio::test]
async fn a_growing_blob_waits_where_chunks_are_wanted() {
    let bytes = sample((2 << 20) + 17);
    let model = Model::with_blobs(&[]);
    let server = model.serve().await;
    let table = chunks_of(&server, 1 << 20);
    let slow = Slow::new(&bytes, 100, false);

    let pushed = repository(&server.host(), &table, anonymous()).push_growing(digest_of(b"raw"), &slow).await;

    assert_eq!(pushed.unwrap(), Pushed::Sent);
    assert_eq!(steps(&server), ["HEAD", "POST", "PATCH", "PATCH", "PATCH", "PUT"]);
}
