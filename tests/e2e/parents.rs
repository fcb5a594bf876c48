//! Networks on an interface of the host: macvlan and ipvlan. The world of each test is on the other end of that interface.

use std::{process::Command, time::Duration};

use strata_tests::{
    House, Output, Running, eventually,
    host::{WORLD, ip},
};

const SOON: Duration = Duration::from_secs(10);

/// Subnet of the world's end, with the world as the gateway: containers are its neighbours.
pub const ON_THE_WIRE: [&str; 6] = ["--subnet", "203.0.113.0/24", "--ip-range", "203.0.113.64/26", "--gateway", WORLD];

/// Starts a container that tells who asks it what their address is.
#[track_caller]
pub fn server(house: &House, name: &str, flags: &[&str]) -> Output {
    let words = [&["run", "-d", "--name", name], flags, &["guest", "/guest", "serve", "80"]].concat();
    let started = house.ctl(&words).ok();
    eventually("it listens", SOON, || house.ctl(&["logs", name]).ok().stdout.contains("ready"));
    started
}

#[track_caller]
pub fn create(house: &House, flags: &[&str], name: &str) {
    house.ctl(&[&["network", "create"], flags, &[name]].concat()).ok();
}

pub fn address(house: &House, name: &str, network: &str) -> String {
    let template = format!("{{{{.NetworkSettings.Networks.{network}.IPAddress}}}}");
    house.ctl(&["inspect", "-f", &template, name]).ok().text().to_owned()
}

pub fn ask(house: &House, from: &str, address: &str) -> Output {
    house.ctl(&["exec", from, "/guest", "ask", address, "80"])
}

pub fn in_world(house: &House, words: &[&str]) -> Output {
    let mut command: Command = house.host().in_world(strata_tests::guest());
    command.args(words);
    Running::spawn(command).finish()
}

#[test]
fn containers_on_macvlan_are_neighbours_of_the_world_and_know_each_other() {
    let house = House::with_network();
    create(&house, &[&["-d", "macvlan", "-o", "parent=up0"][..], &ON_THE_WIRE].concat(), "wire");
    let started = server(&house, "one", &["--network", "wire", "-p", "8080:80"]);
    started.complains(&["ports are not published: the container has addresses of its own"]);
    server(&house, "two", &["--network", "wire", "--mac-address", "02:00:00:00:00:77", "--network-alias", "second"]);

    let (one, two) = (address(&house, "one", "wire"), address(&house, "two", "wire"));
    assert_eq!((one.as_str(), two.as_str()), ("203.0.113.64", "203.0.113.65"));
    assert_eq!(ask(&house, "one", &two).ok().text(), one);
    assert_eq!(in_world(&house, &["ask", &one, "80"]).ok().text(), WORLD, "nobody is between them");
    let mac = house.ctl(&["exec", "two", "/guest", "read", "/sys/class/net/eth0/address"]).ok();
    assert_eq!(mac.text(), "02:00:00:00:00:77");
    for name in ["two", "second", "two.wire"] {
        let found = house.ctl(&["exec", "one", "/guest", "look-up", name, "A"]).ok();
        assert_eq!(found.text(), format!("NOERROR\n{two}"), "{name}");
    }
    assert_eq!(house.ctl(&["port", "one"]).ok().text(), "");
    let shown = house.ctl(&["network", "inspect", "wire"]).ok().json();
    assert_eq!(shown[0]["Driver"], "macvlan");
    assert_eq!(
        (&shown[0]["Options"]["parent"], &shown[0]["Options"]["macvlan_mode"]),
        (&"up0".into(), &"bridge".into())
    );
    // No rules are made for it, and nothing of it is on the host.
    let mut tables = house.host().on_host("nft");
    tables.args(["list", "tables"]);
    assert_eq!(Running::spawn(tables).finish().ok().stdout, "");
    assert_eq!(house.host().interfaces(), Vec::<String>::new());
}

#[test]
fn a_running_container_is_connected_to_macvlan_and_disconnected() {
    let house = House::with_network();
    create(&house, &[&["-d", "macvlan", "-o", "parent=up0"][..], &ON_THE_WIRE].concat(), "wire");
    server(&house, "one", &["-p", "8080:80"]);
    let interfaces = || house.ctl(&["exec", "one", "/guest", "interfaces"]).ok().text().to_owned();

    for _ in 0..3 {
        house.ctl(&["network", "connect", "--ip", "203.0.113.100", "wire", "one"]).ok();
        assert_eq!(interfaces(), "eth0\neth1\nlo");
        in_world(&house, &["ask", "203.0.113.100", "80"]).ok();
        house.ctl(&["network", "disconnect", "wire", "one"]).ok();
        assert_eq!(interfaces(), "eth0\nlo");
    }
    // Its ports lead where they led.
    assert_eq!(in_world(&house, &["ask", "203.0.113.1", "8080"]).ok().text(), WORLD);
    house.ctl(&["network", "connect", "wire", "one"]).ok();
    house.crash("runtime");
    assert_eq!(interfaces(), "eth0\neth1\nlo");
    house.ctl(&["network", "disconnect", "wire", "one"]).ok();
    assert_eq!(interfaces(), "eth0\nlo");
    house.ctl(&["network", "rm", "wire"]).ok();
}

