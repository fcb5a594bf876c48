//! What the specification leaves open and ours promises: limits, and that nothing half made stays.

use std::{fs, path::PathBuf, time::Duration};

use strata_tests::eventually;

use crate::{
    content::{
        BYTES, EMPTY, INDEX, Image, MANIFEST, artifact, begin, bytes, index, push_blob, put_manifest, sha256,
        with_digest,
    },
    http::Request,
    subject::{Registry, over_ours},
};

over_ours!(
    a_manifest_of_more_than_four_mebibytes_is_refused,
    a_blob_that_is_too_large_is_refused_and_leaves_nothing,
    uploads_have_a_number,
    an_idle_upload_expires,
    a_cancelled_upload_leaves_nothing,
    a_blob_that_no_manifest_names_is_let_go,
    requests_that_are_no_http_harm_nobody,
    a_cached_answer_is_confirmed,
    what_is_sparse_is_taken_where_the_configuration_says_so,
);

/// Files of uploads under way.
pub fn uploads_on_disk(registry: &Registry) -> Vec<PathBuf> {
    let mut left = vec![registry.state()];
    let mut found = Vec::new();
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten() {
            let path = entry.unwrap().path();
            let is_upload = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("upload-"));
            match path.is_dir() {
                true => left.push(path),
                false if is_upload => found.push(path),
                false => {}
            }
        }
    }
    found
}

fn a_manifest_of_more_than_four_mebibytes_is_refused(registry: &Registry) {
    push_blob(registry, "app", b"{}");
    let manifest = artifact(None, EMPTY, None, &"x".repeat(4 << 20));

    put_manifest(registry, "app", "large", MANIFEST, &manifest).fails_with(413, "SIZE_INVALID");
    let pieces: Vec<&[u8]> = manifest.chunks(1 << 20).collect();
    let request = Request::new("PUT", "/v2/app/manifests/large").header("content-type", MANIFEST);
    registry.send(request.chunked(&pieces)).fails_with(413, "SIZE_INVALID");

    registry.get("/v2/app/manifests/large").expect(404);
}

fn what_is_sparse_is_taken_where_the_configuration_says_so(closed: &Registry) {
    let open = Registry::configured("[registry]\naccept_sparse = true\n");
    let (here, there) = (Image::new("here"), Image::new("there"));
    let both = index(&[&here.manifest, &there.manifest]);
    for registry in [closed, &open] {
        here.push(registry, "app", "here");
    }

    put_manifest(closed, "app", "both", INDEX, &both).fails_with(404, "MANIFEST_BLOB_UNKNOWN");
    put_manifest(&open, "app", "both", INDEX, &both).expect(201);
    put_manifest(&open, "app", "there", MANIFEST, &there.manifest).expect(201);

    assert_eq!(open.get("/v2/app/manifests/both").expect(200).body, both);
    assert_eq!(open.get(format!("/v2/app/manifests/{}", here.digest())).expect(200).body, here.manifest);
    open.get(format!("/v2/app/blobs/{}", sha256(&there.layer))).fails_with(404, "BLOB_UNKNOWN");
    open.stop();
}

fn a_blob_that_is_too_large_is_refused_and_leaves_nothing(_: &Registry) {
    let registry = Registry::configured("[registry]\nmax_blob_bytes = 1000\n");
    let content = bytes("large", 1001);
    push_blob(&registry, "app", &content[..1000]);

    let location = begin(&registry, "app");
    let request = Request::new("PUT", with_digest(&location, &sha256(&content))).header("content-type", BYTES);
    registry.send(request.body(content.clone())).fails_with(413, "SIZE_INVALID");
    let location = begin(&registry, "app");
    registry.send(Request::new("PATCH", location.clone()).body(&content[..600])).expect(202);
    registry.send(Request::new("PATCH", location.clone()).chunked(&[&content[600..]])).fails_with(413, "SIZE_INVALID");
    registry.get(location).fails_with(404, "BLOB_UPLOAD_UNKNOWN");

    assert!(uploads_on_disk(&registry).is_empty());
    registry.stop();
}

