//! Networks: who reaches whom, with which address, and what is left of it. Each test is a host of its own.

use std::{process::Command, time::Duration};

use strata_tests::{
    House, Output, Running, eventually,
    host::{HOST, HOST6, WORLD, WORLD6},
};

const SOON: Duration = Duration::from_secs(10);

/// Starts a container that tells who asks it what their address is.
#[track_caller]
fn server(house: &House, name: &str, flags: &[&str]) -> String {
    let words = [&["run", "-d", "--name", name], flags, &["guest", "/guest", "serve", "80"]].concat();
    let id = house.ctl(&words).ok().text().to_owned();
    eventually("it listens", SOON, || house.ctl(&["logs", name]).ok().stdout.contains("ready"));
    id
}

/// What a template says of a container.
#[track_caller]
fn seen(house: &House, name: &str, template: &str) -> String {
    house.ctl(&["inspect", "-f", template, name]).ok().text().to_owned()
}

/// An address of a container in a network.
#[track_caller]
fn address(house: &House, name: &str, network: &str) -> String {
    seen(house, name, &format!("{{{{.NetworkSettings.Networks.{network}.IPAddress}}}}"))
}

/// Asks from within a container.
fn ask(house: &House, from: &str, address: &str) -> Output {
    house.ctl(&["exec", from, "/guest", "ask", address, "80"])
}

/// Runs a program of the test's to its end.
fn finish(mut command: Command, words: &[&str]) -> Output {
    command.args(words);
    Running::spawn(command).finish()
}

fn guest_binary() -> String {
    strata_tests::guest().to_string_lossy().into_owned()
}

#[test]
fn containers_on_the_default_bridge_reach_each_other_and_the_world() {
    let house = House::with_network();
    let mut world = Running::spawn({
        let mut command = house.host().in_world(guest_binary());
        command.args(["serve", "80"]);
        command
    });
    world.wait_for("ready");
    assert_eq!(house.guest(&["interfaces"]).ok().text(), "eth0\nlo");

    let id = server(&house, "one", &[]);
    server(&house, "two", &[]);

    let (one, two) = (address(&house, "one", "bridge"), address(&house, "two", "bridge"));
    assert!(one.starts_with("172.17.0.") && one != two, "{one} {two}");
    assert_eq!(ask(&house, "one", &two).ok().text(), one);
    assert_eq!(ask(&house, "one", "172.17.0.1").fails().code, 99, "nobody listens on the host");
    assert_eq!(ask(&house, "one", WORLD).ok().text(), HOST, "what goes out has the host's address");
    // Nobody comes in who was not let in.
    finish(house.host().in_world(guest_binary()), &["ask", &one, "80"]).code(99);
    let hosts = house.ctl(&["exec", "one", "/guest", "read", "/etc/hosts"]).ok();
    hosts.says(&[&format!("{one}\t{}", &id[..12])]);
    assert_eq!(house.guest_with(&["--network", "none"], &["interfaces"]).ok().text(), "lo");
    house.guest_with(&["--network", "host"], &["ask", WORLD, "80"]).ok().says(&[HOST]);
    house.ctl(&["rm", "-f", "one", "two"]).ok();
    eventually("nothing is left but the bridge", SOON, || house.host().interfaces().len() == 1);
}

