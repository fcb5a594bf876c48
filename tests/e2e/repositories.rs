//! Git repositories: ADD of one, and contexts that are one.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use strata_tests::{COMMITTED, Context, House, Output, Repositories, Steps, Web, Went};

/// Builds with these flags; what comes out goes to a directory.
fn built(house: &House, flags: &[&str], context: &str) -> (PathBuf, Output) {
    let out = house.path(&format!("out-{}", fs::read_dir(house.path("")).expect("it is there").count()));
    let output = ["-o", out.to_str().expect("an ASCII path"), context];
    let output = house.ctl(&[&["build", "--progress", "plain"], flags, &output].concat());
    (out, output)
}

fn add(house: &House, flags: &str, source: &str) -> (PathBuf, Output) {
    let context = Context::new(&format!("FROM scratch\nADD {flags} {source} /r/\n"));
    let (out, output) = built(house, &[], context.arg());
    (out.join("r"), output)
}

fn text(path: PathBuf) -> String {
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn add_of_a_repository_has_its_files_at_what_is_named() {
    let (house, repositories) = (House::start(), Repositories::default());
    let repository = repositories.add("r", &[]);
    let first = repository.write("f", "one").write("d/e", "in d").commit("first");
    repository.git(&["tag", "light"]);
    repository.git(&["tag", "-a", "-m", "a tag", "heavy"]);
    let tag = repository.git(&["rev-parse", "heavy"]).trim().to_owned();
    repository.git(&["checkout", "--quiet", "-b", "side"]);
    let side = repository.write("f", "side").commit("side");
    repository.git(&["checkout", "--quiet", "main"]);
    fs::set_permissions(repository.path().join("d/e"), std::os::unix::fs::PermissionsExt::from_mode(0o777))
        .expect("the file is there");
    let main = repository.write("f", "two").commit("second");
    let server = repositories.serve();
    let url = server.url("r");

    for (end, content) in [
        ("", "two"),
        ("#main", "two"),
        ("#side", "side"),
        ("#light", "one"),
        ("#heavy", "one"),
        ("#refs/tags/heavy", "one"),
        (&format!("#{first}"), "one"),
        (&format!("#{tag}"), "one"),
        ("?branch=side", "side"),
        ("?tag=light", "one"),
        ("?ref=side&mtime=commit", "side"),
        (&format!("?ref=side&checksum={}", &side[..7]), "side"),
        (&format!("?tag=heavy&commit={first}"), "one"),
        (&format!("?tag=heavy&commit={tag}"), "one"),
        (&format!("?fetch-by-commit&commit={main}&branch=nowhere"), "two"),
    ] {
        let (out, output) = add(&house, "", &format!("{url}{end}"));
        output.ok();
        assert_eq!(text(out.join("f")), content, "{end}");
        assert!(!out.join(".git").exists(), "{end}");
    }
    let (out, output) = add(&house, "", &format!("{url}#main:d"));
    output.ok();
    assert_eq!(fs::metadata(out.join("e")).expect("the directory's files").mode() & 0o7777, 0o755);
    assert!(!out.join("f").exists());
    let (out, _) = add(&house, "", &format!("{url}?ref=side&mtime=commit"));
    let file = fs::metadata(out.join("f")).expect("it is there");
    assert_eq!((file.mtime(), file.mode() & 0o7777), (COMMITTED + 60, 0o644));
    house.verify();
}

#[test]
fn a_repository_is_cached_by_its_commit_and_seen_when_it_moves() {
    let (house, repositories) = (House::start(), Repositories::default());
    let repository = repositories.add("r", &[]);
    let first = repository.write("f", "one").commit("first");
    let server = repositories.serve();
    let context = Context::new(&format!("FROM scratch\nADD {} /r\n", server.url("r")));
    let build = || {
        let (out, output) = built(&house, &[], context.arg());
        (text(out.join("r/f")), Steps::of(&output.ok()).went("ADD"))
    };

    assert_eq!(build(), ("one".to_owned(), Went::Done));
    assert_eq!(build(), ("one".to_owned(), Went::Cached));
    repository.write("f", "two").commit("second");
    assert_eq!(build(), ("two".to_owned(), Went::Done));
    drop(server);
    // What a commit is needs nobody to be asked.
    let (_, output) = add(&house, "", &format!("git://127.0.0.1:1/gone.git#{first}"));
    output.ok();
    house.ctl(&["builder", "du"]).ok();
}

#[test]
fn the_repository_itself_is_kept_where_that_is_asked_for() {
    let (house, repositories) = (House::start(), Repositories::default());
    let repository = repositories.add("r", &[]);
    let commit = repository.write("f", "one").commit("first");
    let server = repositories.serve();
    let url = server.url("r");
    repository.write("Dockerfile", "FROM scratch\nCOPY . /r/\n").commit("with a Dockerfile");

    let kept = [
        add(&house, "--keep-git-dir", &format!("{url}#{commit}")),
        add(&house, "--keep-git-dir=true", &url),
        add(&house, "", &format!("{url}?keep-git-dir=1")),
        built(&house, &["--build-arg", "BUILDKIT_CONTEXT_KEEP_GIT_DIR=1"], &url),
        built(&house, &[], &format!("{url}?keep-git-dir=true")),
    ];
    let (without, output) = built(&house, &[], &url);

    output.ok();
    assert!(without.join("r/f").exists() && !without.join("r/.git").exists());
    for (out, output) in kept {
        output.ok();
        let out = if out.join("r").exists() { out.join("r") } else { out };
        let git = |words: &[&str]| {
            let directory = out.to_str().expect("an ASCII path");
            let safe = format!("safe.directory={directory}");
            let output = house.command("git").args(["-C", directory, "-c", &safe]).args(words).output();
            String::from_utf8_lossy(&output.expect("git is there").stdout).trim().to_owned()
        };
        assert_eq!(git(&["remote", "get-url", "origin"]), url);
        assert_eq!(git(&["status", "--porcelain"]), "");
        assert_eq!(git(&["rev-parse", "HEAD"]).len(), 40);
    }
    let (_, refused) = add(&house, "--keep-git-dir=false", &format!("{url}?keep-git-dir=1"));
    refused.fails().complains(&["Dockerfile:2:", "contradict"]);
}

#[test]
fn a_checksum_is_the_commit_or_how_it_begins() {
    let (house, repositories) = (House::start(), Repositories::default());
    let repository = repositories.add("r", &[]);
    let commit = repository.write("f", "one").commit("first");
    let server = repositories.serve();
    let url = server.url("r");

    for checksum in [&commit[..1], &commit[..10], &commit.to_uppercase()[..12], &commit] {
        add(&house, &format!("--checksum={checksum}"), &url).1.ok();
    }
    let other: String = commit.chars().map(|digit| if digit == 'f' { '0' } else { 'f' }).collect();
    let (_, refused) = add(&house, &format!("--checksum={other}"), &url);
    refused.fails().complains(&["Dockerfile:2:", &other, &commit]);
    let (_, refused) = add(&house, &format!("--checksum=sha256:{}", "a".repeat(64)), &url);
    refused.fails().complains(&["Dockerfile:2:", "hex digits"]);
    let two = Context::new(&format!("FROM scratch\nADD --checksum={commit} {url} Dockerfile /r/\n"));
    built(&house, &[], two.arg()).1.fails().complains(&["Dockerfile:2:5", "--checksum is for a single source"]);
}

#[test]
fn submodules_come_along_unless_they_are_not_wanted() {
    let (house, repositories) = (House::start(), Repositories::default());
    let inner = repositories.add("inner", &[]);
    inner.write("deep", "in the inner one").commit("first");
    let outer = repositories.add("outer", &[]);
    outer.write("f", "outer").commit("first");
    outer.git(&["submodule", "--quiet", "add", "../inner.git", "module"]);
    outer.commit("with a module");
    let server = repositories.serve();
    let url = server.url("outer");

    let (out, output) = add(&house, "", &url);
    let (without, output_without) = add(&house, "", &format!("{url}?submodules=false"));
    let (part, output_of_part) = add(&house, "", &format!("{url}#main:module"));

    output.ok();
    assert_eq!(text(out.join("module/deep")), "in the inner one");
    assert!(!out.join("module/.git").exists());
    output_without.ok();
    assert!(!without.join("module/deep").exists());
    output_of_part.ok();
    assert_eq!(text(part.join("deep")), "in the inner one");
}

#[test]
fn repositories_of_sha_256_and_servers_that_only_have_files() {
    let (house, repositories) = (House::start(), Repositories::default());
    let long = repositories.add("long", &["--object-format=sha256"]);
    let commit = long.write("f", "sha256").commit("first");
    let plain = repositories.add("plain", &[]);
    let old = plain.write("f", "old").commit("first");
    plain.write("f", "plain").commit("second");
    let (server, web) = (repositories.serve(), Web::start());
    web.serve_directory(repositories.path());
    let dumb = web.url("/plain.git/.git");

    let (out, output) = add(&house, "", &format!("{}#{commit}", server.url("long")));
    let (named, output_of_named) = add(&house, "", &server.url("long"));
    let (of_files, output_of_files) = add(&house, "", &dumb);
    let (of_old, output_of_old) = add(&house, "", &format!("{dumb}#{old}"));

    output.ok();
    assert_eq!((commit.len(), text(out.join("f"))), (64, "sha256".to_owned()));
    output_of_named.ok();
    assert_eq!(text(named.join("f")), "sha256");
    output_of_files.ok();
    assert_eq!(text(of_files.join("f")), "plain");
    output_of_old.ok();
    assert_eq!(text(of_old.join("f")), "old");
}

#[test]
fn pointers_of_lfs_are_told() {
    let (house, repositories) = (House::start(), Repositories::default());
    let repository = repositories.add("r", &[]);
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 3\n";
    repository.write(".gitattributes", "*.bin filter=lfs\n").write("a.bin", pointer);
    repository.git(&["-c", "filter.lfs.clean=cat", "add", "--all"]);
    repository.commit("first");
    let server = repositories.serve();

    let (out, output) = add(&house, "", &server.url("r"));

    let output = output.ok();
    assert!(output.stderr.contains("/a.bin") && output.stderr.contains("Git LFS"), "{output:?}");
    assert_eq!(text(out.join("a.bin")), pointer);
}

#[test]
fn a_repository_is_a_context_that_no_ignore_file_filters() {
    let (house, repositories) = (House::start(), Repositories::default());
    let repository = repositories.add("r", &[]);
    repository
        .write("Dockerfile", "FROM scratch\nCOPY . /all/\n")
        .write(".dockerignore", "ignored\n")
        .write("ignored", "not at all")
        .write("sub/Dockerfile", "FROM scratch\nCOPY x /x\n")
        .write("sub/x", "of the directory")
        .write("sub/other", "FROM scratch\nCOPY sub/x /y\n")
        .commit("first");
    repository.git(&["tag", "v1"]);
    let server = repositories.serve();
    let url = server.url("r");

    let (out, output) = built(&house, &[], &url);
    let (sub, output_of_sub) = built(&house, &[], &format!("{url}#v1:sub"));
    let (other, output_of_other) = built(&house, &["-f", "sub/other"], &url);
    let standard_input = house.ctl_with(&["build", "-t", "app", "-f", "-", &url], b"FROM scratch\nCOPY sub /\n");

    let output = output.ok();
    assert!(output.stderr.contains(&format!("[internal] load git source {url}")), "{output:?}");
    assert_eq!(text(out.join("all/ignored")), "not at all");
    output_of_sub.ok();
    assert_eq!(text(sub.join("x")), "of the directory");
    output_of_other.ok();
    assert_eq!(text(other.join("y")), "of the directory");
    standard_input.ok();
    let created = {
        house.ctl(&["build", "-t", "app", "--build-arg", "SOURCE_DATE_EPOCH=context", &url]).ok();
        house.ctl(&["inspect", "app"]).ok().json()[0]["Created"].as_str().expect("it has a time").to_owned()
    };
    assert_eq!(created, "2020-09-13T12:26:40Z");
    built(&house, &[], &format!("{url}#none")).1.fails().complains(&["no branch or tag \"none\""]);
    built(&house, &[], &format!("{url}#:none")).1.fails().complains(&["no directory \"none\""]);
    built(&house, &["-f", "none"], &url).1.fails().complains(&["none"]);
}

/// CVE-2019-13139, CVE-2026-33748: nothing of a git URL is an option, and no directory leads out.
#[test]
fn row_97_and_100_of_git_urls_are_refused_where_they_stand() {
    let (house, repositories) = (House::start(), Repositories::default());
    let repository = repositories.add("r", &[]);
    std::os::unix::fs::symlink("/etc", repository.path().join("out")).expect("a link can be made");
    repository.write("f", "one").commit("first");
    let server = repositories.serve();
    let url = server.url("r");
    let canary = house.path("canary");

    for source in [
        format!("{url}#--upload-pack=touch${{IFS}}{}", canary.display()),
        format!("{url}#:out"),
        format!("{url}#:out/ssl"),
        format!("{url}?ref=-a"),
        format!("{url}?nothing=1"),
        "git@-oProxyCommand=touch:x".to_owned(),
        "file:///etc".to_owned(),
        "ssh://-oProxyCommand=x/y".to_owned(),
    ] {
        let (_, refused) = add(&house, "", &source);
        refused.fails().complains(&["Dockerfile:2:"]);
    }
    let (out, output) = add(&house, "", &format!("{url}#:../.."));
    output.ok();
    assert_eq!(text(out.join("f")), "one");
    assert!(!canary.exists());
}

#[test]
fn a_named_context_is_a_repository_or_a_single_file() {
    let (house, repositories, web) = (House::start(), Repositories::default(), Web::start());
    let repository = repositories.add("r", &[]);
    repository.write("f", "of the repository").write("d/e", "of the directory").commit("first");
    web.put("/x", "of the server", &["Last-Modified: Wed, 21 Oct 2015 07:28:00 GMT"]);
    let server = repositories.serve();
    let flags = [
        "--build-context".to_owned(),
        format!("repo={}", server.url("r")),
        "--build-context".to_owned(),
        format!("part={}#main:d", server.url("r")),
        "--build-context".to_owned(),
        format!("file={}", web.url("/x")),
        "--build-context".to_owned(),
        "unused=http://127.0.0.1:1/nobody".to_owned(),
    ];
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let context = Context::new("FROM repo\nCOPY --from=part e /e\nCOPY --from=file context /x\n");

    let (out, output) = built(&house, &flags, context.arg());

    output.ok();
    for (path, content) in [("f", "of the repository"), ("e", "of the directory"), ("x", "of the server")] {
        assert_eq!(text(out.join(path)), content);
    }
    let epoch = ["--build-arg", "SOURCE_DATE_EPOCH=file", "-t", "app"];
    house.ctl(&[&["build"], &epoch[..], &flags, &[context.arg()]].concat()).ok();
    let shown = house.ctl(&["inspect", "app"]).ok().json();
    assert_eq!(shown[0]["Created"], "2015-10-21T07:28:00Z");
}

#[test]
fn credentials_of_a_repository_are_secrets_of_its_host_or_of_any() {
    let (mut house, repositories, web) = (House::start(), Repositories::default(), Web::start());
    repositories.add("r", &[]).write("f", "one").commit("first");
    web.serve_directory(repositories.path());
    house.set("TOKEN", "canary-token");
    let source = web.url("/r.git/.git");
    let context = Context::new(&format!("FROM scratch\nADD {source} /r/\n"));
    let own = format!("id=GIT_AUTH_TOKEN.{},env=TOKEN", web.host());

    web.want("basic eC1hY2Nlc3MtdG9rZW46Y2FuYXJ5LXRva2Vu");
    let (_, none) = built(&house, &[], context.arg());
    let (out, output) = built(&house, &["--secret", "id=GIT_AUTH_TOKEN,env=TOKEN"], context.arg());
    let (_, of_host) = built(&house, &["--secret", &own], context.arg());
    web.want("canary-token");
    let (_, header) = built(&house, &["--secret", "id=GIT_AUTH_HEADER,env=TOKEN"], context.arg());

    none.fails().complains(&["Dockerfile:2:5", "GIT_AUTH_TOKEN"]);
    assert!(!output.ok().both().contains("canary-token"));
    assert_eq!(text(out.join("r/f")), "one");
    of_host.ok();
    header.ok();
    house.stop();
    let found = house.command("grep").args(["-rl", "canary-token", "state"]).output().expect("grep is there");
    assert_eq!(String::from_utf8_lossy(&found.stdout), "");
}

/// A program in place of OpenSSH's, which asks the agent for its keys and is the other end as well.
#[test]
fn a_repository_behind_ssh_is_fetched_with_the_keys_of_the_clients_agent() {
    let mut house = House::start();
    let repositories = Repositories::default();
    repositories.add("r", &[]).write("f", "private").commit("first");
    let (programs, asked) = (house.path("programs"), house.path("asked"));
    fs::create_dir(&programs).expect("a temporary directory");
    let script = format!(
        "#!/bin/sh\nssh-add -l >{} 2>&1 || {{ echo 'Permission denied (publickey).' >&2; exit 255; }}\n\
         for last; do :; done\nexec sh -c \"$last\"\n",
        asked.display()
    );
    fs::write(programs.join("ssh"), script).expect("a temporary directory");
    fs::set_permissions(programs.join("ssh"), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .expect("it is there");
    house.set("PATH", &format!("{}:{}", programs.display(), std::env::var("PATH").expect("there is one")));
    let key = house.path("key").display().to_string();
    let made =
        house.command("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", "a comment", "-f", &key]).output();
    assert!(made.expect("Debian's openssh-client").status.success());
    let url = format!("ssh://git@host.invalid{}/r.git", repositories.path().display());
    let context = Context::new(&format!("FROM scratch\nADD {url} /r/\n"));

    let (_, without) = built(&house, &[], context.arg());
    let (out, output) = built(&house, &["--ssh", &format!("default={key}")], context.arg());

    without.fails().complains(&["Dockerfile:2:", "host.invalid"]);
    output.ok();
    assert_eq!(text(out.join("r/f")), "private");
    assert!(text(asked).contains("a comment"));
    assert_eq!(fs::read_dir(house.run_dir().join("agents")).map_or(0, Iterator::count), 0, "no socket is left");
}
