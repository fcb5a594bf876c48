//! Twenty secrets go through builds in every way that there is; none may be found in what is left, nor in what was told.

use std::{
    fs,
    path::{Path, PathBuf},
};

use strata_tests::{Context, House, Output, Tar};

use super::{mounts::run, ssh};

/// How many there are.
const CANARIES: usize = 20;

fn canary(number: usize) -> String {
    format!("canary-{number:02}-7f3a9c51d2")
}

/// The canaries in some bytes, however they are written there.
fn found_in(bytes: &[u8]) -> Vec<usize> {
    let has = |needle: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
    let hex = |text: &str| text.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
    let list = |text: &str| text.bytes().map(|byte| byte.to_string()).collect::<Vec<_>>().join(",");
    let is_there = |number: &usize| {
        let text = canary(*number);
        [text.clone(), hex(&text), list(&text)].iter().any(|form| has(form.as_bytes()))
    };
    // All begin in one of these ways: most files need no closer look.
    let begins = ["canary-", "63616e6172792d", "99,97,110,97,114,121"].iter().any(|start| has(start.as_bytes()));
    if begins { (0..CANARIES).filter(is_there).collect() } else { Vec::new() }
}

/// What a command printed; its words are the test's own.
fn said(output: &Output) -> String {
    format!("{}{}", output.stdout, output.stderr)
}

/// Every regular file below a directory.
fn files(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let below = |entry: fs::DirEntry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => files(&entry.path()),
        Ok(kind) if kind.is_file() => vec![entry.path()],
        _ => Vec::new(),
    };
    entries.flatten().flat_map(below).collect()
}

/// Row 19 of the scoreboard, rows 115, 116, 123: what is secret is nowhere when a build is over, nor while it goes on.
#[test]
fn row_115_row_116_row_123_twenty_canaries_are_found_nowhere() {
    let mut house = House::with_guest();
    // The client's own things are where the canaries come from.
    let given = tempfile::tempdir_in("/var/tmp").unwrap();
    let place = |number: usize| given.path().join(format!("secret-{number}"));
    let mut flags: Vec<String> = Vec::new();
    for number in 0..8 {
        fs::write(place(number), canary(number)).unwrap();
        flags.extend(["--secret".to_owned(), format!("id=s{number},src={}", place(number).display())]);
    }
    for number in 8..16 {
        house.set(&format!("SECRET_{number}"), &canary(number));
        flags.extend(["--secret".to_owned(), format!("id=s{number},env=SECRET_{number}")]);
    }
    for (number, text) in [(16, "canary-16-7f3a9c51d2"), (17, "canary-17-7f3a9c51d2")] {
        ssh::agent(&given.path().join(format!("agent-{number}")), text);
        let agent = given.path().join(format!("agent-{number}"));
        flags.extend(["--ssh".to_owned(), format!("a{number}={}", agent.display())]);
    }
    // A password for a registry, and one in a proxy.
    let auth = "{\"auths\":{\"reg.example\":{\"username\":\"me\",\"password\":\"canary-18-7f3a9c51d2\"}}}";
    let config = given.path().join("docker");
    fs::create_dir(&config).unwrap();
    fs::write(config.join("config.json"), auth).unwrap();
    house.set("DOCKER_CONFIG", config.to_str().unwrap());
    flags.extend(["--build-arg".to_owned(), format!("HTTP_PROXY=http://me:{}@127.0.0.1:9", canary(19))]);

    // Each is read, compared or shown to a program; nothing prints it.
    let mut text = "FROM guest AS one\n".to_owned();
    for number in 0..16 {
        let mount = match number % 4 {
            0 => format!("--mount=type=secret,id=s{number}"),
            1 => format!("--mount=type=secret,id=s{number},env=SECRET,required"),
            2 => format!("--mount=type=secret,id=s{number},target=/etc/secret,mode=0444"),
            _ => format!("--mount=type=secret,id=s{number},env=SECRET,target=/s --mount=type=cache,target=/cache"),
        };
        text += &run(&mount, &format!("noop + write /step-{number} done"));
    }
    text += &run("--mount=type=ssh,id=a16,required --mount=type=ssh,id=a17,required", "write /ssh done");
    text += &format!("FROM guest\nCOPY --from=one /ssh /ssh\n{}", run("--mount=from=one,target=/one", "ls /one"));
    let context = Context::new(&text);
    let mut told = Vec::new();
    for (progress, extra) in
        [("plain", "--no-cache"), ("rawjson", "--no-cache"), ("quiet", "--quiet"), ("plain", "--pull")]
    {
        let mut words = vec!["build", "--progress", progress, extra, "-t", "app"];
        words.extend(flags.iter().map(String::as_str));
        words.push(context.arg());
        told.push(said(&house.ctl(&words)));
    }
    // A step that fails, and a build that is given nothing it needs, tell no more.
    let fails = Context::new(&format!("FROM guest\n{}", run("--mount=type=secret,id=s1,env=A,target=/a", "exit 3")));
    let missing = Context::new("FROM reg.example/private:1\n");
    for context in [&fails, &missing] {
        let mut words = vec!["build", "--progress", "plain"];
        words.extend(flags.iter().map(String::as_str));
        words.push(context.arg());
        told.push(said(&house.ctl(&words).fails()));
    }
    assert!(told[0].contains("[one 18/18]") && !told[0].contains("ERROR"), "{}", told[0]);

    for command in [
        &["history", "--no-trunc", "app"][..],
        &["inspect", "app"],
        &["builder", "du", "--verbose"],
        &["builder", "cache", "ls", "--format", "json"],
        &["ps", "-a", "--no-trunc"],
        &["info"],
    ] {
        told.push(said(&house.ctl(command).ok()));
    }
    for one in &told {
        assert_eq!(found_in(one.as_bytes()), [] as [usize; 0], "{one}");
    }
    for service in house.services() {
        let environ = fs::read(format!("/proc/{}/environ", service.pid)).unwrap();
        let found = found_in(&environ);
        assert_eq!(found, [] as [usize; 0], "{service:?}");
    }
    let archive = house.path("app.tar");
    house.ctl(&["save", "-o", archive.to_str().unwrap(), "app"]).ok();
    let mut looked_at = 0;
    for directory in [house.root().to_owned(), house.run_dir(), archive.parent().unwrap().to_owned()] {
        for file in files(&directory) {
            let bytes = fs::read(&file).unwrap_or_default();
            assert_eq!(found_in(&bytes), [] as [usize; 0], "{}", file.display());
            looked_at += 1;
        }
    }
    assert!(looked_at > 20, "{looked_at} files");
    // The search finds what is there.
    let found = Tar::default().file("x", 0o600, canary(7).as_bytes()).bytes();
    assert_eq!(found_in(&found), [7]);
}
