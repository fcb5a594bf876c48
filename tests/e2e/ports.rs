//! Published ports: who reaches them, with which address, and what is left of them. Each test is a host of its own.

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

fn guest_binary() -> String {
    strata_tests::guest().to_string_lossy().into_owned()
}

/// Runs a program of the test's to its end.
fn finish(mut command: Command, words: &[&str]) -> Output {
    command.args(words);
    Running::spawn(command).finish()
}

fn from_world(house: &House, address: &str, port: &str) -> Output {
    finish(house.host().in_world(guest_binary()), &["ask", address, port])
}

fn from_host(house: &House, address: &str, port: &str) -> Output {
    finish(house.host().on_host(guest_binary()), &["ask", address, port])
}

/// Elements of the maps that lead to containers, and nothing else of the table.
fn elements(house: &House) -> Vec<String> {
    let listed = finish(house.host().on_host("nft"), &["list", "ruleset"]).ok();
    let words = listed.stdout.split([',', '{', '}', '\n', '\t']).map(str::trim);
    let mut all: Vec<String> =
        words.filter(|word| word.contains(" : ") && !word.starts_with("type ")).map(str::to_owned).collect();
    all.sort();
    all
}

#[test]
fn nginx_sees_the_address_of_its_client() {
    let house = House::with_network();
    let tar = strata_tests::made(strata_tests::target().join("images/debian-nginx.tar"), "make nginx-base");
    house.ctl(&["import", "--change", "EXPOSE 80", tar.to_str().unwrap(), "nginx"]).ok();
    let log = "access_log /dev/stdout; error_log /dev/stderr;";
    let configure = format!("sed -i 's#access_log .*#{log}#' /etc/nginx/nginx.conf && exec nginx -g 'daemon off;'");
    house.ctl(&["run", "-d", "--name", "web", "-p", "8080:80", "nginx", "sh", "-c", &configure]).ok();

    let page = |mut command: Command, url: &str| {
        command.args(["-sS", "--max-time", "5", "--retry", "20", "--retry-connrefused", "--retry-delay", "0", url]);
        Running::spawn(command).finish()
    };
    let urls = [
        (house.host().in_world("curl"), format!("http://{HOST}:8080/world"), WORLD),
        (house.host().on_host("curl"), format!("http://{HOST}:8080/host"), HOST),
        (house.host().on_host("curl"), "http://127.0.0.1:8080/loopback".to_owned(), "172.17.0.1"),
        (house.host().on_host("curl"), "http://[::1]:8080/loopback6".to_owned(), "172.17.0.1"),
    ];
    for (command, url, client) in urls {
        page(command, &url).ok().says(&["404 Not Found", "nginx"]);
        let place = url.rsplit('/').next().unwrap().to_owned();
        let line = format!("{client} - - ");
        eventually("it is in the log", SOON, || {
            let log = house.ctl(&["logs", "web"]).ok();
            log.stdout.lines().any(|seen| seen.starts_with(&line) && seen.contains(&format!("GET /{place} ")))
        });
    }
    let ports = "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp";
    assert_eq!(house.ctl(&["ps", "--format", "{{.Ports}}"]).ok().text(), ports);
    assert_eq!(house.ctl(&["port", "web", "80"]).ok().text(), "0.0.0.0:8080\n[::]:8080");
}

