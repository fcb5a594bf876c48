//! Image archives: saved and loaded by us, by skopeo, umoci and podman, with digests compared.

use std::path::{Path, PathBuf};
use std::process::Command;

use strata_tests::{Context, House, Output, Running, Tar, Terminal};

/// A house with an image of two layers that was built in it.
fn with_app() -> House {
    let house = House::with_guest();
    let context = Context::new("FROM guest\nCOPY words /words\nENV COLOUR=blue\n");
    house.build(&context.file("words", "some words\n"), "app:1").ok();
    house
}

fn text(path: &Path) -> &str {
    path.to_str().expect("an ASCII path")
}

/// Runs a program of the distribution in this house's environment.
#[track_caller]
fn tool(house: &House, program: &str, args: &[&str]) -> Output {
    let mut command = house.command(program);
    command.args(args);
    Running::spawn(command).finish()
}

#[track_caller]
fn skopeo(house: &House, args: &[&str]) -> Output {
    tool(house, "/usr/bin/skopeo", &[&["--insecure-policy"], args].concat()).ok()
}

/// podman with storage of its own, which needs no mounts.
#[track_caller]
fn podman(house: &House, args: &[&str]) -> Output {
    let (root, run) = (house.path("podman"), house.path("podman-run"));
    let own = ["--root", text(&root), "--runroot", text(&run), "--storage-driver", "vfs"];
    tool(house, "/usr/bin/podman", &[&own, args].concat()).ok()
}

fn save(house: &House, name: &str, more: &[&str]) -> PathBuf {
    let path = house.path(name);
    house.ctl(&[&["save", "-o", text(&path)], more].concat()).ok();
    path
}

fn id(house: &House, name: &str) -> String {
    house.ctl(&["inspect", name]).ok().json()[0]["Id"].as_str().unwrap().to_owned()
}

#[test]
fn equal_images_are_saved_to_equal_bytes_and_loaded_as_themselves() {
    let house = with_app();
    let (app, guest) = (id(&house, "app:1"), id(&house, "guest"));
    for format in ["docker-archive", "oci"] {
        let first = save(&house, "first.tar", &["--format", format, "app:1", "guest"]);
        let second = save(&house, "second.tar", &["--format", format, "app:1", "guest"]);
        let bytes = std::fs::read(&first).unwrap();
        assert!(bytes == std::fs::read(second).unwrap(), "{format}");
        house.ctl(&["rmi", "app:1", "guest"]).ok();
        house.ctl(&["system", "prune", "-af"]).ok();

        house.ctl(&["load", "-i", text(&first)]).ok().says(&["Loaded image: app:1", "Loaded image: guest:latest"]);

        assert_eq!((id(&house, "app:1"), id(&house, "guest")), (app.clone(), guest.clone()), "{format}");
        house.ctl(&["run", "--rm", "app:1", "/guest", "read", "/words"]).ok().says(&["some words"]);
        let third = save(&house, "third.tar", &["--format", format, "app:1", "guest"]);
        assert!(bytes == std::fs::read(third).unwrap(), "{format}: save, load, save");
    }
    house.verify();
}

