//! Tags and referrers, page by page and without an end.

use bytes::Bytes;
use strata_registry::{Kind, Target};
use strata_types::media_type;

use crate::{
    anonymous, digest_of,
    model::{Model, unknown},
    repository,
    server::{Reply, Server},
};

#[tokio::test]
async fn tags_come_page_by_page() {
    let server = Server::start(|seen| match seen.parameters("last").pop().as_deref() {
        None => Reply::new(200)
            .header("Link", "</v2/a/b/tags/list?n=2&last=v2>; rel=\"next\"")
            .body(r#"{"name":"a/b","tags":["v1","v2"]}"#),
        // With the name that a proxy in front of the registry hides.
        Some("v2") => Reply::new(200)
            .header("Link", "<https://inside.test/v2/a/b/tags/list?n=2&last=v4>; rel=\"next\"")
            .body(r#"{"tags":["v3","v4"]}"#),
        Some(_) => Reply::new(200).body(r#"{"tags":null}"#),
    })
    .await;

    let tags = repository(&server.host(), "", anonymous()).tags().all().await.unwrap();

    assert_eq!(tags, ["v1", "v2", "v3", "v4"]);
    assert_eq!(server.seen().len(), 3);
}

#[tokio::test]
async fn a_list_without_an_end_ends() {
    let server = Server::start(|seen| {
        let number: u64 = seen.parameters("last").pop().map_or(0, |last| last.parse().unwrap());
        let link = format!("</v2/a/b/tags/list?last={}>; rel=\"next\"", number + 1);
        Reply::new(200).header("Link", link).body(r#"{"tags":["x"]}"#)
    })
    .await;

    let error = repository(&server.host(), "", anonymous()).tags().all().await.unwrap_err();

    assert_eq!(error.kind(), Kind::Refused);
    assert!(server.seen().len() <= 1_000);
    let circle = Server::start(|seen| {
        Reply::new(200).header("Link", format!("<{}>; rel=next", seen.target)).body(r#"{"tags":["x"]}"#)
    });
    let circle = circle.await;
    assert_eq!(repository(&circle.host(), "", anonymous()).tags().all().await.unwrap(), ["x"]);
}

fn artifact(kind: &str, subject: strata_types::Digest) -> Bytes {
    let text = format!(
        r#"{{"schemaVersion":2,"artifactType":"{kind}","config":{{"mediaType":"application/vnd.oci.empty.v1+json"}},"layers":[],
        "subject":{{"mediaType":"{}","digest":"{subject}","size":3}},"annotations":{{"a":"b"}}}}"#,
        media_type::OCI_MANIFEST
    );
    text.into()
}

#[tokio::test]
async fn referrers_are_kept_for_a_registry_that_cannot() {
    let model = Model::with_blobs(&[]);
    let server = model.serve().await;
    let repository = repository(&server.host(), "", anonymous());
    let subject = digest_of(b"image");
    assert_eq!(repository.referrers(subject, None).await.unwrap(), []);

    for kind in ["text/signature", "text/sbom", "text/sbom"] {
        let bytes = artifact(kind, subject);
        let target = Target::Digest(digest_of(&bytes));
        repository.push_manifest(&target, media_type::OCI_MANIFEST, bytes).await.unwrap();
    }

    let all = repository.referrers(subject, None).await.unwrap();
    assert_eq!(all.len(), 2, "the same one twice: {all:?}");
    let signatures = repository.referrers(subject, Some("text/signature")).await.unwrap();
    assert_eq!(signatures.len(), 1);
    assert_eq!(signatures[0].descriptor.digest, digest_of(&artifact("text/signature", subject)));
    assert_eq!(signatures[0].descriptor.annotations["a"], "b");
}

#[tokio::test]
async fn a_registry_that_keeps_referrers_is_asked_for_them() {
    let digest = digest_of(b"signature");
    let body = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"{m}","digest":"{digest}","size":3,"artifactType":"text/signature"}},
        {{"mediaType":"{m}","digest":"{digest}","size":3,"artifactType":"other"}},{{"mediaType":"{m}","digest":"sha512:00","size":3}}]}}"#,
        m = media_type::OCI_MANIFEST
    );
    let server = Server::start(move |seen| match seen.path().contains("/referrers/") {
        true => Reply::new(200).header("Content-Type", media_type::OCI_INDEX).body(body.as_str()),
        false => unknown("NAME_UNKNOWN"),
    })
    .await;

    let found = repository(&server.host(), "", anonymous())
        .referrers(digest_of(b"image"), Some("text/signature"))
        .await
        .unwrap();

    assert_eq!(found.len(), 1);
    assert_eq!(server.seen()[0].parameters("artifactType"), ["text/signature"]);
}