#[test]
fn networks_of_users_are_apart_and_a_container_may_have_several() {
    let house = House::with_network();
    for name in ["front", "back"] {
        house.ctl(&["network", "create", "--ipv6", name]).ok();
    }
    house.ctl(&["network", "create", "--internal", "vault"]).ok();
    server(&house, "web", &["--network", "front"]);
    server(&house, "db", &["--network", "back"]);
    server(&house, "safe", &["--network", "vault"]);
    server(&house, "app", &["--network", "front", "--network", "back", "--network", "vault"]);

    let (web, db, safe) =
        (address(&house, "web", "front"), address(&house, "db", "back"), address(&house, "safe", "vault"));
    for there in [&web, &db, &safe] {
        ask(&house, "app", there).ok();
    }
    for (from, there) in [("web", &db), ("db", &web), ("web", &safe), ("safe", &web)] {
        ask(&house, from, there).code(99);
    }
    let six = seen(&house, "web", "{{.NetworkSettings.GlobalIPv6Address}}");
    assert!(six.starts_with("fd"), "{six}");
    ask(&house, "app", &six).ok();
    ask(&house, "db", &six).code(99);
    house.ctl(&["network", "inspect", "front"]).ok().says(&["\"Name\": \"app\"", "\"Name\": \"web\""]);
    assert_eq!(house.ctl(&["exec", "app", "/guest", "interfaces"]).ok().text(), "eth0\neth1\neth2\nlo");
}

#[test]
fn ipv6_alone_is_enough() {
    let house = House::with_network();
    let mut world = Running::spawn({
        let mut command = house.host().in_world(guest_binary());
        command.args(["serve", "80"]);
        command
    });
    world.wait_for("ready");
    house.ctl(&["network", "create", "--ipv6", "--ipv4=false", "--subnet", "fd00:77::/64", "six"]).ok();
    server(&house, "one", &["--network", "six", "--ip6", "fd00:77::5"]);
    server(&house, "two", &["--network", "six"]);

    assert_eq!(ask(&house, "two", "fd00:77::5").ok().text(), "fd00:77::2");
    assert_eq!(ask(&house, "two", WORLD6).ok().text(), HOST6);
    assert_eq!(address(&house, "one", "six"), "");
    finish(house.host().in_world(guest_binary()), &["ask", "fd00:77::5", "80"]).code(99);
}

#[test]
fn addresses_and_names_are_as_asked() {
    let house = House::with_network();
    house.ctl(&["network", "create", "--subnet", "10.77.0.0/29", "--aux-address", "other=10.77.0.2", "net"]).ok();
    let flags = [
        "--network",
        "net",
        "--ip",
        "10.77.0.5",
        "--mac-address",
        "02:00:00:00:00:55",
        "--link-local-ip",
        "169.254.7.7",
        "--hostname",
        "box",
        "--domainname",
        "example.org",
        "--add-host",
        "db:10.0.0.9",
        "--add-host",
        "outside:host-gateway",
        "--dns",
        "9.9.9.9",
        "--dns-search",
        "here.example",
        "--dns-option",
        "ndots:2",
    ];
    server(&house, "one", &flags);

    let read = |path: &str| house.ctl(&["exec", "one", "/guest", "read", path]).ok();
    read("/etc/hosts").says(&["10.77.0.5\tbox.example.org box\n", "10.0.0.9\tdb\n", "10.77.0.1\toutside\n"]);
    assert_eq!(read("/etc/resolv.conf").stdout, "nameserver 127.0.0.11\nsearch here.example\noptions ndots:2\n");
    house.ctl(&["inspect", "-f", "{{json .HostConfig.Dns}}", "one"]).ok().says(&["9.9.9.9"]);
    assert_eq!(read("/sys/class/net/eth0/address").text(), "02:00:00:00:00:55");
    assert_eq!(read("/proc/sys/kernel/domainname").text(), "example.org");
    server(&house, "two", &["--network", "net", "--link-local-ip", "169.254.7.8"]);
    assert_eq!(address(&house, "two", "net"), "10.77.0.3", "the one of others is left out");
    assert_eq!(ask(&house, "two", "169.254.7.7").ok().text(), "169.254.7.8");

    let run = |flags: &[&str]| house.guest_with(flags, &["noop"]).code(125);
    run(&["--network", "net", "--ip", "10.77.0.5"]).complains(&["10.77.0.5 is already in use by container"]);
    run(&["--network", "net", "--ip", "10.77.0.1"]).complains(&["10.77.0.1 is already in use by the gateway"]);
    run(&["--network", "net", "--ip", "10.78.0.1"]).complains(&["10.78.0.1 is in no subnet of network net"]);
    run(&["--network", "net", "--ip6", "fd00::1"]).complains(&["fd00::1 is in no subnet"]);
    run(&["--network", "nowhere"]).complains(&["network nowhere not found"]);
    server(&house, "three", &["--network", "net"]);
    server(&house, "four", &["--network", "net"]);
    run(&["--network", "net"]).complains(&["no available address in 10.77.0.0/29 of network net"]);
    assert_eq!(house.ctl(&["ps", "-aq"]).ok().stdout.lines().count(), 4, "nothing stays of what was refused");
}