#[test]
fn ports_are_published_as_asked_and_shown_as_docker_does() {
    let house = House::with_network();
    let tar = house.path("guest.tar");
    house.ctl(&["import", "--change", "EXPOSE 80 53/udp", tar.to_str().unwrap(), "exposing"]).ok();
    let run = |name: &str, flags: &[&str]| {
        let words = [&["run", "-d", "--name", name], flags, &["exposing", "/guest", "sleep", "300"]].concat();
        house.ctl(&words)
    };
    let column = |name: &str| {
        let all = house.ctl(&["ps", "--format", "{{.Names}} {{.Ports}}"]).ok();
        let line = all.stdout.lines().find_map(|line| line.strip_prefix(&format!("{name} ")).map(str::to_owned));
        line.unwrap_or_default()
    };

    run("none", &[]).ok();
    assert_eq!(column("none"), "53/udp, 80/tcp");
    run("fixed", &["-p", "127.0.0.1:8080-8082:80-82", "-p", "[::1]:5353:53/udp", "--expose", "90"]).ok();
    assert_eq!(column("fixed"), "[::1]:5353->53/udp, 127.0.0.1:8080-8082->80-82/tcp, 90/tcp");
    run("range", &["-p", "8080-8090:80"]).ok();
    assert_eq!(house.ctl(&["port", "range"]).ok().text(), "80/tcp -> 0.0.0.0:8083\n80/tcp -> [::]:8083");
    run("all", &["-P", "--expose", "1000-1001"]).ok();
    let all = house.ctl(&["port", "all"]).ok();
    let numbers: Vec<u16> = all.stdout.lines().map(|line| line.rsplit(':').next().unwrap().parse().unwrap()).collect();
    assert_eq!(numbers.len(), 8, "{}", all.stdout);
    assert!(numbers.chunks(2).all(|pair| pair[0] == pair[1] && pair[0] >= 1024), "{}", all.stdout);
    run("free", &["-p", "80"]).ok();
    assert_eq!(house.ctl(&["port", "free", "80/tcp"]).ok().stdout.lines().count(), 2);
    house.ctl(&["port", "free", "81"]).code(1).complains(&["port 81/tcp of free is not published"]);

    let shown = house.ctl(&["inspect", "fixed"]).ok().json();
    let ports = &shown[0]["NetworkSettings"]["Ports"];
    assert_eq!(ports["80/tcp"][0]["HostPort"], "8080");
    assert!(ports["90/tcp"].is_null() && ports.as_object().unwrap().contains_key("90/tcp"));
    assert_eq!(shown[0]["HostConfig"]["PortBindings"]["53/udp"][0]["HostIp"], "::1");
    assert!(shown[0]["Config"]["ExposedPorts"].as_object().unwrap().contains_key("53/udp"));
    house.ctl(&["stop", "-t", "0", "fixed"]).ok();
    assert_eq!(house.ctl(&["port", "fixed"]).ok().text(), "");
    house.ctl(&["start", "fixed"]).ok();
    assert_eq!(house.ctl(&["port", "fixed", "80"]).ok().text(), "127.0.0.1:8080");

    for wrong in ["80:", "a:80", "8000-8001:80-82", "70000:80", "::1:80:80"] {
        run("wrong", &["-p", wrong]).code(125).complains(&["invalid port"]);
    }
    run("host", &["--network", "host", "-p", "80:80"]).ok().complains(&["warning: published ports are discarded"]);
    assert_eq!(column("host"), "53/udp, 80/tcp");
    run("cut-off", &["--network", "none", "-p", "80:80"]).code(125).complains(&["--publish: a container without"]);
    house.ctl(&["network", "create", "--internal", "inner"]).ok();
    run("shut", &["--network", "inner", "-p", "80:80"]).ok().complains(&["warning: ports are not published"]);
    assert_eq!(column("shut"), "53/udp, 80/tcp");
}

#[test]
fn a_port_that_is_taken_is_refused_by_name_and_nothing_stays() {
    let house = House::with_network();
    server(&house, "first", &["-p", "8080:80"]);
    let mut program = house.host().on_host(guest_binary());
    program.args(["serve", "9000"]);
    let mut program = Running::spawn(program);
    program.wait_for("ready");

    let run = |ports: &[&str]| {
        let flags: Vec<&str> = ports.iter().flat_map(|port| ["-p", *port]).collect();
        house.ctl(&[&["run", "--rm"], flags.as_slice(), &["guest", "/guest", "noop"]].concat())
    };
    run(&["8081:80", "8080:80"]).code(125).complains(&["port 8080/tcp of 0.0.0.0 is in use by container first"]);
    run(&["127.0.0.1:8080:80"]).code(125).complains(&["port 8080/tcp of 127.0.0.1 is in use by container first"]);
    run(&["9000:80"]).code(125).complains(&["is in use by strata-guest (process "]);
    run(&["192.0.2.7:80:80"]).code(125).complains(&["this host does not have that address"]);
    assert_eq!(house.ctl(&["ps", "-aq"]).ok().stdout.lines().count(), 1);
    // A program of the host is refused, too.
    finish(house.host().on_host(guest_binary()), &["serve", "8080"]).fails();

    // What ended has given its ports back when that is known.
    for _ in 0..10 {
        run(&["8081:80", "8082:80/udp"]).ok();
    }
    house.ctl(&["rm", "-f", "first"]).ok();
    run(&["8080:80"]).ok();
    assert!(elements(&house).is_empty(), "{:?}", elements(&house));
}

