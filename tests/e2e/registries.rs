//! Registries from the outside: images go to Debian's `docker-registry` and come from there, by name, by mirror and by
//! need. No test asks a registry of the world.

use std::{
    fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    process::{Command, Stdio},
};

use strata_tests::{Context, DockerRegistry, House, Running, Tar};

/// Bytes that nobody can compress.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Puts an image with the guest and a word into a registry.
fn publish(house: &House, registry: &DockerRegistry, name: &str, word: &str) {
    let tar = Tar::of_guest().file("word", 0o644, word.as_bytes()).write(house.path("published.tar"));
    let full = registry.image(name);
    house.ctl(&["import", tar.to_str().unwrap(), &full]).ok();
    house.ctl(&["push", "-q", &full]).ok();
    house.ctl(&["rmi", &full]).ok();
}

/// The digest that a command tells.
fn digest(output: &strata_tests::Output) -> String {
    let at = output.stdout.find("sha256:").unwrap_or_else(|| panic!("no digest in {output:?}"));
    output.stdout[at..at + 71].to_owned()
}

#[test]
fn what_is_pushed_is_pulled_elsewhere_and_runs() {
    let registry = DockerRegistry::open();
    let name = registry.image("team/guest:1");
    let maker = House::with_guest();
    maker.ctl(&["tag", "guest", &name]).ok();

    let pushed = maker.ctl(&["push", &name]).ok();
    let again = maker.ctl(&["push", &name]).ok().says(&["Layer already exists"]);

    assert_eq!(digest(&pushed), digest(&again), "equal images give equal bytes");
    let taker = House::start();
    let pulled = taker.ctl(&["pull", &name]).ok().says(&["1: Pulling from team/guest", "Pull complete", &name]);
    pulled.clone().says(&[&format!("Digest: {}", digest(&pushed)), "Status: Downloaded newer image"]);
    taker.ctl(&["pull", &name]).ok().says(&["Status: Image is up to date", &digest(&pushed)]);
    let known = taker.ctl(&["inspect", "-f", "{{index .RepoDigests 0}}", &name]).ok();
    assert_eq!(known.text(), format!("{}@{}", registry.image("team/guest"), digest(&pushed)));
    assert_eq!(maker.ctl(&["inspect", "-f", "{{.RepoDigests}}", "guest"]).ok().text(), "[]", "made here");
    assert_eq!(taker.ctl(&["pull", "-q", &name]).ok().text(), name);
    taker.ctl(&["run", "--rm", "--pull", "never", &name, "/guest", "noop"]).ok();
    let by_digest = format!("{}@{}", registry.image("team/guest"), digest(&pushed));
    taker.ctl(&["rmi", &name]).ok();
    taker.ctl(&["run", "--rm", &by_digest, "/guest", "noop"]).ok();
    taker.verify();
}

#[test]
fn a_manifest_is_printed_as_the_registry_has_it() {
    let registry = DockerRegistry::open();
    let house = House::with_guest();
    let name = registry.image("guest:1");
    house.ctl(&["tag", "guest", &name]).ok();
    let pushed = house.ctl(&["push", &name]).ok();

    let shown = house.ctl(&["manifest", "inspect", &name]).ok();

    assert_eq!(shown.json()["layers"].as_array().unwrap().len(), 1);
    let mut hashing = Command::new("sha256sum").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    hashing.stdin.take().unwrap().write_all(shown.stdout.as_bytes()).unwrap();
    let sum = String::from_utf8(hashing.wait_with_output().unwrap().stdout).unwrap();
    assert!(digest(&pushed).ends_with(sum.split_whitespace().next().unwrap()), "{sum} is not that of {pushed:?}");
    house.ctl(&["manifest", "inspect", &registry.image("guest:2")]).fails().complains(&["guest", "does not have it"]);
}

#[test]
fn zstd_is_pushed_where_it_is_asked_for() {
    let registry = DockerRegistry::open();
    let maker = House::with_guest();
    let name = registry.image("guest:zstd");
    maker.ctl(&["tag", "guest", &name]).ok();

    maker.ctl(&["push", "-q", "--compression", "zstd", &name]).ok();

    let manifest = maker.ctl(&["manifest", "inspect", &name]).ok().json();
    assert_eq!(manifest["layers"][0]["mediaType"], "application/vnd.oci.image.layer.v1.tar+zstd");
    let taker = House::start();
    taker.ctl(&["run", "--rm", &name, "/guest", "noop"]).ok();
}

