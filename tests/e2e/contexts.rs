//! `--build-context`: what FROM and `--from` mean by its name.

use strata_tests::{Context, House, Steps, Went};

use crate::copies::{files, lines};

#[test]
fn a_named_context_is_what_from_and_copy_mean() {
    let house = House::with_guest();
    let other =
        Context::new("").file("sub/x", "x").file("ignored.tmp", "i").file(".dockerignore", "*.tmp\nDockerfile\n.*\n");
    let context = Context::new("FROM other\nCOPY --from=other --chmod=700 sub /copied\nCOPY ignored.tmp /own\n")
        .file("ignored.tmp", "own");
    let flag = format!("Other={}", other.arg());

    let found = files(&house, &context, &["--build-context", &flag]);

    let expected = [
        ("copied", "d 700 0:0"),
        ("copied/x", "f 700 0:0 x"),
        ("own", "f 644 0:0 own"),
        ("sub", "d 755 0:0"),
        ("sub/x", "f 644 0:0 x"),
    ];
    assert_eq!(found, lines(&expected));
    // A change is seen, and only what reads it is done again.
    let build =
        || house.ctl(&["build", "--progress", "plain", "--build-context", &flag, "-t", "app", context.arg()]).ok();
    build();
    Steps::of(&build()).all_cached();
    other.write("sub/x", "changed");
    assert_eq!(Steps::of(&build()).went("COPY --from=other"), Went::Done);
    context.write("Dockerfile", "FROM scratch\nCOPY --from=other subb /\n");
    let failed = house.ctl(&["build", "--build-context", &flag, context.arg()]).fails();
    failed.complains(&["\"subb\" is not in the context other", "did you mean \"sub\"?"]);
    house.verify();
}

/// `<Dockerfile>.dockerignore` is beside the Dockerfile, and says what of the build context is not there.
#[test]
fn of_a_named_context_the_ignore_file_is_its_own_dockerignore_whatever_the_dockerfile_is_called() {
    let house = House::with_guest();
    let other = Context::new("").file("of-the-file", "").file("of-the-context", "");
    for name in ["Dockerfile.dockerignore", "other.dockerignore"] {
        other.write(name, "of-the-file\n");
    }
    let context = Context::new("").file("of-the-file", "").file("of-the-context", "").file("kept", "");
    context.write("other", "FROM scratch\nCOPY --from=named of-the* /named/\nCOPY of-the* kep* /own/\n");
    context.write("other.dockerignore", "of-the-file\n");
    context.write(".dockerignore", "*\n");
    let flags = ["--build-context", &format!("named={}", other.arg()), "-f", &format!("{}/other", context.arg())];
    let found = |context: &Context| files(&house, context, &flags).into_keys().collect::<Vec<_>>().join(" ");

    assert_eq!(found(&context), "named named/of-the-context named/of-the-file own own/kept own/of-the-context");
    other.write(".dockerignore", "of-the-context\n");
    assert_eq!(found(&context), "named named/of-the-file own own/kept own/of-the-context");
}

#[test]
fn a_named_context_takes_the_place_of_a_stage_and_of_an_image() {
    let house = House::with_guest();
    let other = Context::new("").file("from", "context");
    let context = Context::new(
        "FROM guest AS stage\nRUN [\"/guest\", \"exit\", \"1\"]\nFROM scratch\nCOPY --from=stage /from /stage\n\
         COPY --from=no-such:image --chmod=600 /from /image\n",
    );
    let flags = [format!("stage={}", other.arg()), format!("no-such:image={}", other.arg())];

    let found = files(&house, &context, &["--build-context", &flags[0], "--build-context", &flags[1]]);

    assert_eq!(found, lines(&[("image", "f 600 0:0 context"), ("stage", "f 644 0:0 context")]));
    // The target itself, too.
    let found = files(&house, &context, &["--build-context", &flags[0], "--target", "stage"]);
    assert_eq!(found["from"], "f 644 0:0 context");
}

