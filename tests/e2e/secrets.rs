//! Secrets of containers: what a person does with them, and where their values are not.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use strata_tests::{Context, House};

/// What is looked for, and how it could be written.
const VALUE: &str = "canary-secret-5e1f7a90c2";

fn holds(bytes: &[u8]) -> bool {
    let hex: String = VALUE.bytes().map(|byte| format!("{byte:02x}")).collect();
    let list = VALUE.bytes().map(|byte| byte.to_string()).collect::<Vec<_>>().join(",");
    [VALUE.to_owned(), hex, list].iter().any(|form| bytes.windows(form.len()).any(|window| window == form.as_bytes()))
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

#[test]
fn secrets_are_made_listed_inspected_and_removed_as_with_podman() {
    let mut house = House::with_guest();
    let file = house.path("value");
    fs::write(&file, VALUE).unwrap();
    house.set("MY_SECRET", "from here");

    let id =
        house.ctl(&["secret", "create", "--label", "tier=back", "pw", file.to_str().unwrap()]).ok().text().to_owned();
    house.ctl_with(&["secret", "create", "piped", "-"], b"from a pipe").ok();
    house.ctl(&["secret", "create", "--env", "mine", "MY_SECRET"]).ok();

    assert_eq!(id.len(), 25, "{id}");
    let listed = house.ctl(&["secret", "ls"]).ok();
    assert!(listed.stdout.starts_with("ID  ") && listed.stdout.contains("NAME") && listed.stdout.contains("UPDATED"));
    let names = |flags: &[&str]| {
        let words = [&["secret", "ls", "--format", "{{.Name}}"], flags].concat();
        house.ctl(&words).ok().stdout.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(names(&[]), ["mine", "piped", "pw"]);
    assert_eq!(names(&["--filter", "name=pip"]), ["piped"]);
    assert_eq!(names(&["--filter", "label=tier=back"]), ["pw"]);
    assert_eq!(house.ctl(&["secret", "ls", "-q", "--filter", "name=pw"]).ok().text(), id);

    let shown = house.ctl(&["secret", "inspect", "pw"]).ok();
    let json = shown.json();
    assert_eq!((json[0]["ID"].as_str(), json[0]["Spec"]["Name"].as_str()), (Some(id.as_str()), Some("pw")));
    assert!(!shown.stdout.contains(VALUE) && json[0].get("SecretData").is_none(), "{shown:?}");
    let shown = house.ctl(&["secret", "inspect", "--showsecret", "--format", "{{.SecretData}}", &id[..6], "mine"]).ok();
    assert_eq!(shown.stdout, format!("{VALUE}\nfrom here\n"));
    assert!(house.ctl(&["secret", "inspect", "--pretty", "pw"]).ok().stdout.contains(" - tier=back\n"));

    let path = file.to_str().unwrap();
    house.ctl(&["secret", "create", "pw", path]).code(1).complains(&["secret pw already", "--replace"]);
    let again = house.ctl_with(&["secret", "create", "--replace", "pw", "-"], b"other").ok();
    assert_eq!(again.text(), id, "it is the same one with another value");
    house.ctl(&["secret", "create", "none", "/nonexistent"]).code(1).complains(&["/nonexistent"]);
    house.ctl(&["secret", "create", "-d", "vault", "x", "-"]).code(125).complains(&["file"]);
    house.ctl(&["secret", "create", "a/b", "/etc/passwd"]).code(1).complains(&["a/b"]);
    house.ctl(&["secret", "inspect", "wp"]).code(1).complains(&["no such secret: wp", "did you mean pw?"]);
    assert_eq!(house.ctl(&["secret", "rm", "pw", "mine"]).ok().stdout, "pw\nmine\n");
    house.ctl(&["secret", "rm", "pw"]).code(1).complains(&["no such secret: pw", "ctl secret ls"]);
    house.ctl(&["secret", "rm", "--ignore", "pw"]).ok();
    house.ctl(&["secret", "rm", "--all"]).ok();
    assert_eq!(house.ctl(&["secret", "ls", "-q"]).ok().stdout, "");
}

#[test]
fn a_container_gets_a_secret_as_a_file_or_a_variable() {
    let house = House::with_guest();
    house.ctl_with(&["secret", "create", "pw", "-"], VALUE.as_bytes()).ok();
    let run = |flags: &[&str], words: &[&str]| house.guest_with(flags, words);

    assert_eq!(run(&["--secret", "pw"], &["read", "/run/secrets/pw"]).ok().text(), VALUE);
    assert_eq!(run(&["--secret", "pw,target=/etc/key"], &["read", "/etc/key"]).ok().text(), VALUE);
    assert_eq!(run(&["--secret", "pw", "--read-only"], &["read", "/run/secrets/pw"]).ok().text(), VALUE);
    let told = run(&["--secret", "pw,type=env,target=TOKEN", "-e", "TOKEN=x"], &["env"]).ok();
    assert!(told.stdout.lines().any(|line| line == format!("TOKEN={VALUE}")), "{told:?}");
    // Whoever the process is, the file is for the one that it was made for.
    let own = ["--secret", "pw,uid=7,gid=8,mode=0400"];
    assert_eq!(run(&[&own[..], &["-u", "7:8"]].concat(), &["read", "/run/secrets/pw"]).ok().text(), VALUE);
    run(&[&own[..], &["-u", "9:9"]].concat(), &["read", "/run/secrets/pw"]).code(99);
    run(&["--secret", "pw"], &["write", "/run/secrets/pw", "x"]).code(99);
    run(&["--secret", "wp"], &["noop"]).code(125).complains(&["no such secret: wp", "did you mean pw?"]);
    run(&["--secret", "pw,type=env,mode=400"], &["noop"]).code(125).complains(&["mode is for files"]);
    run(&["--secret", "pw,target=/x", "--tmpfs", "/x"], &["noop"]).code(125).complains(&["duplicate mount point /x"]);
    assert_eq!(house.ctl(&["ps", "-aq"]).ok().stdout, "", "nothing is half made");
}

/// As with podman: a further process has the variables too, and the files are there.
#[test]
fn exec_and_health_checks_see_what_the_container_was_given() {
    let house = House::with_guest();
    house.ctl_with(&["secret", "create", "pw", "-"], VALUE.as_bytes()).ok();
    let check = "HEALTHCHECK --interval=100ms CMD [\"/guest\", \"exists\", \"/run/secrets/pw\"]\n";
    house.build(&Context::new(&format!("FROM guest\n{check}")), "app").ok();
    let flags = ["run", "-d", "--wait=60s", "--name", "web", "--secret", "pw", "--secret", "pw,type=env,target=TOKEN"];
    house.ctl(&[&flags[..], &["app", "/guest", "sleep", "300"]].concat()).ok();

    let told = house.ctl(&["exec", "web", "/guest", "env"]).ok();
    assert!(told.stdout.lines().any(|line| line == format!("TOKEN={VALUE}")), "{told:?}");
    let told = house.ctl(&["exec", "-e", "TOKEN=own", "web", "/guest", "env"]).ok();
    assert!(told.stdout.lines().any(|line| line == "TOKEN=own"), "{told:?}");
    assert_eq!(house.ctl(&["exec", "web", "/guest", "read", "/run/secrets/pw"]).ok().text(), VALUE);
    // A service that starts anew knows them still.
    house.crash("runtime");
    let told = house.ctl(&["exec", "web", "/guest", "env"]).ok();
    assert!(told.stdout.lines().any(|line| line == format!("TOKEN={VALUE}")), "{told:?}");
    house.ctl(&["secret", "rm", "pw"]).code(1).complains(&["secret pw is in use by container web", "ctl rm"]);
    house.ctl(&["rm", "-f", "web"]).ok();
    house.ctl(&["secret", "rm", "pw"]).ok();
}

/// Rows 115, 116 and 123 for containers: the value is in its own file and in the container, and nowhere else.
#[test]
fn the_value_of_a_secret_is_found_nowhere_but_in_its_own_file() {
    let mut house = House::with_guest();
    house.set("STRATA_LOG", "debug");
    assert_eq!(house.stop().len(), 0, "services start anew with the level of the log");
    house.ctl_with(&["secret", "create", "pw", "-"], VALUE.as_bytes()).ok();
    house.ctl_with(&["secret", "create", "raw", "-"], &[VALUE.as_bytes(), b"\xff"].concat()).ok();
    let given = ["--secret", "pw", "--secret", "pw,type=env,target=TOKEN"];
    let mut told = Vec::new();
    for (name, more) in [("kept", &[][..]), ("volatile", &["--rm"]), ("again", &["--restart", "unless-stopped"])] {
        let words = [&["run", "-d", "--name", name], &given[..], more, &["guest", "/guest", "sleep", "300"]].concat();
        told.push(house.ctl(&words).ok().both());
    }
    told.push(house.ctl(&["exec", "kept", "/guest", "noop"]).ok().both());
    told.push(house.ctl(&["secret", "create", "pw", "/etc/passwd"]).fails().both());
    told.push(house.ctl(&["run", "--rm", "--secret", "raw,type=env", "guest", "/guest", "noop"]).fails().both());
    told.push(house.ctl(&["secret", "inspect", "--showsecret", "raw"]).fails().both());
    told.push(house.ctl(&["run", "--rm", "--secret", "pw", "guest", "/no-such-program"]).fails().both());
    for words in [
        &["inspect", "kept"][..],
        &["secret", "inspect", "pw"],
        &["secret", "ls", "--format", "json"],
        &["ps", "-a", "--no-trunc", "--format", "json"],
        &["events", "--since", "1h", "--until", "0s"],
        &["events", "--since", "1h", "--until", "0s", "--filter", "type=secret", "--format", "json"],
        &["logs", "kept"],
        &["diff", "kept"],
        &["top", "kept"],
        &["info"],
    ] {
        told.push(house.ctl(words).ok().both());
    }
    assert!(told.iter().any(|text| text.contains("\"secret\"")), "events tell of secrets: {told:?}");
    for one in &told {
        assert!(!holds(one.as_bytes()), "{one}");
    }
    for service in house.services() {
        for file in ["cmdline", "environ"] {
            let bytes = fs::read(format!("/proc/{}/{file}", service.pid)).unwrap();
            assert!(!holds(&bytes), "{file} of {service:?}");
        }
    }
    // Monitors and all that runs for the containers: their words.
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let words = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        assert!(!holds(&words), "{}", entry.path().display());
    }
    house.ctl(&["commit", "kept", "committed"]).ok();
    house.ctl(&["export", "-o", house.path("kept.tar").to_str().unwrap(), "kept"]).ok();
    assert!(!holds(house.ctl(&["inspect", "committed"]).ok().stdout.as_bytes()));
    let own = house.root().join("runtime/secrets");
    let mut looked_at = 0;
    for directory in [house.root().to_owned(), house.run_dir(), house.path("kept.tar").parent().unwrap().to_owned()] {
        for file in files(&directory).into_iter().filter(|file| !file.starts_with(&own)) {
            assert!(!holds(&fs::read(&file).unwrap_or_default()), "{}", file.display());
            looked_at += 1;
        }
    }
    assert!(looked_at > 10, "{looked_at} files");
    // The search finds what is there.
    assert!(holds(&fs::read(own.join("pw")).unwrap()));
    for file in files(&own) {
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600, "{}", file.display());
    }
    house.ctl(&["rm", "-f", "kept", "volatile", "again"]).ok();
    house.ctl(&["secret", "rm", "--all"]).ok();
    assert_eq!(files(&own), [] as [PathBuf; 0]);
}
