//! `--platform`: which image of several is run, made a container of, and built on.

use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use strata_tests::{Context, House};

/// What these tests ask for, and what no machine that runs them is: the guest in it is this machine's all the same.
const OTHER: &str = "linux/s390x";

fn text(path: &Path) -> &str {
    path.to_str().expect("an ASCII path")
}

fn architecture(house: &House, image: &str) -> String {
    house.ctl(&["inspect", image]).ok().json()[0]["Architecture"].as_str().unwrap().to_owned()
}

/// A context whose image says what platform it was built for.
fn context() -> Context {
    let context = Context::new("FROM scratch\nARG TARGETARCH\nCOPY guest /guest\nCOPY $TARGETARCH /word\n");
    context.write("guest", std::fs::read(strata_tests::guest()).unwrap());
    context.chmod("guest", 0o755);
    for word in ["s390x", "amd64", "arm64"] {
        context.write(word, word);
    }
    context
}

/// A layout whose one index leads to images for this machine and for another; its path.
fn index(house: &House) -> PathBuf {
    let context = context();
    house.ctl(&["build", "-q", "-t", "here:1", context.arg()]).ok();
    house.ctl(&["build", "-q", "-t", "there:1", "--platform", OTHER, context.arg()]).ok();
    let layout = house.path("index");
    house.ctl(&["save", "--format", "oci-dir", "-o", text(&layout), "here:1", "there:1"]).ok();
    let file = layout.join("index.json");
    let mut document: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let host = architecture(house, "here:1");
    for (entry, architecture) in document["manifests"].as_array_mut().unwrap().iter_mut().zip([host.as_str(), "s390x"])
    {
        entry["platform"] = serde_json::json!({"os": "linux", "architecture": architecture});
        entry.as_object_mut().unwrap().remove("annotations");
    }
    let media_type = "application/vnd.oci.image.index.v1+json";
    document["mediaType"] = media_type.into();
    let inner = serde_json::to_vec(&document).unwrap();
    let digest = hex::encode(Sha256::digest(&inner));
    std::fs::write(layout.join("blobs/sha256").join(&digest), &inner).unwrap();
    let outer = serde_json::json!({"schemaVersion": 2, "manifests": [{
        "mediaType": media_type, "digest": format!("sha256:{digest}"), "size": inner.len(),
        "annotations": {"io.containerd.image.name": "docker.io/library/both:1"},
    }]});
    std::fs::write(&file, serde_json::to_vec(&outer).unwrap()).unwrap();
    house.ctl(&["rmi", "here:1", "there:1"]).ok();
    house.ctl(&["system", "prune", "-af"]).ok();
    layout
}

#[test]
fn run_and_create_take_the_image_of_the_platform() {
    let house = House::start();
    let layout = index(&house);
    house.ctl(&["load", "-i", text(&layout)]).ok().says(&["both:1"]);
    let word = |flags: &[&str]| house.ctl(&[&["run", "--rm"], flags, &["both:1", "/guest", "read", "/word"]].concat());

    assert_eq!(word(&["--platform", OTHER]).ok().text(), "s390x");
    assert_ne!(word(&[]).ok().text(), "s390x");
    house.ctl(&["create", "--platform", OTHER, "--name", "box", "both:1", "/guest", "read", "/word"]).ok();
    assert_eq!(house.ctl(&["start", "-a", "box"]).ok().text(), "s390x");
    let refused = word(&["--platform", "linux/riscv64", "--pull", "never"]).code(125);
    refused.complains(&["both:1", "linux/riscv64", "linux/s390x"]);
    word(&["--platform", "a,b"]).code(125).complains(&["several platforms"]);
    word(&["--platform", "no/such/thing/here"]).code(125).complains(&["--platform"]);
    house.ctl(&["rm", "box"]).ok();
}

#[test]
fn history_and_inspect_show_the_platform_that_is_asked_for() {
    let house = House::start();
    let layout = index(&house);
    house.ctl(&["load", "-i", text(&layout)]).ok();
    let inspected = |words: &[&str]| {
        let shown = house.ctl(&[words, &["--platform", OTHER, "both:1"]].concat()).ok().json();
        shown[0]["Architecture"].as_str().unwrap().to_owned()
    };

    assert_eq!(inspected(&["image", "inspect"]), "s390x");
    assert_eq!(inspected(&["inspect"]), "s390x");
    assert_ne!(architecture(&house, "both:1"), "s390x");
    let ids = |flags: &[&str]| house.ctl(&[&["history", "-q", "--no-trunc"], flags, &["both:1"]].concat()).ok().stdout;
    assert_ne!(ids(&["--platform", OTHER]), ids(&[]));
    for command in [&["history"][..], &["image", "history"], &["image", "inspect"], &["inspect"]] {
        let refused = house.ctl(&[command, &["--platform", "linux/riscv64", "both:1"]].concat()).code(1);
        refused.complains(&["both:1", "linux/riscv64", "linux/s390x"]);
    }
    let refused = house.ctl(&["inspect", "--type", "volume", "--platform", OTHER, "both:1"]);
    refused.code(125).complains(&["--platform is for images"]);
}

