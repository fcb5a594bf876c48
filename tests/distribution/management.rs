//! Category "content management": tags, manifests and blobs are deleted, at once, and nothing else goes with them.

use crate::{
    content::{INDEX, Image, index, push_blob, put_manifest, sha256},
    subject::{Registry, over_both, over_ours, unknown_to_control},
};

over_both!(
    a_deleted_manifest_is_gone_by_digest_and_by_tag,
    a_deleted_blob_is_gone,
    deleting_what_is_not_there_is_not_found,
    what_was_deleted_can_be_pushed_again,
    deletion_in_one_repository_leaves_the_others,
);
unknown_to_control!(a_deleted_tag_is_gone_and_its_manifest_stays);
over_ours!(
    a_blob_that_a_manifest_needs_is_not_deleted,
    the_last_tag_and_manifest_take_the_repository_out_of_the_catalog,
    a_manifest_that_an_index_needs_is_not_deleted,
    space_of_deleted_images_is_free_again,
);

fn a_deleted_tag_is_gone_and_its_manifest_stays(registry: &Registry) {
    let image = Image::new("tag");
    image.push(registry, "app", "v1");
    image.push(registry, "app", "v2");

    registry.delete("/v2/app/manifests/v1").expect(202);

    registry.get("/v2/app/manifests/v1").expect(404);
    registry.get("/v2/app/manifests/v2").expect(200);
    registry.get(format!("/v2/app/manifests/{}", image.digest())).expect(200);
    registry.delete("/v2/app/manifests/v2").expect(202);
    registry.get(format!("/v2/app/manifests/{}", image.digest())).expect(200);
}

fn a_deleted_manifest_is_gone_by_digest_and_by_tag(registry: &Registry) {
    let (image, other) = (Image::new("goes"), Image::new("stays"));
    image.push(registry, "app", "v1");
    image.push(registry, "app", "v2");
    other.push(registry, "app", "other");

    registry.delete(format!("/v2/app/manifests/{}", image.digest())).expect(202);

    for reference in ["v1", "v2", &image.digest()] {
        registry.get(format!("/v2/app/manifests/{reference}")).expect(404);
    }
    registry.get("/v2/app/manifests/other").expect(200);
}

fn a_deleted_blob_is_gone(registry: &Registry) {
    let digest = push_blob(registry, "app", b"goes");

    registry.delete(format!("/v2/app/blobs/{digest}")).expect(202);

    registry.get(format!("/v2/app/blobs/{digest}")).expect(404);
    registry.head(format!("/v2/app/blobs/{digest}")).expect(404);
}

fn deleting_what_is_not_there_is_not_found(registry: &Registry) {
    push_blob(registry, "app", b"something");
    let absent = sha256(b"absent");

    registry.delete(format!("/v2/app/blobs/{absent}")).expect(404);
    registry.delete(format!("/v2/app/manifests/{absent}")).expect(404);
    registry.delete(format!("/v2/nobody/manifests/{absent}")).expect(404);
}

fn what_was_deleted_can_be_pushed_again(registry: &Registry) {
    let image = Image::new("again");
    for _ in 0..2 {
        image.push(registry, "app", "v1");
        assert_eq!(registry.get("/v2/app/manifests/v1").expect(200).body, image.manifest);

        registry.delete(format!("/v2/app/manifests/{}", image.digest())).expect(202);
        for blob in [&image.layer, &image.config] {
            registry.delete(format!("/v2/app/blobs/{}", sha256(blob))).expect(202);
        }
    }
    registry.head(format!("/v2/app/blobs/{}", sha256(&image.layer))).expect(404);
}

fn deletion_in_one_repository_leaves_the_others(registry: &Registry) {
    let image = Image::new("shared");
    image.push(registry, "one", "v1");
    image.push(registry, "two", "v1");

    registry.delete(format!("/v2/one/manifests/{}", image.digest())).expect(202);
    registry.delete(format!("/v2/one/blobs/{}", sha256(&image.layer))).expect(202);

    registry.get("/v2/one/manifests/v1").expect(404);
    registry.get("/v2/two/manifests/v1").expect(200);
    assert_eq!(registry.get(format!("/v2/two/blobs/{}", sha256(&image.layer))).expect(200).body, image.layer);
}

/// Docker's registry deletes it, and the image is broken. The specification lets a registry refuse with 405.
fn a_blob_that_a_manifest_needs_is_not_deleted(registry: &Registry) {
    let image = Image::new("needed");
    image.push(registry, "app", "v1");
    let layer = format!("/v2/app/blobs/{}", sha256(&image.layer));

    let answer = registry.delete(layer.clone()).fails_with(405, "UNSUPPORTED");

    assert!(answer.json().to_string().contains(&image.digest()), "it names the manifest: {answer:?}");
    registry.delete("/v2/app/manifests/v1").expect(202);
    registry.delete(layer.clone()).expect(405);
    registry.delete(format!("/v2/app/manifests/{}", image.digest())).expect(202);
    registry.delete(layer).expect(202);
}

fn the_last_tag_and_manifest_take_the_repository_out_of_the_catalog(registry: &Registry) {
    let image = Image::new("last");
    image.push(registry, "app", "v1");

    registry.delete(format!("/v2/app/manifests/{}", image.digest())).expect(202);

    assert_eq!(registry.get("/v2/_catalog").expect(200).json()["repositories"], serde_json::json!([]));
}

fn a_manifest_that_an_index_needs_is_not_deleted(registry: &Registry) {
    let (one, two) = (Image::new("one"), Image::new("two"));
    one.push(registry, "app", &one.digest());
    two.push(registry, "app", &two.digest());
    let both = index(&[&one.manifest, &two.manifest]);
    put_manifest(registry, "app", "both", INDEX, &both).expect(201);

    registry.delete(format!("/v2/app/manifests/{}", one.digest())).fails_with(405, "UNSUPPORTED");

    registry.delete(format!("/v2/app/manifests/{}", sha256(&both))).expect(202);
    registry.delete(format!("/v2/app/manifests/{}", one.digest())).expect(202);
    registry.get(format!("/v2/app/manifests/{}", one.digest())).expect(404);
    registry.get(format!("/v2/app/manifests/{}", two.digest())).expect(200);
}

fn space_of_deleted_images_is_free_again(_: &Registry) {
    let registry = Registry::configured("garbage_grace_seconds = 0\ngarbage_delay_seconds = 0\n");
    let image = Image::new("space");
    image.push(&registry, "app", "v1");
    let path = |digest: String| {
        let hex = digest.trim_start_matches("sha256:").to_owned();
        registry.state().join("blobs/sha256").join(&hex[..2]).join(hex)
    };
    let files = [path(sha256(&image.layer)), path(sha256(&image.config)), path(image.digest())];
    assert!(files.iter().all(|file| file.exists()));

    registry.delete(format!("/v2/app/manifests/{}", image.digest())).expect(202);
    for blob in [&image.layer, &image.config] {
        registry.delete(format!("/v2/app/blobs/{}", sha256(blob))).expect(202);
    }

    let gone = || files.iter().all(|file| !file.exists());
    strata_tests::eventually("the files are gone", std::time::Duration::from_secs(20), gone);
    registry.stop();
}
