//! What people use: skopeo, podman and docker from Debian's packages push to our registry and pull from it.

use std::{fs, path::Path, process::Command, time::Duration};

use nix::sys::signal::Signal;
use serde_json::Value;
use strata_tests::{Output, Running, eventually};

use crate::{
    content::{Image, MANIFEST, archive, descriptor, sha256},
    subject::{Registry, over_ours},
};

over_ours!(
    skopeo_pushes_and_pulls_the_same_bytes,
    skopeo_pushes_in_every_form,
    skopeo_copies_between_the_control_and_ours,
    podman_pushes_and_pulls_the_same_image,
    docker_pushes_and_pulls_the_same_image,
);

/// Writes an image as an OCI layout; returns its name for skopeo.
pub fn layout(directory: &Path, name: &str) -> String {
    let image = Image::new(name);
    let root = directory.join(name);
    fs::create_dir_all(root.join("blobs/sha256")).expect("a temporary directory");
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [descriptor(MANIFEST, &image.manifest)]});
    fs::write(root.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("a temporary directory");
    fs::write(root.join("index.json"), index.to_string()).expect("a temporary directory");
    for bytes in [&image.config, &image.layer, &image.manifest] {
        let path = root.join("blobs").join(sha256(bytes).replace(':', "/"));
        fs::write(path, bytes).expect("a temporary directory");
    }
    format!("oci:{}", root.to_str().expect("an ASCII path"))
}

fn program(registry: &Registry, name: &str, args: &[&str]) -> Output {
    let mut command = Command::new(name);
    let home = registry.directory();
    command.args(args).env("HOME", home).env("XDG_RUNTIME_DIR", home).env("XDG_CONFIG_HOME", home);
    Running::spawn(command).finish()
}

/// The digest of the only manifest of a layout.
fn manifest_of(layout: &str) -> String {
    let path = Path::new(layout.trim_start_matches("oci:")).join("index.json");
    let index: Value = serde_json::from_slice(&fs::read(path).expect("a layout")).expect("JSON");
    index["manifests"][0]["digest"].as_str().expect("a digest").to_owned()
}

fn skopeo_pushes_and_pulls_the_same_bytes(registry: &Registry) {
    let from = layout(registry.directory(), "from");
    let back = format!("oci:{}/back", registry.directory().display());
    let target = format!("docker://{}/team/app:v1", registry.address);
    let skopeo = |args: &[&str]| program(registry, "skopeo", args).ok();

    skopeo(&["copy", "--preserve-digests", "--dest-tls-verify=false", &from, &target]);
    skopeo(&["copy", "--preserve-digests", "--src-tls-verify=false", &target, &back]);

    assert_eq!(manifest_of(&back), manifest_of(&from));
    assert_eq!(Image::new("from").digest(), manifest_of(&back));
    let inspected = skopeo(&["inspect", "--tls-verify=false", &target]).json();
    assert_eq!(inspected["Digest"], manifest_of(&from));
    let tags = skopeo(&["list-tags", "--tls-verify=false", &format!("docker://{}/team/app", registry.address)]).json();
    assert_eq!(tags["Tags"], serde_json::json!(["v1"]));
    skopeo(&["delete", "--tls-verify=false", &target]);
    program(registry, "skopeo", &["inspect", "--tls-verify=false", &target]).fails().complains(&["manifest unknown"]);
}

fn skopeo_pushes_in_every_form(registry: &Registry) {
    let from = layout(registry.directory(), "forms");
    let skopeo = |args: &[&str]| program(registry, "skopeo", args).ok();

    for (tag, options) in [
        ("docker", &["--format", "v2s2"][..]),
        ("zstd", &["--format", "oci", "--dest-compress-format", "zstd", "--dest-compress"]),
        ("gzip", &["--format", "oci", "--dest-compress-format", "gzip", "--dest-compress"]),
    ] {
        let target = format!("docker://{}/forms:{tag}", registry.address);
        let mut args = vec!["copy", "--dest-tls-verify=false"];
        args.extend(options);
        args.extend([from.as_str(), target.as_str()]);
        skopeo(&args);
        let back = format!("oci:{}/back-{tag}", registry.directory().display());
        skopeo(&["copy", "--src-tls-verify=false", &target, &back]);
        let config = skopeo(&["inspect", "--config", "--tls-verify=false", &target]).json();
        assert_eq!(config["rootfs"]["diff_ids"], serde_json::json!([sha256(&Image::new("forms").layer)]));
    }
}