fn uploads_have_a_number(_: &Registry) {
    let registry = Registry::configured("[registry]\nmax_uploads = 2\n");
    begin(&registry, "app");
    let second = begin(&registry, "app");

    let answer = registry.post("/v2/app/blobs/uploads/").fails_with(429, "TOOMANYREQUESTS");

    assert!(answer.header("retry-after").is_some());
    registry.delete(second).expect(204);
    begin(&registry, "app");
    registry.stop();
}

fn an_idle_upload_expires(_: &Registry) {
    let registry = Registry::configured("[registry]\nupload_idle_seconds = 1\n");
    let location = begin(&registry, "app");
    registry.send(Request::new("PATCH", location.clone()).body("bytes")).expect(202);
    assert_eq!(uploads_on_disk(&registry).len(), 1);

    // Not asked for: that would be a touch.
    eventually("the upload is gone", Duration::from_secs(30), || uploads_on_disk(&registry).is_empty());

    registry.get(location).fails_with(404, "BLOB_UPLOAD_UNKNOWN");
    registry.stop();
}

fn a_cancelled_upload_leaves_nothing(registry: &Registry) {
    let location = begin(registry, "app");
    registry.send(Request::new("PATCH", location.clone()).body("bytes")).expect(202);

    registry.delete(location).expect(204);

    assert!(uploads_on_disk(registry).is_empty());
}

fn a_blob_that_no_manifest_names_is_let_go(_: &Registry) {
    let settings = "garbage_grace_seconds = 0\ngarbage_delay_seconds = 0\n        [registry]\nunused_blob_seconds = 1\nupload_idle_seconds = 1\n";
    let registry = Registry::configured(settings);
    let (named, stray) = (push_blob(&registry, "app", b"{}"), push_blob(&registry, "app", b"stray"));
    put_manifest(&registry, "app", "v1", MANIFEST, &artifact(None, EMPTY, None, "")).expect(201);

    let is_gone = || registry.head(format!("/v2/app/blobs/{stray}")).status == 404;
    eventually("the stray blob is gone", Duration::from_secs(30), is_gone);

    registry.head(format!("/v2/app/blobs/{named}")).expect(200);
    registry.stop();
}

fn requests_that_are_no_http_harm_nobody(registry: &Registry) {
    use std::io::{Read, Write};

    for bytes in [&b"\x16\x03\x01\x02\x00"[..], b"GET / HTTP/9.9\r\n\r\n", b"\r\n\r\n\r\n", &[b'A'; 200_000]] {
        let mut stream = std::net::TcpStream::connect(registry.address).unwrap();
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said);
        assert!(!said.starts_with(b"HTTP/1.1 2"));
    }
    for target in ["/", "/v2/%ff/tags/list", "/v2/a/b/c", "/v2//", "/v2/a/manifests/", "/v2/a/blobs/uploads/x/y"] {
        registry.get(target).expect_one_of(&[400, 404]);
    }

    registry.get("/v2/").expect(200);
}

fn a_cached_answer_is_confirmed(registry: &Registry) {
    let digest = push_blob(registry, "app", b"{}");
    put_manifest(registry, "app", "v1", MANIFEST, &artifact(None, EMPTY, None, "")).expect(201);

    for target in [format!("/v2/app/blobs/{digest}"), "/v2/app/manifests/v1".to_owned()] {
        let etag = registry.get(target.clone()).expect(200).must("etag").to_owned();
        registry.send(Request::new("GET", target.clone()).header("if-none-match", etag)).expect(304);
        registry.send(Request::new("GET", target).header("if-none-match", "\"other\"")).expect(200);
    }
    let part = || Request::new("GET", format!("/v2/app/blobs/{digest}")).header("range", "bytes=1-1");
    registry.send(part().header("if-range", format!("\"{digest}\""))).expect(206);
    assert_eq!(registry.send(part().header("if-range", "\"other\"")).expect(200).body, b"{}");
}
