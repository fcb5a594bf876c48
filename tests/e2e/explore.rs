//! `ctl image explore` and `ctl images --tree`: looking into images that a build has made.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use rustix::process::Signal;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use strata_tests::{Context, House, Tar, Terminal, eventually};

/// What a program does that has the whole screen, and when it gives it back.
const TAKEN: &str = "\u{1b}[?1049h";
const GIVEN_BACK: &str = "\u{1b}[?1049l";

/// A house with "app": on the guest a large file that comes, changes and goes.
fn house() -> House {
    let house = House::with_guest();
    let context = Context::new(
        "FROM guest\nENV A=b\nCOPY data /data\nRUN [\"/guest\", \"write\", \"/data/large\", \"small now\"]\nENV C=d\nRUN [\"/guest\", \"rm\", \"/data/sub\"]\n",
    )
    .file("data/large", &"x".repeat(100_000))
    .file("data/sub/one", &"1".repeat(3000))
    .file("data/sub/two", &"2".repeat(2000));
    house.build(&context, "app").ok();
    house
}

fn explored(house: &House, name: &str) -> Value {
    house.ctl(&["image", "explore", "--json", name]).ok().json()
}

/// Change and kind of a path in a layer.
fn change(layer: &Value, path: &str) -> Option<(String, String)> {
    let found = layer["changes"].as_array().unwrap().iter().find(|change| change["path"] == path)?;
    Some((found["change"].as_str().unwrap().to_owned(), found["kind"].as_str().unwrap().to_owned()))
}

#[test]
fn what_each_layer_did_is_told_with_its_instruction() {
    let house = house();

    let found = explored(&house, "app");

    let layers = found["layers"].as_array().unwrap();
    let instructions: Vec<&str> = layers.iter().map(|layer| layer["instruction"].as_str().unwrap_or("none")).collect();
    assert_eq!(layers.len(), 4, "{instructions:?}");
    assert!(instructions[1].starts_with("COPY data /data"), "{instructions:?}");
    assert!(instructions[2].contains("write") && instructions[3].contains("rm"), "{instructions:?}");
    let did = |layer: usize, path: &str| change(&layers[layer], path);
    let pair = |change: &str, kind: &str| Some((change.to_owned(), kind.to_owned()));
    assert_eq!(did(0, "guest"), pair("added", "file"));
    assert_eq!(did(1, "data"), pair("added", "directory"));
    assert_eq!(did(1, "data/sub/one"), pair("added", "file"));
    assert_eq!(did(2, "data/large"), pair("changed", "file"));
    assert_eq!(did(3, "data/sub"), pair("removed", "directory"));
    assert_eq!(did(3, "data/sub/two"), pair("removed", "file"));
    assert_eq!(did(3, "guest"), None);
    assert_eq!((&layers[2]["hidesBytes"], &layers[3]["hidesBytes"]), (&100_000.into(), &5000.into()));
}

#[test]
fn sizes_and_waste_agree_with_the_store() {
    let house = house();
    let inspected = house.ctl(&["inspect", "app"]).ok().json();

    let found = explored(&house, "app");

    let sum: u64 = found["layers"].as_array().unwrap().iter().map(|layer| layer["sizeBytes"].as_u64().unwrap()).sum();
    assert_eq!(inspected[0]["Size"].as_u64(), Some(sum));
    assert_eq!(found["image"]["sizeBytes"].as_u64(), Some(sum));
    assert_eq!(found["image"]["wastedBytes"], 105_000);
    let wasted: Vec<(&str, u64)> = found["wasted"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["path"].as_str().unwrap(), one["bytes"].as_u64().unwrap()))
        .collect();
    assert_eq!(wasted, [("data/large", 100_000), ("data/sub/one", 3000), ("data/sub/two", 2000)]);
    let diff_ids: Vec<&Value> = found["layers"].as_array().unwrap().iter().map(|layer| &layer["diffId"]).collect();
    let expected: Vec<&Value> = inspected[0]["RootFS"]["Layers"].as_array().unwrap().iter().collect();
    assert_eq!(diff_ids, expected);
}

