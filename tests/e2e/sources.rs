//! Files of web servers: ADD of a URL, contexts that are URLs or come on standard input.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use strata_tests::{Context, House, Output, Steps, Tar, Web, Went, digest};

/// Builds with these flags; what comes out goes to a directory.
fn built(house: &House, flags: &[&str], context: &str) -> (PathBuf, Output) {
    let out = house.path(&format!("out-{}", fs::read_dir(house.path("")).expect("it is there").count()));
    let output = ["-o", out.to_str().expect("an ASCII path"), context];
    let output = house.ctl(&[&["build", "--progress", "plain"], flags, &output].concat());
    (out, output)
}

fn add(house: &House, instruction: &str) -> (PathBuf, Output) {
    let context = Context::new(&format!("FROM scratch\n{instruction}\n"));
    built(house, &[], context.arg())
}

/// Owners and groups of what these instructions add, by path.
fn owners(house: &House, instructions: &str) -> BTreeMap<String, (u64, u64)> {
    let context = Context::new(&format!("FROM scratch\n{instructions}\n"));
    let file = house.path("owners.tar");
    let output = format!("type=tar,dest={}", file.display());
    house.ctl(&["build", "-o", &output, context.arg()]).ok();
    let mut archive = tar::Archive::new(fs::File::open(file).expect("it was written"));
    let entries = archive.entries().expect("it is an archive").map(|entry| entry.expect("it is whole"));
    let owner = |header: &tar::Header| (header.uid().expect("a number"), header.gid().expect("a number"));
    let path = |path: &[u8]| String::from_utf8_lossy(path).trim_matches(['.', '/']).to_owned();
    entries.map(|entry| (path(&entry.path_bytes()), owner(entry.header()))).collect()
}

fn text(path: PathBuf) -> String {
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).expect("memory takes it");
    encoder.finish().expect("memory takes it")
}

#[test]
fn add_of_a_url_is_a_private_file_with_the_servers_time() {
    let (house, web) = (House::start(), Web::start());
    web.put("/a/file.txt", "hello", &["Last-Modified: Wed, 21 Oct 2015 07:28:00 GMT"]);
    web.put("/a/x?token=1", "query", &["Content-Disposition: attachment; filename=other"]);

    let (out, output) = add(
        &house,
        &format!(
            "ADD {} /d/\nADD {} /named\nADD --chmod=644 --chown=5:6 {0} /e/\nADD {1} /f/",
            web.url("/a/file.txt"),
            web.url("/a/x?token=1"),
        ),
    );

    output.ok();
    let file = fs::metadata(out.join("d/file.txt")).expect("it has the name of the path");
    assert_eq!((file.mode() & 0o7777, file.mtime()), (0o600, 1_445_412_480));
    assert_eq!(text(out.join("d/file.txt")), "hello");
    assert_eq!(text(out.join("named")), "query");
    assert_eq!(text(out.join("f/x")), "query");
    let other = fs::metadata(out.join("e/file.txt")).expect("it is there");
    assert_eq!(other.mode() & 0o7777, 0o644);
    let source = web.url("/a/file.txt");
    let owners = owners(&house, &format!("ADD {source} /d/\nADD --chown=5:6 {source} /e/"));
    assert_eq!((owners["d/file.txt"], owners["e/file.txt"]), ((0, 0), (5, 6)));
}

#[test]
fn a_url_that_names_no_file_needs_a_name_at_the_destination() {
    let (house, web) = (House::start(), Web::start());
    web.put("/", "hello", &[]);

    let (_, refused) = add(&house, &format!("ADD {} /d/", web.url("/")));
    let (out, output) = add(&house, &format!("ADD {} /d/name", web.url("")));

    refused.fails().complains(&["Dockerfile:2:5", "names no file", "end the destination with a name"]);
    output.ok();
    assert_eq!(text(out.join("d/name")), "hello");
}

