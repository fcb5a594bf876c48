//! Fetching from a registry that cuts, stalls, lies and redirects.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use strata_registry::{Cause, Kind, LARGEST_MANIFEST, Progress, Target};
use strata_types::{Descriptor, media_type};

use crate::{
    anonymous, chain, digest_of, fetch, layer,
    model::Model,
    password_at, repository, sample,
    server::{Reply, Seen, Server},
};

/// A server of a model whose first answers to blob requests are changed.
async fn flawed(model: Arc<Model>, times: usize, change: impl Fn(Reply) -> Reply + Send + Sync + 'static) -> Server {
    let count = AtomicUsize::new(0);
    Server::start(move |seen| {
        let reply = model.reply(seen);
        let is_blob = seen.method == "GET" && seen.path().contains("/blobs/");
        if is_blob && count.fetch_add(1, Ordering::Relaxed) < times { change(reply) } else { reply }
    })
    .await
}

#[tokio::test]
async fn a_blob_comes_whole_in_one_request() {
    let bytes = sample(300_000);
    let server = Model::with_blobs(&[&bytes]).serve().await;
    let repository = repository(&server.host(), "", anonymous());

    let fetched = tokio::spawn(async move { fetch(&repository, &layer(&bytes), Progress::new()).await.unwrap() });

    assert_eq!(fetched.await.unwrap(), sample(300_000));
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn an_empty_blob_costs_no_request() {
    let repository = repository("127.0.0.1:1", "", anonymous());
    assert_eq!(fetch(&repository, &layer(b""), Progress::new()).await.unwrap(), b"");
}

#[tokio::test]
async fn a_cut_at_any_byte_is_continued_where_it_was() {
    let bytes = sample(100_000);
    let head = 224;
    // In the status line, in the head, about its end, in the body, before the last byte.
    for cut in [0, 1, 12, 60, head - 8, head, head + 30, head + 1000, 60_000, 100_000] {
        let server = flawed(Model::with_blobs(&[&bytes]), 1, move |reply| reply.cut(cut)).await;
        let repository = repository(&server.host(), "", anonymous());

        let fetched = fetch(&repository, &layer(&bytes), Progress::new()).await;

        assert_eq!(fetched.unwrap(), bytes, "cut after {cut}");
        assert_eq!(server.seen().len(), 2, "cut after {cut}");
        assert!(server.written() <= bytes.len(), "cut after {cut}: {} bytes were sent", server.written());
    }
}

#[tokio::test]
async fn a_second_pull_fetches_only_what_is_missing() {
    let bytes = sample(200_000);
    let server = Model::with_blobs(&[&bytes]).serve().await;
    let repository = repository(&server.host(), "", anonymous());
    let mut progress = Progress::new();
    progress.update(&bytes[..198_000]);

    let rest = fetch(&repository, &layer(&bytes), progress).await.unwrap();

    assert_eq!(rest, bytes[198_000..]);
    assert_eq!(server.written(), 2_000);
}

#[tokio::test]
async fn what_was_there_is_verified_with_the_rest() {
    let bytes = sample(2_000);
    let server = Model::with_blobs(&[&bytes]).serve().await;
    let repository = repository(&server.host(), "", anonymous());
    let mut progress = Progress::new();
    progress.update(&[0; 1000]);

    let error = fetch(&repository, &layer(&bytes), progress).await.unwrap_err();

    assert!(matches!(error.cause(), Some(Cause::WrongDigest { .. })), "{error:?}");
}

#[tokio::test]
async fn a_registry_without_ranges_sends_all_again() {
    let bytes = sample(150_000);
    let model = Model::with_blobs(&[&bytes]);
    let shared = model.clone();
    let count = AtomicUsize::new(0);
    let server = Server::start(move |seen| {
        let whole = shared.blobs.lock().unwrap()[&seen.path().rsplit('/').next().unwrap().to_owned()].clone();
        let reply = Reply::new(200).body(whole);
        if count.fetch_add(1, Ordering::Relaxed) == 0 { reply.cut(70_000) } else { reply }
    })
    .await;
    let repository = repository(&server.host(), "", anonymous());

    assert_eq!(fetch(&repository, &layer(&bytes), Progress::new()).await.unwrap(), bytes);
}

#[tokio::test]
async fn a_part_that_was_not_asked_for_is_refused() {
    let bytes = sample(5_000);
    for range in
        ["bytes 0-4999/5000", "bytes 999-4999/5000", "bytes 1000-4999/6000", "bytes 1000-3000/5000", "nonsense", ""]
    {
        let body = bytes.slice(1000..);
        let server = Server::start(move |_| Reply::new(206).header("Content-Range", range).body(&body[..])).await;
        let repository = repository(&server.host(), "", anonymous());
        let mut progress = Progress::new();
        progress.update(&bytes[..1000]);

        let error = fetch(&repository, &layer(&bytes), progress).await.unwrap_err();

        assert!(matches!(error.kind(), Kind::Refused | Kind::Corrupt), "{range:?}: {error:?}");
        assert_eq!(server.seen().len(), 1, "{range:?} was tried again");
    }
}

/// CVE-2014-8178, row 57.
#[tokio::test]
async fn wrong_bytes_are_refused_with_all_names() {
    let bytes = sample(5_000);
    let mut wrong = bytes.to_vec();
    wrong[4_000] ^= 1;
    let server = Server::start(move |_| Reply::new(200).body(wrong.clone())).await;
    let repository = repository(&server.host(), "", anonymous());

    let error = fetch(&repository, &layer(&bytes), Progress::new()).await.unwrap_err();

    assert_eq!(error.kind(), Kind::Corrupt);
    let text = chain(&error);
    for part in [server.host(), "a/b".to_owned(), digest_of(&bytes).to_string()] {
        assert!(text.contains(&part), "{text}");
    }
}

#[tokio::test]
async fn other_sizes_than_the_descriptors_are_refused() {
    let bytes = sample(5_000);
    for (size, is_chunked) in [(4_999, false), (5_001, false), (4_999, true)] {
        let model = Model::with_blobs(&[&bytes]);
        let server = flawed(model, usize::MAX, move |reply| Reply { is_chunked, ..reply }).await;
        let repository = repository(&server.host(), "", anonymous());
        let descriptor = Descriptor { size, ..layer(&bytes) };

        let error = fetch(&repository, &descriptor, Progress::new()).await.unwrap_err();

        assert!(matches!(error.cause(), Some(Cause::WrongLength { .. })), "{size} {is_chunked}: {error:?}");
        assert_eq!(server.seen().len(), 1);
    }
    // In chunks nobody can tell that the end is not a cut, until it has come again and again.
    let server =
        flawed(Model::with_blobs(&[&bytes]), usize::MAX, |reply| Reply { status: 200, is_chunked: true, ..reply })
            .await;
    let repository = repository(&server.host(), "attempts = 3", anonymous());
    let error = fetch(&repository, &Descriptor { size: 5_001, ..layer(&bytes) }, Progress::new()).await.unwrap_err();
    assert_ne!(error.kind(), Kind::NotFound, "{error:?}");
}

/// CVE-2017-14992, row 59.
#[tokio::test]
async fn an_endless_body_ends_at_the_size_of_the_descriptor() {
    let server = Server::start(|_| Reply { is_endless: true, ..Reply::new(200).body(vec![7; 10_000]) }).await;
    let repository = repository(&server.host(), "", anonymous());

    let error = fetch(&repository, &layer(&sample(25_000)), Progress::new()).await.unwrap_err();

    assert_eq!(error.kind(), Kind::Corrupt, "{error:?}");
}

#[tokio::test]
async fn passing_failures_are_tried_again_and_lasting_ones_end() {
    let bytes = sample(1_000);
    for status in [429, 500, 502, 503, 504] {
        let model = Model::with_blobs(&[&bytes]);
        let server = flawed(model.clone(), 2, move |_| Reply::new(status).header("Retry-After", 0)).await;
        let repository = repository(&server.host(), "", anonymous());
        assert_eq!(fetch(&repository, &layer(&bytes), Progress::new()).await.unwrap(), bytes, "{status}");

        let server = flawed(model, usize::MAX, move |_| Reply::new(status)).await;
        let repository = crate::repository(&server.host(), "attempts = 4", anonymous());
        let error = fetch(&repository, &layer(&bytes), Progress::new()).await.unwrap_err();
        assert_eq!(error.kind(), if status == 429 { Kind::RateLimited } else { Kind::Unavailable });
        assert_eq!(server.seen().len(), 4, "{status}");
    }
}

#[tokio::test]
async fn a_wait_that_is_too_long_is_told_instead_of_borne() {
    let server = Server::start(|_| {
        Reply::new(429)
            .header("Retry-After", 86_400)
            .body(r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"slow down"}]}"#)
    })
    .await;
    let repository = repository(&server.host(), "", anonymous());

    let error = repository.manifest(&Target::Tag("latest".into())).await.unwrap_err();

    assert_eq!(server.seen().len(), 1);
    let text = chain(&error);
    assert!(
        text.contains("86400 s") && text.contains("TOOMANYREQUESTS: slow down") && text.contains("ctl login"),
        "{text}"
    );
}

