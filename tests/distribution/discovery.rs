//! Category "content discovery": tags, page by page, and referrers with their filter.

use serde_json::{Value, json};

use crate::{
    content::{CONFIG, EMPTY, INDEX, Image, MANIFEST, artifact, descriptor, push_blob, put_manifest, sha256},
    http::{Answer, Request},
    subject::{Registry, over_both, over_ours, unknown_to_control},
};

over_both!(tags_of_a_repository_that_is_not_there_are_not_found, the_catalog_lists_repositories,);
unknown_to_control!(
    tags_are_listed_in_order,
    tags_are_listed_by_number_and_after_a_tag,
    a_manifest_without_referrers_has_an_empty_list,
    referrers_are_listed_with_type_and_annotations,
    referrers_are_filtered_by_type,
    an_index_refers_too,
    referrers_of_a_malformed_digest_are_refused,
    a_deleted_referrer_is_not_listed,
);
over_ours!(
    pages_follow_each_other_by_link,
    a_page_of_no_length_or_of_nonsense,
    long_lists_of_referrers_come_in_pages,
    referrers_of_another_repository_are_not_listed,
    a_subject_that_is_no_descriptor_is_refused,
);

fn push_tags(registry: &Registry, repository: &str, tags: &[&str]) {
    let image = Image::new("tags");
    image.push_blobs(registry, repository);
    for tag in tags {
        put_manifest(registry, repository, tag, MANIFEST, &image.manifest).expect(201);
    }
}

fn tags(answer: &Answer) -> Vec<String> {
    let json = answer.json();
    let tags = json["tags"].as_array().unwrap_or_else(|| panic!("no tags: {answer:?}"));
    tags.iter().map(|tag| tag.as_str().unwrap().to_owned()).collect()
}

fn tags_are_listed_in_order(registry: &Registry) {
    push_tags(registry, "team/app", &["v2", "latest", "v10", "V1", "1.0"]);

    let answer = registry.get("/v2/team/app/tags/list").expect(200);

    assert_eq!(answer.json()["name"], "team/app");
    assert_eq!(tags(&answer), ["1.0", "V1", "latest", "v10", "v2"]);
}

fn tags_of_a_repository_that_is_not_there_are_not_found(registry: &Registry) {
    push_tags(registry, "team/app", &["v1"]);

    registry.get("/v2/team/ap/tags/list").fails_with(404, "NAME_UNKNOWN");
    registry.get("/v2/team/tags/list").fails_with(404, "NAME_UNKNOWN");
}

fn the_catalog_lists_repositories(registry: &Registry) {
    for repository in ["b/two", "a", "b/one"] {
        push_tags(registry, repository, &["v1"]);
    }

    let answer = registry.get("/v2/_catalog").expect(200);

    assert_eq!(answer.json()["repositories"], json!(["a", "b/one", "b/two"]));
    let answer = registry.get("/v2/_catalog?n=1&last=a").expect(200);
    assert_eq!(answer.json()["repositories"], json!(["b/one"]));
}

/// Version 2.8 of docker-registry lists all tags, whatever is asked.
fn tags_are_listed_by_number_and_after_a_tag(registry: &Registry) {
    push_tags(registry, "app", &["a", "b", "c", "d"]);

    for (query, expected) in [
        ("n=2", &["a", "b"][..]),
        ("n=2&last=b", &["c", "d"]),
        ("last=c", &["d"]),
        ("n=10&last=bb", &["c", "d"]),
        ("n=0", &[]),
        ("last=d", &[]),
    ] {
        let answer = registry.get(format!("/v2/app/tags/list?{query}")).expect(200);
        assert_eq!(tags(&answer), expected, "{query}");
    }
}

fn next(answer: &Answer) -> Option<String> {
    let link = answer.header("link")?;
    let (target, rest) = link.strip_prefix('<')?.split_once('>')?;
    assert!(rest.contains("rel=\"next\""), "{answer:?}");
    Some(target.to_owned())
}