#[test]
fn a_pipe_gets_a_summary_and_thresholds_set_the_exit_code() {
    let house = house();

    let plain = house.ctl(&["image", "explore", "app"]).ok();
    plain.clone().says(&["Wasted       105kB at 3 paths", "LAYER", "/data/large", "COPY data /data"]);
    let kept =
        ["image", "explore", "--ci", "--highest-user-wasted-percent", "1", "--highest-wasted-bytes", "105kB", "app"];
    house.ctl(&kept).ok().says(&["PASS   lowest-efficiency", "PASS   highest-wasted-bytes"]);
    let low = house.ctl(&["image", "explore", "--ci", "app"]).code(1);
    assert!(low.stdout.contains("FAIL   highest-user-wasted-percent: 99."), "{low:?}");
    assert!(low.stdout.contains("SKIP   highest-wasted-bytes"), "{low:?}");
    let json = house.ctl(&["image", "explore", "--ci", "--json", "--lowest-efficiency", "99.9%", "app"]).code(1).json();
    assert_eq!((&json["rules"][0]["rule"], &json["rules"][0]["kept"]), (&"lowest-efficiency".into(), &false.into()));
    house.ctl(&["image", "explore", "--lowest-efficiency", "0.5", "app"]).code(125);
    house.ctl(&["image", "explore", "--ci", "--lowest-efficiency", "2", "app"]).code(125);
    house.ctl(&["image", "explore", "no-such"]).code(1).complains(&["no-such"]);
}

#[test]
fn names_of_files_cannot_write_to_the_terminal() {
    let house = House::start();
    let tar = Tar::default().file("\u{1b}]0;title\u{7}", 0o644, b"x").symlink("link", "\u{1b}[2J").bytes();
    house.ctl_with(&["import", "-", "hostile"], &tar).ok();
    house.ctl_with(&["import", "-", "hostile2"], &tar).ok();

    let found = explored(&house, "hostile");
    let paths: Vec<&str> =
        found["layers"][0]["changes"].as_array().unwrap().iter().map(|one| one["path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["\\u{1b}]0;title\\u{7}", "link"]);
    let mut terminal = Terminal::run(&house.ctl_command(&["image", "explore", "hostile"]), 24, 100);
    terminal.wait_for("title\\u{7}");
    assert!(
        !terminal.shown().contains("\u{1b}]0;") && !terminal.shown().contains("\u{1b}[2J\u{1b}"),
        "{:?}",
        terminal.shown()
    );
    terminal.press("q");
    assert_eq!(terminal.finish(), 0);
}

#[test]
fn a_terminal_gets_a_view_that_keys_and_the_mouse_move() {
    let house = house();
    let mut terminal = Terminal::run(&house.ctl_command(&["image", "explore", "app"]), 30, 110);
    terminal.wait_for("Layers 4/4");
    // Only what is new is written, word by word.
    terminal.wait_for("COPY");
    assert!(!terminal.is_cooked() && terminal.shown().contains(TAKEN));

    // Up: the third layer. Then its changes; a search; the waste.
    let before = terminal.press("\u{1b}[A2");
    terminal.wait_for_after(before, "large");
    let before = terminal.press("/nothing-like-it");
    terminal.wait_for_after(before, "Nothing");
    let before = terminal.press("\u{1b}");
    terminal.wait_for_after(before, "large");
    // A click on the third tab, in the upper border of the right pane (SGR: button, column, row, from 1).
    let column = 44 + "1 Files 2 Changes of the layer".len() + 10;
    let before = terminal.press(&format!("\u{1b}[<0;{column};1M\u{1b}[<0;{column};1m"));
    terminal.wait_for_after(before, "/data/sub/one");
    let before = terminal.shown().len();
    terminal.resize(40, 60);
    terminal.wait_for_after(before, "Layers");
    terminal.press("q");

    eventually("the screen is given back", Duration::from_secs(20), || terminal.shown().contains(GIVEN_BACK));
    assert!(terminal.is_cooked());
    assert_eq!(terminal.finish(), 0);
}

#[test]
fn the_terminal_is_given_back_on_interrupts_and_signals() {
    let house = house();
    let show = || {
        let terminal = Terminal::run(&house.ctl_command(&["image", "explore", "app"]), 30, 110);
        terminal.wait_for("Layers 4/4");
        assert!(!terminal.is_cooked());
        terminal
    };
    let ended = |terminal: Terminal, code: i32| {
        eventually("the screen is given back", Duration::from_secs(20), || {
            terminal.shown().contains(GIVEN_BACK) && terminal.is_cooked()
        });
        assert_eq!(terminal.finish(), code);
    };

    let mut interrupted = show();
    interrupted.press("\u{3}");
    ended(interrupted, 0);
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130), (Signal::HUP, 129)] {
        let terminal = show();
        terminal.signal(signal);
        ended(terminal, code);
    }
    // Ctrl-Z gives it back too, and takes it again.
    let mut stopped = show();
    stopped.press("\u{1a}");
    eventually("the screen is given back", Duration::from_secs(20), || {
        stopped.shown().contains(GIVEN_BACK) && stopped.is_cooked()
    });
    let before = stopped.shown().len();
    stopped.signal(Signal::CONT);
    stopped.wait_for_after(before, "Layers 4/4");
    stopped.press("q");
    ended(stopped, 0);
}