#[test]
fn a_named_context_is_an_image_of_the_store_or_of_a_layout() {
    let house = House::with_guest();
    let made = Context::new("FROM scratch\nCOPY f /f\nENV MADE=yes\n").file("f", "layout");
    let layout = house.path("layout");
    house.build(&made, "made:1").ok();
    house.ctl(&["save", "--format", "oci-dir", "-o", layout.to_str().unwrap(), "made:1"]).ok();
    let context = Context::new("FROM base\nCOPY --from=base --chmod=600 /f /g\n");

    let image = files(&house, &context, &["--build-context", "base=docker-image://made:1"]);
    house.ctl(&["rmi", "made:1"]).ok();
    let flag = format!("base=oci-layout://{}:1", layout.display());
    let from_layout = files(&house, &context, &["--build-context", &flag]);

    assert_eq!(image, lines(&[("f", "f 644 0:0 layout"), ("g", "f 600 0:0 layout")]));
    assert_eq!(from_layout, image);
    house.ctl(&["build", "--build-context", &flag, "-t", "app", context.arg()]).ok();
    let shown = house.ctl(&["inspect", "app"]).ok().json();
    assert!(shown[0]["Config"]["Env"].to_string().contains("MADE=yes"), "{shown:#}");
    house.ctl(&["inspect", "made:1"]).fails();
    let wrong = format!("base=oci-layout://{}:2", layout.display());
    house.ctl(&["build", "--build-context", &wrong, context.arg()]).fails().complains(&["there is no image 2"]);
}

#[test]
fn contexts_that_cannot_be_used_are_named() {
    let house = House::with_guest();
    let context = Context::new("FROM scratch\nCOPY f /f\n").file("f", "f");
    for (flag, words) in [
        ("x", &["--build-context", "NAME=DIRECTORY"][..]),
        ("x=/no/such/directory", &["the context x", "/no/such/directory"]),
        ("x=ftp://there", &["ftp://there"]),
    ] {
        house.ctl(&["build", "--build-context", flag, context.arg()]).fails().complains(words);
    }
}

#[test]
fn only_what_steps_use_is_sent() {
    let house = House::with_guest();
    let other = Context::new("").file("used", "used").file("unused", &"u".repeat(3 << 20));
    let context = Context::new("FROM scratch\nCOPY a /a\nCOPY --from=other used /b\n").file("a", "a");
    context.write("big/unused", "b".repeat(3 << 20));
    let flag = format!("other={}", other.arg());

    let shown = house.ctl(&["build", "--progress", "plain", "--build-context", &flag, "-t", "app", context.arg()]).ok();

    let sent: Vec<&str> = shown.stderr.lines().filter(|line| line.contains("transferring context:")).collect();
    assert!(!sent.is_empty() && sent.iter().all(|line| !line.contains("MB")), "{shown:?}");
}

/// CVE-2022-4122, CVE-2022-4123, row 113.
#[test]
fn row_113_links_of_a_context_to_files_outside_are_not_read() {
    let house = House::with_guest();
    let secret = house.path("secret");
    std::fs::write(&secret, "TOPSECRET of the host\n").unwrap();
    let link = |context: &Context, name: &str| {
        let _ = std::fs::remove_file(context.path().join(name));
        std::os::unix::fs::symlink(&secret, context.path().join(name)).unwrap();
    };
    let refused = |context: &Context, flags: &[&str], words: &[&str]| {
        let output = house.ctl(&[&["build"], flags, &[context.arg()]].concat()).fails().complains(words);
        assert!(!output.stderr.contains("TOPSECRET"), "{output:?}");
    };

    let context = Context::new("FROM scratch\nCOPY outside /x\n");
    link(&context, "outside");
    refused(&context, &[], &["Dockerfile:2", "\"outside\" is not in the build context"]);
    context.write("Dockerfile", "FROM scratch\nCOPY . /x/\n");
    assert_eq!(files(&house, &context, &[])["x/outside"], format!("l 0:0 {}", secret.display()));
    link(&context, ".dockerignore");
    refused(&context, &[], &[".dockerignore is a link out of the context"]);
    let other = Context::new("FROM scratch\nCOPY --from=named . /\n");
    refused(&other, &["--build-context", &format!("named={}", context.arg())], &["is a link out of the context"]);
    std::fs::remove_file(context.path().join(".dockerignore")).unwrap();
    link(&context, "Dockerfile");
    refused(&context, &[], &["Dockerfile is a link out of the context"]);
}
