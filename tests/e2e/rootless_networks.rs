//! Networks of an ordinary user: containers among each other, and with the world through pasta or slirp4netns. Each test is
//! a host of its own, on which nothing was set up for the user.

use std::{process::Command, time::Duration};

use strata_tests::{Output, eventually};

use crate::tenant::{Ids, Tenant};

const SOON: Duration = Duration::from_secs(20);

/// Starts a container that tells who asks it what their address is.
#[track_caller]
fn server(tenant: &Tenant, name: &str, flags: &[&str]) {
    let words = [&["run", "-d", "--name", name], flags, &["guest", "/guest", "serve", "80"]].concat();
    tenant.ctl(&words).ok();
    eventually("it listens", SOON, || tenant.ctl(&["logs", name]).ok().stdout.contains("ready"));
}

#[track_caller]
fn ask(tenant: &Tenant, from: &str, address: &str) -> Output {
    tenant.ctl(&["exec", from, "/guest", "ask", address, "80"])
}

#[track_caller]
fn seen(tenant: &Tenant, name: &str, template: &str) -> String {
    tenant.ctl(&["inspect", "-f", template, name]).ok().text().to_owned()
}

#[track_caller]
fn address(tenant: &Tenant, name: &str, network: &str) -> String {
    seen(tenant, name, &format!("{{{{.NetworkSettings.Networks.{network}.IPAddress}}}}"))
}

#[track_caller]
fn look_up(tenant: &Tenant, from: &str, name: &str) -> String {
    let heard = tenant.ctl(&["exec", from, "/guest", "look-up", name, "A"]).ok();
    heard.stdout.lines().skip_while(|line| *line == "NOERROR").collect()
}

#[test]
fn containers_of_a_user_find_each_other_by_name_and_no_others() {
    for ids in [Ids::Single, Ids::Subordinate] {
        let tenant = Tenant::with_network(ids);
        tenant.ctl(&["network", "create", "front"]).ok();
        tenant.ctl(&["network", "create", "--internal", "back"]).ok();
        server(&tenant, "web", &["--network", "front"]);
        server(&tenant, "db", &["--network", "back", "--network-alias", "data"]);
        server(&tenant, "app", &["--network", "front", "--network", "back"]);

        assert_eq!(look_up(&tenant, "app", "web"), address(&tenant, "web", "front"));
        assert_eq!(look_up(&tenant, "app", "data"), address(&tenant, "db", "back"));
        assert_eq!(ask(&tenant, "app", &look_up(&tenant, "app", "db")).ok().text(), address(&tenant, "app", "back"));
        ask(&tenant, "web", &address(&tenant, "db", "back")).code(99);
        tenant.ctl(&["network", "connect", "back", "web"]).ok();
        ask(&tenant, "web", &look_up(&tenant, "web", "db")).ok();
        tenant.ctl(&["network", "disconnect", "back", "web"]).ok();
        ask(&tenant, "web", &address(&tenant, "db", "back")).code(99);

        assert_eq!(tenant.house.host().interfaces(), [""; 0], "nothing of it is on the host");
        tenant.ctl(&["network", "ls"]).ok().says(&["front", "back"]);
        tenant.ctl(&["network", "inspect", "front"]).ok().says(&["\"Name\": \"web\"", "\"Name\": \"app\""]);
        tenant.ctl(&["network", "rm", "front"]).code(1).complains(&["network front has active endpoints"]);
        tenant.ctl(&["rm", "-f", "web", "db", "app"]).ok();
        tenant.ctl(&["network", "rm", "front"]).ok();
        tenant.ctl(&["network", "prune", "-f"]).ok().says(&["back"]);
    }
}

#[test]
fn after_a_crash_of_the_runtime_networks_of_a_user_are_what_the_records_say() {
    let tenant = Tenant::with_network(Ids::Single);
    tenant.ctl(&["network", "create", "net"]).ok();
    for name in ["stays", "goes", "asks"] {
        server(&tenant, name, &["--network", "net"]);
    }
    let (stays, goes) = (address(&tenant, "stays", "net"), address(&tenant, "goes", "net"));
    let pid = seen(&tenant, "goes", "{{.State.Pid}}");

    for service in ["runtime", "store"] {
        assert!(tenant.house.crash(service));
    }
    Command::new("kill").args(["-9", &pid]).status().unwrap();
    tenant.ctl(&["wait", "goes"]);

    assert_eq!(address(&tenant, "stays", "net"), stays);
    assert_eq!(ask(&tenant, "asks", &stays).ok().text(), address(&tenant, "asks", "net"));
    eventually("names are answered again", SOON, || look_up(&tenant, "asks", "stays") == stays);
    server(&tenant, "next", &["--network", "net"]);
    assert_eq!(address(&tenant, "next", "net"), goes, "its address is free again");
    ask(&tenant, "next", &stays).ok();
    tenant.ctl(&["rm", "-f", "stays", "goes", "asks", "next"]).ok();

    // Nobody is left, and so is nothing of the networks but the records, of which the next services make them.
    assert!(tenant.house.stop().is_empty());
    server(&tenant, "anew", &["--network", "net"]);
    tenant.ctl(&["rm", "-f", "anew"]).ok();
    tenant.ctl(&["network", "rm", "net"]).ok();
}
