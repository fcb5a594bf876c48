//! Mounts that come to a container while it runs, and go: `ctl container mount` and `unmount`.

use std::fs;

use strata_tests::{House, Output};

/// A house with a container "box" that sleeps; flags are of its `run`.
fn with_box(flags: &[&str]) -> House {
    let house = House::with_guest();
    let words = [&["run", "-d", "--name", "box"], flags, &["guest", "/guest", "sleep", "600"]].concat();
    house.ctl(&words).ok();
    house
}

#[track_caller]
fn inside(house: &House, words: &str) -> Output {
    let words: Vec<&str> = words.split(' ').collect();
    house.ctl(&[&["exec", "box", "/guest"], words.as_slice()].concat())
}

#[track_caller]
fn mount(house: &House, flags: &[&str]) -> Output {
    house.ctl(&[&["container", "mount"], flags, &["box"]].concat())
}

fn targets(house: &House) -> Vec<String> {
    let mounts = house.ctl(&["inspect", "box"]).ok().json()[0]["Mounts"].clone();
    let mounts = mounts.as_array().cloned().unwrap_or_default();
    mounts.iter().filter_map(|mount| mount["Destination"].as_str().map(str::to_owned)).collect()
}

#[test]
fn what_is_mounted_is_there_at_once_and_after_a_restart() {
    let house = with_box(&[]);
    fs::create_dir(house.path("src")).unwrap();
    fs::write(house.path("src/file"), "of the host").unwrap();
    let path = house.path("src").display().to_string();

    mount(&house, &["-v", &format!("{path}:/deep/src:ro"), "--tmpfs", "/memory:size=1m", "-v", "kept:/kept"]).ok();

    assert_eq!(inside(&house, "read /deep/src/file").ok().stdout, "of the host");
    inside(&house, "write /deep/src/file x").code(99);
    inside(&house, "write /kept/file x").ok();
    inside(&house, "fill /memory/file 2000000").code(99);
    assert_eq!(targets(&house), ["/deep/src", "/kept", "/memory"]);
    house.ctl(&["volume", "rm", "kept"]).fails().complains(&["kept", "in use"]);

    house.ctl(&["stop", "-t", "0", "box"]).ok();
    house.ctl(&["start", "box"]).ok();
    assert_eq!(inside(&house, "read /deep/src/file").ok().stdout, "of the host");
    assert_eq!(inside(&house, "read /kept/file").ok().stdout, "x");

    assert_eq!(
        house.ctl(&["container", "unmount", "box", "/deep/src", "/memory/"]).ok().stdout,
        "/deep/src\n/memory/\n"
    );
    inside(&house, "exists /deep/src/file").code(1);
    inside(&house, "write /memory/file of-the-layer").ok();
    assert_eq!(targets(&house), ["/kept"]);
    house.ctl(&["container", "unmount", "box", "/kept"]).ok();
    house.ctl(&["volume", "rm", "kept"]).ok();
    house.ctl(&["rm", "-f", "box"]).ok();
}

#[test]
fn a_volume_gets_what_the_image_has_there() {
    let house = with_box(&[]);
    mount(&house, &["-v", "copy:/etc"]).ok();
    let names = inside(&house, "ls /etc").ok().stdout;
    assert!(names.contains("passwd"), "{names}");
    let seen = house.guest_with(&["-v", "copy:/seen"], &["ls", "/seen"]).ok().stdout;
    assert!(seen.contains("passwd") && seen.contains("group"), "{seen}");
    house.ctl(&["rm", "-f", "box"]).ok();
}

#[test]
fn a_file_and_an_image_can_be_mounted_and_taken_away() {
    let house = with_box(&["-v", "/etc/hostname:/first"]);
    fs::write(house.path("file"), "one file").unwrap();
    let file = format!("type=bind,src={},dst=/opt/file,readonly", house.path("file").display());

    mount(&house, &["--mount", &file, "--mount", "type=image,src=guest,dst=/image"]).ok();

    assert_eq!(inside(&house, "read /opt/file").ok().stdout, "one file");
    inside(&house, "exists /image/guest").ok();
    inside(&house, "write /image/new x").code(99);
    house.ctl(&["container", "unmount", "box", "/opt/file", "/image", "/first"]).ok();
    assert_eq!(inside(&house, "read /opt/file").ok().stdout, "");
    inside(&house, "exists /image/guest").code(1);
    // Another one has the place of the first.
    mount(&house, &["--mount", "type=image,src=guest,dst=/again"]).ok();
    inside(&house, "exists /again/guest").ok();
    house.ctl(&["rm", "-f", "box"]).ok();
    house.ctl(&["rmi", "guest"]).ok();
}

