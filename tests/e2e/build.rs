//! `ctl build`: a Dockerfile becomes an image, and what did not change is not done again.

use strata_tests::{Context, House, Steps, Went};

#[test]
fn a_build_gives_an_image_that_runs_and_tells_its_history() {
    let house = House::with_guest();
    let context = Context::new(
        "FROM guest\n\
         ENV COLOUR=green\n\
         WORKDIR /app\n\
         RUN [\"/guest\", \"write\", \"made\", \"by a step\"]\n\
         COPY words.txt .\n\
         LABEL org.example.kind=test\n\
         EXPOSE 8080\n\
         USER alice\n\
         ENTRYPOINT [\"/guest\"]\n\
         CMD [\"read\", \"/app/made\"]\n",
    )
    .file("words.txt", "from the context");

    house.build(&context, "app").ok();

    assert_eq!(house.ctl(&["run", "--rm", "app"]).ok().stdout, "by a step");
    assert_eq!(house.ctl(&["run", "--rm", "app", "read", "words.txt"]).ok().stdout, "from the context");
    assert!(house.ctl(&["run", "--rm", "app", "env"]).ok().stdout.contains("COLOUR=green\n"));
    assert_eq!(house.ctl(&["run", "--rm", "app", "id"]).ok().text(), "uid 1000 gid 1000 groups 50,1000");
    let shown = house.ctl(&["inspect", "app"]).ok().json();
    let config = &shown[0]["Config"];
    assert_eq!((&config["User"], &config["WorkingDir"]), (&"alice".into(), &"/app".into()), "{shown:#}");
    assert_eq!(config["Labels"]["org.example.kind"], "test");
    assert!(config["ExposedPorts"].get("8080/tcp").is_some(), "{shown:#}");
    let history = house.ctl(&["history", "--no-trunc", "app"]).ok();
    for row in [
        "CMD [\"read\"",
        "ENTRYPOINT [\"/guest\"]",
        "USER alice",
        "EXPOSE",
        "LABEL",
        "COPY words.txt",
        "RUN",
        "WORKDIR /app",
        "ENV COLOUR=green",
    ] {
        assert!(history.stdout.contains(row), "{row} in {history:?}");
    }
    house.verify();
}

/// Their paths are more than the page of mount options that kernels before 6.8 take.
#[test]
fn an_image_of_sixty_layers_is_built_and_runs() {
    let house = House::with_guest();
    let step = |number: u32| match number % 5 {
        0 => format!("RUN [\"/guest\", \"write\", \"/f{number}\", \"{number}\\n\"]\n"),
        _ => format!("COPY <<EOF /f{number}\n{number}\nEOF\n"),
    };
    let steps: String = (1..59).map(step).collect();
    let context = Context::new(&format!("FROM guest\n{steps}RUN [\"/guest\", \"rm\", \"/f1\"]\n"));

    house.build(&context, "deep").ok();

    let shown = house.ctl(&["inspect", "deep"]).ok().json();
    assert_eq!(shown[0]["RootFS"]["Layers"].as_array().unwrap().len(), 60, "{shown:#}");
    let words = ["/guest", "then", "read", "/f2", "+", "read", "/f55", "+", "write", "/new", "x", "+", "read", "/new"];
    assert_eq!(house.ctl(&[&["run", "--rm", "deep"], &words[..]].concat()).ok().stdout, "2\n55\nx");
    house.ctl(&["run", "--rm", "deep", "/guest", "exists", "/f1"]).code(1);
}

#[test]
fn an_unchanged_build_is_all_cached_and_gives_the_same_image() {
    let house = House::with_guest();
    let context = Context::new(
        "FROM guest\nWORKDIR /a\nCOPY . .\nRUN [\"/guest\", \"write\", \"/b\", \"c\"]\nCMD [\"/guest\", \"noop\"]\n",
    )
    .file("x", "y");
    house.build(&context, "app").ok();
    let id = house.ctl(&["images", "-q", "--no-trunc", "app"]).ok();

    let again = house.build(&context, "app").ok();

    Steps::of(&again).all_cached();
    assert_eq!(house.ctl(&["images", "-q", "--no-trunc", "app"]).ok().stdout, id.stdout);
}

