//! What `make install` and `make deb` run: where everything goes, and that all but settings is taken away again.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use strata_tests::{Output, Running, binaries, guest, repository};

fn script(name: &str) -> PathBuf {
    repository().join("ctl/dist").join(name)
}

/// Runs the script of `make install` below a directory.
#[track_caller]
fn install(below: &Path, words: &[&str]) -> Output {
    let mut command = Command::new("sh");
    command.arg(script("install.sh")).args(words).env("PREFIX", "/usr").env("DESTDIR", below);
    Running::spawn(command).finish().ok()
}

/// Paths of all files below a directory.
fn files(below: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut directories = vec![below.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap().flatten() {
            match entry.file_type().unwrap().is_dir() {
                true => directories.push(entry.path()),
                false => drop(found.insert(entry.path().strip_prefix(below).unwrap().display().to_string())),
            }
        }
    }
    found
}

#[test]
fn everything_is_put_below_a_directory_and_all_but_settings_is_taken_away_again() {
    let dir = tempfile::tempdir().unwrap();
    let all = binaries();
    let words = [all.to_str().unwrap()];

    install(dir.path(), &words);

    let there = files(dir.path());
    for path in [
        "usr/bin/ctl",
        "usr/bin/strata-init",
        "usr/lib/systemd/system/strata-store.socket",
        "usr/lib/systemd/user/strata-runtime.service",
        "usr/share/man/man1/ctl-run.1",
        "usr/share/man/man5/strata.toml.5",
        "usr/share/bash-completion/completions/ctl",
        "usr/share/zsh/site-functions/_ctl",
        "usr/share/fish/vendor_completions.d/ctl.fish",
        "etc/strata/strata.toml",
        "etc/strata/runtime.toml",
    ] {
        assert!(there.contains(path), "{path}: {there:?}");
    }
    let text = |path: &str| fs::read_to_string(dir.path().join(path)).unwrap();
    let mode = |path: &str| fs::metadata(dir.path().join(path)).unwrap().permissions().mode() & 0o777;
    let unit = text("usr/lib/systemd/system/strata-runtime.service");
    assert!(unit.contains("\nExecStart=/usr/bin/strata-runtime --listen systemd\n"), "{unit}");
    assert!(unit.contains("\nKillMode=process\n") && unit.contains("\nDelegate=yes\n"), "{unit}");
    assert_eq!((mode("usr/bin/ctl"), mode("usr/share/man/man1/ctl-run.1")), (0o755, 0o644));
    for file in there.iter().filter(|path| path.starts_with("etc/")) {
        let in_force = |line: &&str| !line.is_empty() && !line.starts_with('#');
        assert_eq!(text(file).lines().find(in_force), None, "{file}");
    }
    // What somebody wrote stays, whatever comes after.
    let own = dir.path().join("etc/strata/store.toml");
    fs::write(&own, "garbage_delay_seconds = 7\n").unwrap();
    install(dir.path(), &words);
    assert_eq!(files(dir.path()), there, "nothing is half there");
    install(dir.path(), &["--uninstall"]);
    let settings: BTreeSet<String> = there.into_iter().filter(|path| path.starts_with("etc/strata/")).collect();
    assert_eq!(files(dir.path()), settings);
    assert_eq!(fs::read_to_string(&own).unwrap(), "garbage_delay_seconds = 7\n");
}

#[test]
fn every_unit_is_of_a_service_and_every_service_has_both_kinds() {
    for kind in ["system", "user"] {
        for service in ["store", "builder", "runtime"] {
            let read = |suffix: &str| {
                fs::read_to_string(script("systemd").join(kind).join(format!("strata-{service}.{suffix}"))).unwrap()
            };
            let (unit, socket) = (read("service"), read("socket"));
            for line in [
                "Type=notify",
                "StandardInput=socket",
                // Else it is the socket too.
                "StandardOutput=journal",
                "StandardError=journal",
                "KillMode=process",
                &format!("ExecStart=@BIN@/strata-{service} --listen systemd"),
                &format!("Requires=strata-{service}.socket"),
            ] {
                assert!(unit.lines().any(|found| found == line), "{kind} {service}: {line}");
            }
            let directory = if kind == "system" { "/run" } else { "%t" };
            let place = format!("ListenStream={directory}/strata/{service}.sock");
            assert!(socket.lines().any(|line| line == place) && socket.contains("SocketMode=0600"), "{socket}");
        }
    }
}

#[test]
fn a_package_says_what_it_needs_and_is_the_same_when_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let programs = dir.path().join("programs");
    fs::create_dir(&programs).unwrap();
    // What `ctl` makes is looked at; the others are small, so that packing is quick.
    fs::copy(binaries().join("ctl"), programs.join("ctl")).unwrap();
    for name in ["strata-store", "strata-builder", "strata-runtime", "strata-init", "strata-oci"] {
        fs::copy(guest(), programs.join(name)).unwrap();
    }
    let make = |to: &str| {
        let mut command = Command::new("sh");
        command.arg(script("debian/package.sh")).arg(&programs).arg("1.2.3").arg(dir.path().join(to));
        command.env("SOURCE_DATE_EPOCH", "1700000000");
        PathBuf::from(Running::spawn(command).finish().ok().text())
    };

    let package = make("out");

    let ask = |words: &[&str]| {
        let mut command = Command::new("dpkg-deb");
        command.args(words).arg(&package);
        Running::spawn(command).finish().ok().stdout
    };
    let field = |name: &str| {
        let mut command = Command::new("dpkg-deb");
        command.arg("--field").arg(&package).arg(name);
        Running::spawn(command).finish().ok().text().to_owned()
    };
    assert_eq!((field("Package").as_str(), field("Version").as_str()), ("strata", "1.2.3"));
    assert!(field("Depends").starts_with("libc6 (>= 2."), "{}", field("Depends"));
    let listed = ask(&["--contents"]);
    assert!(listed.lines().all(|line| line.contains(" root/root ")), "{listed}");
    for path in ["./usr/bin/ctl", "./usr/lib/systemd/system/strata-store.socket", "./usr/share/man/man1/ctl.1.gz"] {
        assert!(listed.lines().any(|line| line.ends_with(path)), "{path}: {listed}");
    }
    let control = dir.path().join("control");
    let mut command = Command::new("dpkg-deb");
    command.arg("--control").arg(&package).arg(&control);
    Running::spawn(command).finish().ok();
    let conffiles = fs::read_to_string(control.join("conffiles")).unwrap();
    let names = ["builder", "runtime", "store", "strata"].map(|name| format!("/etc/strata/{name}.toml"));
    assert_eq!(conffiles.lines().collect::<Vec<_>>(), names);
    for name in ["postinst", "prerm", "postrm"] {
        let mut command = Command::new("sh");
        command.arg("-n").arg(control.join(name));
        Running::spawn(command).finish().ok();
    }
    assert_eq!(fs::read(&package).unwrap(), fs::read(make("again")).unwrap());
}
