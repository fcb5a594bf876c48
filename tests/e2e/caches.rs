//! `RUN --mount=type=cache`, and `ctl builder cache`.

use std::time::Duration;

use strata_tests::{Context, House, Output, Steps, Went, eventually};

use super::mounts::{printed, run};

fn build(house: &House, rest: &str, flags: &[&str]) -> Output {
    let context = Context::new(&format!("FROM guest\n{rest}")).file("there", "from the context");
    house.ctl(&[&["build", "--progress", "plain", "-t", "app"], flags, &[context.arg()]].concat())
}

/// The cache mounts, as `ctl builder cache ls` has them.
fn mounts(house: &House) -> Vec<serde_json::Value> {
    let listed = house.ctl(&["builder", "cache", "ls", "--format", "json"]).ok();
    listed.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn what_a_build_writes_the_next_build_finds_and_no_image_has() {
    let house = House::with_guest();
    let write = run("--mount=type=cache,target=/var/cache/x", "write /var/cache/x/kept 1 + stat /var/cache/x");
    let output = build(&house, &write, &[]).ok();
    assert_eq!(printed(&output), "/var/cache/x: directory 755 0:0\n");
    let left = house.ctl(&["run", "--rm", "app", "/guest", "ls", "/"]).ok();
    assert!(!left.stdout.contains("var\n"), "{left:?}");

    // The store may go meanwhile.
    assert_eq!(house.stop().len(), 0);
    let read = run("--mount=type=cache,target=/elsewhere,id=/var/cache/x,readonly", "read /elsewhere/kept");
    assert_eq!(printed(&build(&house, &read, &[]).ok()), "1\n");
    let read_only = run("--mount=type=cache,target=/var/cache/x,ro", "write /var/cache/x/new 1");
    build(&house, &read_only, &[]).fails().complains(&["Dockerfile:2:"]);
    let other = run("--mount=type=cache,target=/var/cache/x,id=other", "ls /var/cache/x");
    assert_eq!(printed(&build(&house, &other, &[]).ok()), "");
}

#[test]
fn a_namespace_keeps_builds_apart() {
    let house = House::with_guest();
    let write = run("--mount=type=cache,target=/c", "append /c/kept x + read /c/kept");
    let with =
        |flags: &[&str]| printed(&build(&house, &write, &[&["--no-cache"], flags].concat()).ok()).trim_end().to_owned();

    assert_eq!([with(&[]), with(&[])], ["x", "xx"]);
    assert_eq!(with(&["--build-arg", "BUILDKIT_CACHE_MOUNT_NS=other"]), "x");
    assert_eq!(with(&[]), "xxx");
}

#[test]
fn an_empty_cache_is_filled_from_a_stage_and_has_the_mode_and_owner_that_are_asked_for() {
    let house = House::with_guest();
    let filled = "--mount=type=cache,target=/c,from=base,source=/data";
    let rest = format!(
        "AS base\nCOPY there /data/sub/file\nFROM guest\n{}{}{}",
        run(filled, "read /c/sub/file + write /c/sub/file mine"),
        run(filled, "read /c/sub/file"),
        run("--mount=type=cache,target=/c,mode=0700,uid=1000,gid=50", "stat /c"),
    );
    let context = Context::new(&format!("FROM guest {rest}")).file("there", "from the context");

    let output = house.build(&context, "app").ok();

    let printed = printed(&output).replace('\n', "");
    assert_eq!(printed, "from the contextmine/c: directory 700 1000:50", "{output:?}");
    // What the stage has is its own.
    let copied = format!(
        "AS base\nCOPY there /data/sub/file\nFROM guest\nCOPY --from=base /data /data\n{}",
        run("", "read /data/sub/file")
    );
    let context = Context::new(&format!("FROM guest {copied}")).file("there", "from the context");
    assert!(house.build(&context, "app").ok().stderr.contains("from the context"));
    let no_from = run("--mount=type=cache,target=/c,source=/data", "noop");
    build(&house, &no_from, &[]).fails().complains(&["Dockerfile:2:", "needs from"]);
}

/// Two stages; in all but the locked case each goes on only when the other is there too.
#[test]
fn sharing_says_who_has_a_cache_at_the_same_time() {
    let house = House::with_guest();
    let stage = |name: &str, other: &str, sharing: &str| {
        let (mounts, words) = match sharing {
            "locked" => (String::new(), format!("ls /c + write /c/{name} x + ls /c")),
            _ => (
                format!("--mount=type=cache,target=/meet,id=meet-{sharing} "),
                format!(
                    "write /meet/{name} x + await /meet/{other} + write /c/{name} x + write /meet/{name}2 x \
                     + await /meet/{other}2 + ls /c"
                ),
            ),
        };
        let flags = format!("{mounts}--mount=type=cache,target=/c,id={sharing},sharing={sharing}");
        format!("FROM guest AS {name}\n{}RUN [\"/guest\", \"write\", \"/{name}\", \"\"]\n", run(&flags, &words))
    };
    let seen = |sharing: &str| {
        let stages = stage("a", "b", sharing) + &stage("b", "a", sharing);
        let text = format!("{stages}FROM guest\nCOPY --from=a /a /a\nCOPY --from=b /b /b\n");
        let output = house.build(&Context::new(&text), "app").ok();
        let mut lines: Vec<_> = printed(&output).lines().map(str::to_owned).collect();
        lines.sort();
        lines.concat()
    };

    // One after the other: the second finds what the first wrote, and both are there when it ends.
    let locked = seen("locked");
    assert!(locked == "aaab" || locked == "abbb", "{locked}");
    assert_eq!(seen("private"), "ab");
    assert_eq!(seen("shared"), "aabb");
}

#[test]
fn a_crash_of_the_builder_frees_what_it_had() {
    let mut house = House::with_guest();
    house.set("BUILDKIT_PROGRESS", "plain");
    let wait = run("--mount=type=cache,target=/c,sharing=locked", "write /c/x y + sleep 600");
    let context = Context::new(&format!("FROM guest\n{wait}"));
    let running = house.ctl_running(&["build", context.arg()]);
    let is_held = || mounts(&house).first().is_some_and(|mount| mount["InUse"] == true);
    eventually("the step has the cache", Duration::from_secs(30), is_held);
    let kept = || {
        let mut made = std::fs::read_dir(house.root().join("store/cache-mounts")).unwrap().flatten();
        made.any(|mount| std::fs::read(mount.path().join("data/x")).is_ok_and(|content| content == b"y"))
    };
    eventually("the step has written to it", Duration::from_secs(30), kept);
    let key = mounts(&house)[0]["Key"].as_str().unwrap().to_owned();
    house.ctl(&["builder", "cache", "rm", &key]).fails().complains(&["a build uses the cache mount \"/c\""]);

    assert!(house.crash("builder"));

    running.finish().fails();
    let next = run("--mount=type=cache,target=/c,sharing=locked", "read /c/x");
    assert_eq!(printed(&build(&house, &next, &[]).ok()), "y\n");
}

#[test]
fn cache_mounts_are_listed_exported_imported_and_removed() {
    let house = House::with_guest();
    let write = run(
        "--mount=type=cache,target=/c,id=go",
        "mkdir /c/deep + write /c/deep/file content + chmod 640 /c/deep/file",
    );
    build(&house, &write, &[]).ok();
    eventually("its use is written down", Duration::from_secs(10), || mounts(&house)[0]["UsageCount"] == 1);

    let table = house.ctl(&["builder", "cache", "ls"]).ok();
    assert!(table.stdout.contains("ID") && table.stdout.contains("go ") && table.stdout.contains("false"), "{table:?}");
    let tar = house.path("go.tar").display().to_string();
    house.ctl(&["builder", "cache", "export", "go", "-o", &tar]).ok();
    house.ctl(&["builder", "cache", "import", "copied", "-i", &tar]).ok();
    let read = run("--mount=type=cache,target=/c,id=copied", "read /c/deep/file + stat /c/deep/file");
    assert_eq!(printed(&build(&house, &read, &[]).ok()), "content/c/deep/file: file of 7 640 0:0\n");
    std::fs::write(house.path("no.tar"), vec![b'x'; 4096]).unwrap();
    let no = house.path("no.tar").display().to_string();
    house.ctl(&["builder", "cache", "import", "copied", "-i", &no]).fails();
    house.ctl(&["builder", "cache", "export", "nothing", "-o", &tar]).fails().complains(&["\"nothing\"", "cache ls"]);
    house.ctl(&["builder", "cache", "rm", "copied"]).ok();
    assert_eq!(mounts(&house).len(), 1);

    let du = house.ctl(&["builder", "du", "--verbose", "--filter", "type=exec.cachemount"]).ok();
    assert!(du.stdout.contains("cache mount go") && du.stdout.contains("exec.cachemount"), "{du:?}");
    house.ctl(&["builder", "prune", "-f", "--filter", "type=regular"]).ok();
    assert_eq!(mounts(&house).len(), 1);
    house.ctl(&["builder", "prune", "-f"]).ok();
    assert_eq!(mounts(&house).len(), 0);
    let left = std::fs::read_dir(house.root().join("store/cache-mounts")).unwrap().count();
    assert_eq!(left, 0, "the directory went too");
}

/// Row 103 (CVE-2024-23651), row 110 (CVE-2024-9675), row 111 (CVE-2024-11218): ids and sources of hostile files lead nowhere.
#[test]
fn row_103_row_110_row_111_cache_ids_and_sources_stay_in_their_root() {
    let house = House::with_guest();
    let sentinel = house.path("sentinel");
    std::fs::create_dir(&sentinel).unwrap();
    std::fs::write(sentinel.join("secret"), "canary").unwrap();
    let place = sentinel.display().to_string();
    for id in ["../../../../../../../..", &place, "a/../../b"] {
        let text = run(&format!("--mount=type=cache,target=/c,id={id}"), "ls /c + write /c/escaped x");
        let output = build(&house, &text, &["--no-cache"]).ok();
        assert!(!printed(&output).contains("secret"), "{output:?}");
    }
    let rest = format!(
        "AS base\n{}FROM guest\n{}",
        run("", &format!("mkdir /d + link {place} /d/out")),
        run("--mount=type=cache,target=/c,from=base,source=/d/out", "ls /c"),
    );
    let context = Context::new(&format!("FROM guest {rest}"));
    house.build(&context, "app").fails();
    let names: Vec<_> = std::fs::read_dir(&sentinel).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(names, ["secret"]);
    assert!(
        Steps::of(&build(&house, &run("--mount=type=cache,target=/c", "noop"), &[]).ok()).went("RUN") == Went::Done
    );
}