#[test]
fn datagrams_are_answered_on_every_address() {
    let house = House::with_network();
    house.ctl(&["network", "create", "--ipv6", "both"]).ok();
    for (name, network, port) in [("four", "bridge", "5301"), ("both", "both", "5302")] {
        let publish = format!("{port}:53/udp");
        let words =
            ["run", "-d", "--name", name, "--network", network, "-p", &publish, "guest", "/guest", "serve-udp", "53"];
        house.ctl(&words).ok();
        eventually("it listens", SOON, || house.ctl(&["logs", name]).ok().stdout.contains("ready"));
        let gateway = house.ctl(&["inspect", "-f", "{{.NetworkSettings.Gateway}}", name]).ok().text().to_owned();
        let ask = |command: Command, address: &str| finish(command, &["ask-udp", address, port]).ok().text().to_owned();
        let (host, world) = (|| house.host().on_host(guest_binary()), || house.host().in_world(guest_binary()));
        assert_eq!(ask(world(), HOST), WORLD);
        assert_eq!(ask(host(), HOST), HOST);
        assert_eq!(ask(host(), "127.0.0.1"), gateway);
        let six = ask(world(), HOST6);
        assert_eq!(six, if network == "both" { WORLD6.to_owned() } else { gateway.clone() });
        ask(host(), "::1");
    }
}

#[test]
fn a_network_of_ipv6_alone_is_reached_by_both() {
    let house = House::with_network();
    house.ctl(&["network", "create", "--ipv6", "--ipv4=false", "--subnet", "fd00:77::/64", "six"]).ok();
    server(&house, "web", &["--network", "six", "-p", "8080:80"]);

    assert_eq!(from_world(&house, HOST6, "8080").ok().text(), WORLD6);
    assert_eq!(from_host(&house, HOST6, "8080").ok().text(), HOST6);
    // There is no way from one version of the protocol to the other but through the host.
    for (output, what) in [(from_world(&house, HOST, "8080"), HOST), (from_host(&house, "::1", "8080"), "::1")] {
        assert_eq!(output.ok().text(), "fd00:77::1", "{what}");
    }
    from_host(&house, "127.0.0.1", "8080").ok();
}

#[test]
fn the_setting_and_the_network_say_where_ports_are_open() {
    let house = House::with_network();
    house.configure_runtime("[networks]\npublish = \"loopback\"\n");
    assert!(house.stop().is_empty());
    let bound = format!("com.docker.network.bridge.host_binding_ipv4={HOST}");
    house.ctl(&["network", "create", "-o", &bound, "bound"]).ok();

    server(&house, "own", &["-p", "8080:80"]);
    let gateway = house.ctl(&["inspect", "-f", "{{.NetworkSettings.Gateway}}", "own"]).ok().text().to_owned();
    assert_eq!(house.ctl(&["port", "own"]).ok().text(), "80/tcp -> 127.0.0.1:8080\n80/tcp -> [::1]:8080");
    for address in ["127.0.0.1", "::1"] {
        assert_eq!(from_host(&house, address, "8080").ok().text(), gateway, "{address}");
    }
    from_world(&house, HOST, "8080").code(99);
    from_host(&house, HOST, "8080").code(99);
    server(&house, "bound", &["--network", "bound", "-p", "8081:80"]);
    assert_eq!(from_world(&house, HOST, "8081").ok().text(), WORLD);
    from_host(&house, "127.0.0.1", "8081").code(99);
    server(&house, "open", &["-p", "0.0.0.0:8082:80"]);
    assert_eq!(from_world(&house, HOST, "8082").ok().text(), WORLD);
    house.configure_runtime("[networks]\npublish = \"nowhere\"\n");
}