#[test]
fn networks_are_listed_shown_and_removed() {
    let house = House::with_network();
    let list = |flags: &[&str]| house.ctl(&[&["network", "ls"], flags].concat()).ok();
    list(&[]).says(&["NETWORK ID   NAME     DRIVER   SCOPE", "bridge", "host", "none     null"]);
    let id = house.ctl(&["network", "create", "--label", "a=b", "--subnet", "10.78.0.0/16", "net"]).ok();
    let id = id.text();

    assert_eq!(list(&["-q", "--no-trunc", "--filter", "label=a"]).text(), id);
    assert_eq!(list(&["--filter", "type=custom", "--format", "{{.Name}} {{.Driver}}"]).text(), "net bridge");
    let shown = house.ctl(&["network", "inspect", &id[..7]]).ok().json();
    assert_eq!(shown[0]["IPAM"]["Config"][0]["Gateway"], "10.78.0.1");
    assert_eq!(shown[0]["Labels"]["a"], "b");
    house.ctl(&["network", "create", "net"]).code(1).complains(&["network with name net already exists"]);
    let overlapping = house.ctl(&["network", "create", "--subnet", "10.78.5.0/24", "other"]).code(1);
    overlapping.complains(&["10.78.5.0/24 overlaps 10.78.0.0/16 of network net"]);
    for name in ["host", "none", "bridge"] {
        house.ctl(&["network", "create", name]).code(1).complains(&["pre-defined"]);
    }
    house.ctl(&["network", "rm", "nowhere"]).code(1).complains(&["network nowhere not found"]);
    house.ctl(&["network", "rm", "-f", "nowhere"]).ok();
    server(&house, "one", &["--network", "net"]);
    house.ctl(&["network", "rm", "net"]).code(1).complains(&["network net has active endpoints"]);
    assert_eq!(house.ctl(&["network", "prune", "-f"]).ok().stdout, "");
    house.ctl(&["rm", "-f", "one"]).ok();
    house.ctl(&["network", "create", "more"]).ok();
    house.ctl(&["network", "prune", "-f"]).ok().says(&["Deleted Networks:", "net\n", "more\n"]);
    assert!(house.host().interfaces().is_empty(), "{:?}", house.host().interfaces());
}