#[test]
fn one_changed_file_does_only_the_last_copy_again() {
    let house = House::with_guest();
    let context = Context::new(
        "FROM guest\nWORKDIR /app\nCOPY stable.txt .\nRUN [\"/guest\", \"write\", \"/made\", \"x\"]\nCOPY . .\nCMD [\"/guest\", \"read\", \"app.txt\"]\n",
    )
    .file("stable.txt", "stays")
    .file("app.txt", "first");
    house.build(&context, "app").ok();

    context.write("app.txt", "second");
    let steps = Steps::of(&house.build(&context, "app").ok());

    for step in ["WORKDIR /app", "COPY stable.txt", "RUN "] {
        assert_eq!(steps.went(step), Went::Cached, "{step} in {steps:?}");
    }
    assert_eq!(steps.went("COPY . ."), Went::Done, "{steps:?}");
    assert_eq!(house.ctl(&["run", "--rm", "app"]).ok().stdout, "second");
}

#[test]
fn times_do_not_matter_to_the_cache_and_modes_do() {
    let house = House::with_guest();
    let context = Context::new("FROM guest\nCOPY file /file\n").file("file", "same");
    context.chmod("file", 0o644);
    house.build(&context, "app").ok();

    context.write("file", "same");
    Steps::of(&house.build(&context, "app").ok()).all_cached();
    context.chmod("file", 0o755);
    let steps = Steps::of(&house.build(&context, "app").ok());

    assert_eq!(steps.went("COPY file"), Went::Done);
    assert_eq!(house.ctl(&["run", "--rm", "app", "/guest", "stat", "/file"]).ok().text(), "/file: file of 4 755 0:0");
}

#[test]
fn no_cache_does_everything_again() {
    let house = House::with_guest();
    let context = Context::new("FROM guest\nRUN [\"/guest\", \"write\", \"/x\", \"y\"]\n");
    house.build(&context, "app").ok();

    let again = house.ctl(&["build", "--progress", "plain", "--no-cache", "-t", "app", context.arg()]).ok();

    assert_eq!(Steps::of(&again).went("RUN "), Went::Done);
}

#[test]
fn a_stage_gives_its_files_and_nothing_else() {
    let house = House::with_guest();
    let context = Context::new(
        "FROM guest AS maker\nRUN [\"/guest\", \"write\", \"/result\", \"precious\"]\nRUN [\"/guest\", \"write\", \"/rubbish\", \"x\"]\n\
         FROM guest AS unused\nRUN [\"/guest\", \"exit\", \"1\"]\n\
         FROM scratch\nCOPY --from=maker /guest /guest\nCOPY --from=maker --chown=7:8 --chmod=600 /result /dir/\nCMD [\"/guest\", \"stat\", \"/dir/result\"]\n",
    );

    let steps = Steps::of(&house.build(&context, "small").ok());

    assert!(!steps.has("\"exit\""), "a stage that nobody needs is not built: {steps:?}");
    assert_eq!(house.ctl(&["run", "--rm", "small"]).ok().text(), "/dir/result: file of 8 600 7:8");
    house.ctl(&["run", "--rm", "small", "/guest", "exists", "/rubbish"]).code(1);
    house.ctl(&["build", "--target", "maker", "-t", "maker", context.arg()]).ok();
    assert_eq!(house.ctl(&["run", "--rm", "maker", "/guest", "read", "/rubbish"]).ok().stdout, "x");
    house.ctl(&["build", "--target", "no-such-stage", context.arg()]).fails().complains(&["no-such-stage"]);
}

#[test]
fn arguments_expand_and_count_for_the_cache() {
    let house = House::with_guest();
    let context = Context::new(
        "ARG BASE=guest\nFROM ${BASE}\nARG WHO=nobody\nENV GREETING=\"hello ${WHO:-none}\"\nRUN [\"/guest\", \"write\", \"/x\", \"y\"]\nCMD [\"/guest\", \"env\"]\n",
    );
    let build =
        |who: &str| house.ctl(&["build", "--progress", "plain", "-t", "app", "--build-arg", who, context.arg()]).ok();

    build("WHO=you");
    assert!(house.ctl(&["run", "--rm", "app"]).ok().stdout.contains("GREETING=hello you\n"));
    let env = house.ctl(&["run", "--rm", "app"]).ok();
    assert!(!env.stdout.contains("WHO="), "arguments do not stay: {env:?}");
    Steps::of(&build("WHO=you")).all_cached();
    assert_eq!(Steps::of(&build("WHO=me")).went("RUN "), Went::Done);
}