fn skopeo_copies_between_the_control_and_ours(registry: &Registry) {
    let control = Registry::start(crate::subject::Kind::Control);
    let from = layout(registry.directory(), "between");
    let [there, here] = [control.address, registry.address].map(|address| format!("docker://{address}/app:v1"));
    let skopeo = |args: &[&str]| program(registry, "skopeo", args).ok();
    let plain = ["copy", "--preserve-digests", "--src-tls-verify=false", "--dest-tls-verify=false"];

    skopeo(&[&plain[..], &[&from, &here]].concat());
    skopeo(&[&plain[..], &[&here, &there]].concat());

    let digest = |target: &str| skopeo(&["inspect", "--tls-verify=false", target]).json()["Digest"].clone();
    assert_eq!((digest(&there), digest(&here)), (manifest_of(&from).into(), manifest_of(&from).into()));
    control.stop();
}

fn podman_pushes_and_pulls_the_same_image(registry: &Registry) {
    let path = |name: &str| registry.directory().join(name).to_str().expect("an ASCII path").to_owned();
    let (root, run_root) = (path("podman"), path("podman-run"));
    let podman = |args: &[&str]| {
        let own = ["--root", &root, "--runroot", &run_root, "--storage-driver", "vfs"];
        program(registry, "podman", &[&own[..], args].concat()).ok()
    };
    fs::write(path("root.tar"), archive("podman")).expect("a temporary directory");
    let name = format!("{}/team/podman:v1", registry.address);

    podman(&["import", &path("root.tar"), &name]);
    let id = podman(&["image", "inspect", "--format", "{{.Id}}", &name]);
    podman(&["push", "--tls-verify=false", &name]);
    podman(&["rmi", &name]);
    podman(&["pull", "--tls-verify=false", &name]);

    assert_eq!(podman(&["image", "inspect", "--format", "{{.Id}}", &name]).text(), id.text());
}

fn docker_pushes_and_pulls_the_same_image(registry: &Registry) {
    let path = |name: &str| registry.directory().join(name).to_str().expect("an ASCII path").to_owned();
    let socket = format!("unix://{}", path("docker.sock"));
    let mut command = Command::new("/usr/sbin/dockerd");
    command.args(["-H", &socket, "--data-root", &path("docker"), "--exec-root", &path("docker-run")]);
    command.args(["--pidfile", &path("docker.pid"), "--bridge=none", "--iptables=false", "--ip6tables=false"]);
    command.args(["--ip-forward=false", "--storage-driver", "vfs"]);
    let daemon = Running::spawn(command);
    let run = |args: &[&str]| program(registry, "docker", &[&["-H", &socket][..], args].concat());
    eventually("dockerd answers", Duration::from_secs(60), || run(&["version"]).code == 0);
    let docker = |args: &[&str]| run(args).ok();
    fs::write(path("root.tar"), archive("docker")).expect("a temporary directory");
    let name = format!("{}/team/docker:v1", registry.address);

    docker(&["import", &path("root.tar"), &name]);
    let id = docker(&["image", "inspect", "--format", "{{.Id}}", &name]);
    docker(&["push", &name]);
    docker(&["rmi", &name]);
    docker(&["pull", &name]);

    assert_eq!(docker(&["image", "inspect", "--format", "{{.Id}}", &name]).text(), id.text());
    daemon.signal(Signal::SIGTERM);
    daemon.finish_within(Duration::from_secs(60));
}
