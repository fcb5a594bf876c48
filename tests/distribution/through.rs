//! Pull-through: ours answers for registries that its configuration lists; the control is such a registry here.

use crate::{
    content::{INDEX, Image, index, put_manifest, sha256},
    subject::{Kind, Registry, over_ours},
};

over_ours!(
    what_another_registry_has_is_pulled_through_and_kept,
    a_tag_is_followed_where_it_moves,
    an_index_is_pulled_through_with_what_is_below_it,
    what_another_registry_has_not_is_not_found,
    a_registry_that_cannot_be_reached_is_told_from_one_that_has_nothing,
    a_registry_that_is_not_listed_is_not_asked,
    an_image_made_here_is_not_replaced,
    what_was_pulled_through_is_pushed_under_another_name,
);

/// Another registry, and ours that answers for it under the name "hub.example".
fn both() -> (Registry, Registry) {
    let there = Registry::start(Kind::Control);
    let lines = format!(
        "[registries]\nattempts = 1\n[registries.any]\npull_through = true\n[registries.host.\"hub.example\"]\n\
         mirrors = [\"{}\"]\nmirrors_only = true\npull_through = true\n",
        there.address
    );
    (there, Registry::configured(&lines))
}

fn what_another_registry_has_is_pulled_through_and_kept(_: &Registry) {
    let (there, ours) = both();
    let image = Image::new("there");
    image.push(&there, "team/app", "v1");
    let layer = format!("/v2/hub.example/team/app/blobs/{}", sha256(&image.layer));
    let config = format!("/v2/hub.example/team/app/blobs/{}", sha256(&image.config));

    ours.head(layer.clone()).expect(404);
    let answer = ours.get("/v2/hub.example/team/app/manifests/v1").expect(200);
    assert_eq!(answer.body, image.manifest);
    let answer = ours.head(layer.clone()).expect(200);
    assert_eq!(answer.must("content-length"), image.layer.len().to_string());
    assert_eq!(ours.get(layer.clone()).expect(200).body, image.layer);
    ours.get("/v2/hub.example/team/app/tags/list").expect(200);
    ours.get("/v2/team/app/manifests/v1").expect(404);
    assert_eq!(ours.get("/v2/team/app/manifests/v1?ns=hub.example").expect(200).body, image.manifest);
    there.stop();

    for reference in ["v1", &image.digest()] {
        let answer = ours.get(format!("/v2/hub.example/team/app/manifests/{reference}")).expect(200);
        assert_eq!(answer.body, image.manifest);
    }
    assert_eq!(ours.get(layer).expect(200).body, image.layer);
    // Nobody had asked for it while it could be had.
    ours.get(config).expect(502);
    ours.stop();
}

fn a_tag_is_followed_where_it_moves(_: &Registry) {
    let (there, ours) = both();
    let (old, new) = (Image::new("old"), Image::new("new"));
    let asked = || ours.get("/v2/hub.example/app/manifests/latest").expect(200).body;

    old.push(&there, "app", "latest");
    assert_eq!(asked(), old.manifest);
    new.push(&there, "app", "latest");
    assert_eq!(asked(), new.manifest);

    ours.get(format!("/v2/hub.example/app/manifests/{}", old.digest())).expect(200);
    ours.stop();
    there.stop();
}

fn an_index_is_pulled_through_with_what_is_below_it(_: &Registry) {
    let (there, ours) = both();
    let (one, two) = (Image::new("one"), Image::new("two"));
    one.push(&there, "app", &one.digest());
    two.push(&there, "app", &two.digest());
    let both = index(&[&one.manifest, &two.manifest]);
    put_manifest(&there, "app", "both", INDEX, &both).expect(201);

    assert_eq!(ours.get("/v2/hub.example/app/manifests/both").expect(200).has("content-type", INDEX).body, both);
    let manifest = ours.get(format!("/v2/hub.example/app/manifests/{}", two.digest())).expect(200);
    assert_eq!(manifest.body, two.manifest);
    let layer = ours.get(format!("/v2/hub.example/app/blobs/{}", sha256(&two.layer))).expect(200);
    assert_eq!(layer.body, two.layer);

    ours.stop();
    there.stop();
}

fn what_another_registry_has_not_is_not_found(_: &Registry) {
    let (there, ours) = both();
    Image::new("there").push(&there, "app", "v1");

    ours.get("/v2/hub.example/app/manifests/v2").fails_with(404, "MANIFEST_UNKNOWN");
    ours.get(format!("/v2/hub.example/app/manifests/{}", sha256(b"x"))).fails_with(404, "MANIFEST_UNKNOWN");
    ours.get(format!("/v2/hub.example/app/blobs/{}", sha256(b"x"))).fails_with(404, "BLOB_UNKNOWN");
    ours.get("/v2/hub.example/nobody/manifests/v1").fails_with(404, "MANIFEST_UNKNOWN");

    ours.stop();
    there.stop();
}

fn a_registry_that_cannot_be_reached_is_told_from_one_that_has_nothing(_: &Registry) {
    let (there, ours) = both();
    there.stop();

    let answer = ours.get("/v2/hub.example/app/manifests/v1").expect(502);

    assert!(answer.header("retry-after").is_some(), "{answer:?}");
    assert!(!format!("{answer:?}").contains("127.0.0.1:"), "where it asks is not told: {answer:?}");
    ours.stop();
}

fn a_registry_that_is_not_listed_is_not_asked(_: &Registry) {
    let (there, ours) = both();
    Image::new("there").push(&there, "app", "v1");

    // By the settings for any registry it would be.
    ours.get("/v2/other.example/app/manifests/v1").fails_with(404, "MANIFEST_UNKNOWN");
    ours.get(format!("/v2/app/manifests/v1?ns={}", there.address)).fails_with(404, "MANIFEST_UNKNOWN");

    ours.stop();
    there.stop();
}

fn an_image_made_here_is_not_replaced(_: &Registry) {
    let (there, ours) = both();
    Image::new("there").push(&there, "app", "v1");
    let mine = crate::own::import(&ours, "hub.example/app:v1", "mine");

    let manifest = ours.get("/v2/hub.example/app/manifests/v1").expect(200).json();

    assert_eq!(manifest["config"]["digest"], mine.id);
    ours.stop();
    there.stop();
}

fn what_was_pulled_through_is_pushed_under_another_name(_: &Registry) {
    let (there, ours) = both();
    let image = Image::new("there");
    image.push(&there, "app", "v1");
    ours.get("/v2/hub.example/app/manifests/v1").expect(200);

    // The same repository, whose blobs a HEAD says are there.
    put_manifest(&ours, "hub.example/app", "mine", crate::content::MANIFEST, &image.manifest).expect(201);
    there.stop();

    assert_eq!(ours.get("/v2/hub.example/app/manifests/mine").expect(200).body, image.manifest);
    assert_eq!(ours.get(format!("/v2/hub.example/app/blobs/{}", sha256(&image.layer))).expect(200).body, image.layer);
    ours.stop();
}