#[test]
fn copies_follow_dockers_rules() {
    let house = House::with_guest();
    let context = Context::new(
        "FROM guest\nCOPY a.txt b.txt /many/\nCOPY dir /tree\nCOPY *.md /docs/\nCOPY a.txt /renamed\nCOPY --chown=alice:staff a.txt /hers\n\
         COPY <<EOF /inline\nfirst\nsecond\nEOF\nADD dir/deep /added\n",
    )
    .file("a.txt", "A")
    .file("b.txt", "B")
    .file("x.md", "X")
    .file("y.md", "Y")
    .file("dir/one", "1")
    .file("dir/deep/two", "2");

    house.build(&context, "app").ok();

    let read = |path: &str| house.ctl(&["run", "--rm", "app", "/guest", "read", path]).ok().stdout;
    for (path, content) in [
        ("/many/a.txt", "A"),
        ("/many/b.txt", "B"),
        ("/tree/one", "1"),
        ("/tree/deep/two", "2"),
        ("/docs/x.md", "X"),
        ("/docs/y.md", "Y"),
        ("/renamed", "A"),
        ("/inline", "first\nsecond\n"),
        ("/added/two", "2"),
    ] {
        assert_eq!(read(path), content, "{path}");
    }
    let hers = house.ctl(&["run", "--rm", "app", "/guest", "stat", "/hers"]).ok();
    assert_eq!(hers.text(), "/hers: file of 1 644 1000:50");
}

#[test]
fn add_unpacks_a_local_archive() {
    let house = House::with_guest();
    let context = Context::new("FROM guest\nADD tree.tar /unpacked/\nCOPY tree.tar /packed.tar\n");
    context.write("tree.tar", strata_tests::Tar::default().directory("d", 0o750).file("d/f", 0o640, b"inside").bytes());

    house.build(&context, "app").ok();

    let out = house
        .ctl(&[
            "run",
            "--rm",
            "app",
            "/guest",
            "then",
            "read",
            "/unpacked/d/f",
            "+",
            "stat",
            "/unpacked/d",
            "/unpacked/d/f",
        ])
        .ok();
    assert_eq!(out.stdout, "inside/unpacked/d: directory 750 0:0\n/unpacked/d/f: file of 6 640 0:0\n");
    house.ctl(&["run", "--rm", "app", "/guest", "exists", "/packed.tar"]).ok();
}

#[test]
fn add_of_what_is_no_archive_is_a_copy() {
    let house = House::with_guest();
    let packed = zstd::encode_all(&b"no tar in here"[..], 3).unwrap();
    let tar = strata_tests::Tar::default().file("f", 0o640, b"inside").bytes();
    let context = Context::new("FROM guest\nADD text.zst lies.tar broken.zst tree.tar.zst /x/\n");
    context.write("text.zst", &packed);
    context.write("lies.tar", vec![b'x'; 2000]);
    context.write("broken.zst", &packed[..packed.len() - 3]);
    context.write("tree.tar.zst", zstd::encode_all(&tar[..], 3).unwrap());

    house.build(&context, "app").ok();

    let ls = house.ctl(&["run", "--rm", "app", "/guest", "ls", "/x"]).ok();
    assert_eq!(ls.stdout, "broken.zst\nf\nlies.tar\ntext.zst\n");
}

#[test]
fn deletions_of_a_step_hide_what_was_below() {
    let house = House::with_guest();
    let context = Context::new(
        "FROM guest\nCOPY dir /dir\nRUN [\"/guest\", \"rm\", \"/dir/one\"]\nRUN [\"/guest\", \"then\", \"rm\", \"/dir\", \"+\", \"mkdir\", \"/dir\", \"+\", \"write\", \"/dir/new\", \"n\"]\n",
    )
    .file("dir/one", "1")
    .file("dir/two", "2");

    house.build(&context, "app").ok();

    assert_eq!(house.ctl(&["run", "--rm", "app", "/guest", "ls", "/dir"]).ok().text(), "new");
    house.verify();
}

#[test]
fn debian_has_a_shell_and_copies_land_behind_its_links() {
    let house = House::with_debian();
    let context = Context::new(
        "FROM debian:bookworm\nRUN echo one > /one && echo two >> /one\nSHELL [\"/bin/bash\", \"-c\"]\nRUN [[ -f /one ]] && echo \"$BASH_VERSION\" > /bash\nRUN <<EOF\nset -e\ncd /tmp\nprintf 'line\\n' > heredoc\nEOF\nCOPY lib.txt /lib/\n",
    )
    .file("lib.txt", "merged");

    house.build(&context, "app").ok();

    let script =
        "set -e; cat /one; test -s /bash; cat /tmp/heredoc; cat /usr/lib/lib.txt; test -L /lib; stat -c %a /tmp";
    let out = house.ctl(&["run", "--rm", "app", "sh", "-c", script]).ok();
    assert_eq!(out.stdout, "one\ntwo\nline\nmerged1777\n");
    house.verify();
}