#[test]
fn a_remote_archive_is_unpacked_where_that_is_asked_for() {
    let (house, web) = (House::start(), Web::start());
    let tar =
        Tar::default().directory("dir", 0o750).file("dir/a", 0o640, b"inside").owned_by(7, 8).file("b", 0o600, b"b");
    let bytes = tar.bytes();
    web.put("/a.tar", &bytes, &[]);
    web.put("/a.tar.gz", gzip(&bytes), &[]);
    web.put("/text", "no archive", &[]);

    let (out, output) = add(
        &house,
        &format!(
            "ADD {} /kept/\nADD --unpack {} /one\nADD --unpack=true --chown=5:6 {1} /two\nADD --unpack {} /three/",
            web.url("/a.tar"),
            web.url("/a.tar.gz"),
            web.url("/text"),
        ),
    );

    output.ok();
    assert_eq!(fs::read(out.join("kept/a.tar")).expect("it is kept"), bytes);
    for directory in ["one", "two"] {
        assert_eq!(text(out.join(directory).join("dir/a")), "inside");
    }
    let source = web.url("/a.tar.gz");
    let owners = owners(&house, &format!("ADD --unpack {source} /one\nADD --unpack --chown=5:6 {source} /two"));
    assert_eq!((owners["one/b"], owners["two/b"], owners["two/dir/a"]), ((7, 8), (5, 6), (5, 6)));
    assert_eq!(text(out.join("three/text")), "no archive");
}

#[test]
fn what_has_not_changed_is_not_fetched_again_and_what_has_is_seen() {
    let (house, web) = (House::start(), Web::start());
    web.put_tagged("/x", "one");
    let context = Context::new(&format!("FROM scratch\nADD {} /x\nCOPY Dockerfile /y\n", web.url("/x")));
    let build = |flags: &[&str]| {
        let (out, output) = built(&house, flags, context.arg());
        let output = output.ok();
        (text(out.join("x")), Steps::of(&output).went("ADD"), web.requests())
    };

    let first = build(&[]);
    let second = build(&[]);
    web.put_tagged("/x", "two");
    let third = build(&[]);

    assert_eq!((first.0.as_str(), first.1, first.2.len()), ("one", Went::Done, 1));
    assert_eq!((second.0.as_str(), second.1, second.2.len()), ("one", Went::Cached, 1));
    assert!(second.2[0].to_lowercase().contains("if-none-match: \"sha256:"), "{:?}", second.2);
    assert_eq!((third.0.as_str(), third.1), ("two", Went::Done));
    house.verify();
}

#[test]
fn equal_content_of_another_url_is_the_same_step() {
    let (house, web) = (House::start(), Web::start());
    web.put("/a/x", "same", &[]);
    web.put("/b/x", "same", &[]);

    add(&house, &format!("ADD {} /x", web.url("/a/x"))).1.ok();
    let (_, output) = add(&house, &format!("ADD {} /x", web.url("/b/x")));

    assert_eq!(Steps::of(&output.ok()).went("ADD"), Went::Cached);
}

#[test]
fn a_checksum_is_insisted_on_and_saves_the_fetch() {
    let (house, web) = (House::start(), Web::start());
    web.put("/x", "hello", &[]);
    let right = digest(b"hello");
    let wrong = digest(b"other");
    let build = |checksum: &str, to: &str| add(&house, &format!("ADD --checksum={checksum} {} {to}", web.url("/x")));

    let (_, refused) = build(&wrong, "/x");
    refused.fails().complains(&["Dockerfile:2:", &wrong, &right]);
    for (text, part) in [("sha256:12", "64"), ("md5:abc", "sha256:, sha384: or sha512:"), ("abc", "sha256:")] {
        build(text, "/x").1.fails().complains(&["Dockerfile:2:", part]);
    }
    build(&right, "/x").1.ok();
    web.requests();
    let (out, output) = build(&right, "/elsewhere");

    output.ok();
    assert_eq!(text(out.join("elsewhere")), "hello");
    assert_eq!(web.requests(), Vec::<String>::new());
}