fn pages_follow_each_other_by_link(registry: &Registry) {
    push_tags(registry, "app", &["a", "b", "c", "d", "e"]);
    let (mut target, mut found) = (Some("/v2/app/tags/list?n=2".to_owned()), Vec::new());

    while let Some(page) = target {
        let answer = registry.get(page).expect(200);
        found.push(tags(&answer));
        target = next(&answer);
    }

    assert_eq!(found, [vec!["a", "b"], vec!["c", "d"], vec!["e"]]);
    push_tags(registry, "b", &["x"]);
    let answer = registry.get("/v2/_catalog?n=1").expect(200);
    let answer = registry.get(next(&answer).unwrap()).expect(200);
    assert_eq!((answer.json()["repositories"].clone(), next(&answer)), (json!(["b"]), None));
}

/// CVE-2023-2253 of distribution, below 1D.
fn a_page_of_no_length_or_of_nonsense(registry: &Registry) {
    push_tags(registry, "app", &["a", "b"]);

    let answer = registry.get("/v2/app/tags/list?n=0").expect(200);
    assert_eq!((tags(&answer).len(), next(&answer)), (0, None));
    for n in ["-1", "x", "", "99999999999999999999999"] {
        registry.get(format!("/v2/app/tags/list?n={n}")).expect(400);
        registry.get(format!("/v2/_catalog?n={n}")).expect(400);
    }
    let huge = registry.get("/v2/app/tags/list?n=4000000000").expect(200);
    assert_eq!(tags(&huge), ["a", "b"]);
}

fn referrers(answer: &Answer) -> Vec<Value> {
    let json = answer.json();
    assert_eq!((&json["schemaVersion"], &json["mediaType"]), (&json!(2), &json!(INDEX)), "{answer:?}");
    json["manifests"].as_array().unwrap_or_else(|| panic!("no manifests: {answer:?}")).clone()
}

fn list(registry: &Registry, target: String) -> Answer {
    registry.get(target).expect(200).has("content-type", INDEX)
}

fn a_manifest_without_referrers_has_an_empty_list(registry: &Registry) {
    let image = Image::new("lonely");
    image.push(registry, "app", "v1");

    assert!(referrers(&list(registry, format!("/v2/app/referrers/{}", image.digest()))).is_empty());
    assert!(referrers(&list(registry, format!("/v2/app/referrers/{}", sha256(b"never pushed")))).is_empty());
    // Of a repository that is not there too: the suite asks before it pushes.
    assert!(referrers(&list(registry, format!("/v2/nobody/referrers/{}", sha256(b"never pushed")))).is_empty());
}

/// An image with two referrers: one of a type of its own, one that has that of its config.
fn push_referrers(registry: &Registry) -> (Image, Vec<u8>, Vec<u8>) {
    let image = Image::new("subject");
    push_blob(registry, "app", b"{}");
    let subject = || Some(descriptor(MANIFEST, &image.manifest));
    let sbom = artifact(Some("application/vnd.example.sbom"), EMPTY, subject(), "sbom");
    let signature = artifact(None, "application/vnd.example.signature", subject(), "signature");
    // Before and after its subject: either order must do.
    put_manifest(registry, "app", &sha256(&sbom), MANIFEST, &sbom).expect(201);
    image.push(registry, "app", "v1");
    put_manifest(registry, "app", "signature", MANIFEST, &signature).expect(201);
    (image, sbom, signature)
}

fn by_digest(found: &[Value], digest: &str) -> Value {
    let is_it = |descriptor: &&Value| descriptor["digest"] == digest;
    found.iter().find(is_it).unwrap_or_else(|| panic!("no {digest} in {found:?}")).clone()
}

fn referrers_are_listed_with_type_and_annotations(registry: &Registry) {
    let (image, sbom, signature) = push_referrers(registry);

    let found = referrers(&list(registry, format!("/v2/app/referrers/{}", image.digest())));

    assert_eq!(found.len(), 2, "{found:?}");
    for (bytes, artifact_type, note) in [
        (&sbom, "application/vnd.example.sbom", "sbom"),
        (&signature, "application/vnd.example.signature", "signature"),
    ] {
        let descriptor = by_digest(&found, &sha256(bytes));
        assert_eq!(descriptor["mediaType"], MANIFEST);
        assert_eq!(descriptor["size"], bytes.len());
        assert_eq!(descriptor["artifactType"], artifact_type);
        assert_eq!(descriptor["annotations"], json!({"org.example.note": note}));
    }
}