#[test]
fn a_macvlan_network_without_a_parent_leads_nowhere() {
    let house = House::with_network();
    create(&house, &["-d", "macvlan"], "inner");
    assert_eq!(house.ctl(&["network", "inspect", "-f", "{{.Internal}}", "inner"]).ok().text(), "true");
    server(&house, "one", &["--network", "inner"]);
    server(&house, "two", &["--network", "inner"]);

    ask(&house, "one", &address(&house, "two", "inner")).ok();
    ask(&house, "one", WORLD).code(99);
    house.crash("runtime");
    house.ctl(&["rm", "-f", "one", "two"]).ok();
    house.ctl(&["network", "rm", "inner"]).ok();
    assert_eq!(house.host().interfaces(), Vec::<String>::new(), "the interface goes with its network");
}

#[test]
fn modes_of_macvlan_say_who_reaches_whom() {
    let house = House::with_network();
    let words = [&["-d", "macvlan", "-o", "parent=up0", "-o", "macvlan_mode=private"][..], &ON_THE_WIRE].concat();
    create(&house, &words, "apart");
    server(&house, "one", &["--network", "apart"]);
    server(&house, "two", &["--network", "apart"]);
    ask(&house, "one", &address(&house, "two", "apart")).code(99);
    in_world(&house, &["ask", &address(&house, "two", "apart"), "80"]).ok();
    let whole = ["network", "create", "-d", "macvlan", "-o", "parent=up0", "-o", "macvlan_mode=passthru", "whole"];
    house.ctl(&whole).code(1).complains(&["network apart uses interface up0 already, and passthru takes it whole"]);
    house.ctl(&["rm", "-f", "one", "two"]).ok();
    house.ctl(&["network", "rm", "apart"]).ok();

    house.ctl(&[&whole[..8], &ON_THE_WIRE, &["whole"]].concat()).ok();
    server(&house, "one", &["--network", "whole"]);
    in_world(&house, &["ask", &address(&house, "one", "whole"), "80"]).ok();
    let next = house.guest_with(&["--network", "whole"], &["noop"]).code(125);
    next.complains(&["network whole has active endpoints"]);
}

#[test]
fn a_parent_that_cannot_be_had_is_named_and_nothing_is_made() {
    let house = House::with_network();
    let create = |words: &str| {
        let words: Vec<&str> = words.split(' ').collect();
        house.ctl(&[&["network", "create"], &words[..], &["net"]].concat())
    };
    create("-d macvlan -o parent=nowhere").code(1).complains(&["this host has no interface nowhere"]);
    create("-d macvlan -o parent=nowhere.5").code(1).complains(&["this host has no interface nowhere"]);
    create("-d macvlan -o parent=up0.5000").code(1).complains(&["the number of a VLAN is 1 to 4094"]);
    create("-d macvlan -o parent=lo").code(1).complains(&["no macvlan can be made on interface lo"]);
    create("-d overlay").code(125).complains(&["there is no driver"]);
    let own = house.ctl(&["network", "create", "busy"]).ok().text().to_owned();
    assert!(!own.is_empty());
    let host = house.host().path();
    let host = host.rsplit('/').next().unwrap();
    let bridge = house.host().interfaces().remove(0);
    ip(&format!("-n {host} link set up0 master {bridge}"));
    create("-d macvlan -o parent=up0").code(1).complains(&["no macvlan can be made on interface up0: it is a port"]);
    ip(&format!("-n {host} link set up0 nomaster"));

    assert_eq!(house.host().interfaces(), [bridge]);
    let names = house.ctl(&["network", "ls", "--filter", "type=custom", "--format", "{{.Name}}"]).ok();
    assert_eq!(names.text(), "busy");
}

/// Where the kernel has the module, it works; where it has not, the error names it. Nothing is left either way.
#[test]
fn a_kernel_without_ipvlan_or_vlans_is_told_by_its_module() {
    let house = House::with_network();
    let host = house.host().path();
    let host = host.rsplit('/').next().unwrap().to_owned();
    let can = |words: &str| {
        let words = format!("-n {host} link add link up0 name probe type {words}");
        let made = Command::new("ip").args(words.split(' ')).output().unwrap().status.success();
        if made {
            ip(&format!("-n {host} link del probe"));
        }
        made
    };
    for (words, parent, kind, module) in
        [("ipvlan mode l2", "up0", "ipvlan", "ipvlan"), ("vlan id 50", "up0.50", "macvlan", "8021q")]
    {
        let parent = format!("parent={parent}");
        let create = ["network", "create", "-d", kind, "-o", &parent];
        let made = house.ctl(&[&create[..], &ON_THE_WIRE, &["net"]].concat());
        if can(words) {
            made.ok();
            server(&house, "one", &["--network", "net"]);
            if kind == "ipvlan" {
                in_world(&house, &["ask", &address(&house, "one", "net"), "80"]).ok();
            }
            house.ctl(&["rm", "-f", "one"]).ok();
            house.ctl(&["network", "rm", "net"]).ok();
        } else {
            made.code(1).complains(&[&format!("its module {module} is not there (modprobe {module})")]);
        }
        assert_eq!(house.host().interfaces(), Vec::<String>::new(), "{kind}");
        assert_eq!(house.ctl(&["network", "ls", "-q", "--filter", "type=custom"]).ok().stdout, "");
    }
}