#[test]
fn a_file_that_cannot_be_had_is_told_with_its_place_and_without_its_credentials() {
    let (house, web) = (House::start(), Web::start());
    web.put("/moved", "", &["Location: file:///etc/passwd"]);
    let url = format!("http://name:canary@{}/none?key=canary", web.host());

    let (_, missing) = add(&house, &format!("ADD {url} /x"));
    let (_, moved) = add(&house, &format!("ADD {} /x", web.url("/moved")));
    let (_, silent) = add(&house, "ADD http://127.0.0.1:1/x /x");
    let (_, copy) = add(&house, &format!("COPY {} /x", web.url("/x")));

    let missing = missing.fails().complains(&["Dockerfile:2:5", "404 Not Found"]);
    // The line of the user's own file is shown as it is.
    let said: Vec<&str> = missing.stderr.lines().filter(|line| !line.contains(" | ")).collect();
    assert!(!said.concat().contains("name:canary"), "{missing:?}");
    moved.fails().complains(&["Dockerfile:2:5", "only http and https"]);
    silent.fails().complains(&["Dockerfile:2:5", "refused"]);
    copy.fails().complains(&["Dockerfile:2:6", "COPY takes no URL; ADD does"]);
}

/// CVE-2023-26054: what a URL holds is in no image, cache, history, progress or log.
#[test]
fn row_115_credentials_of_a_url_are_found_nowhere() {
    let (house, web) = (House::start(), Web::start());
    web.put("/x", "hello", &[]);
    web.want("Basic bmFtZTpjYW5hcnktMTE1");
    let context = Context::new(&format!("FROM scratch\nADD http://name:canary-115@{}/x /x\n", web.host()));

    let output = house.build(&context, "app").ok();
    let history = house.ctl(&["history", "--no-trunc", "app"]).ok();
    let usage = house.ctl(&["builder", "du", "--verbose"]).ok();
    house.stop();

    for shown in [output.both(), history.both(), usage.both()] {
        assert!(!shown.contains("canary-115"), "{shown}");
    }
    let found = house.command("grep").args(["-rl", "canary-115", "state"]).output().expect("grep is there");
    assert_eq!(String::from_utf8_lossy(&found.stdout), "");
}

#[test]
fn a_url_of_an_archive_is_a_context_that_no_ignore_file_filters() {
    let (house, web) = (House::start(), Web::start());
    let tar = Tar::default()
        .file("Dockerfile", 0o644, b"FROM scratch\nCOPY . /all/\nADD a.tar /unpacked/\n")
        .file(".dockerignore", 0o644, b"ignored\n")
        .file("ignored", 0o644, b"not at all")
        .file("other/Dockerfile.x", 0o644, b"FROM scratch\nCOPY other /o/\n")
        .file("a.tar", 0o644, &Tar::default().file("in", 0o644, b"in").bytes());
    web.put("/c.tar.gz", gzip(&tar.bytes()), &[]);
    let url = web.url("/c.tar.gz");

    let (out, output) = built(&house, &[], &url);
    let (other, output_of_other) = built(&house, &["-f", "other/Dockerfile.x"], &url);
    let (_, missing) = built(&house, &["-f", "none"], &url);
    let own = Context::new("FROM scratch\nCOPY ignored /x\n").file("x", "y");
    let file = format!("{}/Dockerfile", own.arg());
    let (of_own, output_of_own) = built(&house, &["-f", &file], &url);

    output.ok();
    assert_eq!(text(out.join("all/ignored")), "not at all");
    assert_eq!(text(out.join("unpacked/in")), "in");
    output_of_other.ok();
    assert!(other.join("o/Dockerfile.x").is_file());
    missing.fails().complains(&["none"]);
    output_of_own.ok();
    assert_eq!(text(of_own.join("x")), "not at all");
}

