//! Containers that are made and not started, and what is in them as a tar: `create` and `export`.

use std::path::Path;
use std::time::Duration;

use strata_tests::{House, Terminal, eventually};

fn text(path: &Path) -> &str {
    path.to_str().expect("an ASCII path")
}

/// A container "box" in which the guest has done this.
fn container(house: &House, words: &[&str]) {
    house.ctl(&[&["run", "--name", "box", "guest", "/guest"], words].concat()).ok();
}

/// The names in a tar.
fn names(path: &Path) -> Vec<String> {
    let mut archive = tar::Archive::new(std::fs::File::open(path).unwrap());
    archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().to_str().unwrap().to_owned()).collect()
}

#[test]
fn what_create_makes_is_started_later() {
    let house = House::with_guest();

    let made = house.ctl(&["create", "--name", "box", "-i", "-e", "A=b", "guest", "/guest", "cat"]).ok();

    let id = made.text().to_owned();
    assert!(id.len() == 64 && id.bytes().all(|digit| digit.is_ascii_hexdigit()), "{id}");
    house.ctl(&["ps", "-a"]).ok().says(&["box", "Created"]);
    assert!(!house.ctl(&["ps"]).ok().stdout.contains("box"));
    assert_eq!(house.ctl(&["inspect", "box"]).ok().json()[0]["State"]["Status"], "created");
    let read = house.ctl_with(&["start", "-ai", "box"], b"words in\n").ok();
    assert_eq!(read.text(), "words in");
    assert_eq!(house.ctl(&["start", "box"]).ok().text(), "box");
    house.ctl(&["rm", "-f", "box"]).ok();
}

#[test]
fn create_has_the_flags_of_run_but_those_of_attaching() {
    let house = House::with_guest();

    house.ctl(&["create", "--name", "gone", "--rm", "guest", "/guest", "exit", "3"]).ok();
    house.ctl(&["start", "-a", "gone"]).code(3);
    eventually("it is removed", Duration::from_secs(10), || house.ctl(&["inspect", "gone"]).code != 0);
    house.ctl(&["create", "-d", "guest"]).code(125).complains(&["-d"]);
    house.ctl(&["create", "--pull", "never", "no/such:image"]).code(1).complains(&["no/such:image"]);
    house.ctl(&["create", "--name", "a b", "guest"]).fails();
    assert_eq!(house.ctl(&["ps", "-aq"]).ok().stdout, "", "what is refused leaves nothing");
}

#[test]
fn what_is_exported_is_imported_as_the_same_tree() {
    let house = House::with_guest();
    let made = [
        "mkdir",
        "/data/deep",
        "+",
        "write",
        "/data/deep/words",
        "some words",
        "+",
        "chmod",
        "600",
        "/data/deep/words",
        "+",
        "chown",
        "5",
        "6",
        "/data/deep/words",
        "+",
        "link",
        "../deep",
        "/data/link",
        "+",
        "fill",
        "/data/large",
        "3000000",
        "+",
        "write",
        "/gone",
        "x",
        "+",
        "rm",
        "/gone",
    ];
    container(&house, &[&["then"], &made[..]].concat());
    let (file, again) = (house.path("box.tar"), house.path("again.tar"));

    house.ctl(&["export", "-o", text(&file), "box"]).ok();

    let names = names(&file);
    for name in ["./", "guest", "data/", "data/deep/words", "data/link", "data/large"] {
        assert!(names.iter().any(|found| found == name), "{name} of {names:?}");
    }
    assert!(!names.iter().any(|name| name.contains("gone") || name.contains(".wh.")), "{names:?}");
    assert_eq!(house.ctl(&["export", "box"]).ok().stderr, "");
    let first = house.ctl(&["import", text(&file), "copy:1"]).ok().text().to_owned();
    let stat = |image: &str| {
        let paths = ["/", "/data", "/data/deep/words", "/data/link", "/data/large", "/guest"];
        house.ctl(&[&["run", "--rm", image, "/guest", "stat"], &paths[..]].concat()).ok().stdout
    };
    assert!(stat("copy:1").contains("/data/deep/words"));
    house.ctl(&["run", "--rm", "copy:1", "/guest", "read", "/data/deep/words"]).ok().says(&["some words"]);
    // A container of the copy holds the same as the copy.
    house.ctl(&["create", "--name", "second", "copy:1", "/guest", "noop"]).ok();
    house.ctl(&["export", "-o", text(&again), "second"]).ok();
    house.ctl(&["import", text(&again), "copy:2"]).ok();
    let layers = |image: &str| house.ctl(&["inspect", image]).ok().json()[0]["RootFS"]["Layers"].clone();
    assert_eq!(layers("copy:1"), layers("copy:2"), "{first}");
    assert_eq!(stat("copy:1"), stat("copy:2"));
    house.verify();
}

