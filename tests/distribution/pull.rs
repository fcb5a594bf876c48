//! Category "pull": manifests by tag and digest, blobs whole and in parts, and what is not there.

use crate::{
    content::{self, Image, MANIFEST, bytes, push_blob, sha256},
    http::Request,
    subject::{Registry, over_both, over_ours, unknown_to_control},
};

over_both!(
    the_base_says_that_the_api_is_there,
    a_manifest_is_pulled_by_tag_and_by_digest_as_it_was_pushed,
    head_of_a_manifest_says_what_get_gives,
    a_blob_is_pulled_as_it_was_pushed,
    head_of_a_blob_says_what_get_gives,
    the_empty_blob_is_a_blob,
    what_was_never_pushed_is_not_found,
    a_blob_of_another_repository_is_not_found,
    a_part_of_a_blob_is_served,
    the_media_type_of_a_manifest_is_kept,
);
// The control answers a malformed digest with 500, and 416 with the length of a body that does not come.
unknown_to_control!(a_manifest_of_a_malformed_digest_is_not_served, a_range_beyond_the_end_is_refused);
over_ours!(
    errors_of_a_pull_have_the_codes_of_the_specification,
    a_range_that_is_none_is_ignored,
    a_manifest_of_another_repository_is_not_found,
    an_image_is_pulled_after_a_restart_and_after_a_crash,
);

fn the_base_says_that_the_api_is_there(registry: &Registry) {
    registry.get("/v2/").expect(200);
}

fn a_manifest_is_pulled_by_tag_and_by_digest_as_it_was_pushed(registry: &Registry) {
    let image = Image::new("pull");
    image.push(registry, "team/app", "v1");

    for reference in ["v1", &image.digest()] {
        let request = Request::new("GET", format!("/v2/team/app/manifests/{reference}")).header("accept", MANIFEST);
        let answer = registry.send(request).expect(200);

        let answer = answer.has("content-type", MANIFEST).has("docker-content-digest", &image.digest());
        assert_eq!(answer.body, image.manifest);
        assert_eq!(answer.must("content-length"), image.manifest.len().to_string());
    }
}

fn head_of_a_manifest_says_what_get_gives(registry: &Registry) {
    let image = Image::new("head");
    image.push(registry, "app", "v1");

    for reference in ["v1", &image.digest()] {
        let request = Request::new("HEAD", format!("/v2/app/manifests/{reference}")).header("accept", MANIFEST);
        let answer = registry.send(request).expect(200);

        let answer = answer.has("content-type", MANIFEST).has("docker-content-digest", &image.digest());
        assert_eq!(answer.must("content-length"), image.manifest.len().to_string());
    }
}

fn a_blob_is_pulled_as_it_was_pushed(registry: &Registry) {
    let content = bytes("blob", 300_000);
    let digest = push_blob(registry, "app", &content);

    let answer = registry.get(format!("/v2/app/blobs/{digest}")).expect(200).has("docker-content-digest", &digest);

    assert_eq!(answer.must("content-length"), content.len().to_string());
    assert_eq!(sha256(&answer.body), digest);
}

fn head_of_a_blob_says_what_get_gives(registry: &Registry) {
    let content = bytes("head of a blob", 1000);
    let digest = push_blob(registry, "app", &content);

    let answer = registry.head(format!("/v2/app/blobs/{digest}")).expect(200);

    answer.has("docker-content-digest", &digest).has("content-length", "1000");
}

fn the_empty_blob_is_a_blob(registry: &Registry) {
    let digest = push_blob(registry, "app", b"");

    let answer = registry.get(format!("/v2/app/blobs/{digest}")).expect(200).has("content-length", "0");

    assert!(answer.body.is_empty());
}

fn what_was_never_pushed_is_not_found(registry: &Registry) {
    Image::new("there").push(registry, "app", "v1");
    let absent = sha256(b"absent");

    for target in [
        "/v2/app/manifests/v2".to_owned(),
        format!("/v2/app/manifests/{absent}"),
        format!("/v2/app/blobs/{absent}"),
        "/v2/nobody/manifests/latest".to_owned(),
        format!("/v2/nobody/blobs/{absent}"),
    ] {
        registry.get(target.clone()).expect(404);
        assert!(registry.head(target).expect(404).body.is_empty());
    }
}

fn a_manifest_of_a_malformed_digest_is_not_served(registry: &Registry) {
    registry.get("/v2/app/manifests/sha256:totallywrong").expect_one_of(&[400, 404]);
    registry.get("/v2/app/blobs/sha256:totallywrong").expect_one_of(&[400, 404]);
}

/// GHSA-55r9-5mx9-qq7r of zot, row 128: to know a digest is no right.
fn a_blob_of_another_repository_is_not_found(registry: &Registry) {
    let digest = push_blob(registry, "secret/app", b"of the secret repository");
    push_blob(registry, "other/app", b"something else");

    registry.get(format!("/v2/other/app/blobs/{digest}")).expect(404);
    registry.head(format!("/v2/other/app/blobs/{digest}")).expect(404);
}