#[test]
fn a_url_of_a_dockerfile_is_a_context_with_nothing_else() {
    let (house, web) = (House::start(), Web::start());
    web.put("/Dockerfile.x", "FROM scratch\nCOPY <<a /b\nhello\na\n", &[]);
    let context = Context::new("no Dockerfile").file("here", "file of the context");
    web.put("/with", "FROM scratch\nCOPY here /here\n", &[]);

    let (out, output) = built(&house, &[], &web.url("/Dockerfile.x"));
    let (with, output_with) = built(&house, &["-f", &web.url("/with")], context.arg());
    let (_, none) = built(&house, &["-f", &web.url("/none")], context.arg());

    output.ok();
    assert_eq!(text(out.join("b")), "hello\n");
    output_with.ok();
    assert_eq!(text(with.join("here")), "file of the context");
    none.fails().complains(&["/none", "404 Not Found"]);
}

#[test]
fn standard_input_is_a_dockerfile_or_an_archive() {
    let house = House::start();
    let out = |name: &str| house.path(name);
    let build = |name: &str, flags: &[&str], input: &[u8]| {
        let to = out(name).to_str().expect("an ASCII path").to_owned();
        house.ctl_with(&[&["build", "--progress", "plain", "-o", &to], flags, &["-"]].concat(), input)
    };
    let tar = Tar::default()
        .file("Dockerfile", 0o644, b"FROM scratch\nCOPY a /a\n")
        .file(".dockerignore", 0o644, b"a\n")
        .file("a", 0o644, b"from the archive")
        .file("b/D", 0o644, b"FROM scratch\nCOPY a /b\n")
        .bytes();

    build("text", &[], b"FROM scratch\nCOPY <<a /b\nhello\na\n").ok();
    build("tar", &[], &tar).ok();
    build("gz", &["-f", "b/D"], &gzip(&tar)).ok();
    let again = build("again", &[], &tar).ok();
    let copies = build("none", &[], b"FROM scratch\nCOPY a /a\n");

    assert_eq!(text(out("text").join("b")), "hello\n");
    assert_eq!(text(out("tar").join("a")), "from the archive");
    assert_eq!(text(out("gz").join("b")), "from the archive");
    assert_eq!(Steps::of(&again).went("COPY"), Went::Cached);
    copies.fails().complains(&["Dockerfile:2:6", "no context"]);
    build("both", &["-f", "-"], b"").fails().complains(&["cannot both come"]);
    build("empty", &[], b"").fails().complains(&["nothing came"]);
    build("file", &["-f", "x"], b"FROM scratch\n").fails().complains(&["-f x"]);
    build("broken", &[], b"\x1f\x8b\x08 no gzip").fails().complains(&["no archive"]);
}

/// CVE-2026-44517: a Dockerfile that is a link does not lead out of the context.
#[test]
fn row_114_a_dockerfile_of_an_archive_that_is_a_link_stays_inside() {
    let house = House::start();
    let secret = house.path("secret");
    fs::write(&secret, "FROM scratch\nLABEL leaked=yes\n").expect("it can be written");
    let up = format!("../../../../../../../..{}", secret.display());
    for target in [secret.to_str().expect("an ASCII path"), &up] {
        let tar = Tar::default().symlink("Dockerfile", target).file("x", 0o644, b"x").bytes();

        let output = house.ctl_with(&["build", "-t", "app", "-"], &tar);

        let output = output.fails();
        assert!(output.stderr.contains("Dockerfile"), "{output:?}");
    }
    let inside = Tar::default().symlink("Dockerfile", "/d/real").file("d/real", 0o644, b"FROM scratch\nCOPY d /\n");
    house.ctl_with(&["build", "-t", "app", "-"], &inside.bytes()).ok();
}

/// The names of all files below a directory.
fn names(directory: &Path) -> Vec<String> {
    let walk = Command::new("find").args([".", "-type", "f"]).current_dir(directory).output().expect("find is there");
    let mut names: Vec<_> = String::from_utf8_lossy(&walk.stdout).lines().map(|name| name[2..].to_owned()).collect();
    names.sort();
    names
}