#[test]
fn the_tree_of_images_tells_what_is_shared() {
    let house = house();
    house.ctl(&["tag", "guest", "base:1"]).ok();

    let tree = house.ctl(&["images", "--tree"]).ok();
    tree.clone().says(&["base:1, guest:latest", "0B its own", "also in app:latest", "2 images, 4 layers"]);
    let found = house.ctl(&["images", "--tree", "--format", "json", "app"]).ok().json();
    assert_eq!(found["images"].as_array().unwrap().len(), 1);
    assert_eq!(found["images"][0]["names"][0], "app:latest");
    let layers = found["images"][0]["layers"].as_array().unwrap();
    let own: u64 = layers[1..].iter().map(|layer| layer["sizeBytes"].as_u64().unwrap()).sum();
    assert_eq!(found["images"][0]["uniqueBytes"], own);
    let shared: Vec<&Value> = found["layers"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|layer| layer["images"].as_array().unwrap().len() == 2)
        .collect();
    assert_eq!(shared.len(), 1);
    assert_eq!(shared[0]["diffId"], layers[0]["diffId"]);
    house.ctl(&["images", "--tree", "-q"]).code(125);
}

#[test]
fn the_tree_of_the_layers_is_what_a_container_sees() {
    let house = House::with_debian();
    let context = Context::new(
        "FROM debian:bookworm\nCOPY lib.txt /lib/sub/\nRUN rm -r /usr/share/zoneinfo /etc/debian_version && mkdir /etc/debian_version && ln -s /opt /etc/to && chmod 700 /srv\nRUN rm -r /opt && echo file > /opt && mv /usr/share/doc /doc && mkdir -p /usr/share/doc/again\nCOPY lib.txt /bin/lib.txt\n",
    )
    .file("lib.txt", "words");
    house.build(&context, "app").ok();
    // What a container is given besides its image: files of the network, and mounts.
    let script = "find / -xdev -mindepth 1 -printf '%P\\n'";
    let seen = house.ctl(&["run", "--rm", "--network", "none", "app", "sh", "-c", script]).ok();
    let given = ["etc/hosts", "etc/hostname", "etc/resolv.conf", ".dockerenv"];

    let found = explored(&house, "app");

    let mut tree = BTreeMap::new();
    for change in found["layers"].as_array().unwrap().iter().flat_map(|layer| layer["changes"].as_array().unwrap()) {
        let path = change["path"].as_str().unwrap();
        match change["change"].as_str().unwrap() {
            "removed" => drop(tree.remove(path).unwrap_or_else(|| panic!("{path} was not there"))),
            _ => drop(tree.insert(path, change["kind"].as_str().unwrap())),
        }
    }
    let mounted = ["dev/", "proc/", "sys/"];
    let is_given = |path: &str| given.contains(&path) || mounted.iter().any(|mount| path.starts_with(mount));
    let plain = |path: &&str| !is_given(path) && !path.is_empty();
    let expected: BTreeSet<&str> = seen.stdout.lines().filter(plain).collect();
    let told: BTreeSet<&str> = tree.keys().copied().filter(plain).collect();
    assert!(expected.len() > 1000, "{} files", expected.len());
    let (missing, wrong): (Vec<_>, Vec<_>) =
        (expected.difference(&told).collect(), told.difference(&expected).collect());
    assert!(missing.is_empty() && wrong.is_empty(), "not told: {missing:?}, wrong: {wrong:?}");
    assert_eq!((tree["opt"], tree["etc/debian_version"], tree["etc/to"]), ("file", "directory", "symlink"));
}