#[test]
fn export_reads_a_container_that_runs_and_nothing_that_is_mounted_in_it() {
    let house = House::with_guest();
    let shared = house.path("shared");
    std::fs::create_dir(&shared).unwrap();
    std::fs::write(shared.join("secret"), "the host's").unwrap();
    let volume = format!("{}:/shared", text(&shared));
    let words = ["run", "-d", "--name", "box", "-v", &volume, "guest", "/guest", "then", "write", "/new", "words", "+"];
    house.ctl(&[&words[..], &["write", "/shared/more", "x", "+", "echo", "ready", "+", "sleep", "120"]].concat()).ok();
    eventually("it has written", Duration::from_secs(20), || house.ctl(&["logs", "box"]).stdout.contains("ready"));
    let file = house.path("box.tar");

    house.ctl(&["export", "--output", text(&file), "box"]).ok();

    let names = names(&file);
    assert!(names.iter().any(|name| name == "new") && names.iter().any(|name| name == "shared/"), "{names:?}");
    let is_mounted = |name: &String| {
        ["shared/", "proc/", "sys/", "dev/"].iter().any(|mount| name.starts_with(mount) && name.len() > mount.len())
    };
    let mounted: Vec<_> = names.iter().filter(|name| is_mounted(name)).collect();
    assert!(mounted.iter().all(|name| !name.contains("secret") && !name.contains("more")), "{mounted:?}");
    house.ctl(&["import", text(&file), "copy"]).ok();
    house.ctl(&["run", "--rm", "copy", "/guest", "read", "/new"]).ok().says(&["words"]);
    assert_eq!(house.ctl(&["inspect", "box"]).ok().json()[0]["State"]["Status"], "running");
    house.ctl(&["rm", "-f", "box"]).ok();
}

#[test]
fn export_piped_into_import_is_the_container() {
    let house = House::with_guest();
    container(&house, &["write", "/words", "piped"]);
    let ctl = strata_tests::binaries().join("ctl");
    let mut piping = house.command("/bin/bash");
    let ctl = text(&ctl);
    piping.args(["-c", &format!("set -o pipefail; {ctl} export box | {ctl} import - piped:1")]);

    strata_tests::Running::spawn(piping).finish().ok();

    house.ctl(&["run", "--rm", "piped:1", "/guest", "read", "/words"]).ok().says(&["piped"]);
}

#[test]
fn an_archive_is_not_thrown_at_a_terminal_and_a_failure_leaves_no_file() {
    let house = House::with_guest();
    house.ctl(&["create", "--name", "box", "guest", "/guest"]).ok();

    let terminal = Terminal::run(&house.ctl_command(&["export", "box"]), 24, 80);

    terminal.wait_for("ctl export -o FILE");
    assert_eq!(terminal.finish(), 125);
    let file = house.path("none.tar");
    house.ctl(&["export", "-o", text(&file), "nobody"]).code(1).complains(&["no such container: nobody"]);
    assert!(!file.exists());
    let away = house.path("no/such/directory.tar");
    house.ctl(&["export", "-o", text(&away), "box"]).code(1).complains(&["cannot write", "directory.tar"]);
    house.ctl(&["export"]).code(125).complains(&["`ctl export` needs"]);
}

/// Row 66 of the security research: what is exported is named without following anything.
#[test]
fn a_link_that_leads_out_is_exported_as_a_link() {
    let house = House::with_guest();
    container(&house, &["then", "link", "/etc/shadow", "/a", "+", "link", "../../..", "/b"]);
    let file = house.path("box.tar");

    house.ctl(&["export", "-o", text(&file), "box"]).ok();

    let mut archive = tar::Archive::new(std::fs::File::open(&file).unwrap());
    let links: Vec<_> = archive
        .entries()
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.header().entry_type().is_symlink())
        .map(|entry| (entry.path().unwrap().into_owned(), entry.link_name().unwrap().unwrap().into_owned()))
        .collect();
    for (path, target) in [("a", "/etc/shadow"), ("b", "../../..")] {
        assert!(links.contains(&(path.into(), target.into())), "{links:?}");
    }
}