#[test]
fn running_containers_are_connected_and_disconnected() {
    let house = House::with_network();
    house.ctl(&["network", "create", "front"]).ok();
    house.ctl(&["network", "create", "back"]).ok();
    server(&house, "web", &["--network", "front"]);
    server(&house, "db", &["--network", "back"]);
    let db = address(&house, "db", "back");
    ask(&house, "web", &db).code(99);

    house.ctl(&["network", "connect", "--alias", "w", "back", "web"]).ok();
    ask(&house, "web", &db).ok();
    house.ctl(&["exec", "web", "/guest", "read", "/etc/hosts"]).ok().says(&[&address(&house, "web", "back")]);
    house.ctl(&["network", "connect", "back", "web"]).code(1).complains(&["already connected to network back"]);
    house.ctl(&["network", "disconnect", "front", "web"]).ok();
    assert_eq!(house.ctl(&["exec", "web", "/guest", "interfaces"]).ok().text(), "eth1\nlo");
    ask(&house, "web", &db).ok();
    house.ctl(&["network", "disconnect", "front", "web"]).code(1).complains(&["is not connected to network front"]);
    house.ctl(&["network", "disconnect", "-f", "front", "web"]).ok();

    // What was changed is what the next start has.
    house.ctl(&["stop", "-t", "0", "web"]).ok();
    house.ctl(&["network", "connect", "front", "web"]).ok();
    house.ctl(&["start", "web"]).ok();
    assert_eq!(house.ctl(&["exec", "web", "/guest", "interfaces"]).ok().text(), "eth0\neth1\nlo");
    ask(&house, "web", &db).ok();
    server(&house, "alone", &["--network", "none"]);
    house.ctl(&["network", "connect", "front", "alone"]).code(1).complains(&["--network none"]);

    let before = house.host().interfaces().len();
    for _ in 0..100 {
        house.ctl(&["network", "connect", "front", "db"]).ok();
        house.ctl(&["network", "disconnect", "front", "db"]).ok();
    }
    eventually("as many interfaces as before", SOON, || house.host().interfaces().len() == before);
    house.ctl(&["network", "connect", "front", "db"]).ok();
    assert_eq!(address(&house, "db", "front"), "172.17.0.3", "addresses come back");
}

#[test]
fn after_a_crash_of_the_runtime_the_host_is_what_the_records_say() {
    let house = House::with_network();
    house.ctl(&["network", "create", "net"]).ok();
    server(&house, "stays", &["--network", "net"]);
    server(&house, "goes", &["--network", "net"]);
    let (stays, goes) = (address(&house, "stays", "net"), address(&house, "goes", "net"));
    let pid = seen(&house, "goes", "{{.State.Pid}}");
    let interfaces = house.host().interfaces().len();

    house.crash("runtime");
    assert_eq!(house.host().interfaces().len(), interfaces, "containers do not notice");
    Command::new("kill").args(["-9", &pid]).status().unwrap();
    house.ctl(&["ps"]).ok();

    assert_eq!(address(&house, "stays", "net"), stays);
    eventually("the other's interface is gone", SOON, || house.host().interfaces().len() == interfaces - 1);
    server(&house, "next", &["--network", "net"]);
    assert_eq!(address(&house, "next", "net"), goes, "its address is free again");
    assert_eq!(ask(&house, "next", &stays).ok().text(), goes);

    // In the middle of starts: what was begun is whole or gone.
    for round in 0..5 {
        let starts: Vec<Running> = (0..4)
            .map(|number| {
                let name = format!("r{round}-{number}");
                house.ctl_running(&[
                    "run",
                    "-d",
                    "--name",
                    &name,
                    "--network",
                    "net",
                    "guest",
                    "/guest",
                    "sleep",
                    "300",
                ])
            })
            .collect();
        std::thread::sleep(Duration::from_millis(20 + 30 * round));
        house.crash("runtime");
        starts.into_iter().for_each(|start| drop(start.finish()));
    }
    let running = house.ctl(&["ps", "-q"]).ok().stdout.lines().count();
    eventually("a bridge, and an interface for each that runs", SOON, || {
        house.host().interfaces().len() == 1 + running
    });
    let all = house.ctl(&["ps", "-aq"]).ok();
    let ids: Vec<&str> = all.stdout.lines().collect();
    house.ctl(&[&["rm", "-f"], ids.as_slice()].concat()).ok();
    house.ctl(&["network", "rm", "net"]).ok();
    eventually("nothing is left", SOON, || house.host().interfaces().is_empty());
}

#[test]
fn a_default_of_none_is_kept_to() {
    let house = House::with_network();
    house.configure_runtime("[networks]\ndefault = \"none\"\n");
    assert!(house.stop().is_empty());

    assert_eq!(house.guest(&["interfaces"]).ok().text(), "lo");
    assert_eq!(house.guest_with(&["--network", "bridge"], &["interfaces"]).ok().text(), "eth0\nlo");
}
