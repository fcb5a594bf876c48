//! Category "push": uploads in each of the ways, mounts, manifests, and what is refused of them.

use crate::{
    content::{
        BYTES, EMPTY, INDEX, Image, MANIFEST, artifact, begin, bytes, index, push_blob, put_manifest, sha256, sha512,
        with_digest,
    },
    http::Request,
    subject::{Registry, over_both, over_ours, unknown_to_control},
};

over_both!(
    a_blob_is_pushed_by_post_and_put,
    a_blob_is_pushed_in_chunks,
    the_last_chunk_may_come_with_the_put,
    a_blob_is_streamed_without_a_length,
    the_status_of_an_upload_says_how_far_it_is,
    an_upload_can_be_cancelled,
    bytes_of_another_digest_are_refused,
    a_blob_is_mounted_from_another_repository,
    a_mount_of_what_is_not_there_begins_an_upload,
    a_manifest_is_pushed_by_tag_and_by_digest,
    an_index_is_pushed_over_its_manifests,
    a_manifest_whose_blobs_are_missing_is_refused,
    a_manifest_under_a_digest_that_is_not_its_own_is_refused,
    a_manifest_of_four_megabytes_is_taken,
    a_tag_moves,
    an_image_without_layers_is_taken,
);
unknown_to_control!(
    a_manifest_under_a_malformed_digest_is_refused,
    layers_that_are_fetched_elsewhere_need_not_be_there,
    a_chunk_out_of_order_is_refused_and_the_upload_goes_on,
    a_blob_is_pushed_by_a_single_post,
    a_blob_is_mounted_without_saying_from_where,
    a_manifest_with_a_subject_is_acknowledged,
    a_manifest_by_digest_sets_the_tags_of_its_query,
    blobs_and_manifests_have_sha512_digests,
);
over_ours!(
    errors_of_a_push_have_the_codes_of_the_specification,
    what_is_no_manifest_is_refused,
    a_document_that_is_manifest_and_index_at_once_is_refused,
    an_upload_of_another_repository_is_unknown,
    what_a_cut_connection_sent_is_kept_and_continued,
    an_index_whose_manifest_is_missing_is_refused,
    a_manifest_whose_sizes_are_wrong_is_refused,
    an_upload_survives_a_refused_digest_not,
    an_upload_goes_on_after_a_restart,
);

fn a_blob_is_pushed_by_post_and_put(registry: &Registry) {
    let content = bytes("post and put", 5000);
    let digest = sha256(&content);
    let location = begin(registry, "app");

    let request = Request::new("PUT", with_digest(&location, &digest)).header("content-type", BYTES);
    let answer = registry.send(request.body(content.clone())).expect(201);

    assert_eq!(registry.get(registry.location(&answer)).expect(200).body, content);
}

fn a_blob_is_pushed_by_a_single_post(registry: &Registry) {
    let content = bytes("post", 5000);
    let digest = sha256(&content);

    let request = Request::new("POST", format!("/v2/app/blobs/uploads/?digest={digest}")).header("content-type", BYTES);
    let answer = registry.send(request.body(content.clone())).expect(201);

    assert_eq!(registry.get(registry.location(&answer)).expect(200).body, content);
}

fn chunk(location: &str, content: &[u8], from: usize, to: usize) -> Request {
    let request = Request::new("PATCH", location).header("content-type", BYTES);
    request.header("content-range", format!("{from}-{}", to - 1)).body(&content[from..to])
}

fn a_blob_is_pushed_in_chunks(registry: &Registry) {
    let content = bytes("chunks", 3000);
    let mut location = begin(registry, "app");

    for (from, to) in [(0, 1024), (1024, 2048), (2048, 3000)] {
        let answer = registry.send(chunk(&location, &content, from, to)).expect(202);
        let answer = answer.has("range", &format!("0-{}", to - 1));
        location = registry.location(&answer);
    }
    let answer = registry.send(Request::new("PUT", with_digest(&location, &sha256(&content)))).expect(201);

    assert_eq!(registry.get(registry.location(&answer)).expect(200).body, content);
}