#[tokio::test]
async fn a_silent_body_is_cut_and_continued() {
    let bytes = sample(50_000);
    let server = flawed(Model::with_blobs(&[&bytes]), 1, |reply| Reply { stall: Some(20_000), ..reply }).await;
    let repository = repository(&server.host(), "idle_seconds = 1", anonymous());

    assert_eq!(fetch(&repository, &layer(&bytes), Progress::new()).await.unwrap(), bytes);
    assert!(server.seen()[1].header("range").is_some());
}

#[tokio::test]
async fn a_registry_that_never_answers_is_given_up() {
    let server = Server::start(|_| Reply { stall: Some(0), ..Reply::new(200) }).await;
    let repository = repository(&server.host(), "idle_seconds = 1\nattempts = 2", anonymous());

    let error = repository.manifest(&Target::Tag("latest".into())).await.unwrap_err();

    assert!(matches!(error.cause(), Some(Cause::Stalled { .. })), "{error:?}");
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test]
async fn a_dropped_read_loses_nothing() {
    let bytes = sample(400_000);
    let server = flawed(Model::with_blobs(&[&bytes]), 1, |reply| reply.cut(100_000)).await;
    let repository = repository(&server.host(), "", anonymous());
    let mut reader = repository.blob(&layer(&bytes), Progress::new());
    let mut all = Vec::new();

    // Most of these are dropped while they wait.
    loop {
        match tokio::time::timeout(Duration::from_micros(50), reader.next()).await {
            Ok(Ok(Some(chunk))) => all.extend_from_slice(&chunk),
            Ok(Ok(None)) => break,
            Ok(Err(error)) => panic!("{error:?}"),
            Err(_) => tokio::task::yield_now().await,
        }
        if server.seen().len() > 50 {
            // A connection that is dropped before its head came is made anew: give it the time now and then.
            if let Some(chunk) = reader.next().await.unwrap() {
                all.extend_from_slice(&chunk);
            }
        }
    }

    assert_eq!(all, bytes);
}