#[test]
fn a_layer_of_zstd_chunked_that_others_wrote_is_pulled() {
    let registry = DockerRegistry::open();
    let house = House::with_guest();
    let (archive, name) = (house.path("guest.tar"), registry.image("guest:chunked"));
    house.ctl(&["save", "-o", archive.to_str().unwrap(), "guest"]).ok();
    let (from, to) = (format!("docker-archive:{}", archive.display()), format!("docker://{name}"));
    let mut copy = house.command("/usr/bin/skopeo");
    copy.args(["--insecure-policy", "copy", "--dest-tls-verify=false", "--format", "oci"]);
    copy.args(["--dest-compress-format", "zstd:chunked", &from, &to]);
    Running::spawn(copy).finish().ok();

    house.ctl(&["run", "--rm", "--pull", "always", &name, "/guest", "noop"]).ok();

    let layer = house.ctl(&["manifest", "inspect", &name]).ok().json()["layers"][0].clone();
    assert_eq!(layer["mediaType"], "application/vnd.oci.image.layer.v1.tar+zstd");
    let of_chunks = "io.containers.zstd-chunked.manifest-checksum";
    assert!(layer["annotations"][of_chunks].is_string(), "skopeo wrote frames with a table: {layer}");
    house.verify();
}

#[test]
fn all_tags_of_a_repository_go_and_come() {
    let registry = DockerRegistry::open();
    let maker = House::with_guest();
    for tag in ["1", "2", "latest"] {
        maker.ctl(&["tag", "guest", &registry.image(&format!("guest:{tag}"))]).ok();
    }

    maker.ctl(&["push", "-a", &registry.image("guest")]).ok();
    let taker = House::start();
    taker.ctl(&["pull", "-a", &registry.image("guest")]).ok();

    let listed = taker.ctl(&["images", &registry.image("guest")]).ok();
    for tag in ["1", "2", "latest"] {
        assert!(listed.stdout.lines().any(|line| line.split_whitespace().nth(1) == Some(tag)), "{tag} in {listed:?}");
    }
    taker.ctl(&["pull", "-a", &registry.image("guest:1")]).fails().complains(&["--all-tags"]);
}

#[test]
fn run_pulls_what_is_missing_and_keeps_its_output_apart() {
    let registry = DockerRegistry::open();
    let house = House::start();
    publish(&house, &registry, "words:1", "one");
    let name = registry.image("words:1");

    house.ctl(&["run", "--rm", "--pull", "never", &name, "/guest", "read", "/word"]).code(125).complains(&["words:1"]);
    house.ctl(&["run", "--rm", &name, "/guest", "read", "/word"]).ok();
    assert_ne!(house.ctl(&["images", "-q", &name]).ok().text(), "", "a container had it");
    house.ctl(&["rmi", &name]).ok();
    let ran = house.ctl(&["run", "--rm", &name, "/guest", "read", "/word"]).ok();
    ran.clone().complains(&["Unable to find image", "Status: Downloaded newer image"]);
    let again = house.ctl(&["run", "--rm", &name, "/guest", "read", "/word"]).ok();

    assert_eq!(ran.text(), "one", "the pull is told on standard error");
    assert_eq!((again.text(), again.stderr.as_str()), ("one", ""));
    let elsewhere = House::start();
    publish(&elsewhere, &registry, "words:1", "two");
    assert_eq!(house.ctl(&["run", "--rm", &name, "/guest", "read", "/word"]).ok().text(), "one");
    let newer = house.ctl(&["run", "--rm", "-q", "--pull", "always", &name, "/guest", "read", "/word"]).ok();
    assert_eq!((newer.text(), newer.stderr.as_str()), ("two", ""));
}

#[test]
fn from_names_images_by_tag_by_digest_and_by_both() {
    let registry = DockerRegistry::open();
    let house = House::start();
    let tar = Tar::of_guest().file("word", 0o644, b"one").write(house.path("published.tar"));
    let name = registry.image("base:latest");
    house.ctl(&["import", tar.to_str().unwrap(), &name]).ok();
    let digest = digest(&house.ctl(&["push", &name]).ok());
    house.ctl(&["rmi", &name]).ok();
    let plain = registry.image("base");

    for from in [plain.clone(), format!("{plain}:latest"), format!("{plain}@{digest}"), format!("{plain}:any@{digest}")]
    {
        let context = Context::new(&format!("FROM {from}\nCOPY --from={from} /word /copied\n"));
        house.build(&context, "made").ok();
        assert_eq!(house.ctl(&["run", "--rm", "made", "/guest", "read", "/copied"]).ok().text(), "one", "{from}");
    }
    let wrong = format!("{plain}@sha256:{}", "0".repeat(64));
    let context = Context::new(&format!("FROM {wrong}\nCOPY Dockerfile /\n"));
    house.build(&context, "none").fails().complains(&["Dockerfile:1:6", &wrong]);
}