#[test]
fn after_a_crash_of_the_runtime_ports_are_what_the_records_say() {
    let house = House::with_network();
    server(&house, "stays", &["-p", "8080:80", "-p", "127.0.0.1:8081:80"]);
    server(&house, "goes", &["-p", "8090:80"]);
    let before = elements(&house);
    assert_eq!(before.len(), 3, "{before:?}");
    let pid = house.ctl(&["inspect", "-f", "{{.State.Pid}}", "goes"]).ok().text().to_owned();

    house.crash("runtime");
    assert_eq!(from_world(&house, HOST, "8080").ok().text(), WORLD, "nobody notices");
    Command::new("kill").args(["-9", &pid]).status().unwrap();
    house.ctl(&["ps"]).ok();

    let own: Vec<String> = before.iter().filter(|element| !element.contains("8090")).cloned().collect();
    eventually("the maps are what runs", SOON, || elements(&house) == own);
    assert_eq!(from_host(&house, "::1", "8080").ok().text(), "172.17.0.1", "it is held again");
    finish(house.host().on_host(guest_binary()), &["serve", "8080"]).fails();
    server(&house, "next", &["-p", "8090:80"]);
    assert_eq!(from_world(&house, HOST, "8090").ok().text(), WORLD);

    let before = elements(&house);
    finish(house.host().on_host("nft"), &["flush", "ruleset"]).ok();
    eventually("the table is made again", SOON, || elements(&house) == before);
    assert_eq!(from_world(&house, HOST, "8080").ok().text(), WORLD);
    house.ctl(&["rm", "-f", "stays", "next"]).ok();
    assert!(elements(&house).is_empty(), "{:?}", elements(&house));
    from_world(&house, HOST, "8080").code(99);
}

#[test]
fn a_host_that_drops_what_it_does_not_know_is_opened_by_two_rules() {
    let house = House::with_network();
    let nft = |words: &str| finish(house.host().on_host("nft"), &words.split(' ').collect::<Vec<_>>()).ok();
    nft("add table inet filter");
    nft("add chain inet filter forward { type filter hook forward priority 0 ; policy drop ; }");
    nft("add rule inet filter forward ct state established,related accept");
    server(&house, "web", &["-p", "8080:80"]);
    from_world(&house, HOST, "8080").code(99);

    let bridge = house.host().interfaces().into_iter().find(|name| name.starts_with("strata-")).unwrap();
    nft(&format!("insert rule inet filter forward iifname {bridge} accept"));
    nft(&format!("insert rule inet filter forward oifname {bridge} accept"));
    assert_eq!(from_world(&house, HOST, "8080").ok().text(), WORLD);
    // They let in what is published, and nothing else.
    let address = house.ctl(&["inspect", "-f", "{{.NetworkSettings.IPAddress}}", "web"]).ok().text().to_owned();
    from_world(&house, &address, "80").code(99);
    // The administrator's own chain comes before everything.
    let table = finish(house.host().on_host("nft"), &["list", "tables"]).ok();
    let table = table.stdout.lines().find_map(|line| line.strip_prefix("table inet strata")).unwrap().to_owned();
    nft(&format!("add rule inet strata{table} admin ip saddr {WORLD} drop"));
    from_world(&house, HOST, "8080").code(99);
}

#[test]
fn containers_reach_published_ports_unless_their_network_is_internal() {
    let house = House::with_network();
    for flags in [&["one"][..], &["two"], &["--internal", "inner"]] {
        house.ctl(&[&["network", "create"], flags].concat()).ok();
    }
    for (name, network) in [("web", "one"), ("sibling", "one"), ("other", "two"), ("shut", "inner")] {
        let publish = if name == "web" { &["-p", "8080:80"][..] } else { &[] };
        server(&house, name, &[&["--network", network], publish].concat());
    }
    let of = |name: &str, network: &str, field: &str| {
        let template = format!("{{{{.NetworkSettings.Networks.{network}.{field}}}}}");
        house.ctl(&["inspect", "-f", &template, name]).ok().text().to_owned()
    };
    let ask = |from: &str, address: &str| house.ctl(&["exec", from, "/guest", "ask", address, "8080"]);
    let gateway = of("web", "one", "Gateway");

    assert_eq!(ask("other", HOST).ok().text(), of("other", "two", "IPAddress"), "with its own address");
    assert_eq!(ask("other", &of("other", "two", "Gateway")).ok().text(), of("other", "two", "IPAddress"));
    // Within a network the runtime passes it on.
    for from in ["sibling", "web"] {
        for address in [HOST, &gateway] {
            assert_eq!(ask(from, address).ok().text(), gateway, "{from} {address}");
        }
    }
    ask("shut", HOST).code(99);
    ask("shut", &of("shut", "inner", "Gateway")).code(99);
}