fn manifest() -> Vec<u8> {
    br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{},"layers":[]}"#.to_vec()
}

#[tokio::test]
async fn a_manifest_comes_by_tag_and_by_digest() {
    let model = Model::with_blobs(&[]);
    model.add_manifest("latest", media_type::OCI_MANIFEST, &manifest());
    model.add_manifest(&digest_of(&manifest()).to_string(), media_type::OCI_MANIFEST, &manifest());
    let server = model.serve().await;
    let repository = repository(&server.host(), "", anonymous());

    let resolved = repository.resolve("latest").await.unwrap().unwrap();
    let by_tag = tokio::spawn({
        let repository = repository.clone();
        async move { repository.manifest(&Target::Tag("latest".into())).await }
    });
    let by_tag = by_tag.await.unwrap().unwrap();

    assert_eq!(by_tag, repository.manifest(&Target::Digest(resolved.digest)).await.unwrap());
    assert_eq!((&by_tag.bytes[..], by_tag.media_type.as_str()), (&manifest()[..], media_type::OCI_MANIFEST));
    assert_eq!(resolved.media_type.as_deref(), Some(media_type::OCI_MANIFEST));
    let accept = server.seen()[0].header("accept").unwrap().to_owned();
    for known in
        [media_type::OCI_INDEX, media_type::DOCKER_INDEX, media_type::OCI_MANIFEST, media_type::DOCKER_MANIFEST]
    {
        assert!(accept.contains(known), "{accept}");
    }
}

/// CVE-2014-8179 and CVE-2024-3727, rows 58 and 75.
#[tokio::test]
async fn altered_manifests_are_refused() {
    let other = digest_of(b"other");
    type Change = fn(Reply) -> Reply;
    let of = move |change: Change| {
        move |_: &Seen| change(Reply::new(200).header("Content-Type", media_type::OCI_MANIFEST).body(manifest()))
    };
    let by_tag = Target::Tag("latest".into());
    let cases: [(Target, Change, &str); 5] = [
        (Target::Digest(other), |reply| reply, "with digest"),
        (by_tag.clone(), |reply| reply.header("Docker-Content-Digest", digest_of(b"other")), "names the digest"),
        (
            by_tag.clone(),
            |reply| Reply { headers: vec![("Content-Type".into(), media_type::OCI_INDEX.into())], ..reply },
            "calls itself",
        ),
        (
            by_tag.clone(),
            |reply| Reply { headers: vec![("Content-Type".into(), "text/html".into())], ..reply },
            "text/html",
        ),
        (by_tag, |reply| reply.body("<html>"), "not JSON"),
    ];
    for (target, change, expected) in cases {
        let server = Server::start(of(change)).await;
        let repository = repository(&server.host(), "", anonymous());

        let error = repository.manifest(&target).await.unwrap_err();

        assert_eq!(error.kind(), Kind::Corrupt);
        assert!(chain(&error).contains(expected), "{}", chain(&error));
        assert_eq!(server.seen().len(), 1);
    }
}