#[test]
fn a_build_pulls_its_bases_once_it_misses_them() {
    let registry = DockerRegistry::open();
    let mut house = House::start();
    publish(&house, &registry, "library/base:1", "one");
    house.mirror_hub(&registry);
    let context = Context::new("FROM base:1 AS first\nFROM first\nCOPY --from=base:1 /word /copied\n");

    let flags = ["build", "--progress", "plain", "--pull=never", "-t", "made", context.arg()];
    house.ctl(&flags).fails().complains(&["base:1", "not in the store"]);
    let built = house.build(&context, "made").ok();
    let is_resolved = |line: &&str| line.contains(" resolve docker.io/library/base:1") && line.ends_with(" done");
    assert_eq!(built.stderr.lines().filter(is_resolved).count(), 1, "once per build: {built:?}");
    let ran = house.ctl(&["run", "--rm", "made", "/guest", "read", "/copied"]).ok();

    assert_eq!(ran.text(), "one");
    let elsewhere = House::start();
    publish(&elsewhere, &registry, "library/base:1", "two");
    house.build(&context, "made").ok();
    assert_eq!(house.ctl(&["run", "--rm", "made", "/guest", "read", "/copied"]).ok().text(), "one");
    house.ctl(&["build", "--pull", "-q", "-t", "made", context.arg()]).ok();
    assert_eq!(house.ctl(&["run", "--rm", "made", "/guest", "read", "/copied"]).ok().text(), "two");
    let absent = Context::new("FROM scratch\n\nFROM base:none\n");
    house.build(&absent, "none").fails().complains(&["Dockerfile:3:", "base:none", "cannot be pulled"]);
}

/// The Dockerfile that every newcomer copies, byte for byte; its base is a stand-in of Debian's packages.
#[test]
fn the_dockerfile_of_a_newcomer_builds_and_runs() {
    let registry = DockerRegistry::open();
    let mut house = House::start();
    let python = strata_tests::made(strata_tests::target().join("images/debian-python.tar"), "make python-base");
    house.ctl(&["import", python.to_str().unwrap(), "debian-python"]).ok();
    let stand_in = Context::new(
        "FROM debian-python\nRUN ln -s /usr/bin/python3 /usr/local/bin/python && rm /usr/lib/python3.11/EXTERNALLY-MANAGED\n\
         CMD [\"python3\"]\n",
    );
    let name = registry.image("library/python:3.10-slim");
    house.build(&stand_in, &name).ok();
    house.ctl(&["push", "-q", &name]).ok();
    house.ctl(&["rmi", &name, "debian-python"]).ok();
    house.mirror_hub(&registry);
    let app = Context::new(
        "FROM python:3.10-slim\nWORKDIR /app\nCOPY requirements.txt .\nRUN pip install -r requirements.txt\nCOPY . .\n\
         CMD [\"python\", \"app.py\"]\n",
    )
    .file("requirements.txt", "# nothing yet\n")
    .file("app.py", "print('hello from', __file__)\n");

    house.build(&app, "app").ok();

    assert_eq!(house.ctl(&["run", "--rm", "app"]).ok().text(), "hello from /app/app.py");
}

#[test]
fn a_pull_that_was_cut_goes_on_where_it_was() {
    let registry = DockerRegistry::open();
    let maker = House::start();
    let size = 24 << 20;
    let tar = Tar::of_guest().file("noise", 0o644, &noise(size)).write(maker.path("noise.tar"));
    maker.ctl(&["import", tar.to_str().unwrap(), &registry.image("noise:1")]).ok();
    maker.ctl(&["push", "-q", &registry.image("noise:1")]).ok();
    let wire = registry.wire();
    let house = House::start();
    house.configure("[registries]\nattempts = 1\n");

    wire.break_after(16 << 20);
    house.ctl(&["pull", &wire.image("noise:1")]).fails().complains(&["noise", "sha256:"]);
    assert!(wire.carried() >= 16 << 20, "the cut came too early");
    // What came survives the service, too.
    house.crash("store");
    wire.mend();
    house.ctl(&["pull", &wire.image("noise:1")]).ok();

    assert!(wire.carried() < 12 << 20, "{} bytes came again", wire.carried());
    house.ctl(&["run", "--rm", "--pull", "never", &wire.image("noise:1"), "/guest", "noop"]).ok();
    house.verify();
}

