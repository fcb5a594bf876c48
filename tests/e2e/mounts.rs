//! `RUN --mount`: what a step sees, and that nothing of it stays.

use strata_tests::{Context, House, Output, Steps, Went};

/// A RUN of the guest that does several things.
pub fn run(flags: &str, words: &str) -> String {
    let words: Vec<String> = words.split(' ').map(|word| format!("{word:?}")).collect();
    format!("RUN {flags} [\"/guest\", \"then\", {}]\n", words.join(", "))
}

/// Builds what follows `FROM guest`, with flags.
fn build(house: &House, rest: &str, flags: &[&str]) -> Output {
    let context = Context::new(&format!("FROM guest\n{rest}")).file("there", "x");
    house.ctl(&[&["build", "--progress", "plain", "-t", "app"], flags, &[context.arg()]].concat())
}

/// What a build printed in its steps, without numbers and times.
pub fn printed(output: &Output) -> String {
    let of_step = |line: &str| {
        let (number, rest) = line.strip_prefix('#')?.split_once(' ')?;
        let (time, text) = rest.split_once(' ')?;
        (number.parse::<u32>().is_ok() && time.parse::<f64>().is_ok()).then(|| format!("{text}\n"))
    };
    output.stderr.lines().filter_map(of_step).collect()
}

#[test]
fn a_tmpfs_is_empty_has_its_size_and_leaves_nothing() {
    let house = House::with_guest();
    let filled = run("--mount=type=tmpfs,target=/tmp,size=1m", "ls /tmp + write /tmp/x y + stat /tmp");
    let relative = run("--mount=type=tmpfs,target=scratch/deep", "write /work/scratch/deep/x y + mounts");

    let output = build(&house, &format!("{filled}WORKDIR /work\n{relative}"), &[]).ok();

    assert!(printed(&output).starts_with("/tmp: directory 1777 0:0\n"), "{output:?}");
    let mount = printed(&output).lines().find(|line| line.contains(" /work/scratch/deep ")).unwrap().to_owned();
    assert!(mount.contains("nosuid") && !mount.contains("noexec"), "{mount}");
    let left = house.ctl(&["run", "--rm", "app", "/guest", "then", "ls", "/tmp", "+", "ls", "/work"]).ok();
    assert!(left.stdout.is_empty(), "{left:?}");
    let full = run("--mount=type=tmpfs,target=/t,size=1m", "fill /t/x 2000000");
    build(&house, &full, &[]).fails().complains(&["Dockerfile:2:", "exit code: 99"]);
}

#[test]
fn a_secret_is_a_file_with_its_mode_and_owner() {
    let house = House::with_guest();
    std::fs::write(house.path("token"), "hunter2").unwrap();
    let src = format!("id=token,src={}", house.path("token").display());
    let flags = "--mount=type=secret,id=token \
                 --mount=type=secret,id=token,target=/root/.netrc,mode=0440,uid=1000,gid=50";
    let text = run(flags, "read /run/secrets/token + stat /run/secrets/token /root/.netrc + mounts");

    let output = build(&house, &text, &["--secret", &src]).ok();

    let printed = printed(&output);
    assert!(
        printed.starts_with("hunter2/run/secrets/token: file of 7 400 0:0\n/root/.netrc: file of 7 440 1000:50\n"),
        "{printed}"
    );
    let mount = printed.lines().find(|line| line.contains(" /run/secrets/token ")).unwrap();
    assert!(mount.contains(" ro,") && mount.contains(" - tmpfs "), "{mount}");
    let left = house.ctl(&["run", "--rm", "app", "/guest", "ls", "/"]).ok();
    assert!(!left.stdout.contains("run\n") && !left.stdout.contains("root\n"), "no stub stays: {left:?}");
}

#[test]
fn a_secret_is_a_variable_instead_or_besides() {
    let mut house = House::with_guest();
    house.set("MY_TOKEN", "hunter2");
    let only = run("--mount=type=secret,id=token,env=TOKEN", "env + exists /run/secrets/token");
    let both = run("--mount=type=secret,id=token,env=TOKEN,target=/t", "env + read /t");

    // "exists" gives 1 for what is not there.
    let output = build(&house, &only, &["--secret", "id=token,env=MY_TOKEN"]).fails().complains(&["exit code: 1"]);
    assert!(printed(&output).contains("TOKEN=hunter2\n"), "{output:?}");
    let output = build(&house, &both, &["--secret", "id=token,env=MY_TOKEN"]).ok();
    let printed = printed(&output);
    assert!(printed.contains("TOKEN=hunter2\n") && printed.contains("\nhunter2"), "{printed}");
    let env = house.ctl(&["inspect", "app"]).ok().json()[0]["Config"]["Env"].to_string();
    assert!(!env.contains("TOKEN"), "{env}");
}