fn the_last_chunk_may_come_with_the_put(registry: &Registry) {
    let content = bytes("last chunk", 2000);
    let location = begin(registry, "app");
    let answer = registry.send(chunk(&location, &content, 0, 1500)).expect(202);
    let location = registry.location(&answer);

    let request = Request::new("PUT", with_digest(&location, &sha256(&content))).header("content-type", BYTES);
    let answer = registry.send(request.header("content-range", "1500-1999").body(&content[1500..])).expect(201);

    assert_eq!(registry.get(registry.location(&answer)).expect(200).body, content);
}

fn a_blob_is_streamed_without_a_length(registry: &Registry) {
    let content = bytes("stream", 100_000);
    let location = begin(registry, "app");

    let request = Request::new("PATCH", location).header("content-type", BYTES);
    let pieces: Vec<&[u8]> = content.chunks(30_000).collect();
    let answer = registry.send(request.chunked(&pieces)).expect(202);
    let location = registry.location(&answer);
    registry.send(Request::new("PUT", with_digest(&location, &sha256(&content)))).expect(201);

    assert_eq!(registry.get(format!("/v2/app/blobs/{}", sha256(&content))).expect(200).body, content);
}

fn a_chunk_out_of_order_is_refused_and_the_upload_goes_on(registry: &Registry) {
    let content = bytes("out of order", 3000);
    let location = begin(registry, "app");
    registry.send(chunk(&location, &content, 1000, 2000)).expect(416);
    let answer = registry.send(chunk(&location, &content, 0, 1000)).expect(202);
    let location = registry.location(&answer);

    registry.send(chunk(&location, &content, 2000, 3000)).expect(416);
    registry.send(chunk(&location, &content, 0, 1000)).expect(416);
    let answer = registry.get(location).expect(204).has("range", "0-999");
    let answer = registry.send(chunk(&registry.location(&answer), &content, 1000, 3000)).expect(202);
    let location = registry.location(&answer);

    registry.send(Request::new("PUT", with_digest(&location, &sha256(&content)))).expect(201);
}

fn the_status_of_an_upload_says_how_far_it_is(registry: &Registry) {
    let content = bytes("status", 700);
    let location = begin(registry, "app");

    let before = registry.get(location.clone()).expect(204);
    assert!(before.header("location").is_some(), "{before:?}");
    let answer = registry.send(chunk(&location, &content, 0, 700)).expect(202);

    registry.get(registry.location(&answer)).expect(204).has("range", "0-699");
}

fn an_upload_can_be_cancelled(registry: &Registry) {
    let location = begin(registry, "app");

    registry.delete(location.clone()).expect(204);

    registry.get(location.clone()).expect(404);
    registry.delete(location).expect(404);
}

/// CVE-2014-8178, row 57.
fn bytes_of_another_digest_are_refused(registry: &Registry) {
    let digest = sha256(b"what was promised");
    let location = begin(registry, "app");

    let request = Request::new("PUT", with_digest(&location, &digest)).header("content-type", BYTES);
    registry.send(request.body("what came")).expect(400);

    registry.head(format!("/v2/app/blobs/{digest}")).expect(404);
    registry.head(format!("/v2/app/blobs/{}", sha256(b"what came"))).expect(404);
}

fn a_blob_is_mounted_from_another_repository(registry: &Registry) {
    let content = bytes("mount", 900);
    let digest = push_blob(registry, "from/here", &content);

    let answer = registry.post(format!("/v2/to/there/blobs/uploads/?mount={digest}&from=from/here")).expect(201);

    assert_eq!(registry.get(registry.location(&answer)).expect(200).body, content);
    assert_eq!(registry.get(format!("/v2/to/there/blobs/{digest}")).expect(200).body, content);
}

fn a_mount_of_what_is_not_there_begins_an_upload(registry: &Registry) {
    push_blob(registry, "from/here", b"something");
    let content = bytes("nowhere", 100);
    let digest = sha256(&content);

    for from in ["from/here", "no/where"] {
        let answer = registry.post(format!("/v2/to/there/blobs/uploads/?mount={digest}&from={from}")).expect(202);
        let location = registry.location(&answer);
        registry.send(Request::new("PUT", with_digest(&location, &digest)).body(content.clone())).expect(201);
        registry.delete(format!("/v2/to/there/blobs/{digest}")).expect(202);
    }
}