fn a_part_of_a_blob_is_served(registry: &Registry) {
    let content = bytes("ranges", 2048);
    let digest = push_blob(registry, "app", &content);
    let part = |range: &str| {
        let request = Request::new("GET", format!("/v2/app/blobs/{digest}")).header("range", format!("bytes={range}"));
        registry.send(request).expect(206)
    };

    for (range, expected, said) in [
        ("500-1499", &content[500..1500], "bytes 500-1499/2048"),
        ("500-", &content[500..], "bytes 500-2047/2048"),
        ("-500", &content[1548..], "bytes 1548-2047/2048"),
        ("2000-5000", &content[2000..], "bytes 2000-2047/2048"),
        ("0-0", &content[..1], "bytes 0-0/2048"),
        ("-5000", &content[..], "bytes 0-2047/2048"),
    ] {
        let answer = part(range).has("content-range", said).has("content-length", &expected.len().to_string());
        assert!(answer.body == expected, "{range}");
    }
}

fn a_range_beyond_the_end_is_refused(registry: &Registry) {
    let digest = push_blob(registry, "app", &bytes("short", 100));

    let request = Request::new("GET", format!("/v2/app/blobs/{digest}")).header("range", "bytes=5000-10000");

    registry.send(request).expect(416);
}

fn the_media_type_of_a_manifest_is_kept(registry: &Registry) {
    let image = Image::new("docker");
    image.push_blobs(registry, "app");
    let text = String::from_utf8(image.manifest.clone()).unwrap().replace(MANIFEST, content::DOCKER_MANIFEST);
    content::put_manifest(registry, "app", "v1", content::DOCKER_MANIFEST, text.as_bytes()).expect(201);

    let request = Request::new("GET", "/v2/app/manifests/v1").header("accept", content::DOCKER_MANIFEST);
    let answer = registry.send(request).expect(200);

    assert_eq!(answer.has("content-type", content::DOCKER_MANIFEST).body, text.into_bytes());
}

/// CVE-2014-9358 and CVE-2021-21285, rows 56 and 71: names and digests that are none.
fn errors_of_a_pull_have_the_codes_of_the_specification(registry: &Registry) {
    Image::new("codes").push(registry, "app", "v1");
    let absent = sha256(b"absent");

    for (target, status, code) in [
        ("/v2/app/manifests/v2".to_owned(), 404, "MANIFEST_UNKNOWN"),
        (format!("/v2/app/manifests/{absent}"), 404, "MANIFEST_UNKNOWN"),
        (format!("/v2/app/blobs/{absent}"), 404, "BLOB_UNKNOWN"),
        ("/v2/nobody/tags/list".to_owned(), 404, "NAME_UNKNOWN"),
        ("/v2/nobody/manifests/latest".to_owned(), 404, "MANIFEST_UNKNOWN"),
        ("/v2/app/manifests/sha256:12".to_owned(), 400, "DIGEST_INVALID"),
        ("/v2/app/manifests/md5:d41d8cd98f00b204e9800998ecf8427e".to_owned(), 400, "DIGEST_INVALID"),
        ("/v2/app/blobs/sha256:12".to_owned(), 400, "DIGEST_INVALID"),
        (format!("/v2/app/blobs/sha256:{}", "A".repeat(64)), 400, "DIGEST_INVALID"),
        ("/v2/app/blobs/..%2f..%2fcatalog.db".to_owned(), 400, "DIGEST_INVALID"),
        ("/v2/App/manifests/v1".to_owned(), 400, "NAME_INVALID"),
        ("/v2/a..b/tags/list".to_owned(), 400, "NAME_INVALID"),
        ("/v2/../tags/list".to_owned(), 400, "NAME_INVALID"),
        (format!("/v2/{}/tags/list", "a".repeat(300)), 400, "NAME_INVALID"),
    ] {
        let answer = registry.get(target).fails_with(status, code);
        assert_eq!(answer.must("content-type"), "application/json");
    }
}

fn a_range_that_is_none_is_ignored(registry: &Registry) {
    let content = bytes("whole", 500);
    let digest = push_blob(registry, "app", &content);

    // RFC 9110, 14.2: a unit that is not known, or a range that is malformed, is ignored; several may be.
    for range in ["lines=1-2", "bytes=x-y", "bytes=1", "bytes=0-1,5-6", "bytes=-"] {
        let request = Request::new("GET", format!("/v2/app/blobs/{digest}")).header("range", range);
        assert_eq!(registry.send(request).expect(200).body, content, "{range}");
    }
    // One that ends before it begins gets what one beyond the end gets, as the conformance suite expects.
    let request = Request::new("GET", format!("/v2/app/blobs/{digest}")).header("range", "bytes=200-100");
    registry.send(request).expect(416).has("content-range", "bytes */500");
    let request = Request::new("GET", format!("/v2/app/blobs/{digest}")).header("range", "bytes=-0");
    registry.send(request).expect(416);
}

/// GHSA-55r9-5mx9-qq7r of zot, row 128.
fn a_manifest_of_another_repository_is_not_found(registry: &Registry) {
    let image = Image::new("private");
    image.push(registry, "secret/app", "v1");
    Image::new("public").push(registry, "other/app", "v1");

    registry.get(format!("/v2/other/app/manifests/{}", image.digest())).fails_with(404, "MANIFEST_UNKNOWN");
}

fn an_image_is_pulled_after_a_restart_and_after_a_crash(_: &Registry) {
    let registry = Registry::start(crate::subject::Kind::Ours);
    let image = Image::new("durable");
    image.push(&registry, "app", "v1");
    let whole = |registry: &Registry| {
        assert_eq!(registry.get("/v2/app/manifests/v1").expect(200).body, image.manifest);
        assert_eq!(registry.get(format!("/v2/app/blobs/{}", sha256(&image.layer))).expect(200).body, image.layer);
    };

    let registry = registry.restart();
    whole(&registry);
    let registry = registry.crash();
    whole(&registry);
    registry.stop();
}
