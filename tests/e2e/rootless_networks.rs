//! Networks of an ordinary user: containers among each other, and with the world through pasta or slirp4netns. Each test is
//! a host of its own, on which nothing was set up for the user.

use std::{fs, os::unix::fs::PermissionsExt, process::Command, time::Duration};

use strata_tests::{
    Output, Running, eventually,
    host::{HOST, HOST6, WORLD, WORLD6, ip},
};

use crate::{
    rootless::context,
    tenant::{Ids, Tenant},
};

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

/// A program of the test's on the host, or in the world, that is ready.
#[track_caller]
fn serving(mut command: Command, words: &[&str]) -> Running {
    command.arg("serve").args(words);
    let mut running = Running::spawn(command);
    running.wait_for("ready");
    running
}

fn guest() -> String {
    strata_tests::guest().to_string_lossy().into_owned()
}

/// Asks from within the network namespace of a container, whatever becomes of the services.
fn ask_without_services(pid: &str, address: &str) -> Output {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/proc/{pid}/ns/net")).args([&guest(), "ask", address, "80"]);
    Running::spawn(command).finish()
}

/// What carries packets: pasta runs as passt, or as what of it suits the processor.
fn carriers(tenant: &Tenant) -> Vec<i32> {
    ["pasta", "passt", "passt.avx2", "slirp4netns"].iter().flat_map(|program| tenant.processes(program)).collect()
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

#[test]
fn the_world_is_reached_through_pasta_or_slirp4netns() {
    for (helper, has_ipv6) in [("pasta", true), ("slirp4netns", false)] {
        let tenant = Tenant::with_network(Ids::Single);
        tenant.configure_runtime(&format!("[networks]\nhelper = \"{helper}\"\n"));
        let host = tenant.house.host();
        let _world = serving(host.in_world(guest()), &["80"]);
        tenant.ctl(&["network", "create", "--ipv6", "net"]).ok();
        tenant.ctl(&["network", "create", "--internal", "inner"]).ok();
        server(&tenant, "shut", &["--network", "inner"]);
        assert_eq!(carriers(&tenant), [0; 0], "nobody wants the world yet");
        server(&tenant, "one", &[]);
        server(&tenant, "two", &["--network", "net"]);

        for name in ["one", "two"] {
            assert_eq!(ask(&tenant, name, WORLD).ok().text(), HOST, "{helper} {name}");
        }
        assert_eq!(ask(&tenant, "two", WORLD6).code == 0, has_ipv6, "{helper}");
        ask(&tenant, "shut", WORLD).code(99);
        tenant.build(&context(&format!("FROM guest\nRUN [\"/guest\", \"ask\", \"{WORLD}\", \"80\"]\n")), "built").ok();
        assert_eq!(carriers(&tenant).len(), 1, "{helper}");
        let own = address(&tenant, "one", "bridge");
        let from_world = Running::spawn({
            let mut command = host.in_world(guest());
            command.args(["ask", &own, "80"]);
            command
        });
        from_world.finish().code(99);
        tenant.ctl(&["rm", "-f", "one", "two", "shut"]).ok();
        assert!(tenant.house.stop().is_empty());
        eventually("what carried packets is gone", SOON, || carriers(&tenant).is_empty());
    }
}

#[test]
fn who_was_started_while_the_host_was_offline_reaches_the_world_when_it_is_not() {
    let tenant = Tenant::with_network(Ids::Single);
    tenant.configure_runtime("[networks]\nhelper = \"pasta\"\n");
    let host = tenant.house.host();
    let _world = serving(host.in_world(guest()), &["80"]);
    let path = host.path();
    let name = path.rsplit('/').next().unwrap();
    for family in ["-4", "-6"] {
        ip(&format!("-n {name} {family} route del default"));
    }
    let offline = tenant.ctl(&["run", "-d", "--name", "one", "guest", "/guest", "serve", "80"]).ok();
    offline.complains(&["warning: the container reaches other containers only: pasta carries no packets"]);
    ask(&tenant, "one", WORLD).code(99);

    ip(&format!("-n {name} route add default via {WORLD}"));

    eventually("the world is reached", SOON, || ask(&tenant, "one", WORLD).code == 0);
    tenant.ctl(&["rm", "-f", "one"]).ok();
}

/// Row 127 (CVE-2021-20199 and its like): what listens on the host's loopback device alone is for the host's programs alone.
#[test]
fn row_127_a_container_of_a_user_reaches_nothing_on_the_loopback_device_of_the_host() {
    for helper in ["pasta", "slirp4netns"] {
        let tenant = Tenant::with_network(Ids::Single);
        tenant.configure_runtime(&format!("[networks]\nhelper = \"{helper}\"\n"));
        let host = tenant.house.host();
        let _secret = serving(host.on_host(guest()), &["127.0.0.1", "80"]);
        let _secret6 = serving(host.on_host(guest()), &["::1", "80"]);
        tenant.ctl(&["network", "create", "--ipv6", "net"]).ok();
        server(&tenant, "web", &["--network", "net"]);
        let own = Running::spawn({
            let mut command = host.on_host(guest());
            command.args(["ask", "127.0.0.1", "80"]);
            command
        });
        own.finish().ok();

        let gateway = seen(&tenant, "web", "{{.NetworkSettings.Gateway}}");
        let gateway6 = seen(&tenant, "web", "{{.NetworkSettings.IPv6Gateway}}");
        // Those that stand for the host in one program or the other, and its own.
        let ways = ["169.254.253.1", "169.254.253.2", "169.254.253.3", "169.254.253.100", "fd53:7472:6174:6100::1"];
        for there in ways.into_iter().chain([HOST, &gateway, &gateway6]) {
            ask(&tenant, "web", there).code(99);
        }
        tenant.ctl(&["rm", "-f", "web"]).ok();
    }
}

#[test]
fn what_carries_packets_stays_when_the_runtime_is_killed_and_goes_with_the_last_container() {
    let tenant = Tenant::with_network(Ids::Single);
    let _world = serving(tenant.house.host().in_world(guest()), &["80"]);
    server(&tenant, "one", &["--network", "bridge"]);
    let (pid, before) = (seen(&tenant, "one", "{{.State.Pid}}"), carriers(&tenant));
    assert_eq!(before.len(), 1);

    assert!(tenant.house.crash("runtime"));
    assert_eq!(ask_without_services(&pid, WORLD).ok().text(), HOST, "containers do not notice");
    assert_eq!(ask(&tenant, "one", WORLD).ok().text(), HOST);
    assert_eq!(carriers(&tenant), before, "the next runtime finds it");
    Command::new("kill").args(["-9", &before[0].to_string()]).status().unwrap();
    eventually("it is made again", SOON, || carriers(&tenant) != before && ask(&tenant, "one", WORLD).code == 0);
    server(&tenant, "two", &["--network", "bridge"]);

    // Without any service it lives as long as a container does.
    let pids = ["one", "two"].map(|name| seen(&tenant, name, "{{.State.Pid}}"));
    for service in ["runtime", "store"] {
        assert!(tenant.house.crash(service));
    }
    for pid in &pids {
        assert_eq!(carriers(&tenant).len(), 1);
        Command::new("kill").args(["-9", pid]).status().unwrap();
    }
    eventually("it is gone", SOON, || carriers(&tenant).is_empty());
    tenant.ctl(&["rm", "-f", "one", "two"]).ok();
}

#[test]
fn without_a_way_to_the_world_containers_reach_each_other_and_it_is_said_why() {
    let tenant = Tenant::with_network(Ids::Single);
    let tun = tenant.house.path("tun");
    let run = |tenant: &Tenant, name: &str| {
        tenant.ctl(&["run", "-d", "--name", name, "--network", "net", "guest", "/guest", "serve", "80"]).ok()
    };
    tenant.ctl(&["network", "create", "net"]).ok();

    fs::set_permissions(&tun, fs::Permissions::from_mode(0o600)).unwrap();
    let alone = "warning: the container reaches other containers only: ";
    run(&tenant, "one").complains(&[alone, "/dev/net/tun cannot be opened"]);
    fs::set_permissions(&tun, fs::Permissions::from_mode(0o666)).unwrap();
    assert!(tenant.house.crash("runtime"));
    let program = tenant.house.path("bin/ctl");
    let without = tenant.command("env", &["PATH=/nonexistent", program.to_str().unwrap(), "ps"]);
    Running::spawn(without).finish().ok();
    run(&tenant, "two")
        .complains(&[alone, "neither pasta nor slirp4netns is installed (Debian: passt, or slirp4netns)"]);

    eventually("it listens", SOON, || ask(&tenant, "one", &address(&tenant, "two", "net")).code == 0);
    assert_eq!(tenant.guest(&[], &["interfaces"]).ok().text(), "lo", "nobody asked for a network");
    assert_eq!(carriers(&tenant), [0; 0]);
    tenant.ctl(&["rm", "-f", "one", "two"]).ok();
}

/// Row 128 (CVE-2021-20199): who asks a published port is known by its own address, and not as the host itself.
#[test]
fn row_128_a_published_port_of_a_user_keeps_the_address_of_its_client() {
    for helper in ["any", "none"] {
        let tenant = Tenant::with_network(Ids::Single);
        tenant.configure_runtime(&format!("[networks]\nhelper = \"{helper}\"\n"));
        tenant.ctl(&["network", "create", "four"]).ok();
        tenant.ctl(&["network", "create", "--ipv6", "both"]).ok();
        for (network, port) in [("four", "8080"), ("both", "8081")] {
            server(&tenant, network, &["--network", network, "-p", &format!("{port}:80")]);
            let datagrams = format!("{port}:53/udp");
            let name = format!("{network}-udp");
            let words = ["run", "-d", "--name", &name, "--network", network, "-p", &datagrams];
            tenant.ctl(&[&words[..], &["guest", "/guest", "serve-udp", "53"]].concat()).ok();
            eventually("it listens", SOON, || tenant.ctl(&["logs", &name]).ok().stdout.contains("ready"));
            let gateway = seen(&tenant, network, "{{.NetworkSettings.Gateway}}");
            let gateway6 = seen(&tenant, network, "{{.NetworkSettings.IPv6Gateway}}");
            let has_ipv6 = network == "both";
            for word in ["ask", "ask-udp"] {
                let asked = |mut command: Command, address: &str| {
                    command.args([word, address, port]);
                    Running::spawn(command).finish().ok().text().to_owned()
                };
                let (host, world) = (|| tenant.house.host().on_host(guest()), || tenant.house.host().in_world(guest()));
                assert_eq!(asked(world(), HOST), WORLD, "{helper} {network} {word}");
                assert_eq!(asked(host(), HOST), HOST, "{helper} {network} {word}");
                assert_eq!(asked(host(), "127.0.0.1"), gateway, "{helper} {network} {word}");
                let (from_world, from_host) =
                    if has_ipv6 { (WORLD6, gateway6.as_str()) } else { (&*gateway, &*gateway) };
                assert_eq!(asked(world(), HOST6), from_world, "{helper} {network} {word}");
                assert_eq!(asked(host(), "::1"), from_host, "{helper} {network} {word}");
            }
        }
        let all = tenant.ctl(&["ps", "-aq"]).ok();
        tenant.ctl(&[&["rm", "-f"], all.stdout.lines().collect::<Vec<_>>().as_slice()].concat()).ok();
    }
}

#[test]
fn ports_of_a_user_are_published_closed_refused_by_name_and_held_again() {
    let tenant = Tenant::with_network(Ids::Single);
    let from_world = |port: &str| {
        let mut command = tenant.house.host().in_world(guest());
        command.args(["ask", HOST, port]);
        Running::spawn(command).finish()
    };
    server(&tenant, "web", &["-p", "8080:80", "-p", "127.0.0.1::80"]);
    server(&tenant, "more", &["-P", "--expose", "80", "--add-host", "outside:host-gateway"]);

    tenant.ctl(&["port", "web"]).ok().says(&["80/tcp -> 0.0.0.0:8080", "80/tcp -> [::]:8080", "80/tcp -> 127.0.0.1:"]);
    let port = tenant.ctl(&["port", "more", "80"]).ok();
    let port = port.stdout.lines().next().unwrap().rsplit(':').next().unwrap().to_owned();
    assert_eq!(from_world(&port).ok().text(), WORLD);
    let refused = tenant.guest(&["-p", "8080:80"], &["noop"]).code(125);
    refused.complains(&["port 8080/tcp of 0.0.0.0 is in use by container web"]);
    let refused = tenant.guest(&["-p", "81:80"], &["noop"]).code(125);
    refused.complains(&["port 81/tcp of 0.0.0.0 is for root", "net.ipv4.ip_unprivileged_port_start"]);
    tenant.guest(&["-p", "8082:80/sctp"], &["noop"]).code(125).complains(&["SCTP is led by the kernel alone"]);
    tenant.ctl(&["container", "publish", "web", "9000:80"]).ok();
    from_world("9000").ok();
    tenant.ctl(&["container", "unpublish", "web", "9000:80"]).ok();
    from_world("9000").code(99);
    // Through the address of the host, as the world does.
    tenant.ctl(&["exec", "more", "/guest", "read", "/etc/hosts"]).ok().says(&[&format!("{HOST}\toutside\n")]);
    let asked = tenant.ctl(&["exec", "more", "/guest", "ask", HOST, "8080"]);
    assert_eq!(asked.ok().text(), HOST);
    // And through the gateway, from the same network and from another one, but not from one that is internal.
    tenant.ctl(&["network", "create", "other"]).ok();
    tenant.ctl(&["network", "create", "--internal", "inner"]).ok();
    server(&tenant, "other", &["--network", "other"]);
    server(&tenant, "shut", &["--network", "inner"]);
    for (name, network, is_open) in [("more", "bridge", true), ("other", "other", true), ("shut", "inner", false)] {
        let gateway = seen(&tenant, name, &format!("{{{{.NetworkSettings.Networks.{network}.Gateway}}}}"));
        let asked = tenant.ctl(&["exec", name, "/guest", "ask", &gateway, "8080"]);
        assert_eq!(asked.code == 0, is_open, "{name}: {asked:?}");
    }
    tenant.ctl(&["rm", "-f", "other", "shut"]).ok();

    assert!(tenant.house.crash("runtime"));
    tenant.ctl(&["ps"]).ok();
    assert_eq!(from_world("8080").ok().text(), WORLD, "it is held again");
    tenant.ctl(&["network", "create", "net"]).ok();
    tenant.ctl(&["network", "connect", "net", "web"]).ok();
    tenant.ctl(&["network", "disconnect", "bridge", "web"]).ok();
    assert_eq!(from_world("8080").ok().text(), WORLD, "it leads to where the container is reached");
    tenant.ctl(&["rm", "-f", "web", "more"]).ok();
    from_world("8080").code(99);
}
