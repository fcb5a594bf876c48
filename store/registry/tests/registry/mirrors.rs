//! Mirrors: in order, with fallback, with their own credentials.

use strata_registry::{Kind, Progress, Target};
use strata_types::media_type;

use crate::{
    anonymous, chain, digest_of, fetch, layer,
    model::Model,
    password_at, repository, sample,
    server::{Reply, Server},
};

const MANIFEST: &[u8] = br#"{"schemaVersion":2,"config":{},"layers":[]}"#;

/// A table that maps "registry.test" to mirrors alone.
fn only(mirrors: &[&Server]) -> String {
    let texts: Vec<String> = mirrors.iter().map(|mirror| format!("\"http://{}/hub\"", mirror.host())).collect();
    format!("attempts = 1\n[host.\"registry.test\"]\nmirrors_only = true\nmirrors = [{}]", texts.join(", "))
}

#[tokio::test]
async fn the_first_mirror_that_has_it_serves_it() {
    let broken = Server::start(|_| Reply::new(500)).await;
    let empty = Model::with_blobs(&[]).serve().await;
    let model = Model::with_blobs(&[]);
    model.add_manifest("latest", media_type::OCI_MANIFEST, MANIFEST);
    let full = model.serve().await;
    let spare = model.serve().await;
    let repository = repository("registry.test", &only(&[&broken, &empty, &full, &spare]), anonymous());

    let document = repository.manifest(&Target::Tag("latest".into())).await.unwrap();

    assert_eq!(document.digest, digest_of(MANIFEST));
    let counts: Vec<usize> = [&broken, &empty, &full, &spare].iter().map(|server| server.seen().len()).collect();
    assert_eq!(counts, [1, 1, 1, 0]);
    assert_eq!(full.seen()[0].target, "/v2/hub/a/b/manifests/latest?ns=registry.test");
}

#[tokio::test]
async fn a_mirror_that_cannot_be_reached_is_passed_over() {
    let bytes = sample(1_000);
    let server = Model::with_blobs(&[&bytes]).serve().await;
    let table = format!("attempts = 1\n[host.\"{}\"]\nmirrors = [\"127.0.0.1:1\"]", server.host());
    let repository = repository(&server.host(), &table, anonymous());

    assert_eq!(fetch(&repository, &layer(&bytes), Progress::new()).await.unwrap(), bytes);
}

#[tokio::test]
async fn a_blob_that_one_mirror_cuts_is_finished_by_the_next() {
    let bytes = sample(50_000);
    let model = Model::with_blobs(&[&bytes]);
    let shared = model.clone();
    let cutting = Server::start(move |seen| shared.reply(seen).cut(20_000)).await;
    let whole = model.serve().await;
    let repository = repository("registry.test", &only(&[&cutting, &whole]), anonymous());

    assert_eq!(fetch(&repository, &layer(&bytes), Progress::new()).await.unwrap(), bytes);

    assert!(whole.written() < bytes.len(), "all was fetched again");
}

#[tokio::test]
async fn a_mirror_that_lied_is_not_asked_again() {
    let bytes = sample(1_000);
    let lying = Server::start(|_| Reply::new(200).body(vec![0; 1_000])).await;
    let honest = Model::with_blobs(&[&bytes]).serve().await;
    let repository = repository("registry.test", &only(&[&lying, &honest]), anonymous());

    let error = fetch(&repository, &layer(&bytes), Progress::new()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Corrupt);

    assert_eq!(fetch(&repository, &layer(&bytes), Progress::new()).await.unwrap(), bytes);
    assert_eq!(lying.seen().len(), 1);
}

#[tokio::test]
async fn when_all_fail_each_is_named_with_its_reason() {
    let broken = Server::start(|_| Reply::new(500)).await;
    let empty = Model::with_blobs(&[]).serve().await;
    let repository = repository("registry.test", &only(&[&broken, &empty]), anonymous());

    let error = repository.manifest(&Target::Tag("latest".into())).await.unwrap_err();

    assert_eq!(error.kind(), Kind::NotFound, "the last one decides");
    let text = chain(&error);
    for part in
        ["registry.test/a/b".to_owned(), format!("{}: ", broken.host()), format!("{}: ", empty.host()), "500".into()]
    {
        assert!(text.contains(&part), "{part} is not in {text}");
    }
}

/// CVE-2020-15157, row 120.
#[tokio::test]
async fn a_mirror_never_sees_the_credentials_of_its_registry() {
    let mirror = Server::start(|_| Reply::new(401).header("WWW-Authenticate", "Basic realm=\"x\"")).await;
    let repository = repository("registry.test", &only(&[&mirror]), password_at("registry.test"));

    let error = repository.manifest(&Target::Tag("latest".into())).await.unwrap_err();

    assert_eq!(error.kind(), Kind::Unauthorized);
    assert!(mirror.seen().iter().all(|seen| seen.header("authorization").is_none()));
}