#[test]
fn ports_follow_a_container_through_its_networks() {
    let house = House::with_network();
    for flags in [&["one"][..], &["two"], &["--internal", "inner"]] {
        house.ctl(&[&["network", "create"], flags].concat()).ok();
    }
    server(&house, "web", &["--network", "one", "-p", "8080:80"]);
    assert_eq!(from_world(&house, HOST, "8080").ok().text(), WORLD);
    house.ctl(&["network", "connect", "two", "web"]).ok();
    house.ctl(&["network", "disconnect", "one", "web"]).ok();
    assert_eq!(from_world(&house, HOST, "8080").ok().text(), WORLD);
    house.ctl(&["network", "disconnect", "two", "web"]).ok();
    from_world(&house, HOST, "8080").code(99);
    assert_eq!(house.ctl(&["port", "web"]).ok().text(), "");
    house.ctl(&["network", "connect", "inner", "web"]).ok();
    assert_eq!(house.ctl(&["port", "web"]).ok().text(), "");
    house.ctl(&["network", "connect", "one", "web"]).ok();
    assert_eq!(from_world(&house, HOST, "8080").ok().text(), WORLD);
}

#[test]
fn ports_of_a_running_container_are_opened_and_closed() {
    let house = House::with_network();
    server(&house, "web", &[]);
    from_world(&house, HOST, "8080").code(99);

    let opened = house.ctl(&["container", "publish", "web", "8080:80", "127.0.0.1:8081:80"]).ok();
    assert_eq!(opened.text(), "80/tcp -> 0.0.0.0:8080\n80/tcp -> 127.0.0.1:8081\n80/tcp -> [::]:8080");
    assert_eq!(from_world(&house, HOST, "8080").ok().text(), WORLD);
    from_host(&house, "127.0.0.1", "8081").ok();
    from_host(&house, "::1", "8080").ok();
    house
        .ctl(&["container", "publish", "web", "8082:80", "8080:81"])
        .code(1)
        .complains(&["is in use by container web"]);
    from_world(&house, HOST, "8082").code(99);
    house.crash("runtime");
    assert_eq!(house.ctl(&["port", "web", "80"]).ok().stdout.lines().count(), 3, "it is in the record");

    house.ctl(&["container", "unpublish", "web", "8080:80"]).ok();
    from_world(&house, HOST, "8080").code(99);
    from_host(&house, "::1", "8080").code(99);
    from_host(&house, "127.0.0.1", "8081").ok();
    house.ctl(&["container", "publish", "--rm", "web", "80"]).ok();
    assert!(elements(&house).is_empty(), "{:?}", elements(&house));
    let gone = house.ctl(&["container", "unpublish", "web", "80"]).code(1);
    gone.complains(&["port 80/tcp of container web is not published"]);

    // What is published while it does not run is there when it does.
    house.ctl(&["stop", "-t", "0", "web"]).ok();
    assert_eq!(house.ctl(&["container", "publish", "web", "8090:80"]).ok().text(), "");
    house.ctl(&["start", "web"]).ok();
    eventually("it is reached", SOON, || from_world(&house, HOST, "8090").code == 0);
    let host = ["run", "-d", "--name", "host", "--network", "host", "guest", "/guest", "sleep", "300"];
    house.ctl(&host).ok();
    house.ctl(&["container", "publish", "host", "80"]).code(1).complains(&["was made with --network host"]);
}