fn a_blob_is_mounted_without_saying_from_where(registry: &Registry) {
    let content = bytes("mount from anywhere", 900);
    let digest = push_blob(registry, "from/here", &content);

    registry.post(format!("/v2/to/there/blobs/uploads/?mount={digest}")).expect(201);

    assert_eq!(registry.get(format!("/v2/to/there/blobs/{digest}")).expect(200).body, content);
}

fn a_manifest_is_pushed_by_tag_and_by_digest(registry: &Registry) {
    for (seed, by_tag) in [("by tag", true), ("by digest", false)] {
        let image = Image::new(seed);
        image.push_blobs(registry, "app");
        let reference = if by_tag { "v1".to_owned() } else { image.digest() };

        let answer = put_manifest(registry, "app", &reference, MANIFEST, &image.manifest).expect(201);

        let answer = answer.has("docker-content-digest", &image.digest());
        assert_eq!(registry.get(registry.location(&answer)).expect(200).body, image.manifest);
        registry.get(format!("/v2/app/manifests/{}", image.digest())).expect(200);
    }
}

fn an_index_is_pushed_over_its_manifests(registry: &Registry) {
    let (one, two) = (Image::new("one"), Image::new("two"));
    one.push(registry, "app", &one.digest());
    two.push(registry, "app", &two.digest());
    let both = index(&[&one.manifest, &two.manifest]);

    put_manifest(registry, "app", "both", INDEX, &both).expect(201);

    let request = Request::new("GET", "/v2/app/manifests/both").header("accept", INDEX);
    assert_eq!(registry.send(request).expect(200).has("content-type", INDEX).body, both);
    registry.get(format!("/v2/app/manifests/{}", two.digest())).expect(200);
}

fn a_manifest_whose_blobs_are_missing_is_refused(registry: &Registry) {
    let image = Image::new("incomplete");
    push_blob(registry, "app", &image.config);

    put_manifest(registry, "app", "v1", MANIFEST, &image.manifest).expect_one_of(&[400, 404]);

    registry.get("/v2/app/manifests/v1").expect(404);
    push_blob(registry, "elsewhere", &image.layer);
    put_manifest(registry, "app", "v1", MANIFEST, &image.manifest).expect_one_of(&[400, 404]);
    push_blob(registry, "app", &image.layer);
    put_manifest(registry, "app", "v1", MANIFEST, &image.manifest).expect(201);
}

/// CVE-2014-8179, row 58.
fn a_manifest_under_a_digest_that_is_not_its_own_is_refused(registry: &Registry) {
    let image = Image::new("renamed");
    image.push_blobs(registry, "app");
    let other = sha256(b"another manifest");

    put_manifest(registry, "app", &other, MANIFEST, &image.manifest).expect(400);

    registry.get(format!("/v2/app/manifests/{other}")).expect(404);
    registry.get(format!("/v2/app/manifests/{}", image.digest())).expect(404);
}

fn a_manifest_under_a_malformed_digest_is_refused(registry: &Registry) {
    let image = Image::new("malformed");
    image.push_blobs(registry, "app");

    put_manifest(registry, "app", "sha256:baddigeststring", MANIFEST, &image.manifest).expect_one_of(&[400, 404]);
}

/// Row 74: a cap that is no lower than the specification asks for.
fn a_manifest_of_four_megabytes_is_taken(registry: &Registry) {
    push_blob(registry, "app", b"{}");
    let manifest = artifact(Some("application/vnd.example"), EMPTY, None, &"x".repeat(4_000_000));

    put_manifest(registry, "app", "large", MANIFEST, &manifest).expect(201);

    assert!(registry.get("/v2/app/manifests/large").expect(200).body == manifest);
}

fn a_tag_moves(registry: &Registry) {
    let (old, new) = (Image::new("old"), Image::new("new"));
    old.push(registry, "app", "latest");
    new.push(registry, "app", "latest");

    assert_eq!(registry.get("/v2/app/manifests/latest").expect(200).body, new.manifest);
    registry.get(format!("/v2/app/manifests/{}", old.digest())).expect(200);
}