/// CVE-2023-25153, row 74.
#[tokio::test]
async fn a_huge_manifest_is_refused_before_it_is_read() {
    let announced =
        Server::start(|_| Reply::new(200).header("Content-Length", 100 << 20).body(vec![b' '; 1000]).cut(500)).await;
    let endless = Server::start(|_| Reply { is_endless: true, ..Reply::new(200).body(vec![b' '; 64 * 1024]) }).await;
    for server in [&announced, &endless] {
        let repository = repository(&server.host(), "", anonymous());

        let error = repository.manifest(&Target::Tag("latest".into())).await.unwrap_err();

        assert!(matches!(error.cause(), Some(Cause::TooLarge { limit: LARGEST_MANIFEST, .. })), "{error:?}");
    }
    // What did not fit into the limit is in the buffers of the two sockets.
    assert!(endless.written() < 4 * LARGEST_MANIFEST, "{} bytes were taken", endless.written());
}

#[tokio::test]
async fn what_is_missing_is_told_with_the_code_of_the_registry() {
    let server = Model::with_blobs(&[]).serve().await;
    let repository = repository(&server.host(), "", anonymous());

    let error = repository.manifest(&Target::Tag("nosuch".into())).await.unwrap_err();

    assert_eq!(error.kind(), Kind::NotFound);
    let text = chain(&error);
    assert!(text.contains("manifest nosuch") && text.contains("a/b") && text.contains("MANIFEST_UNKNOWN"), "{text}");
}

/// CVE-2020-15157, row 120.
#[tokio::test]
async fn redirects_are_followed_without_credentials_and_not_for_ever() {
    let bytes = sample(10_000);
    let store = Model::with_blobs(&[&bytes]).serve().await;
    let target = store.host();
    let server = Server::start(move |seen| match seen.header("authorization") {
        None => Reply::new(401).header("WWW-Authenticate", "Basic realm=\"x\""),
        Some(_) => Reply::new(307).header("Location", format!("http://{target}{}?signature=canary-0815", seen.path())),
    })
    .await;
    let repository = repository(&server.host(), "", password_at(&server.host()));

    assert_eq!(fetch(&repository, &layer(&bytes), Progress::new()).await.unwrap(), bytes);

    assert!(store.seen().iter().all(|seen| seen.header("authorization").is_none()), "credentials went to another host");
    let round = Server::start(|seen| Reply::new(302).header("Location", format!("{}x", seen.target))).await;
    let repository = crate::repository(&round.host(), "", anonymous());
    let error = fetch(&repository, &layer(&bytes), Progress::new()).await.unwrap_err();
    assert!(chain(&error).contains("no end of redirects"), "{}", chain(&error));
    assert!(round.seen().len() < 12, "{} redirects were followed", round.seen().len());
}

/// Rows 121, 122 and 123: no way into the clear, and no signature in the error.
#[tokio::test]
async fn a_redirect_to_plain_http_elsewhere_is_refused() {
    let server =
        Server::start(|_| Reply::new(307).header("Location", "http://localhost.evil.test:1/x?signature=canary-0815"))
            .await;
    let repository = repository(&server.host(), "", anonymous());

    let error = fetch(&repository, &layer(&sample(10)), Progress::new()).await.unwrap_err();

    let text = chain(&error);
    assert!(text.contains("localhost.evil.test:1") && !text.contains("canary"), "{text}");
}

#[tokio::test]
async fn transfers_of_a_host_are_bounded() {
    let bytes = sample(100);
    let server = flawed(Model::with_blobs(&[&bytes]), 2, |reply| Reply { stall: Some(0), ..reply }).await;
    let repository = repository(&server.host(), "transfers = 2", anonymous());
    let descriptor = layer(&bytes);
    let mut first = repository.blob(&descriptor, Progress::new());
    let mut second = repository.blob(&descriptor, Progress::new());
    let mut third = repository.blob(&descriptor, Progress::new());
    let wait = Duration::from_millis(300);

    let (one, two, three) = {
        let both = async {
            tokio::join!(tokio::time::timeout(wait * 4, first.next()), tokio::time::timeout(wait * 4, second.next()))
        };
        let late = async {
            while server.seen().len() < 2 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            tokio::time::timeout(wait, third.next()).await
        };
        let ((one, two), three) = tokio::join!(both, late);
        (one.is_err(), two.is_err(), three.is_err())
    };

    assert!(one && two, "the server answered");
    assert!(three, "a third transfer did not wait");
    assert_eq!(server.seen().len(), 2);
}
