//! `ctl doctor`: what it finds on a host that a test has arranged.

use std::{process::Command, time::Duration};

use serde_json::Value;
use strata_tests::{House, Running, eventually};

/// What is found, as (kind, sentence, what to do).
fn findings(house: &House, code: i32) -> Vec<(String, String, String)> {
    let output = house.ctl(&["doctor", "--format", "json"]).code(code);
    let line = |line: &str| {
        let found: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        ["Kind", "What", "Fix"].map(|key| found[key].as_str().unwrap().to_owned()).into()
    };
    output.stdout.lines().map(line).collect()
}

fn on_host(house: &House, program: &str, words: &[&str]) {
    let mut command: Command = house.host().on_host(program);
    command.args(words);
    Running::spawn(command).finish().ok();
}

#[test]
fn the_doctor_says_what_is_open_to_whom_and_how_to_close_it() {
    let house = House::with_network();
    assert_eq!(house.ctl(&["doctor"]).ok().text(), "nothing is open, and nothing is in the way");
    let run = |name: &str, flags: &[&str]| {
        house.ctl(&[&["run", "-d", "--name", name], flags, &["guest", "/guest", "sleep", "600"]].concat()).ok();
    };
    run("web", &["-p", "8080:80", "-p", "127.0.0.1:9000:90/udp"]);
    run("quiet", &[]);
    run("bare", &["--network", "host"]);
    house.ctl(&["network", "create", "-d", "macvlan", "-o", "parent=up0", "wire"]).ok();

    let found = findings(&house, 0);

    let told = |words: &[&str]| {
        let is_it = |what: &str| words.iter().all(|word| what.contains(word));
        found.iter().any(|(kind, what, _)| kind == "open" && is_it(what))
    };
    assert!(
        told(&["port 8080/tcp of 0.0.0.0", "port 80/tcp of container web", "whoever reaches an address"]),
        "{found:?}"
    );
    assert!(told(&["port 9000/udp of 127.0.0.1", "this host alone"]), "{found:?}");
    assert!(told(&["container bare has the host's network"]) && told(&["network wire", "interface up0"]), "{found:?}");
    assert!(!found.iter().any(|(_, what, _)| what.contains("quiet")), "{found:?}");
    let (_, _, fix) = found.iter().find(|(_, what, _)| what.contains("8080")).unwrap();
    assert!(fix.starts_with("ctl container unpublish web 80/tcp"), "{fix}");
    house.ctl(&["container", "unpublish", "web", "80/tcp"]).ok();
    assert!(!findings(&house, 0).iter().any(|(_, what, _)| what.contains("8080")));
}

#[test]
fn the_doctor_finds_what_is_in_the_way_and_its_words_help() {
    let house = House::with_network();
    house.ctl(&["run", "-d", "--name", "one", "guest", "/guest", "serve", "80"]).ok();
    let mut world = Running::spawn({
        let mut command = house.host().in_world(strata_tests::guest());
        command.args(["serve", "80"]);
        command
    });
    world.wait_for("ready");
    let ask = || house.ctl(&["exec", "one", "/guest", "ask", strata_tests::host::WORLD, "80"]);
    ask().ok();
    let chain = "{ type filter hook forward priority 0 ; policy drop ; ct state established accept ; }";
    on_host(&house, "nft", &[&format!("table inet mine {{ chain gate {chain}; }}")]);
    on_host(&house, "sysctl", &["-qw", "net.ipv4.ip_forward=0"]);
    ask().code(99);

    let found = findings(&house, 1);

    let [(kind, what, through), (grave, _, forward)] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!((kind.as_str(), grave.as_str()), ("notice", "problem"), "{found:?}");
    assert!(what.contains("chain gate of the table inet mine"), "{what}");
    on_host(&house, "sh", &["-ec", &format!("{through}; {forward}")]);
    eventually("it is let through", Duration::from_secs(10), || ask().code == 0);
    findings(&house, 0);
}

#[test]
fn the_doctor_looks_at_the_host_though_the_runtime_does_not_start() {
    let house = House::start();
    house.configure_runtime("nonsense = 1\n");

    let found = findings(&house, 1);

    let [(kind, what, fix)] = found.as_slice() else { panic!("{found:?}") };
    assert!(kind == "problem" && what.contains("the runtime does not answer") && what.contains("nonsense"), "{what}");
    assert!(fix.contains("service.log"), "{fix}");
}

#[test]
fn the_doctor_reads_the_certificates_of_contexts_and_looks_who_reads_their_keys() {
    let house = House::start();
    house.configure_runtime("[networks]\ndefault = \"none\"\n");
    let (directory, file) = (house.path("tls"), |name: &str| house.path("tls").join(name).display().to_string());
    house.ctl(&["tls", "init", directory.to_str().unwrap(), "--host", "localhost", "--days", "10"]).ok();
    let (authority, certificate, key) = (file("ca.pem"), file("client.pem"), file("client.key"));
    let words = ["--tls-ca", &authority, "--tls-cert", &certificate, "--tls-key", &key, "--host", "tcp://localhost"];
    house.ctl(&[&["context", "create", "far"], &words[..]].concat()).ok();
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();

    let found = findings(&house, 0);

    let told = |kind: &str, words: &[&str]| {
        found.iter().any(|(found, what, _)| found == kind && words.iter().all(|word| what.contains(word)))
    };
    assert!(told("open", &["others than its owner", &key]), "{found:?}");
    for name in [&authority, &certificate] {
        assert!(told("notice", &[name, "days more"]), "{found:?}");
    }
    assert_eq!(found.len(), 3, "{found:?}");
}