#[test]
fn a_secret_that_is_not_given_is_absent_or_an_error() {
    let house = House::with_guest();
    let absent = run("--mount=type=secret,id=token,env=TOKEN --mount=type=secret,id=token", "env + ls /");
    let required = run("--mount=type=secret,id=token,required", "noop");

    let output = build(&house, &absent, &[]).ok();
    assert!(!printed(&output).contains("TOKEN") && !printed(&output).contains("run\n"), "{output:?}");
    let words = ["Dockerfile:2:", "\"token\" is required and was not given", "^", "--secret id=token,src=FILE"];
    build(&house, &required, &[]).fails().complains(&words);
    build(&house, &required, &["--secret", "id=other,src=/dev/null"]).fails().complains(&words);
    build(&house, &required, &["--secret", "id=token,src=/nonexistent"]).fails().complains(&["/nonexistent"]);
}

#[test]
fn what_a_secret_is_does_not_matter_to_the_cache() {
    let house = House::with_guest();
    let text = run("--mount=type=secret,id=token", "noop");
    let with = |value: &str| {
        std::fs::write(house.path("token"), value).unwrap();
        let output = build(&house, &text, &["--secret", &format!("id=token,src={}", house.path("token").display())]);
        Steps::of(&output.ok()).went("RUN")
    };

    assert_eq!([with("one"), with("two")], [Went::Done, Went::Cached]);
}

#[test]
fn a_stage_or_an_image_is_mounted_read_only_and_what_is_written_otherwise_is_thrown_away() {
    let house = House::with_guest();
    let rest = format!(
        "AS base\n\
         COPY there /data/sub/file\n\
         RUN [\"/guest\", \"link\", \"/\", \"/data/up\"]\n\
         FROM guest\n{}{}{}{}",
        run("--mount=type=bind,from=base,source=/data,target=/in", "ls /in + ls /in/sub + read /in/sub/file"),
        run("--mount=from=guest,target=/img", "stat /img/etc/passwd"),
        run("--mount=from=base,source=data/sub/file,target=/f,rw", "append /f y + read /f"),
        run("--mount=from=base,source=/data,target=/in,readwrite", "rm /in/sub + write /in/new x + ls /in"),
    );
    let context = Context::new(&format!("FROM guest {rest}")).file("there", "x");

    let output = house.build(&context, "app").ok();

    let expected = "sub\nup\nfile\nx/img/etc/passwd: file of 67 644 0:0\nxynew\nup\n";
    assert_eq!(printed(&output).replace("\nx\n", "\nx").replace("xy\n", "xy"), expected, "{output:?}");
    let left = house.ctl(&["run", "--rm", "app", "/guest", "ls", "/"]).ok();
    assert!(!["in\n", "img\n", "f\n"].iter().any(|name| left.stdout.contains(&format!("\n{name}"))), "{left:?}");
    Steps::of(&house.build(&context, "app").ok()).all_cached();
    let read_only = run("--mount=from=guest,target=/img", "write /img/x y");
    build(&house, &read_only, &[]).fails().complains(&["Dockerfile:2:"]);
}