fn referrers_are_filtered_by_type(registry: &Registry) {
    let (image, sbom, _) = push_referrers(registry);
    let target = format!("/v2/app/referrers/{}?artifactType=", image.digest());

    let answer = list(registry, format!("{target}application/vnd.example.sbom"));
    let found = referrers(&answer);
    assert_eq!((found.len(), &found[0]["digest"]), (1, &json!(sha256(&sbom))));
    answer.has("oci-filters-applied", "artifactType");
    let answer = list(registry, format!("{target}application%2Fvnd.example.nothing"));
    assert!(referrers(&answer).is_empty());
    answer.has("oci-filters-applied", "artifactType");
    assert_eq!(
        list(registry, target.trim_end_matches("?artifactType=").to_owned()).header("oci-filters-applied"),
        None
    );
}

fn an_index_refers_too(registry: &Registry) {
    let image = Image::new("subject of an index");
    image.push(registry, "app", "v1");
    let index = json!({
        "schemaVersion": 2, "mediaType": INDEX, "manifests": [], "subject": descriptor(MANIFEST, &image.manifest),
        "annotations": {"a": "b"}
    });
    let index = index.to_string().into_bytes();

    let answer = put_manifest(registry, "app", "index", INDEX, &index).expect(201);

    answer.has("oci-subject", &image.digest());
    let found = referrers(&list(registry, format!("/v2/app/referrers/{}", image.digest())));
    assert_eq!(
        found,
        [json!({
            "mediaType": INDEX, "digest": sha256(&index), "size": index.len(), "annotations": {"a": "b"}
        })]
    );
}

fn referrers_of_a_malformed_digest_are_refused(registry: &Registry) {
    Image::new("there").push(registry, "app", "v1");

    registry.get("/v2/app/referrers/sha256:12").expect(400);
    registry.get("/v2/app/referrers/latest").expect(400);
}

fn a_deleted_referrer_is_not_listed(registry: &Registry) {
    let (image, sbom, signature) = push_referrers(registry);

    registry.delete(format!("/v2/app/manifests/{}", sha256(&sbom))).expect(202);

    let found = referrers(&list(registry, format!("/v2/app/referrers/{}", image.digest())));
    assert_eq!((found.len(), &found[0]["digest"]), (1, &json!(sha256(&signature))));
}

fn long_lists_of_referrers_come_in_pages(registry: &Registry) {
    push_blob(registry, "app", b"{}");
    let subject = Image::new("popular");
    let mut pushed = std::collections::BTreeSet::new();
    // A page is at most 4 MiB, as a manifest is: five of these do not fit.
    for number in 0..5 {
        let note = number.to_string().repeat(1_000_000);
        let bytes = artifact(Some("application/vnd.x"), EMPTY, Some(descriptor(MANIFEST, &subject.manifest)), &note);
        put_manifest(registry, "app", &sha256(&bytes), MANIFEST, &bytes).expect(201);
        pushed.insert(sha256(&bytes));
    }
    let first = format!("/v2/app/referrers/{}?artifactType=application/vnd.x", subject.digest());
    let (mut target, mut pages, mut found) = (Some(first), 0, std::collections::BTreeSet::new());

    while let Some(page) = target {
        let answer = list(registry, page);
        assert!(answer.body.len() <= 4 << 20);
        for descriptor in referrers(&answer) {
            assert!(found.insert(descriptor["digest"].as_str().unwrap().to_owned()), "listed twice");
        }
        pages += 1;
        target = next(&answer);
        answer.has("oci-filters-applied", "artifactType");
    }

    assert_eq!((pages > 1, found), (true, pushed));
}

fn referrers_of_another_repository_are_not_listed(registry: &Registry) {
    let (image, _, _) = push_referrers(registry);

    image.push(registry, "other", "v1");

    assert!(referrers(&list(registry, format!("/v2/other/referrers/{}", image.digest()))).is_empty());
}

fn a_subject_that_is_no_descriptor_is_refused(registry: &Registry) {
    push_blob(registry, "app", b"{}");
    for subject in [json!("x"), json!({"digest": "sha256:1", "size": 1, "mediaType": MANIFEST}), json!({})] {
        let bytes = artifact(None, CONFIG, Some(subject), "");
        put_manifest(registry, "app", "v1", MANIFEST, &bytes).fails_with(400, "MANIFEST_INVALID");
    }
    let request = Request::new("GET", format!("/v2/app/referrers/{}", sha256(b"x")));
    assert!(referrers(&registry.send(request).expect(200)).is_empty());
}