#[test]
fn a_quiet_build_prints_the_id_and_iidfile_holds_it() {
    let house = House::with_guest();
    let context = Context::new("FROM guest\nENV A=b\n");
    let file = house.path("id");

    let quiet = house.ctl(&["build", "-q", "--iidfile", file.to_str().unwrap(), context.arg()]).ok();

    assert!(quiet.text().starts_with("sha256:") && quiet.text().len() == 71 && quiet.stderr.is_empty(), "{quiet:?}");
    assert_eq!(std::fs::read_to_string(file).unwrap().trim(), quiet.text());
    house.ctl(&["run", "--rm", quiet.text(), "/guest", "noop"]).ok();
}

#[test]
fn a_dockerfile_may_have_another_name_or_come_through_a_pipe() {
    let house = House::with_guest();
    let context = Context::new("FROM no-such-image\n").file("other.dockerfile", "FROM guest\nENV FROM_FILE=1\n");
    let other = context.path().join("other.dockerfile");

    house.ctl(&["build", "-f", other.to_str().unwrap(), "-t", "a", context.arg()]).ok();
    house.ctl_with(&["build", "-f", "-", "-t", "b", context.arg()], b"FROM guest\nENV PIPED=1\n").ok();

    assert!(house.ctl(&["run", "--rm", "a", "/guest", "env"]).ok().stdout.contains("FROM_FILE=1"));
    assert!(house.ctl(&["run", "--rm", "b", "/guest", "env"]).ok().stdout.contains("PIPED=1"));
}

#[test]
fn the_network_of_steps_is_the_hosts_or_none() {
    let house = House::with_guest();
    let context = Context::new("FROM guest\nRUN [\"/guest\", \"then\", \"interfaces\", \"+\", \"mounts\"]\n");

    let none = house.ctl(&["build", "--progress", "plain", "--network", "none", context.arg()]).ok();

    let names: Vec<&str> = none.stderr.lines().filter(|line| line.ends_with(" lo")).collect();
    assert_eq!(names.len(), 1, "{none:?}");
}

#[test]
fn ignored_files_are_not_there() {
    let house = House::with_guest();
    let context = Context::new("FROM guest\nCOPY . /ctx\n")
        .file(".dockerignore", "# not these\n*.log\nsecret/\n!keep.log\n**/cache\n")
        .file("a.log", "x")
        .file("keep.log", "x")
        .file("secret/key", "x")
        .file("sub/cache/blob", "x")
        .file("sub/file", "x");

    house.build(&context, "app").ok();

    let ls = |path: &str| house.ctl(&["run", "--rm", "app", "/guest", "ls", path]).ok().stdout;
    assert_eq!(ls("/ctx"), ".dockerignore\nDockerfile\nkeep.log\nsub\n");
    assert_eq!(ls("/ctx/sub"), "file\n");
    // A change of what is ignored is no change.
    context.write("a.log", "y");
    Steps::of(&house.build(&context, "app").ok()).all_cached();
}

#[test]
fn two_builds_at_once_share_what_they_have_in_common() {
    let house = House::with_guest();
    let make = |n: usize| {
        Context::new(&format!(
            "FROM guest\nRUN [\"/guest\", \"write\", \"/shared\", \"s\"]\nRUN [\"/guest\", \"write\", \"/own\", \"{n}\"]\n"
        ))
    };
    let contexts: Vec<Context> = (0..6).map(make).collect();

    let builds: Vec<_> = contexts
        .iter()
        .enumerate()
        .map(|(n, context)| house.ctl_running(&["build", "-t", &format!("app{n}"), context.arg()]))
        .collect();
    for build in builds {
        build.finish().ok();
    }

    for n in 0..6 {
        let own = house.ctl(&["run", "--rm", &format!("app{n}"), "/guest", "read", "/own"]).ok();
        assert_eq!(own.stdout, n.to_string());
    }
    house.verify();
}

/// More entries than fit a message of the directory's, and more contents than one question asks for.
#[test]
fn a_directory_of_twenty_thousand_files_travels() {
    let house = House::with_guest();
    let context = Context::new("FROM guest\nCOPY many /many\n");
    let many = context.path().join("many");
    std::fs::create_dir(&many).unwrap();
    let name = |number: u32| format!("{number:05}-{}", "x".repeat(100));
    for number in 0..20_000 {
        std::fs::write(many.join(name(number)), number.to_string()).unwrap();
    }

    house.build(&context, "app").ok();

    let path = format!("/many/{}", name(19_999));
    assert_eq!(house.ctl(&["run", "--rm", "app", "/guest", "read", &path]).ok().stdout, "19999");
    let again = house.build(&context, "app").ok();
    Steps::of(&again).all_cached();
}