#[test]
fn what_a_mirror_spoils_comes_from_the_next_place() {
    let registry = DockerRegistry::open();
    let maker = House::start();
    let tar = Tar::of_guest().file("noise", 0o644, &noise(8 << 20)).write(maker.path("noise.tar"));
    maker.ctl(&["import", tar.to_str().unwrap(), &registry.image("team/noise:1")]).ok();
    maker.ctl(&["push", "-q", &registry.image("team/noise:1")]).ok();
    let wire = registry.wire();
    wire.spoil_every(2 << 20);
    let house = House::start();
    let mirrors = |places: &str| {
        format!(
            "[registries]\nattempts = 1\n[registries.host.\"docker.io\"]\nmirrors = [{places}]\nmirrors_only = true\n"
        )
    };

    house.configure(&mirrors(&format!("\"{}\"", wire.host())));
    house.ctl(&["pull", "team/noise:1"]).fails().complains(&["team/noise", "sha256:"]);
    assert_eq!(house.ctl(&["images", "-q"]).ok().stdout, "", "no image of wrong bytes");
    assert!(house.stop().is_empty());
    house.configure(&mirrors(&format!("\"{}\", \"{}\"", wire.host(), registry.host())));
    house.ctl(&["pull", "team/noise:1"]).ok();

    house.ctl(&["run", "--rm", "--pull", "never", "team/noise:1", "/guest", "noop"]).ok();
    house.verify();
}

#[test]
fn a_second_image_fetches_only_what_it_has_alone() {
    let registry = DockerRegistry::open();
    let maker = House::start();
    let tar = Tar::of_guest().file("noise", 0o644, &noise(8 << 20)).write(maker.path("noise.tar"));
    maker.ctl(&["import", tar.to_str().unwrap(), &registry.image("noise:1")]).ok();
    let more = Context::new(&format!("FROM {}\nCOPY more /more\n", registry.image("noise:1"))).file("more", "more");
    maker.build(&more, &registry.image("noise:2")).ok();
    maker.ctl(&["push", "-qa", &registry.image("noise")]).ok();
    let wire = registry.wire();
    let house = House::start();
    house.ctl(&["pull", "-q", &wire.image("noise:1")]).ok();
    wire.mend();

    house.ctl(&["pull", &wire.image("noise:2")]).ok().says(&["Already exists", "Pull complete"]);

    assert!(wire.carried() < 64 << 10, "{} bytes for a layer of one small file", wire.carried());
}

/// CVE-2019-13509, row 123: no secret in a log.
#[test]
fn credentials_are_tried_kept_used_and_forgotten() {
    let registry = DockerRegistry::closed();
    let (host, name) = (registry.host(), registry.image("private/guest:1"));
    let house = House::with_guest();
    house.ctl(&["tag", "guest", &name]).ok();
    let login = ["login", "-u", DockerRegistry::USER, "--password-stdin", &host];

    house.ctl(&["push", &name]).fails().complains(&[&host, "ctl login"]);
    house.ctl_with(&login, b"wrong battery").fails().complains(&[&host, "does not accept the credentials"]);
    let file = house.path("home/.docker/config.json");
    assert!(!file.exists(), "what was refused is not kept");
    house.ctl_with(&login, format!("{}\n", DockerRegistry::PASSWORD).as_bytes()).ok().says(&["Login Succeeded"]);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    house.ctl(&["push", &name]).ok();
    house.ctl(&["login", &host]).ok().says(&["Login Succeeded"]);
    house.ctl(&["rmi", &name]).ok();
    let context = Context::new(&format!("FROM {name}\nENV a=b\n"));
    house.build(&context, "made").ok();

    house.ctl(&["logout", &host]).ok().says(&["Removed"]);
    house.ctl(&["logout", &host]).ok().says(&["Not logged in"]);
    house.ctl(&["pull", &registry.image("private/guest:2")]).fails().complains(&[&host, "ctl login"]);
    for service in ["store", "builder"] {
        let log = fs::read_to_string(house.root().join(service).join("service.log")).unwrap_or_default();
        assert!(!log.contains(DockerRegistry::PASSWORD) && !log.contains("battery"), "a secret in the log: {log}");
    }
}

