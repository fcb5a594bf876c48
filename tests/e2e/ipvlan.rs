//! Containers on ipvlan and on VLANs, for which the kernel needs modules that the machine of the tests may lack: a guest has
//! them (`make test-v2`, `tests/vm`). What is said where they are not there is in `parents`.

use strata_tests::{
    House,
    host::{WORLD, ip},
};

use crate::parents::{ON_THE_WIRE, address, ask, create, in_world, server};

/// The name of a namespace of the test's for ip(8).
fn name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn mac(house: &House, container: &str) -> String {
    house.ctl(&["exec", container, "/guest", "read", "/sys/class/net/eth0/address"]).ok().text().to_owned()
}

#[test]
#[ignore = "needs the module ipvlan: make test-v2"]
fn containers_on_ipvlan_share_the_hardware_address_of_their_interface() {
    let house = House::with_network();
    create(&house, &[&["-d", "ipvlan", "-o", "parent=up0"][..], &ON_THE_WIRE].concat(), "wire");
    server(&house, "one", &["--network", "wire"]);
    server(&house, "two", &["--network", "wire", "--network-alias", "second"]);

    let (one, two) = (address(&house, "one", "wire"), address(&house, "two", "wire"));
    assert_eq!(ask(&house, "one", &two).ok().text(), one);
    assert_eq!(in_world(&house, &["ask", &one, "80"]).ok().text(), WORLD, "nobody is between them");
    let of_host = house.host().mac();
    assert_eq!([mac(&house, "one"), mac(&house, "two")], [of_host.clone(), of_host]);
    let found = house.ctl(&["exec", "one", "/guest", "look-up", "second", "A"]).ok();
    assert_eq!(found.text(), format!("NOERROR\n{two}"));
    let shown = house.ctl(&["network", "inspect", "wire"]).ok().json();
    assert_eq!((&shown[0]["Driver"], &shown[0]["Options"]["ipvlan_mode"]), (&"ipvlan".into(), &"l2".into()));

    house.ctl(&["network", "disconnect", "wire", "two"]).ok();
    ask(&house, "one", &two).code(99);
    house.ctl(&["network", "connect", "--ip", "203.0.113.100", "wire", "two"]).ok();
    assert_eq!(ask(&house, "one", "203.0.113.100").ok().text(), one);
    house.ctl(&["restart", "-t", "0", "one"]).ok();
    assert_eq!(in_world(&house, &["ask", "203.0.113.100", "80"]).ok().text(), WORLD);
    assert_eq!(house.host().interfaces(), Vec::<String>::new());
}

#[test]
#[ignore = "needs the module ipvlan: make test-v2"]
fn on_ipvlan_of_the_third_layer_subnets_are_reached_by_way_of_the_host() {
    for mode in ["l3", "l3s"] {
        let house = House::with_network();
        let mode = format!("ipvlan_mode={mode}");
        for (name, subnet) in [("left", "10.50.0.0/24"), ("right", "10.60.0.0/24")] {
            create(&house, &["-d", "ipvlan", "-o", "parent=up0", "-o", &mode, "--subnet", subnet], name);
            server(&house, name, &["--network", name]);
        }

        let (left, right) = (address(&house, "left", "left"), address(&house, "right", "right"));
        assert_eq!(ask(&house, "left", &right).ok().text(), left, "{mode}");
        // The world has a route to everything by way of the host.
        assert_eq!(in_world(&house, &["ask", &left, "80"]).ok().text(), WORLD, "{mode}");
        assert_eq!(in_world(&house, &["ask", &right, "80"]).ok().text(), WORLD, "{mode}");
    }
}

#[test]
#[ignore = "needs the module ipvlan: make test-v2"]
fn flags_of_ipvlan_say_who_reaches_whom() {
    let house = House::with_network();
    let words = [&["-d", "ipvlan", "-o", "parent=up0", "-o", "ipvlan_flag=private"][..], &ON_THE_WIRE].concat();
    create(&house, &words, "apart");
    server(&house, "one", &["--network", "apart"]);
    server(&house, "two", &["--network", "apart"]);

    let two = address(&house, "two", "apart");
    ask(&house, "one", &two).code(99);
    assert_eq!(in_world(&house, &["ask", &two, "80"]).ok().text(), WORLD);
    house.ctl(&["rm", "-f", "one", "two"]).ok();
    house.ctl(&["network", "rm", "apart"]).ok();

    create(&house, &["-d", "ipvlan"], "inner");
    server(&house, "one", &["--network", "inner"]);
    server(&house, "two", &["--network", "inner"]);
    ask(&house, "one", &address(&house, "two", "inner")).ok();
    ask(&house, "one", WORLD).code(99);
    house.ctl(&["rm", "-f", "one", "two"]).ok();
    house.ctl(&["network", "rm", "inner"]).ok();
    assert_eq!(house.host().interfaces(), Vec::<String>::new());
}

#[test]
#[ignore = "needs the module 8021q: make test-v2"]
fn a_vlan_is_made_for_its_networks_and_goes_with_the_last_of_them() {
    const ON_THE_VLAN: [&str; 4] = ["--subnet", "198.51.100.0/24", "--gateway", "198.51.100.9"];
    let house = House::with_network();
    let world = house.host().world_path();
    let world = name(&world);
    ip(&format!("-n {world} link add link net0 name net0.50 type vlan id 50"));
    ip(&format!("-n {world} addr add 198.51.100.9/24 dev net0.50"));
    ip(&format!("-n {world} link set net0.50 up"));
    let on_vlan = ["-d", "macvlan", "-o", "parent=up0.50"];
    create(&house, &[&on_vlan[..], &ON_THE_VLAN].concat(), "tagged");
    server(&house, "one", &["--network", "tagged"]);
    server(&house, "two", &["--network", "tagged"]);

    let (one, two) = (address(&house, "one", "tagged"), address(&house, "two", "tagged"));
    assert_eq!(ask(&house, "one", &two).ok().text(), one);
    assert_eq!(in_world(&house, &["ask", &one, "80"]).ok().text(), "198.51.100.9", "with the number of the VLAN");
    let host = house.host().path();
    let shown = ip(&format!("-n {} -d link show up0.50", name(&host)));
    assert!(shown.contains("vlan protocol 802.1Q id 50"), "{shown}");

    create(&house, &[&on_vlan[..], &["--subnet", "192.0.2.0/24"]].concat(), "beside");
    house.crash("runtime");
    house.ctl(&["rm", "-f", "one", "two"]).ok();
    house.ctl(&["network", "rm", "tagged"]).ok();
    assert_eq!(house.host().interfaces(), ["up0.50"], "another network has it");
    house.ctl(&["network", "rm", "beside"]).ok();
    assert_eq!(house.host().interfaces(), Vec::<String>::new());
}
