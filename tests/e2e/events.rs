//! `ctl events`: what happens, of all services in one stream.

use std::time::{Duration, SystemTime};

use strata_tests::{House, eventually};

/// What was told since a moment, as a template shows it.
fn past(house: &House, since: &str, flags: &[&str]) -> Vec<String> {
    let base =
        ["events", "--since", since, "--until", "0s", "--format", "{{.Type}} {{.Action}} {{.Actor.Attributes.name}}"];
    let told = house.ctl(&[&base[..], flags].concat()).ok();
    told.text().lines().map(str::to_owned).collect()
}

/// Now, as `--since` takes it.
fn now() -> String {
    let at = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    format!("{}.{:09}", at.as_secs(), at.subsec_nanos())
}

#[test]
fn events_are_told_in_dockers_lines_as_they_come() {
    let house = House::with_guest();
    let watch = house.ctl_running(&["events", "--filter", "label=tier=back"]);
    let told = |words: &str| eventually(words, Duration::from_secs(20), || watch.stdout().contains(words));
    // Whether the watch has begun is known by what it tells.
    eventually("it watches", Duration::from_secs(20), || {
        house.ctl(&["run", "--rm", "-l", "tier=back", "guest", "/guest", "noop"]).ok();
        watch.stdout().contains("container destroy")
    });

    let id = house.ctl(&["run", "-d", "--name", "web", "-l", "tier=back", "guest", "/guest", "sleep", "300"]).ok();
    let id = id.text().to_owned();
    house.ctl(&["exec", "web", "/guest", "exit", "4"]).code(4);
    house.ctl(&["rename", "web", "site"]).ok();
    house.ctl(&["stop", "-t", "0", "site"]).ok();
    house.ctl(&["rm", "site"]).ok();

    told(&format!("container destroy {id}"));
    let lines: Vec<String> = watch.stdout().lines().filter(|line| line.contains(&id)).map(str::to_owned).collect();
    for (number, (action, attributes)) in [
        ("create", "(image=guest, name=web, tier=back)"),
        ("start", "(image=guest, name=web, tier=back)"),
        ("exec_create: /guest exit 4", "execID="),
        ("exec_start: /guest exit 4", "execID="),
        ("exec_die", "exitCode=4, image=guest, name=web, tier=back)"),
        ("rename", "(image=guest, name=site, oldName=web, tier=back)"),
        ("kill", "(image=guest, name=site, signal=9, tier=back)"),
        ("die", "exitCode=137, image=guest, name=site, tier=back)"),
        ("stop", "(image=guest, name=site, tier=back)"),
        ("destroy", "(image=guest, name=site, tier=back)"),
    ]
    .into_iter()
    .enumerate()
    {
        let line = lines.get(number).map_or("", String::as_str);
        let (at, rest) = line.split_once(' ').unwrap_or_default();
        assert!(at.len() == "2026-11-30T12:00:00.000000000Z".len() && at.ends_with('Z'), "{line}");
        assert!(rest.starts_with(&format!("container {action} {id} (")), "{action}: {line}");
        assert!(rest.contains(attributes), "{attributes}: {line}");
    }
    assert_eq!(lines.len(), 10, "{lines:#?}");
    watch.signal(nix::sys::signal::Signal::SIGINT);
    watch.finish().code(130);
}

#[test]
fn what_happened_is_told_in_the_order_of_time_over_all_services() {
    let house = House::with_guest();
    let begin = now();
    house.ctl(&["network", "create", "--subnet", "10.213.7.0/24", "back"]).ok();
    house.ctl(&["volume", "create", "state"]).ok();
    house.ctl(&["tag", "guest", "app:1"]).ok();
    house.ctl(&["create", "--name", "box", "-v", "state:/data", "app:1", "/guest"]).ok();
    house.ctl(&["rm", "box"]).ok();
    house.ctl(&["rmi", "app:1"]).ok();
    house.ctl(&["volume", "rm", "state"]).ok();
    house.ctl(&["network", "rm", "back"]).ok();

    let told =
        past(&house, &begin, &["--filter", "type=container", "--filter", "type=image", "--filter", "type=network"]);
    assert_eq!(
        told,
        [
            "network create back",
            "image tag app:1",
            "container create box",
            "container destroy box",
            "image untag app:1",
            "network destroy back",
        ]
    );
    assert_eq!(past(&house, &begin, &["-f", "image=app"]).len(), 4);
    assert_eq!(past(&house, &begin, &["-f", "container=box", "-f", "event=destroy"]), ["container destroy box"]);
    let volumes = ["events", "--since", &begin, "--until", "0s", "--filter", "volume=state", "--format", "json"];
    let told = house.ctl(&volumes).ok();
    let told: Vec<serde_json::Value> = told.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let actions: Vec<_> = told.iter().map(|event| event["Action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["create", "destroy"]);
    assert_eq!(told[0]["Actor"], serde_json::json!({ "ID": "state", "Attributes": { "driver": "local" } }));
    assert_eq!(past(&house, &now(), &[]), [""; 0]);
    house
        .ctl(&["events", "--filter", "type=contaner"])
        .code(125)
        .complains(&["type=contaner", "did you mean container?"]);
    house.ctl(&["events", "--since", "soon"]).code(125).complains(&["--since \"soon\"", "10m"]);
}

#[test]
fn a_watch_goes_on_when_a_service_is_replaced() {
    let house = House::with_guest();
    let watch = house.ctl_running(&["system", "events", "--filter", "event=create", "--filter", "type=container"]);
    eventually("it watches", Duration::from_secs(20), || {
        house.ctl(&["run", "--rm", "guest", "/guest", "noop"]).ok();
        watch.stdout().contains("container create")
    });

    assert!(house.crash("runtime"));
    let id = house.ctl(&["create", "--name", "later", "guest", "/guest"]).ok();

    eventually("it is told", Duration::from_secs(20), || watch.stdout().contains(id.text()));
    watch.signal(nix::sys::signal::Signal::SIGINT);
    watch.finish().code(130);
    house.ctl(&["rm", "later"]).ok();
}