#[test]
fn whatever_an_archive_comes_from_or_goes_to_it_is_the_same() {
    let house = with_app();
    let (app, ctl) = (id(&house, "app:1"), strata_tests::binaries().join("ctl"));
    let archive = save(&house, "archive.tar", &["app:1"]);
    let bytes = std::fs::read(&archive).unwrap();
    let shell = |script: &str| {
        let mut command = house.command("/bin/sh");
        command.args(["-c", script, "sh", text(&ctl), text(&archive)]);
        Running::spawn(command).finish()
    };
    // A file as standard input, a pipe, and names of both.
    for script in [
        "\"$1\" load < \"$2\"",
        "cat \"$2\" | \"$1\" load",
        "\"$1\" load -i /dev/stdin < \"$2\"",
        "(head -c 0 \"$2\"; cat \"$2\") | \"$1\" load -i -",
    ] {
        house.ctl(&["rmi", "app:1"]).ok();
        house.ctl(&["system", "prune", "-af"]).ok();
        shell(script).ok().says(&["Loaded image: app:1"]);
        assert_eq!(id(&house, "app:1"), app, "{script}");
    }
    for script in ["\"$1\" save app:1 | cat > \"$2\"", "\"$1\" save app:1 > \"$2\"", "\"$1\" save -o \"$2\" app:1"] {
        std::fs::write(&archive, "another file").unwrap();
        shell(script).ok();
        assert!(std::fs::read(&archive).unwrap() == bytes, "{script}");
    }
    let link = house.path("link.tar");
    std::os::unix::fs::symlink(&archive, &link).unwrap();
    std::fs::write(&archive, "").unwrap();
    house.ctl(&["save", "-o", text(&link), "app:1"]).ok();
    assert!(link.is_symlink() && std::fs::read(&archive).unwrap() == bytes, "a link leads to the file that is meant");
    let beside = std::fs::read_dir(house.path("archive.tar").parent().unwrap()).unwrap().flatten();
    let partial = beside.filter(|entry| entry.file_name().to_string_lossy().ends_with(".partial")).count();
    assert_eq!(partial, 0);
    house.verify();
}

#[test]
fn save_piped_into_load_is_the_identity() {
    let from = with_app();
    let to = House::start();
    let ctl = strata_tests::binaries().join("ctl");
    let archive = from.path("piped.tar");
    let mut saving = from.command("/bin/sh");
    saving.args(["-c", &format!("{} save app:1 | cat > {}", text(&ctl), text(&archive))]);
    Running::spawn(saving).finish().ok();

    let mut loading = to.command("/bin/sh");
    loading.args(["-c", &format!("cat {} | {} load --quiet", text(&archive), text(&ctl))]);
    Running::spawn(loading).finish().ok().says(&["Loaded image: app:1"]);

    assert_eq!(id(&to, "app:1"), id(&from, "app:1"));
    to.ctl(&["run", "--rm", "app:1", "/guest", "read", "/words"]).ok().says(&["some words"]);
}

#[test]
fn skopeo_copies_what_was_saved_and_what_it_copied_is_loaded_with_the_same_digests() {
    let house = with_app();
    let layout = save(&house, "layout.tar", &["--format", "oci", "app:1"]);
    let archive = save(&house, "docker.tar", &["app:1"]);
    let copied = house.path("copied");

    skopeo(&house, &["copy", &format!("oci-archive:{}:1", text(&layout)), &format!("oci:{}:app", text(&copied))]);
    let raw = skopeo(&house, &["inspect", "--raw", &format!("oci:{}:app", text(&copied))]).stdout;
    let manifest: serde_json::Value = serde_json::from_str(&raw).unwrap();
    let from_docker = skopeo(&house, &["inspect", "--config", "--raw", &format!("docker-archive:{}", text(&archive))]);

    let app = id(&house, "app:1");
    assert_eq!(manifest["config"]["digest"].as_str(), Some(app.as_str()));
    let config: serde_json::Value = serde_json::from_str(&from_docker.stdout).unwrap();
    let layers = house.ctl(&["inspect", "app:1"]).ok().json()[0]["RootFS"]["Layers"].clone();
    assert_eq!(config["rootfs"]["diff_ids"], layers);
    house.ctl(&["rmi", "app:1"]).ok();
    let loaded = house.ctl(&["load", "-i", text(&copied)]).ok().stdout;
    assert!(loaded.contains(&app), "the layout has a tag and no name: {loaded}");
    house.ctl(&["tag", &app, "again:1"]).ok();
    let again = save(&house, "again", &["--format", "oci-dir", "again:1"]);
    let raw_again = skopeo(&house, &["inspect", "--raw", &format!("oci:{}:1", text(&again))]).stdout;
    assert_eq!(raw_again, raw, "the manifest is the same, byte for byte");
}