fn an_image_without_layers_is_taken(registry: &Registry) {
    push_blob(registry, "app", b"{}");
    let manifest = String::from_utf8(artifact(None, EMPTY, None, "no layers")).unwrap();
    let mut manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    manifest["layers"] = serde_json::json!([]);

    put_manifest(registry, "app", "v1", MANIFEST, manifest.to_string().as_bytes()).expect(201);
}

fn layers_that_are_fetched_elsewhere_need_not_be_there(registry: &Registry) {
    push_blob(registry, "app", b"{}");
    let mut manifest: serde_json::Value = serde_json::from_slice(&artifact(None, EMPTY, None, "foreign")).unwrap();
    manifest["layers"] = serde_json::json!([{
        "mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", "size": 123_456,
        "digest": sha256(b"elsewhere"), "urls": ["https://store.example.com/blobs/1"]
    }]);

    put_manifest(registry, "app", "v1", MANIFEST, manifest.to_string().as_bytes()).expect(201);
}

fn a_manifest_with_a_subject_is_acknowledged(registry: &Registry) {
    push_blob(registry, "app", b"{}");
    let absent = sha256(b"pushed later");
    let subject = serde_json::json!({"mediaType": MANIFEST, "digest": absent, "size": 5});
    let manifest = artifact(Some("application/vnd.example"), EMPTY, Some(subject), "signature");

    let answer = put_manifest(registry, "app", &sha256(&manifest), MANIFEST, &manifest).expect(201);

    answer.has("oci-subject", &absent);
}

fn a_manifest_by_digest_sets_the_tags_of_its_query(registry: &Registry) {
    let image = Image::new("many tags");
    image.push_blobs(registry, "app");
    let tags: Vec<String> = (0..12).map(|number| format!("tag-{number}")).collect();
    let query: Vec<String> = tags.iter().map(|tag| format!("tag={tag}")).collect();
    let reference = format!("{}?{}", image.digest(), query.join("&"));

    let answer = put_manifest(registry, "app", &reference, MANIFEST, &image.manifest).expect(201);

    let mut accepted = answer.values("oci-tag");
    accepted.sort_unstable();
    let mut wanted: Vec<&str> = tags.iter().map(String::as_str).collect();
    wanted.sort_unstable();
    assert_eq!(accepted, wanted);
    for tag in tags {
        assert_eq!(registry.get(format!("/v2/app/manifests/{tag}")).expect(200).body, image.manifest);
    }
}

fn blobs_and_manifests_have_sha512_digests(registry: &Registry) {
    let config = b"{}";
    let digest = sha512(config);
    let location = begin(registry, "app");
    registry.send(Request::new("PUT", with_digest(&location, &digest)).body(config)).expect(201);
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "layers": [],
        "config": {"mediaType": EMPTY, "digest": digest, "size": 2}
    });
    let manifest = manifest.to_string().into_bytes();
    let name = sha512(&manifest);

    put_manifest(registry, "app", &name, MANIFEST, &manifest).expect(201).has("docker-content-digest", &name);

    let answer = registry.get(format!("/v2/app/blobs/{digest}")).expect(200).has("docker-content-digest", &digest);
    assert_eq!(answer.body, config);
    let answer = registry.get(format!("/v2/app/manifests/{name}")).expect(200).has("docker-content-digest", &name);
    assert_eq!(answer.body, manifest);
    registry.delete(format!("/v2/app/manifests/{name}")).expect(202);
    registry.get(format!("/v2/app/manifests/{name}")).expect(404);
}