#[test]
fn rmi_removes_what_is_for_a_platform_and_leaves_the_rest() {
    let house = House::start();
    let layout = index(&house);
    house.ctl(&["load", "-i", text(&layout)]).ok();
    let word = |flags: &[&str]| {
        house.ctl(&[&["run", "--rm", "--pull", "never"], flags, &["both:1", "/guest", "read", "/word"]].concat())
    };
    assert_eq!(word(&["--platform", OTHER]).ok().text(), "s390x");
    let refused = house.ctl(&["rmi", "--platform", "linux/s390x,linux/riscv64", "both:1"]).code(1);
    refused.complains(&["both:1", "linux/riscv64", "linux/s390x"]);
    house.ctl(&["create", "--platform", OTHER, "--name", "box", "both:1", "/guest", "noop"]).ok();
    house.ctl(&["rmi", "-f", "--platform", OTHER, "both:1"]).code(1).complains(&["used by", "removed first"]);
    house.ctl(&["rm", "box"]).ok();

    let removed = house.ctl(&["image", "rm", "--platform", OTHER, "both:1"]).ok();

    assert!(removed.stdout.contains("Deleted: sha256:") && !removed.stdout.contains("Untagged"), "{removed:?}");
    word(&["--platform", OTHER]).code(125).complains(&["both:1"]);
    assert_ne!(word(&[]).ok().text(), "s390x");
    house.ctl(&["inspect", "--platform", OTHER, "both:1"]).code(1).complains(&["not here for linux/s390x"]);
    // What is left is saved and loaded, and the archive brings back what went.
    let left = house.path("left.tar");
    house.ctl(&["save", "-o", text(&left), "both:1"]).ok();
    house.ctl(&["load", "-i", text(&layout)]).ok();
    assert_eq!(word(&["--platform", OTHER]).ok().text(), "s390x");
    house.ctl(&["tag", "both:1", "more:1"]).ok();
    house.ctl(&["rmi", "--platform", OTHER, "both:1"]).code(1).complains(&["several names", "more:1"]);
    house.ctl(&["rmi", "--no-prune", "-f", "--platform", OTHER, "both:1"]).ok();
    // With the last platform the names go, since nothing is left that they could lead to.
    let host = format!("linux/{}", architecture(&house, "both:1"));
    house.ctl(&["rmi", "-f", "--platform", &host, "both:1"]).ok().says(&[
        "Untagged: both:1",
        "Untagged: more:1",
        "Deleted",
    ]);
    assert_eq!(house.ctl(&["images", "-q"]).ok().text(), "");
}

#[test]
fn an_image_for_one_platform_is_refused_for_another_by_name_and_id() {
    let mut house = House::start();
    house.configure("[registries]\nattempts = 1\n");
    let context = context();
    house.ctl(&["build", "-q", "-t", "there:1", "--platform", OTHER, context.arg()]).ok();
    let id = house.ctl(&["inspect", "there:1"]).ok().json()[0]["Id"].as_str().unwrap().to_owned();

    assert_eq!(architecture(&house, "there:1"), "s390x");
    // Without --platform what is there is taken, as Docker does.
    house.ctl(&["run", "--rm", "there:1", "/guest", "noop"]).ok();
    for name in ["there:1", &id] {
        let args = ["run", "--rm", "--pull", "never", "--platform", "linux/arm64", name, "/guest", "noop"];
        house.ctl(&args).code(125).complains(&["linux/arm64", "linux/s390x"]);
    }
    house.set("DOCKER_DEFAULT_PLATFORM", "linux/arm64");
    house.ctl(&["create", "--pull", "never", "there:1"]).code(1).complains(&["linux/arm64", "linux/s390x"]);
}

#[test]
fn a_build_starts_from_the_image_of_its_platform() {
    let house = House::start();
    let layout = index(&house);
    house.ctl(&["load", "-i", text(&layout)]).ok();
    let build = |dockerfile: &str, flags: &[&str]| {
        let context = Context::new(dockerfile);
        house.ctl(&[&["build", "--pull=never", "-t", "built", "--progress", "plain"], flags, &[context.arg()]].concat())
    };
    let word = || house.ctl(&["run", "--rm", "built", "/guest", "read", "/word"]).ok().text().to_owned();

    build("FROM both:1\n", &["--platform", OTHER]).ok();
    assert_eq!((word(), architecture(&house, "built")), ("s390x".to_owned(), "s390x".to_owned()));
    build("FROM --platform=linux/s390x both:1\n", &[]).ok();
    assert_eq!(word(), "s390x");
    build("FROM both:1\n", &[]).ok();
    assert_ne!(word(), "s390x");
    let dockerfile = "FROM --platform=$BUILDPLATFORM both:1 AS tools\nARG TARGETPLATFORM\n\
                      RUN [\"/guest\", \"write\", \"/for\", \"x\"]\nFROM both:1\nCOPY --from=tools /for /for\n";
    build(dockerfile, &["--platform", OTHER]).ok();
    assert_eq!(word(), "s390x");
    house.ctl(&["run", "--rm", "built", "/guest", "read", "/for"]).ok().says(&["x"]);
    let refused = build("FROM scratch\nFROM --platform=linux/riscv64 both:1\n", &[]).fails();
    refused.complains(&["Dockerfile:2", "linux/riscv64", "linux/s390x"]);
}