#[test]
fn the_build_context_and_a_named_one_are_mounted() {
    let house = House::with_guest();
    let other = Context::new("").file("sub/x", "named").file("ignored", "i").file(".dockerignore", "ignored\n");
    let rest = format!(
        "{}{}{}",
        run("--mount=source=there,target=/f,rw", "append /f y + read /f"),
        run("--mount=from=other,source=sub,target=/o", "read /o/x + ls /o"),
        run("--mount=target=/in", "read /in/there + exists /in/Dockerfile"),
    );
    let context = Context::new(&format!("FROM guest\n{rest}")).file("there", "x").file("unused", "one");
    let flag = format!("other={}", other.arg());
    let build =
        || house.ctl(&["build", "--progress", "plain", "--build-context", &flag, "-t", "app", context.arg()]).ok();

    let output = build();

    assert_eq!(printed(&output), "xy\nnamedx\nx\n", "{output:?}");
    let left = house.ctl(&["run", "--rm", "app", "/guest", "ls", "/"]).ok();
    assert!(!["in\n", "f\n", "o\n"].iter().any(|name| left.stdout.contains(&format!("\n{name}"))), "{left:?}");
    Steps::of(&build()).all_cached();
    context.write("unused", "two");
    let again = Steps::of(&build());
    assert_eq!(
        [again.went("target=/in"), again.went("target=/f"), again.went("target=/o")],
        [Went::Done, Went::Cached, Went::Cached]
    );
    for (flags, words) in [
        ("--mount=source=nowhere,target=/in", &["Dockerfile:2:", "\"/nowhere\" is not in the build context"][..]),
        ("--mount=source=../../etc,target=/in", &["Dockerfile:2:", "\"/etc\" is not in the build context"]),
        (
            "--mount=from=other,source=ignored,target=/in",
            &["Dockerfile:2:", "\"/ignored\" is not in the context other"],
        ),
    ] {
        let wrong = Context::new(&format!("FROM guest\n{}", run(flags, "noop")));
        house.ctl(&["build", "--build-context", &flag, wrong.arg()]).fails().complains(words);
    }
}

#[test]
fn a_mount_that_shows_something_else_does_the_step_again() {
    let house = House::with_guest();
    let context = Context::new(&format!(
        "FROM scratch AS a\nCOPY there /d/used\nCOPY other /unused\nFROM guest\n{}",
        run("--mount=from=a,source=/d,target=/in", "read /in/used"),
    ))
    .file("there", "one")
    .file("other", "one");
    house.build(&context, "app").ok();

    context.write("other", "two");
    assert_eq!(Steps::of(&house.build(&context, "app").ok()).went("RUN"), Went::Cached);
    context.write("there", "two");
    assert_eq!(Steps::of(&house.build(&context, "app").ok()).went("RUN"), Went::Done);
}

#[test]
fn mistakes_in_mounts_are_shown_where_they_stand() {
    let house = House::with_guest();
    for (flags, words) in [
        ("--mount=from=guest,source=/absent,target=/x", &["\"/absent\" is not in image guest"][..]),
        ("--mount=type=tmpfs,target=/", &["target=/"]),
        ("--mount=type=tmpfs,target=/../..", &["target=/"]),
        ("--mount=type=tmpfs,target=/a --mount=type=secret,id=a,target=/a", &["two mounts have the target /a"]),
        ("--mount=type=tmpfs,target=/x,size=$HOME", &["size", "such as 64m"]),
        ("--mount=type=$HOME,target=/x", &["type"]),
        ("--mount=from=$HOME,target=/x", &["do not expand", "from"]),
        ("--mount=from=no-such:image,target=/x", &["no-such:image"]),
    ] {
        let output = build(&house, &run(flags, "noop"), &[]).fails();
        output.complains(&[&["Dockerfile:2:", "^"], words].concat());
    }
}

#[test]
fn variables_expand_in_the_values_of_mounts() {
    let house = House::with_guest();
    let rest = format!("ARG what=tmpfs\nENV dir=/mounted\n{}", run("--mount=type=$what,target=${dir}/here", "mounts"));

    let output = build(&house, &rest, &[]).ok();

    assert!(printed(&output).contains(" /mounted/here "), "{output:?}");
}

/// Row 46 (CVE-2024-9341), row 104 (CVE-2024-23652): links in the image, and links that a step puts where a stub was, lead
/// nowhere.
#[test]
fn row_46_row_104_targets_that_are_links_stay_in_the_root() {
    let house = House::with_guest();
    let sentinel = house.path("sentinel");
    std::fs::create_dir(&sentinel).unwrap();
    std::fs::write(sentinel.join("kept"), "").unwrap();
    let secret = ["--secret", "id=token,src=/dev/null"];
    let place = sentinel.to_str().unwrap();
    let rest = format!(
        "{}{}{}",
        run("", &format!("link {place} /run + link ../../../..{place} /other")),
        run("--mount=type=secret,id=token --mount=type=tmpfs,target=/other/deep", "noop"),
        // The parent of the stub becomes a link to a place with an empty file of its name.
        run("--mount=type=secret,id=token,target=/d/kept", &format!("rename /d /e + link {place} /d")),
    );

    build(&house, &rest, &secret).ok();

    let names: Vec<_> = std::fs::read_dir(&sentinel).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(names, ["kept"]);
}