#[test]
fn one_that_does_not_run_has_it_when_it_starts() {
    let house = House::with_guest();
    house.ctl(&["create", "--name", "box", "guest", "/guest", "sleep", "600"]).ok();
    mount(&house, &["--tmpfs", "/memory"]).ok();
    house.ctl(&["start", "box"]).ok();
    assert!(inside(&house, "mounts").ok().stdout.contains(" /memory "));
    house.ctl(&["stop", "-t", "0", "box"]).ok();
    house.ctl(&["container", "unmount", "box", "/memory"]).ok();
    house.ctl(&["start", "box"]).ok();
    assert!(!inside(&house, "mounts").ok().stdout.contains(" /memory "));
    house.ctl(&["rm", "-f", "box"]).ok();
}

#[test]
fn bad_input_is_one_clear_error_and_changes_nothing() {
    let house = with_box(&["-v", "first:/first"]);
    let before = inside(&house, "mounts").ok().stdout;
    let refused = |flags: &[&str], words: &[&str]| {
        mount(&house, flags).fails().complains(words);
    };

    refused(&["-v", "other:/first"], &["box", "/first", "already", "unmount"]);
    refused(&["-v", "other:/"], &["\"/\""]);
    refused(&["-v", "other:/proc/x"], &["/proc/x"]);
    refused(&["--mount", "type=bind,src=/no/such,dst=/x"], &["/no/such"]);
    refused(&["--mount", "type=image,src=no-such,dst=/x"], &["no-such"]);
    refused(&["--mount", "type=volume,src=other,dst=/guest"], &["/guest", "not a directory"]);
    refused(&[], &["nothing to mount"]);
    house.ctl(&["container", "mount", "--tmpfs", "/x", "no-box"]).fails().complains(&["no such container: no-box"]);
    house.ctl(&["container", "unmount", "box", "/second"]).fails().complains(&["box", "no mount at /second"]);
    house.ctl(&["container", "unmount", "box", "first"]).fails().complains(&["absolute"]);

    assert_eq!(inside(&house, "mounts").ok().stdout, before);
    assert_eq!(targets(&house), ["/first"]);
    house.ctl(&["rm", "-f", "box"]).ok();
}

/// The container is hostile: what it made of its own files leads nowhere but to its own files.
#[test]
fn links_of_the_container_lead_nowhere_else() {
    let house = with_box(&[]);
    let sentinel = house.path("sentinel");
    fs::create_dir(&sentinel).unwrap();
    let host = sentinel.display().to_string();
    inside(&house, &format!("link {host}/new /out")).ok();
    inside(&house, "link ../../../../../.. /up").ok();
    inside(&house, "link /proc/self/fd /fds").ok();
    inside(&house, "link /proc/sys /sys-link").ok();

    mount(&house, &["--tmpfs", "/out/deep", "--tmpfs", "/up/of-root"]).ok();
    mount(&house, &["--tmpfs", "/fds/3"]).fails();
    mount(&house, &["--tmpfs", "/sys-link/kernel"]).fails();

    assert!(fs::read_dir(&sentinel).unwrap().next().is_none());
    let mounts = inside(&house, "mounts").ok().stdout;
    assert!(mounts.contains(" /of-root ") && mounts.contains(&format!(" {host}/new/deep ")), "{mounts}");
    let own = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!own.contains("of-root") && !own.contains(&format!("{host}/new")), "{own}");
    // Nor does what was put in the place of a mount since.
    house.ctl(&["container", "unmount", "box", "/up/of-root"]).ok();
    house.ctl(&["rm", "-f", "box"]).ok();
}

#[test]
fn a_runtime_that_was_killed_still_knows_them() {
    let house = with_box(&[]);
    mount(&house, &["-v", "kept:/kept"]).ok();
    house.crash("runtime");

    assert_eq!(targets(&house), ["/kept"]);
    inside(&house, "write /kept/file x").ok();
    house.ctl(&["container", "unmount", "box", "/kept"]).ok();
    inside(&house, "exists /kept/file").code(1);
    house.ctl(&["rm", "-f", "box"]).ok();
    house.ctl(&["volume", "rm", "kept"]).ok();
}

#[test]
fn the_group_of_containers_has_the_commands_of_the_top() {
    let house = with_box(&[]);
    for words in [&["container", "ls", "-q"][..], &["container", "list", "-q"], &["container", "ps", "-q"]] {
        assert_eq!(house.ctl(words).ok().stdout, house.ctl(&["ps", "-q"]).ok().stdout);
    }
    assert_eq!(house.ctl(&["container", "inspect", "box"]).ok().json()[0]["Name"], "/box");
    house.ctl(&["container", "inspect", "guest"]).fails();
    house.ctl(&["container", "exec", "box", "/guest", "noop"]).ok();
    house.ctl(&["container", "stop", "-t", "0", "box"]).ok();
    assert!(house.ctl(&["container", "prune", "-f"]).ok().stdout.starts_with("Deleted Containers:\n"));
    assert_eq!(house.ctl(&["ps", "-aq"]).ok().stdout, "");
}