/// An archive as `docker save` writes it, of these layers.
fn docker_archive(name: &str, layers: Vec<Vec<u8>>) -> Vec<u8> {
    let digest = |bytes: &[u8]| hex::encode(Sha256::digest(bytes));
    let diff_ids: Vec<String> = layers.iter().map(|layer| format!("sha256:{}", digest(layer))).collect();
    let history: Vec<Value> =
        (0..layers.len()).map(|number| json!({ "created_by": format!("layer {number}") })).collect();
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let config = json!({ "architecture": architecture, "os": "linux", "config": {}, "history": history,
        "rootfs": { "type": "layers", "diff_ids": diff_ids } })
    .to_string();
    let files: Vec<String> = (0..layers.len()).map(|number| format!("{number}/layer.tar")).collect();
    let id = digest(config.as_bytes());
    let manifest = json!([{ "Config": format!("{id}.json"), "RepoTags": [name], "Layers": files }]).to_string();
    let tar = files.iter().zip(&layers).fold(Tar::default(), |tar, (file, layer)| tar.file(file, 0o644, layer));
    tar.file(&format!("{id}.json"), 0o644, config.as_bytes()).file("manifest.json", 0o644, manifest.as_bytes()).bytes()
}

#[test]
fn what_a_layer_only_implies_lands_where_the_container_has_it() {
    let house = House::start();
    let base = Tar::of_guest().directory("usr", 0o755).directory("usr/lib", 0o711).symlink("lib", "usr/lib");
    let base = base.symlink("far", "/usr/../lib/deep").file("usr/lib/old", 0o644, b"12345").bytes();
    // No entry for lib, nor for far: they are what is below.
    let implied =
        Tar::default().file("lib/new", 0o644, b"new").file("far/away", 0o644, b"x").file("lib/.wh.old", 0o644, b"");
    // An entry for lib: it is a directory from here on.
    let own = Tar::default().directory("lib", 0o755).file("lib/own", 0o644, b"own").bytes();
    let archive = docker_archive("linked:1", vec![base, implied.bytes(), own]);
    house.ctl_with(&["load"], &archive).ok();

    let found = explored(&house, "linked:1");

    let did = |layer: usize, path: &str| change(&found["layers"][layer], path).map(|(change, _)| change);
    assert_eq!(did(1, "usr/lib/new").as_deref(), Some("added"));
    assert_eq!(did(1, "usr/lib/deep/away").as_deref(), Some("added"));
    assert_eq!(did(1, "usr/lib/old").as_deref(), Some("removed"));
    assert_eq!((did(1, "lib"), did(1, "lib/new"), did(1, "usr/lib")), (None, None, None));
    assert_eq!(change(&found["layers"][2], "lib"), Some(("changed".to_owned(), "directory".to_owned())));
    assert_eq!(found["layers"][1]["hidesBytes"], 5);
    let ls = |path: &str| house.ctl(&["run", "--rm", "linked:1", "/guest", "ls", path]).ok().stdout;
    assert_eq!(
        (ls("/usr/lib").as_str(), ls("/usr/lib/deep").as_str(), ls("/lib").as_str()),
        ("deep\nnew\n", "away\n", "own\n")
    );
}
