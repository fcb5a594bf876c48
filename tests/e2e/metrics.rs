//! Metrics: off by default, and what Prometheus reads of each service where a file says so.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use strata_tests::{Context, House, eventually};

const SOON: Duration = Duration::from_secs(30);

/// A house whose services each serve metrics on a free port of loopback.
fn house() -> House {
    let house = House::start();
    let etc = house.root().join("etc");
    fs::create_dir_all(&etc).unwrap();
    let layers = fs::read_to_string(etc.join("store.toml")).unwrap_or_default();
    fs::write(etc.join("store.toml"), format!("metrics = \"0\"\n{layers}")).unwrap();
    fs::write(etc.join("builder.toml"), "metrics = \"127.0.0.1:0\"\n").unwrap();
    house.configure_runtime("metrics = \"0\"\n[networks]\ndefault = \"none\"\n");
    house.import_guest();
    house
}

fn log(house: &House, service: &str) -> String {
    fs::read_to_string(house.root().join(service).join("service.log")).unwrap_or_default()
}

/// What a service answers to a scrape.
fn scrape(house: &House, service: &str) -> String {
    let log = log(house, service);
    let said = log.rsplit("serving metrics address=").next().and_then(|rest| rest.split_whitespace().next());
    let mut stream = TcpStream::connect(said.unwrap()).unwrap_or_else(|error| panic!("{error}: {log}"));
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 200 ") && text.contains("text/plain; version=0.0.4"), "{text}");
    text
}

/// The value of a figure, by its name and the labels before that of the service.
#[track_caller]
fn value(text: &str, service: &str, name: &str, labels: &str) -> u64 {
    let comma = if labels.is_empty() { "" } else { "," };
    let start = format!("strata_{name}{{{labels}{comma}service=\"{service}\"}} ");
    let line = text.lines().find_map(|line| line.strip_prefix(&start));
    line.unwrap_or_else(|| panic!("no {start}in\n{text}")).parse().unwrap()
}

#[test]
fn without_a_word_nobody_listens() {
    let house = House::with_guest();
    house.guest(&["noop"]).ok();

    for service in ["store", "runtime"] {
        assert!(!log(&house, service).contains("serving metrics"));
    }
}

#[test]
fn the_runtime_tells_of_containers_and_of_calls() {
    let house = house();
    house.guest(&["exit", "0"]).ok();
    house.guest(&["exit", "3"]).code(3);
    house.ctl(&["run", "-d", "--name", "hidden-name", "guest", "/guest", "sleep", "300"]).ok();
    house.ctl(&["run", "-d", "--name", "killed", "guest", "/guest", "sleep", "300"]).ok();
    house.ctl(&["kill", "killed"]).ok();
    house.ctl(&["wait", "killed"]).ok();
    house.ctl(&["run", "-d", "--name", "again", "--restart", "on-failure:2", "guest", "/guest", "exit", "1"]).ok();
    eventually("it was started three times", SOON, || {
        house.ctl(&["inspect", "-f", "{{.RestartCount}} {{.State.Status}}", "again"]).ok().text() == "2 exited"
    });
    house.ctl(&["inspect", "nobody"]).fails();

    let text = scrape(&house, "runtime");

    let of = |name: &str, labels: &str| value(&text, "runtime", name, labels);
    assert_eq!(of("containers", "state=\"running\""), 1, "{text}");
    assert_eq!(of("containers", "state=\"exited\""), 2, "{text}");
    assert_eq!((of("container_starts_total", ""), of("container_restarts_total", "")), (7, 2), "{text}");
    assert_eq!(of("container_deaths_total", "kind=\"success\""), 1, "{text}");
    assert_eq!(of("container_deaths_total", "kind=\"failure\""), 4, "{text}");
    assert_eq!(of("container_deaths_total", "kind=\"signal\""), 1, "{text}");
    assert_eq!(of("container_deaths_total", "kind=\"unknown\""), 0, "{text}");
    assert_eq!(of("container_ooms_total", ""), 0, "{text}");
    let method = "method=\"strata.runtime.v1.ContainerService/GetContainer\"";
    assert!(of("grpc_requests_total", &format!("code=\"NOT_FOUND\",{method}")) >= 1, "{text}");
    assert!(of("grpc_request_duration_seconds_count", method) >= 1, "{text}");
    assert!(text.contains("\nstrata_build_info{version=\"") && text.contains("\nstrata_uptime_seconds{"), "{text}");
    // What people choose is no label.
    assert!(!text.contains("hidden-name") && !text.contains("guest"), "{text}");
    house.ctl(&["pause", "hidden-name"]).ok();
    assert_eq!(value(&scrape(&house, "runtime"), "runtime", "containers", "state=\"paused\""), 1);
    house.ctl(&["unpause", "hidden-name"]).ok();
}

#[test]
fn store_and_builder_tell_what_they_hold_and_do() {
    let house = house();
    let context = Context::new("FROM guest\nRUN [\"/guest\", \"write\", \"/one\", \"x\"]\n");
    house.build(&context, "one").ok();
    house.build(&context, "one").ok();
    let fails = Context::new("FROM guest\nRUN [\"/guest\", \"exit\", \"7\"]\n");
    house.build(&fails, "two").fails();
    house.ctl(&["pull", "nobody/has-this"]).fails();

    let (store, builder) = (scrape(&house, "store"), scrape(&house, "builder"));

    assert!(value(&store, "store", "images", "") >= 2, "{store}");
    assert!(value(&store, "store", "layers", "") >= 2 && value(&store, "store", "blob_bytes", "") > 0, "{store}");
    assert!(value(&store, "store", "pulls_total", "result=\"failed\"") >= 1, "{store}");
    assert_eq!(value(&store, "store", "pushes_total", "result=\"ok\""), 0, "{store}");
    let of = |name: &str, labels: &str| value(&builder, "builder", name, labels);
    assert_eq!(of("builds_total", "result=\"ok\""), 2, "{builder}");
    assert_eq!(of("builds_total", "result=\"failed\""), 1, "{builder}");
    assert_eq!(of("build_steps_total", "outcome=\"failed\""), 1, "{builder}");
    assert!(of("build_steps_total", "outcome=\"executed\"") >= 1, "{builder}");
    assert!(of("build_steps_total", "outcome=\"cached\"") >= 1, "{builder}");
    assert!(!store.contains("has-this"), "{store}");
}

#[test]
fn an_address_that_is_none_or_taken_is_told_at_the_start() {
    let house = House::start();
    for (address, words) in
        [("everywhere", "invalid address"), (":9464", "invalid address"), ("192.0.2.1:0", "cannot serve")]
    {
        let mut command = house.command(strata_tests::binaries().join("strata-builder"));
        command.arg("--listen").arg(format!("unix:{}", house.path("x.sock").display()));
        command.arg("--root").arg(house.path("x")).args(["--metrics", address]);

        let refused = strata_tests::Running::spawn(command).finish_within(Duration::from_secs(20)).fails();

        assert!(refused.stderr.contains(words) && refused.stderr.contains(address), "{address}: {}", refused.stderr);
    }
}
