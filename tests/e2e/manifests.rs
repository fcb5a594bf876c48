//! Lists of images for several platforms: made from what the store and registries have, and read alike by the clients of
//! others.

use std::path::Path;

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use strata_tests::{DockerRegistry, House, Output, Running, Tar};

/// Puts an image with the guest and a word into a registry, and nowhere else.
fn publish(registry: &DockerRegistry, name: &str, word: &str, credentials: bool) {
    let house = House::start();
    let tar = Tar::of_guest().file("word", 0o644, word.as_bytes()).write(house.path("published.tar"));
    if credentials {
        login(&house, registry);
    }
    let full = registry.image(name);
    house.ctl(&["import", text(&tar), &full]).ok();
    house.ctl(&["push", "-q", &full]).ok();
}

fn login(house: &House, registry: &DockerRegistry) {
    let flags = ["login", "-u", DockerRegistry::USER, "--password-stdin", &registry.host()];
    house.ctl_with(&flags, DockerRegistry::PASSWORD.as_bytes()).ok();
}

fn text(path: &Path) -> &str {
    path.to_str().expect("an ASCII path")
}

/// Runs a program of the distribution in this house's environment.
#[track_caller]
fn tool(house: &House, program: &str, args: &[&str]) -> Output {
    let mut command = house.command(program);
    command.args(args);
    Running::spawn(command).finish().ok()
}

/// What podman reads of a list at a registry that speaks plain http.
fn podman(house: &House, list: &str) -> Value {
    let (root, run, settings) = (house.path("podman"), house.path("podman-run"), house.path("registries.conf"));
    let host = list.split('/').next().expect("a registry");
    std::fs::write(&settings, format!("[[registry]]\nlocation = \"{host}\"\ninsecure = true\n")).expect("a file");
    let mut command = house.command("/usr/bin/podman");
    command.args(["--root", text(&root), "--runroot", text(&run), "--storage-driver", "vfs"]);
    command.args(["manifest", "inspect", list]).env("CONTAINERS_REGISTRIES_CONF", settings);
    Running::spawn(command).finish().ok().json()
}

/// What docker reads of it.
fn docker(house: &House, list: &str) -> Value {
    tool(house, "/usr/bin/docker", &["manifest", "inspect", "--insecure", list]).json()
}

#[track_caller]
fn agrees(who: &str, theirs: &Value, ours: &Value) {
    let (theirs, ours) = (theirs["manifests"].as_array().expect(who), ours["manifests"].as_array().expect("a list"));
    assert_eq!(theirs.len(), ours.len(), "{who}: {theirs:#?}");
    for (theirs, ours) in theirs.iter().zip(ours) {
        for field in ["digest", "size", "mediaType", "platform"] {
            assert_eq!(theirs[field], ours[field], "{who}: {theirs:#}");
        }
    }
}