fn errors_of_a_push_have_the_codes_of_the_specification(registry: &Registry) {
    let image = Image::new("codes");
    let put = |reference: &str| put_manifest(registry, "app", reference, MANIFEST, &image.manifest);
    let answer = put("v1").fails_with(404, "MANIFEST_BLOB_UNKNOWN");
    let told = answer.json().to_string();
    assert!(told.contains(&sha256(&image.config)) && told.contains(&sha256(&image.layer)), "{told}");
    put("sha256:12").fails_with(400, "DIGEST_INVALID");
    put(".hidden").fails_with(400, "MANIFEST_INVALID");
    image.push_blobs(registry, "app");
    put(&sha256(b"other")).fails_with(400, "DIGEST_INVALID");

    let location = begin(registry, "app");
    registry.send(Request::new("PUT", location.clone()).body("x")).fails_with(400, "DIGEST_INVALID");
    registry.send(Request::new("PUT", with_digest(&location, "sha256:1"))).fails_with(400, "DIGEST_INVALID");
    let md5 = "md5:d41d8cd98f00b204e9800998ecf8427e";
    registry.send(Request::new("PUT", with_digest(&location, md5))).fails_with(400, "DIGEST_INVALID");
    let wrong = Request::new("PATCH", location.clone()).header("content-range", "5-9").body("12345");
    registry.send(wrong).fails_with(416, "BLOB_UPLOAD_INVALID");
    let wrong = Request::new("PATCH", location.clone()).header("content-range", "0-9").body("12345");
    registry.send(wrong).fails_with(400, "SIZE_INVALID");
    let wrong = Request::new("PATCH", location.clone()).header("content-range", "nine").body("12345");
    registry.send(wrong).fails_with(400, "BLOB_UPLOAD_INVALID");
    let request = Request::new("PUT", with_digest(&location, &sha256(b"other"))).body("bytes");
    registry.send(request).fails_with(400, "DIGEST_INVALID");

    registry.get("/v2/app/blobs/uploads/nosuchupload").fails_with(404, "BLOB_UPLOAD_UNKNOWN");
    registry.post("/v2/App/blobs/uploads/").fails_with(400, "NAME_INVALID");
    let md5 = format!("/v2/app/blobs/uploads/?digest={md5}");
    registry.send(Request::new("POST", md5).body("")).fails_with(400, "DIGEST_INVALID");
    registry.post("/v2/app/blobs/uploads/?digest-algorithm=md5").fails_with(400, "DIGEST_INVALID");
    for (method, target, allowed) in [
        ("PUT", "/v2/app/tags/list", "GET"),
        ("POST", "/v2/app/manifests/v1", "GET, HEAD, PUT, DELETE"),
        ("GET", "/v2/app/blobs/uploads/", "POST"),
    ] {
        registry.send(Request::new(method, target)).fails_with(405, "UNSUPPORTED").has("allow", allowed);
    }
}