#[test]
fn a_password_on_the_command_line_is_warned_of() {
    let registry = DockerRegistry::closed();
    let house = House::start();
    let host = registry.host();

    let flags = ["login", "-u", DockerRegistry::USER, "-p", DockerRegistry::PASSWORD, &host];
    house.ctl(&flags).ok().complains(&["--password-stdin"]);
    house.ctl(&["login", &registry.image("x")]).ok();
    house.ctl(&["login", "-u", DockerRegistry::USER, "other.example"]).code(125).complains(&["--password-stdin"]);
}

#[test]
fn what_a_registry_does_not_have_is_named() {
    let registry = DockerRegistry::open();
    let house = House::start();

    let absent = house.ctl(&["pull", &registry.image("no/such:image")]).fails();
    absent.complains(&[&registry.host(), "no/such", "image", "does not have it"]);
    house.ctl(&["pull", "UPPER"]).fails().complains(&["UPPER"]);
    house.ctl(&["push", &registry.image("no/such:image")]).fails().complains(&["no/such:image"]);
    house.ctl(&["run", "--rm", &registry.image("no/such:image")]).code(125).complains(&["no/such", "does not have it"]);
}

#[test]
fn an_image_for_another_platform_comes_when_it_is_asked_for() {
    let registry = DockerRegistry::open();
    let house = House::start();
    publish(&house, &registry, "words:1", "one");

    let refused = house.ctl(&["pull", "--platform", "linux/s390x", &registry.image("words:1")]).fails();

    refused.complains(&["linux/s390x"]);
    house.ctl(&["pull", "--platform", "nonsense/a/b/c", &registry.image("words:1")]).fails();
}

/// A service that ctl starts finds the proxy of its starter's environment.
#[test]
fn the_environments_proxy_reaches_the_store() {
    let proxy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut house = House::start();
    house.configure("[registries]\nattempts = 1\n");
    house.set("HTTPS_PROXY", &format!("http://{}", proxy.local_addr().unwrap()));
    let asked = std::thread::spawn(move || {
        use std::io::Read;
        let (mut client, _) = proxy.accept().unwrap();
        let mut line = [0; 64];
        let count = client.read(&mut line).unwrap();
        String::from_utf8_lossy(&line[..count]).into_owned()
    });

    house.ctl(&["pull", "registry.invalid/team/app:1"]).fails().complains(&["registry.invalid"]);

    let asked = asked.join().unwrap();
    assert!(asked.starts_with("CONNECT registry.invalid:443"), "{asked:?}");
}

#[test]
fn a_layer_that_a_registry_has_may_be_let_go_and_is_fetched_again_by_digest() {
    let registry = DockerRegistry::open();
    let maker = House::start();
    let tar = Tar::of_guest().file("noise", 0o644, &noise(1 << 20)).write(maker.path("noise.tar"));
    maker.ctl(&["import", tar.to_str().unwrap(), &registry.image("team/noise:1")]).ok();
    maker.ctl(&["push", "-q", &registry.image("team/noise:1")]).ok();
    let (house, wire) = (House::start(), registry.wire());
    house.configure("[registries]\nattempts = 1\n");
    fs::write(house.root().join("etc/store.toml"), "garbage_grace_seconds = 0\n[blobs]\nkeep = \"without-source\"\n")
        .unwrap();
    let name = wire.image("team/noise:1");
    let archive = house.path("saved.tar");
    let save = || house.ctl(&["save", "-o", archive.to_str().unwrap(), &name]);
    house.ctl(&["pull", "-q", &name]).ok();

    house.ctl(&["system", "prune", "-f"]).ok();
    wire.mend();
    house.ctl(&["pull", "-q", &name]).ok();
    assert!(wire.carried() < 64 << 10, "{} bytes of what is unpacked came again", wire.carried());
    save().ok();
    assert!(wire.carried() > 1 << 20, "{} bytes: it was not let go", wire.carried());

    house.ctl(&["system", "prune", "-f"]).ok();
    wire.break_after(0);
    save().fails().complains(&[&wire.host(), "team/noise", "sha256:"]);
}