/// Row 118 (CVE-2025-62725): a name that a server gives is one part of a path, or none.
#[test]
fn row_118_names_of_urls_and_of_answers_are_one_part_of_a_path() {
    let (house, web) = (House::start(), Web::start());
    let disposition = "Content-Disposition: attachment; filename=\"../../escaped\"; filename*=UTF-8''..%2f..%2fescaped";
    let hostile = ["/a/..%2f..%2fescaped", "/a/%2e%2e", "/a/%2e", "/a/x%00", "/a/", "/a/%2fescaped"];
    // A client asks for "/a/%2e%2e" as "/".
    hostile.iter().chain(&["/"]).for_each(|path| web.put(path, "hostile", &[disposition]));
    web.put("/a/plain", "plain", &[disposition]);
    web.put("/a/moved", "", &[&format!("Location: {}", web.url(hostile[0])), disposition]);
    web.put("/a/..%5cescaped", "a name like any other", &[]);

    let names_of = |instructions: &str| {
        let (out, output) = add(&house, instructions);
        output.ok();
        names(&out)
    };
    let to_directory = ["/a/plain", "/a/moved", "/a/..%5cescaped"].map(|path| format!("ADD {} /d/e/\n", web.url(path)));
    assert_eq!(names_of(&to_directory.concat()), ["d/e/..\\escaped", "d/e/moved", "d/e/plain"]);
    for path in hostile {
        let (out, output) = add(&house, &format!("ADD {} /d/e/", web.url(path)));
        output.fails().complains(&["Dockerfile:2:", "names no file"]);
        assert!(!out.exists(), "{path}");
        assert_eq!(names_of(&format!("ADD {} /d/e/named", web.url(path))), ["d/e/named"], "{path}");
    }
}

/// Row 118: what the annotations of an image say of files is for others to believe.
#[test]
fn row_118_no_file_gets_its_name_from_an_annotation() {
    let house = House::start();
    let (layout, out) = (house.path("layout"), house.path("out"));
    house.build(&Context::new("FROM scratch\nCOPY f /f\n").file("f", "f"), "made:1").ok();
    house.ctl(&["save", "--format", "oci-dir", "-o", layout.to_str().expect("an ASCII path"), "made:1"]).ok();
    let read = |name: &str| -> Value { serde_json::from_str(&text(layout.join(name))).expect("it is JSON") };
    let blob = |digest: &Value| digest.as_str().expect("a digest").replace("sha256:", "blobs/sha256/");
    let escaped = house.path("escaped").display().to_string();
    let annotations = json!({
        "org.opencontainers.image.title": format!("../../../../../../../..{escaped}"),
        "com.docker.compose.file": escaped,
        "com.docker.compose.envfile": escaped,
        "io.deis.oras.content.unpack": "true",
    });
    let mut index = read("index.json");
    let mut manifest = read(&blob(&index["manifests"][0]["digest"]));
    manifest["annotations"] = annotations.clone();
    manifest["config"]["annotations"] = annotations.clone();
    manifest["layers"][0]["annotations"] = annotations;
    let bytes = manifest.to_string().into_bytes();
    index["manifests"][0]["digest"] = json!(digest(&bytes));
    index["manifests"][0]["size"] = json!(bytes.len());
    fs::write(layout.join(blob(&index["manifests"][0]["digest"])), &bytes).expect("it can be written");
    fs::write(layout.join("index.json"), index.to_string()).expect("it can be written");
    house.ctl(&["rmi", "made:1"]).ok();

    let flag = format!("base=oci-layout://{}:1", layout.display());
    let context = Context::new("FROM base\nCOPY --from=base / /copied/\n");
    house.ctl(&["build", "--build-context", &flag, "-o", out.to_str().expect("an ASCII path"), context.arg()]).ok();

    assert_eq!(names(&out), ["copied/f", "f"]);
    assert!(!Path::new(&escaped).exists());
}