fn sha256(text: &str) -> String {
    let hex: String = Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

#[test]
fn a_list_is_made_annotated_and_pushed_and_everybody_reads_the_same() {
    let registry = DockerRegistry::open();
    let (one, two) = (registry.image("team/app:amd64"), registry.image("team/app:arm64"));
    publish(&registry, "team/app:amd64", "one", false);
    publish(&registry, "team/app:arm64", "two", false);
    let house = House::start();
    let list = registry.image("team/app:1");

    house.ctl(&["manifest", "create", &list, &one, &two]).ok().says(&["Created manifest list", &list]);
    let says = ["--arch", "aarch64", "--variant", "v8", "--os-version", "1", "--annotation", "a=b=c"];
    house.ctl(&[&["manifest", "annotate"], &says[..], &[&list, &two]].concat()).ok();
    let shown = house.ctl(&["manifest", "inspect", &list]).ok();

    assert_eq!(house.ctl(&["images", "-q"]).ok().stdout, "", "layers stay where they are");
    house.ctl(&["manifest", "ls"]).ok().says(&[&list, &sha256(&shown.stdout), "linux/arm64/v8"]);
    let pushed = house.ctl(&["manifest", "push", "--purge", &list]).ok();
    assert_eq!(pushed.text(), sha256(&shown.stdout), "what came from elsewhere goes as it came");
    assert_eq!(house.ctl(&["manifest", "ls", "-q"]).ok().stdout, "");
    assert_eq!(house.ctl(&["manifest", "inspect", &list]).ok().stdout, shown.stdout, "now it is the registry's");

    let remote = format!("docker://{list}");
    let raw = tool(&house, "/usr/bin/skopeo", &["inspect", "--raw", "--tls-verify=false", &remote]);
    assert_eq!(raw.stdout, shown.stdout);
    let ours = shown.json();
    assert_eq!(ours["manifests"][1]["platform"]["os.version"], "1");
    assert_eq!(ours["manifests"][1]["annotations"]["a"], "b=c");
    agrees("podman", &podman(&house, &list), &ours);

    let taker = House::start();
    assert_eq!(taker.ctl(&["run", "--rm", &list, "/guest", "read", "/word"]).ok().text(), "one");
    let arm = ["run", "--rm", "--pull", "always", "--platform", "linux/arm64", &list, "/guest", "read", "/word"];
    // The image itself says that it is for this host, whatever the list calls it.
    taker.ctl(&arm).fails().complains(&["linux/arm64"]);
}

#[test]
fn a_list_of_the_store_is_pushed_with_its_layers_and_runs() {
    let registry = DockerRegistry::open();
    let house = House::with_guest();
    let tar = Tar::of_guest().file("word", 0o644, b"arm").write(house.path("arm.tar"));
    house.ctl(&["import", "--platform", "linux/arm64", text(&tar), "app:arm"]).ok();
    house.ctl(&["manifest", "create", "app:1", "guest"]).ok();

    house.ctl(&["manifest", "add", "app:1", "app:arm"]).ok();
    let list = registry.image("app:1");
    let pushed = house.ctl(&["manifest", "push", "--format", "v2s2", "app:1", &list]).ok();

    let shown = house.ctl(&["manifest", "inspect", &list]).ok();
    assert_eq!(pushed.text(), sha256(&shown.stdout));
    assert_eq!(shown.json()["mediaType"], "application/vnd.docker.distribution.manifest.list.v2+json");
    // Docker 20.10 reads no media types of OCI's, at any depth.
    agrees("docker", &docker(&house, &list), &shown.json());
    agrees("podman", &podman(&house, &list), &shown.json());
    let verbose = house.ctl(&["manifest", "inspect", "-v", &list]).ok().json();
    assert_eq!(verbose[0]["SchemaV2Manifest"]["layers"].as_array().unwrap().len(), 1, "{verbose:#}");
    assert_eq!(verbose[0]["Descriptor"]["digest"], shown.json()["manifests"][0]["digest"]);
    let alone = registry.image("guest:1");
    house.ctl(&["tag", "guest", &alone]).ok();
    let pushed = house.ctl(&["push", "--format", "docker", &alone]).ok();
    pushed.says(&[verbose[0]["Descriptor"]["digest"].as_str().unwrap()]);
    assert_eq!(docker(&house, &alone)["config"]["mediaType"], "application/vnd.docker.container.image.v1+json");
    let taker = House::start();
    taker.ctl(&["run", "--rm", &list, "/guest", "noop"]).ok();
    taker.ctl(&["pull", "-q", "--platform", "linux/arm64", &list]).ok();
    house.verify();
    taker.verify();
}

#[test]
fn a_list_goes_to_another_registry_with_layers_of_one_that_wants_credentials() {
    let (closed, open) = (DockerRegistry::closed(), DockerRegistry::open());
    publish(&closed, "team/app:1", "one", true);
    let house = House::start();
    login(&house, &closed);
    house.ctl(&["manifest", "create", "list", &format!("docker://{}", closed.image("team/app:1"))]).ok();

    house.ctl(&["manifest", "push", "list", &format!("docker://{}", open.image("copied:1"))]).ok();

    let taker = House::start();
    let name = open.image("copied:1");
    assert_eq!(taker.ctl(&["run", "--rm", &name, "/guest", "read", "/word"]).ok().text(), "one");
    let anonymous = House::start();
    let refused = anonymous.ctl(&["manifest", "create", "list", &closed.image("team/app:1")]).fails();
    refused.complains(&[&closed.host(), "ctl login"]);
}

#[test]
fn lists_are_changed_one_image_at_a_time() {
    let house = House::with_guest();
    let other = Tar::of_guest().file("word", 0o644, b"other").write(house.path("other.tar"));
    house.ctl(&["import", text(&other), "other:1"]).ok();
    let digests = |house: &House| {
        let shown = house.ctl(&["manifest", "inspect", "list"]).ok().json();
        let entries = shown["manifests"].as_array().unwrap().clone();
        entries.iter().map(|entry| entry["digest"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };

    house.ctl(&["manifest", "create", "list"]).ok();
    house.ctl(&["manifest", "add", "list", "guest", "other:1"]).ok();
    let both = digests(&house);
    house.ctl(&["manifest", "create", "list", "guest"]).fails().complains(&["list", "--amend"]);
    house.ctl(&["manifest", "create", "--amend", "list", "guest"]).ok();
    assert_eq!(digests(&house), both, "an image is in a list once");
    house.ctl(&["manifest", "annotate", "--index", "--annotation", "who=me", "list"]).ok();
    house.ctl(&["manifest", "remove", "list", "other:1"]).ok();

    assert_eq!(digests(&house), both[..1]);
    assert_eq!(house.ctl(&["manifest", "inspect", "list"]).ok().json()["annotations"]["who"], "me");
    house.ctl(&["manifest", "remove", "list", &both[1]]).fails().complains(&[&both[1], "is not in the list"]);
    house.ctl(&["manifest", "annotate", "list", "other:1", "--arch", "arm"]).fails().complains(&["other:1"]);
    house.ctl(&["manifest", "annotate", "list", "guest", "--arch", "a b"]).code(125);
    house.ctl(&["manifest", "add", "nolist", "guest"]).fails().complains(&["nolist", "ctl manifest create"]);
    house.ctl(&["manifest", "add", "guest", "other:1"]).fails().complains(&["guest", "is an image, not a list"]);
    house.ctl(&["manifest", "push", "guest"]).fails().complains(&["is an image, not a list", "ctl push"]);
    house.ctl(&["manifest", "rm", "guest", "list"]).fails().complains(&["guest"]).says(&["Untagged: list:latest"]);
    house.ctl(&["run", "--rm", "guest", "/guest", "noop"]).ok();
    house.ctl(&["manifest", "annotate", "list"]).code(125);
    house.verify();
}
