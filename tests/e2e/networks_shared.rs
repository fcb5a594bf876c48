//! Containers that have the network of another one. Each test is a host of its own.

use std::time::Duration;

use strata_tests::{House, eventually};

const SOON: Duration = Duration::from_secs(10);

/// Starts a container that tells who asks it at a port what their address is.
#[track_caller]
fn server(house: &House, name: &str, port: &str, flags: &[&str]) {
    house.ctl(&[&["run", "-d", "--name", name], flags, &["guest", "/guest", "serve", port]].concat()).ok();
    eventually("it listens", SOON, || house.ctl(&["logs", name]).ok().stdout.contains("ready"));
}

#[track_caller]
fn address(house: &House, name: &str) -> String {
    house.ctl(&["inspect", "-f", "{{.NetworkSettings.Networks.net.IPAddress}}", name]).ok().text().to_owned()
}

#[test]
fn a_container_in_the_network_of_another_has_its_interfaces_names_and_files() {
    let house = House::with_network();
    house.ctl(&["network", "create", "net"]).ok();
    let own = ["--network", "net", "--hostname", "box", "--add-host", "db:10.0.0.9", "--dns", "9.9.9.9"];
    server(&house, "web", "80", &own);
    server(&house, "other", "80", &["--network", "net"]);

    server(&house, "side", "81", &["--network", "container:web"]);

    let (web, other) = (address(&house, "web"), address(&house, "other"));
    let exec = |words: &[&str]| house.ctl(&[&["exec", "side", "/guest"], words].concat()).ok();
    assert_eq!(exec(&["interfaces"]).text(), "eth0\nlo");
    assert_eq!(exec(&["ask", "127.0.0.1", "80"]).text(), "127.0.0.1", "they share the loopback device");
    assert_eq!(exec(&["ask", &other, "80"]).text(), web, "they have one address");
    assert_eq!(house.ctl(&["exec", "other", "/guest", "ask", &web, "81"]).ok().text(), other);
    assert_eq!(exec(&["hostname"]).text(), "box");
    for path in ["/etc/hosts", "/etc/resolv.conf", "/etc/hostname"] {
        let of_web = house.ctl(&["exec", "web", "/guest", "read", path]).ok().stdout;
        assert_eq!(exec(&["read", path]).stdout, of_web, "{path}");
    }
    let id = house.ctl(&["inspect", "-f", "{{.Id}}", "web"]).ok().text().to_owned();
    house.ctl(&["inspect", "-f", "{{.HostConfig.NetworkMode}}", "side"]).ok().says(&[&format!("container:{id}")]);
    // What the one is connected to, the other is too; and one that joins a joiner has the same network.
    house.ctl(&["network", "create", "back"]).ok();
    house.ctl(&["network", "connect", "back", "web"]).ok();
    let joined = house.guest_with(&["--network", "container:side"], &["interfaces"]).ok();
    assert_eq!(joined.text(), "eth0\neth1\nlo");
    house.ctl(&["network", "connect", "back", "side"]).code(1).complains(&["--network container:"]);
}

#[test]
fn what_is_the_other_containers_cannot_be_said_again() {
    let house = House::with_network();
    server(&house, "web", "80", &[]);
    let run = |flags: &[&str]| {
        let flags = [&["--network", "container:web"], flags].concat();
        house.guest_with(&flags, &["noop"]).code(125)
    };
    for flags in [
        ["--hostname", "x"],
        ["--domainname", "x"],
        ["--dns", "9.9.9.9"],
        ["--dns-search", "x"],
        ["--dns-option", "rotate"],
        ["--add-host", "db:10.0.0.9"],
        ["--add-host", "host:host-gateway"],
    ] {
        run(&flags).complains(&["conflicting options"]);
    }
    for flags in [&["-p", "80:80"][..], &["--expose", "80"], &["-P"]] {
        run(flags).complains(&["another one"]);
    }
    for flags in [["--mac-address", "02:00:00:00:00:01"], ["--network-alias", "x"], ["--network", "bridge"]] {
        run(&flags).complains(&["with --network container:web there is no"]);
    }
    house.guest_with(&["--network", "container:nobody"], &["noop"]).code(125).complains(&["no such container: nobody"]);
    house.ctl(&["stop", "-t", "0", "web"]).ok();
    run(&[]).complains(&["cannot join the network of container web, which is not running: start it first"]);
    assert_eq!(house.ctl(&["ps", "-aq"]).ok().stdout.lines().count(), 1, "nothing stays of what was refused");
}

#[test]
fn when_the_other_ends_the_network_is_gone_until_both_are_started_again() {
    let house = House::with_network();
    house.ctl(&["network", "create", "net"]).ok();
    server(&house, "web", "80", &["--network", "net"]);
    server(&house, "side", "81", &["--network", "container:web"]);
    let web = address(&house, "web");
    let interfaces = || house.ctl(&["exec", "side", "/guest", "interfaces"]).ok().text().to_owned();

    house.ctl(&["stop", "-t", "0", "web"]).ok();
    eventually("nothing but its loopback device is left", SOON, || interfaces() == "lo");
    // The address is another's now; who had it through the other must not answer for it.
    server(&house, "next", "80", &["--network", "net"]);
    assert_eq!(address(&house, "next"), web);
    house.ctl(&["start", "web"]).ok();
    assert_eq!(interfaces(), "lo", "it stays where it is");

    house.ctl(&["stop", "-t", "0", "side"]).ok();
    house.ctl(&["start", "side"]).ok();
    assert_eq!(interfaces(), "eth0\nlo");
    house.ctl(&["rm", "-f", "web"]).ok();
    house.ctl(&["stop", "-t", "0", "side"]).ok();
    house.ctl(&["start", "side"]).code(1).complains(&["no such container"]);
}

#[test]
fn a_crash_of_the_runtime_does_not_leave_addresses_to_who_shared_them() {
    let house = House::with_network();
    house.ctl(&["network", "create", "net"]).ok();
    server(&house, "web", "80", &["--network", "net"]);
    server(&house, "side", "81", &["--network", "container:web"]);
    let pid = house.ctl(&["inspect", "-f", "{{.State.Pid}}", "web"]).ok().text().to_owned();

    house.crash("runtime");
    std::process::Command::new("kill").args(["-9", &pid]).status().unwrap();
    house.ctl(&["ps"]).ok();

    eventually("the interface went from the network that is kept", SOON, || {
        house.ctl(&["exec", "side", "/guest", "interfaces"]).ok().text() == "lo"
    });
    assert_eq!(house.ctl(&["ps", "-q"]).ok().stdout.lines().count(), 1, "who shared it goes on");
}