#[test]
fn an_epoch_is_the_time_of_a_context_or_of_a_stage() {
    let (house, web) = (House::start(), Web::start());
    let mut tar = Vec::new();
    {
        let mut builder = tar::Builder::new(&mut tar);
        for (name, content, time) in
            [("Dockerfile", "FROM scratch\nCOPY a /\n", 1_500_000_000), ("a", "a", 1_500_000_600)]
        {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            header.set_mtime(time);
            builder.append_data(&mut header, name, content.as_bytes()).expect("memory takes it");
        }
        builder.finish().expect("memory takes it");
    }
    web.put("/c.tar", &tar, &[]);
    web.put("/dated.tar", &tar, &["Last-Modified: Wed, 21 Oct 2015 07:28:00 GMT"]);
    web.put("/x", "x", &["Last-Modified: Wed, 21 Oct 2015 07:28:00 GMT"]);
    let created = |flags: &[&str], context: &str| {
        house.ctl(&[&["build", "-t", "app"], flags, &[context]].concat()).ok();
        house.ctl(&["inspect", "app"]).ok().json()[0]["Created"].as_str().expect("it has a time").to_owned()
    };
    let of_context = ["--build-arg", "SOURCE_DATE_EPOCH=context"];
    let text = format!("FROM scratch AS dated\nARG F=x\nADD {}/$F /\nFROM scratch\nCOPY Dockerfile /\n", web.url(""));
    let stage = Context::new(&text);

    assert_eq!(created(&of_context, &web.url("/c.tar")), "2017-07-14T02:50:00Z");
    assert_eq!(created(&of_context, &web.url("/dated.tar")), "2015-10-21T07:28:00Z");
    assert_eq!(created(&["--build-arg", "SOURCE_DATE_EPOCH=dated"], stage.arg()), "2015-10-21T07:28:00Z");
    // Files of the client have no time that all of them share.
    let today = created(&of_context, stage.arg());
    assert!(today.as_str() > "2026", "{today}");
    let wrong = Context::new("FROM scratch AS dated\nCOPY Dockerfile /\nFROM scratch\nCOPY Dockerfile /\n");
    let refused = house.ctl(&["build", "--build-arg", "SOURCE_DATE_EPOCH=dated", wrong.arg()]);
    refused.fails().complains(&["Dockerfile:2:1", "a single ADD of one remote source"]);
    let unknown = house.ctl(&["build", "--build-arg", "SOURCE_DATE_EPOCH=nothing", wrong.arg()]);
    unknown.fails().complains(&["SOURCE_DATE_EPOCH", "nothing"]);
}

#[test]
fn credentials_of_a_web_server_are_secrets_by_its_host() {
    let (mut house, web) = (House::start(), Web::start());
    house.set("TOKEN", "canary-token");
    web.put("/x", "hello", &[]);
    let context = Context::new(&format!("FROM scratch\nADD {} /x\n", web.url("/x")));

    web.want("Bearer canary-token");
    let (_, none) = built(&house, &[], context.arg());
    let (_, other) = built(&house, &["--secret", "id=HTTP_AUTH_TOKEN_example.com,env=TOKEN"], context.arg());
    let (out, output) = built(&house, &["--secret", "id=HTTP_AUTH_TOKEN_127.0.0.1,env=TOKEN"], context.arg());
    web.want("canary-token");
    let (_, header) =
        built(&house, &["--no-cache", "--secret", "id=HTTP_AUTH_HEADER_127.0.0.1,env=TOKEN"], context.arg());

    none.fails().complains(&["401", "HTTP_AUTH_TOKEN"]);
    other.fails().complains(&["401"]);
    assert!(!output.ok().both().contains("canary-token"));
    assert_eq!(text(out.join("x")), "hello");
    header.ok();
    house.stop();
    let found = house.command("grep").args(["-rl", "canary-token", "state"]).output().expect("grep is there");
    assert_eq!(String::from_utf8_lossy(&found.stdout), "");
}