#[test]
fn podman_loads_what_was_saved_and_saves_what_is_loaded() {
    let house = with_app();
    let app = id(&house, "app:1");
    for (ours, theirs) in [("docker-archive", "docker-archive"), ("oci", "oci-archive")] {
        let saved = save(&house, "saved.tar", &["--format", ours, "app:1"]);
        podman(&house, &["load", "-q", "-i", text(&saved)]);
        let listed = podman(&house, &["images", "-q", "--no-trunc"]).stdout;
        assert_eq!(listed.lines().collect::<Vec<_>>(), [app.as_str()], "{ours}");
        house.ctl(&["rmi", "app:1"]).ok();

        let back = house.path(&format!("{theirs}.tar"));
        podman(&house, &["save", "-q", "--format", theirs, "-o", text(&back), app.strip_prefix("sha256:").unwrap()]);
        podman(&house, &["rmi", "-af"]);
        let loaded = house.ctl(&["load", "-i", text(&back)]).ok().stdout;

        assert!(loaded.contains(&app), "{theirs}: {loaded}");
        house.ctl(&["tag", &app, "app:1"]).ok();
        house.ctl(&["run", "--rm", "app:1", "/guest", "read", "/words"]).ok().says(&["some words"]);
    }
}

#[test]
fn an_image_that_umoci_made_is_loaded_from_its_directory_and_runs() {
    let house = House::start();
    let layout = house.path("layout");
    let tag = format!("{}:made", text(&layout));
    tool(&house, "/usr/bin/umoci", &["init", "--layout", text(&layout)]).ok();
    tool(&house, "/usr/bin/umoci", &["new", "--image", &tag]).ok();
    let tar = Tar::of_guest().write(house.path("guest.tar"));
    tool(&house, "/usr/bin/umoci", &["raw", "add-layer", "--image", &tag, text(&tar)]).ok();

    let loaded = house.ctl(&["load", "-i", text(&layout)]).ok().stdout;

    let id = loaded.trim().strip_prefix("Loaded image ID: ").expect(&loaded);
    house.ctl(&["run", "--rm", id, "/guest", "noop"]).ok();
    let back = save(&house, "back", &["--format", "oci-dir", id]);
    let listed = skopeo(&house, &["inspect", "--raw", &format!("oci:{}", text(&back))]).stdout;
    let theirs = skopeo(&house, &["inspect", "--raw", &format!("oci:{tag}")]).stdout;
    assert_eq!(listed, theirs, "what came from elsewhere goes as it came");
}

#[test]
fn a_save_that_fails_leaves_no_file_and_a_load_no_image() {
    let house = House::with_guest();
    let target = house.path("target.tar");

    house.ctl(&["save", "-o", text(&target), "guest", "no-such"]).fails().complains(&["no-such"]);
    assert!(!target.exists());
    let full = house.path("full");
    std::fs::create_dir(&full).unwrap();
    std::fs::write(full.join("mine"), "kept").unwrap();
    house.ctl(&["save", "-o", text(&full), "guest"]).fails().complains(&["not empty"]);
    assert_eq!(std::fs::read(full.join("mine")).unwrap(), b"kept");
    let whole = std::fs::read(save(&house, "whole.tar", &["guest"])).unwrap();
    house.ctl(&["rmi", "guest"]).ok();
    house.ctl_with(&["load"], &whole[..whole.len() / 2]).fails().complains(&["standard input: "]);
    house.ctl(&["load", "-i", "/etc"]).fails().complains(&["no image archive"]);
    house.ctl(&["load", "-i", "/etc/passwd"]).fails().complains(&["/etc/passwd: "]);
    house.ctl(&["load", "-i", "/nowhere"]).fails().complains(&["/nowhere"]);

    assert_eq!(house.ctl(&["images", "-q"]).ok().stdout, "");
    house.verify();
}

#[test]
fn an_archive_is_not_written_to_a_terminal() {
    let house = House::with_guest();
    let mut command: Command = house.ctl_command(&["save", "guest"]);
    command.env("TERM", "xterm");

    let terminal = Terminal::run(&command, 24, 80);

    terminal.wait_for("terminal");
    assert!(!terminal.shown().contains("oci-layout"), "{}", terminal.shown());
}
