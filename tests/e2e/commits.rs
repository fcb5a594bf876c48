//! `ctl commit`: images of what containers wrote.

use strata_tests::House;

fn exists(house: &House, image: &str, path: &str) -> bool {
    house.ctl(&["run", "--rm", "--network", "none", image, "/guest", "exists", path]).code == 0
}

#[test]
fn a_commit_has_what_the_container_wrote_and_nothing_that_is_mounted() {
    let house = House::with_guest();
    let context = strata_tests::Context::new(
        "FROM guest\nENV A=image\nRUN [\"/guest\", \"then\", \"mkdir\", \"/etc/app\", \"+\", \"write\", \"/etc/app/gone\", \"x\"]\n",
    );
    house.build(&context, "base").ok();
    let flags = ["-v", "state:/made/for/it", "--tmpfs", "/memory", "-e", "B=container", "-l", "tier=back"];
    let run = [&["run", "-d", "--name", "box"], &flags[..], &["base", "/guest", "sleep", "300"]].concat();
    house.ctl(&run).ok();
    for words in [
        &["write", "/new", "content"][..],
        &["chown", "7", "8", "/new"],
        &["rm", "/etc/app/gone"],
        &["link", "new", "/link"],
        &["write", "/made/for/it/volume", "x"],
        &["write", "/memory/file", "x"],
    ] {
        house.ctl(&[&["exec", "box", "/guest"], words].concat()).ok();
    }

    let id = house.ctl(&["commit", "-a", "Ada", "-m", "why", "-c", "ENV C=change", "box", "app:1"]).ok();
    house.ctl(&["rm", "-f", "box"]).ok();

    let read = ["run", "--rm", "--network", "none", "app:1", "/guest", "then", "read", "/link", "+", "stat", "/new"];
    assert!(house.ctl(&read).ok().text().starts_with("content"));
    for (path, expected) in [("/etc/app", true), ("/etc/app/gone", false), ("/made", false), ("/memory", false)] {
        assert_eq!(exists(&house, "app:1", path), expected, "{path}");
    }
    let inspected = house.ctl(&["inspect", "app:1"]).ok().json();
    assert_eq!(inspected[0]["Id"], id.text());
    let config = &inspected[0]["Config"];
    let env = config["Env"].as_array().unwrap();
    for pair in ["A=image", "B=container", "C=change"] {
        assert!(env.contains(&pair.into()), "{env:?}");
    }
    assert_eq!(config["Labels"]["tier"], "back");
    assert_eq!(config["Cmd"], serde_json::json!(["/guest", "sleep", "300"]));
    house.ctl(&["history", "app:1"]).ok().says(&["/guest sleep 300", "why"]);
    let layers = inspected[0]["RootFS"]["Layers"].as_array().unwrap().len();
    let below = house.ctl(&["inspect", "base"]).ok().json()[0]["RootFS"]["Layers"].as_array().unwrap().len();
    assert_eq!(layers, below + 1);
    house.ctl(&["volume", "rm", "state"]).ok();
    house.verify();
}

#[test]
fn a_container_stands_still_while_it_is_committed_and_goes_on() {
    let house = House::with_guest();
    house.ctl(&["run", "-d", "--name", "busy", "guest", "/guest", "tick", "100000", "1"]).ok();
    house.ctl(&["exec", "busy", "/guest", "fill", "/large", "20000000"]).ok();

    for flags in [&[][..], &["--pause=false"], &["--no-pause"]] {
        house.ctl(&[&["commit"], flags, &["busy"]].concat()).ok();
    }

    house.ctl(&["exec", "busy", "/guest", "noop"]).ok();
    house.ctl(&["ps"]).ok().says(&["busy", "Up"]);
    house.ctl(&["rm", "-f", "busy"]).ok();
}

#[test]
fn one_that_does_not_run_is_committed_and_what_is_wrong_makes_nothing() {
    let house = House::with_guest();
    house.ctl(&["run", "--name", "done", "guest", "/guest", "write", "/file", "x"]).ok();
    house.ctl(&["create", "--name", "new", "guest", "/guest"]).ok();
    let before = house.ctl(&["images", "-q"]).stdout;

    house.ctl(&["commit", "done", "UPPER"]).fails();
    house.ctl(&["commit", "-c", "RUN x", "done"]).code(125).complains(&["RUN"]);
    house.ctl(&["commit", "absent"]).fails().complains(&["absent"]);
    assert_eq!(house.ctl(&["images", "-q"]).stdout, before);

    house.ctl(&["container", "commit", "done", "done-image"]).ok();
    house.ctl(&["commit", "new", "new-image"]).ok();
    house.ctl(&["rm", "done", "new"]).ok();
    assert!(exists(&house, "done-image", "/file"));
    assert!(!exists(&house, "new-image", "/file"));
}
