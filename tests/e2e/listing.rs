//! `ctl ps`: which containers it shows.

use strata_tests::House;

/// The names that `ctl ps` shows, in its order.
#[track_caller]
fn names(house: &House, flags: &[&str]) -> String {
    let shown = house.ctl(&[&["ps", "--format", "{{.Names}}"], flags].concat()).ok();
    shown.text().split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn ps_shows_what_its_filters_mean() {
    let house = House::with_guest();
    house.ctl(&["tag", "guest", "named"]).ok();
    let context = strata_tests::Context::new("FROM guest\nRUN [\"/guest\", \"append\", \"/note\", \"x\"]\n");
    house.build(&context, "derived").ok();
    let none = ["--network", "none"];
    let make = |words: &[&str]| house.ctl(&[&["run"], &none[..], words].concat());
    make(&["--name", "failed", "-l", "tier=1", "guest", "/guest", "exit", "3"]).code(3);
    make(&["--name", "over", "-l", "tier=2", "derived", "/guest", "noop"]).ok();
    house.ctl(&["create", "--network", "host", "--name", "made", "-v", "data:/data", "guest", "/guest"]).ok();
    let id = make(&[
        "-d", "--name", "up-1", "-l", "tier=1", "-l", "live", "--expose", "53/udp", "guest", "/guest", "sleep", "300",
    ]);
    let id = id.ok().text().to_owned();

    for (flags, expected) in [
        (&[][..], "up-1"),
        (&["-a"], "up-1 made over failed"),
        (&["-n", "2"], "up-1 made"),
        (&["-n", "-1"], "up-1"),
        (&["--last", "9", "-f", "label=tier"], "up-1 over failed"),
        (&["-l"], "up-1"),
        (&["-l", "-f", "status=exited"], "over"),
        (&["-f", "status=exited", "-f", "status=created"], "made over failed"),
        (&["-f", "exited=3"], ""),
        (&["-af", "exited=3"], "failed"),
        (&["-a", "-f", "exited=0", "-f", "exited=3"], "over failed"),
        (&["-a", "-f", "label=tier=1"], "up-1 failed"),
        (&["-a", "-f", "label=tier=1", "-f", "label=live"], "up-1"),
        (&["-a", "-f", "name=^up", "-f", "name=ail"], "up-1 failed"),
        (&["-a", "-f", &format!("id={}", &id[..12])], "up-1"),
        (&["-a", "-f", "ancestor=guest"], "up-1 made over failed"),
        (&["-a", "-f", "ancestor=named"], "up-1 made over failed"),
        (&["-a", "-f", "ancestor=derived"], "over"),
        (&["-a", "-f", "ancestor=absent"], ""),
        (&["-a", "-f", "volume=data"], "made"),
        (&["-a", "-f", "volume=/data"], "made"),
        (&["-a", "-f", "network=host"], "made"),
        (&["-a", "-f", "network=none"], "up-1 over failed"),
        (&["-a", "-f", "before=over"], "failed"),
        (&["-a", "-f", "since=over"], "up-1 made"),
        (&["-f", "expose=50-60/udp"], "up-1"),
        (&["-f", "publish=53/udp"], ""),
    ] {
        assert_eq!(names(&house, flags), expected, "{flags:?}");
    }
    house.ctl(&["ps", "-f", "colour=red"]).code(125).complains(&[
        "colour=red",
        "ancestor, before",
        "volume with a value",
    ]);
    house.ctl(&["ps", "-f", "status=asleep"]).code(125).complains(&["status=asleep", "running, paused"]);
    house.ctl(&["ps", "-f", "before=absent"]).fails().complains(&["absent"]);
    house.ctl(&["ps", "-a", "-n", "1", "--format", "{{.Labels}} {{.Networks}}"]).ok().says(&["live=,tier=1 none"]);
    house.ctl(&["rm", "-f", "up-1"]).ok();
}