fn what_is_no_manifest_is_refused(registry: &Registry) {
    push_blob(registry, "app", b"{}");
    let wrong_type = artifact(None, EMPTY, None, "an index, says the header");
    for (media_type, body) in [
        (MANIFEST, &b""[..]),
        (MANIFEST, b"no json"),
        (MANIFEST, b"[]"),
        (MANIFEST, b"{}"),
        (MANIFEST, br#"{"schemaVersion":2}"#),
        (MANIFEST, br#"{"schemaVersion":1,"config":{},"layers":[]}"#),
        (MANIFEST, br#"{"schemaVersion":2,"layers":[],"config":{"mediaType":"a/b","digest":"../../x","size":1}}"#),
        (MANIFEST, br#"{"schemaVersion":2,"layers":[],"config":{"mediaType":"a/b","digest":"sha256:1","size":-1}}"#),
        ("application/vnd.docker.distribution.manifest.v1+prettyjws", br#"{"schemaVersion":1}"#),
        ("text/plain", &wrong_type),
        (INDEX, &wrong_type),
    ] {
        let answer = put_manifest(registry, "app", "v1", media_type, body);
        answer.fails_with(400, "MANIFEST_INVALID");
    }
    registry.get("/v2/app/manifests/v1").expect(404);
}

/// CVE-2021-41190, row 72.
fn a_document_that_is_manifest_and_index_at_once_is_refused(registry: &Registry) {
    push_blob(registry, "app", b"{}");
    let mut both: serde_json::Value = serde_json::from_slice(&artifact(None, EMPTY, None, "both")).unwrap();
    both["manifests"] = serde_json::json!([]);
    both.as_object_mut().unwrap().remove("mediaType");

    for media_type in [MANIFEST, INDEX] {
        let answer = put_manifest(registry, "app", "v1", media_type, both.to_string().as_bytes());
        answer.fails_with(400, "MANIFEST_INVALID");
    }
}

/// Row 128: to know an upload's id is no right.
fn an_upload_of_another_repository_is_unknown(registry: &Registry) {
    let location = begin(registry, "mine/app");
    let theirs = location.replace("/mine/app/", "/theirs/app/");
    assert_ne!(location, theirs);

    registry.get(theirs.clone()).fails_with(404, "BLOB_UPLOAD_UNKNOWN");
    registry.delete(theirs.clone()).fails_with(404, "BLOB_UPLOAD_UNKNOWN");
    let request = Request::new("PUT", with_digest(&theirs, &sha256(b"x"))).body("x");
    registry.send(request).fails_with(404, "BLOB_UPLOAD_UNKNOWN");
    registry.get(location).expect(204);
}

fn what_a_cut_connection_sent_is_kept_and_continued(registry: &Registry) {
    let content = bytes("cut", 500_000);
    let location = begin(registry, "app");
    let request = Request::new("PATCH", location.clone()).header("content-type", BYTES);
    registry.abandon(request.cut(&content[..200_000], content.len()));

    // As a client does: asks how far it is, and goes on there, until the registry has noticed the end of the first.
    let goes_on = || {
        let answer = registry.get(location.clone()).expect(204);
        let end: usize = answer.must("range").trim_start_matches("0-").parse().unwrap();
        let start = if end == 0 { 0 } else { end + 1 };
        assert!(start <= 200_000, "more than was sent: {answer:?}");
        let request = Request::new("PATCH", location.clone()).header("content-range", format!("{start}-499999"));
        registry.send(request.body(&content[start..])).expect_one_of(&[202, 409, 416]).status == 202
    };
    strata_tests::eventually("the upload goes on", std::time::Duration::from_secs(20), goes_on);
    registry.send(Request::new("PUT", with_digest(&location, &sha256(&content)))).expect(201);

    assert!(registry.get(format!("/v2/app/blobs/{}", sha256(&content))).expect(200).body == content);
}

fn an_index_whose_manifest_is_missing_is_refused(registry: &Registry) {
    let (here, absent) = (Image::new("here"), Image::new("absent"));
    here.push(registry, "app", &here.digest());
    let both = index(&[&here.manifest, &absent.manifest]);

    let answer = put_manifest(registry, "app", "both", INDEX, &both).fails_with(404, "MANIFEST_BLOB_UNKNOWN");

    assert!(answer.json().to_string().contains(&absent.digest()), "{answer:?}");
}

fn a_manifest_whose_sizes_are_wrong_is_refused(registry: &Registry) {
    let image = Image::new("sizes");
    image.push_blobs(registry, "app");
    let mut manifest: serde_json::Value = serde_json::from_slice(&image.manifest).unwrap();
    manifest["layers"][0]["size"] = 7.into();

    let answer = put_manifest(registry, "app", "v1", MANIFEST, manifest.to_string().as_bytes());

    answer.fails_with(400, "MANIFEST_INVALID");
}

fn an_upload_survives_a_refused_digest_not(registry: &Registry) {
    let location = begin(registry, "app");
    let request = Request::new("PUT", with_digest(&location, &sha256(b"promised"))).body("came");
    registry.send(request).fails_with(400, "DIGEST_INVALID");

    registry.get(location).fails_with(404, "BLOB_UPLOAD_UNKNOWN");
    assert!(crate::decided::uploads_on_disk(registry).is_empty());
}

fn an_upload_goes_on_after_a_restart(_: &Registry) {
    let registry = Registry::start(crate::subject::Kind::Ours);
    let content = bytes("restart", 3000);
    let location = begin(&registry, "app");
    registry.send(chunk(&location, &content, 0, 1000)).expect(202);

    let registry = registry.restart();
    registry.get(location.clone()).expect(204).has("range", "0-999");
    registry.send(chunk(&location, &content, 1000, 2000)).expect(202);
    let registry = registry.crash();
    let request = Request::new("PUT", with_digest(&location, &sha256(&content))).header("content-range", "2000-2999");
    registry.send(request.body(&content[2000..])).expect(201);

    assert_eq!(registry.get(format!("/v2/app/blobs/{}", sha256(&content))).expect(200).body, content);
    registry.stop();
}
