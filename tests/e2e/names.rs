//! Names of containers in networks. Each test is a host of its own, with a server of names that the test's `/etc/resolv.conf`
//! leads to: it tells everybody 192.0.2.77, and writes down what it was asked for.

use std::{
    fs,
    net::IpAddr,
    process::Command,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use strata_tests::{House, Running, eventually};

const SOON: Duration = Duration::from_secs(10);
/// What servers of names outside say.
const OUTSIDE: &str = "NOERROR\n192.0.2.77";

/// Starts the server of names that the host asks.
fn outside(house: &House) -> Running {
    let resolv_conf = fs::read_to_string("/etc/resolv.conf").unwrap();
    let server = resolv_conf.lines().find_map(|line| line.strip_prefix("nameserver "));
    let server: IpAddr = server.unwrap_or("127.0.0.1").trim().parse().unwrap();
    let guest = strata_tests::guest();
    let mut command = match server.is_loopback() {
        true => house.host().on_host(guest),
        false => {
            let address = server.to_string();
            let mut command = house.host().in_world("sh");
            let script = "ip addr add $1 dev lo && exec $0 name-server $1";
            command.args(["-c", script, guest.to_str().unwrap(), &address]);
            let mut running = Running::spawn(command);
            running.wait_for("ready");
            return running;
        }
    };
    command.args(["name-server", &server.to_string()]);
    let mut running = Running::spawn(command);
    running.wait_for("ready");
    running
}

/// Starts a container that waits.
#[track_caller]
fn sleeper(house: &House, name: &str, flags: &[&str]) -> String {
    let words = [&["run", "-d", "--name", name], flags, &["guest", "/guest", "sleep", "600"]].concat();
    house.ctl(&words).ok().text().to_owned()
}

#[track_caller]
fn address(house: &House, name: &str, network: &str) -> String {
    let template = format!("{{{{.NetworkSettings.Networks.{network}.IPAddress}}}}");
    house.ctl(&["inspect", "-f", &template, name]).ok().text().to_owned()
}

/// What a container hears of a name.
#[track_caller]
fn look_up(house: &House, from: &str, name: &str, kind: &str) -> String {
    house.ctl(&["exec", from, "/guest", "look-up", name, kind]).ok().text().to_owned()
}

#[track_caller]
fn found(address: &str) -> String {
    assert!(!address.is_empty());
    format!("NOERROR\n{address}")
}

#[test]
fn containers_find_each_other_by_name_alias_and_id() {
    let house = House::with_network();
    let _outside = outside(&house);
    house.ctl(&["network", "create", "net"]).ok();
    let id = sleeper(&house, "web", &["--network", "net", "--network-alias", "www", "--hostname", "box"]);
    sleeper(&house, "app", &["--network", "net"]);

    let web = address(&house, "web", "net");
    for name in ["web", "WEB", "www", "box", &id[..12], "web.net", "www.NET"] {
        assert_eq!(look_up(&house, "app", name, "A"), found(&web), "{name}");
        assert_eq!(
            look_up(&house, "app", name, "AAAA"),
            "NOERROR",
            "{name} has no such address, and nobody else is asked"
        );
    }
    assert_eq!(look_up(&house, "web", "app", "A"), found(&address(&house, "app", "net")), "those that come later too");
    assert_eq!(look_up(&house, "app", "nobody.example", "A"), OUTSIDE);
    let reverse = web.split('.').rev().collect::<Vec<_>>().join(".") + ".in-addr.arpa";
    assert_eq!(look_up(&house, "app", &reverse, "12"), "NOERROR\n9 bytes", "web.net.");
    let resolv_conf = house.ctl(&["exec", "app", "/guest", "read", "/etc/resolv.conf"]).ok();
    let resolv_conf = resolv_conf.says(&["nameserver 127.0.0.11\n", "ndots:0"]);
    assert_eq!(resolv_conf.stdout.matches("nameserver").count(), 1);

    house.ctl(&["rename", "web", "site"]).ok();
    assert_eq!(look_up(&house, "app", "site", "A"), found(&web), "a running container has its new name at once");
    assert_eq!(look_up(&house, "app", "web", "A"), OUTSIDE, "and no longer its old one");
    house.ctl(&["rm", "-f", "site"]).ok();
    assert_eq!(look_up(&house, "app", "site", "A"), OUTSIDE, "who has ended is known no more");
}

#[test]
fn several_containers_share_an_alias() {
    let house = House::with_network();
    let _outside = outside(&house);
    house.ctl(&["network", "create", "net"]).ok();
    for name in ["one", "two", "three"] {
        sleeper(&house, name, &["--network", "net", "--network-alias", "all"]);
    }

    let mut firsts = std::collections::BTreeSet::new();
    for _ in 0..3 {
        let answer = look_up(&house, "one", "all", "A");
        assert_eq!(answer.lines().count(), 4, "{answer}");
        firsts.insert(answer.lines().nth(1).unwrap().to_owned());
    }
    assert_eq!(firsts.len(), 3, "they take turns: {firsts:?}");
    house.ctl(&["stop", "-t", "0", "two"]).ok();
    assert_eq!(look_up(&house, "one", "all", "A").lines().count(), 3);
    house.ctl(&["start", "two"]).ok();
    assert_eq!(look_up(&house, "one", "all", "A").lines().count(), 4);
}

#[test]
fn names_are_known_in_their_own_networks_alone() {
    let house = House::with_network();
    let _outside = outside(&house);
    for network in ["front", "back"] {
        house.ctl(&["network", "create", network]).ok();
    }
    sleeper(&house, "web", &["--network", "front"]);
    sleeper(&house, "db", &["--network", "back"]);
    sleeper(&house, "app", &["--network", "front", "--network", "name=back,alias=api"]);
    sleeper(&house, "plain", &[]);

    let (web, db) = (address(&house, "web", "front"), address(&house, "db", "back"));
    assert_eq!(look_up(&house, "app", "web", "A"), found(&web));
    assert_eq!(look_up(&house, "app", "db", "A"), found(&db));
    for (from, name) in
        [("web", "db"), ("db", "web"), ("web", "db.back"), ("web", "api"), ("web", "plain"), ("plain", "plain")]
    {
        assert_eq!(look_up(&house, from, name, "A"), OUTSIDE, "{name} from {from}");
    }
    let reverse = db.split('.').rev().collect::<Vec<_>>().join(".") + ".in-addr.arpa";
    assert_eq!(look_up(&house, "web", &reverse, "12"), OUTSIDE, "nor do addresses tell names");
    assert_eq!(look_up(&house, "web", "app", "A"), found(&address(&house, "app", "front")));
    assert_eq!(look_up(&house, "db", "api", "A"), found(&address(&house, "app", "back")));

    house.ctl(&["network", "connect", "--alias", "w", "back", "web"]).ok();
    assert_eq!(look_up(&house, "web", "db", "A"), found(&db));
    assert_eq!(look_up(&house, "db", "w", "A"), found(&address(&house, "web", "back")));
    house.ctl(&["network", "disconnect", "back", "web"]).ok();
    assert_eq!(look_up(&house, "web", "db", "A"), OUTSIDE);
    assert_eq!(look_up(&house, "db", "w", "A"), OUTSIDE);
    // From the default network, which has no names, to one that has.
    house.ctl(&["network", "connect", "back", "plain"]).ok();
    assert_eq!(look_up(&house, "plain", "db", "A"), found(&db));
    assert_eq!(look_up(&house, "db", "plain", "A"), found(&address(&house, "plain", "back")));
}

/// CVE-2024-29018: what is asked from a network that nothing leaves must not leave it either.
#[test]
fn row_128_an_internal_network_lets_no_question_out() {
    let house = House::with_network();
    let mut outside = outside(&house);
    house.ctl(&["network", "create", "--internal", "vault"]).ok();
    house.ctl(&["network", "create", "net"]).ok();
    sleeper(&house, "safe", &["--network", "vault"]);
    sleeper(&house, "other", &["--network", "vault"]);
    let sent = || {
        let counters = Running::spawn({
            let mut command = house.host().on_host("cat");
            command.arg("/proc/net/snmp");
            command
        });
        let counters = counters.finish().ok().stdout;
        let udp = counters.lines().filter(|line| line.starts_with("Udp:")).nth(1).unwrap();
        udp.split(' ').nth(4).unwrap().parse::<u64>().unwrap()
    };
    let before = sent();

    let other = address(&house, "other", "vault");
    assert_eq!(look_up(&house, "safe", "other", "A"), found(&other));
    for name in ["secret.example", "other2", "a.b.c.d.e", "1.0.0.10.in-addr.arpa"] {
        for kind in ["A", "AAAA", "12", "16", "255"] {
            assert_eq!(look_up(&house, "safe", name, kind), "NXDOMAIN", "{name} {kind}");
        }
    }
    assert_eq!(sent(), before, "the host has sent nothing for it");

    // With a way out beside it, what it asks goes that way.
    house.ctl(&["network", "connect", "net", "safe"]).ok();
    assert_eq!(look_up(&house, "safe", "public.example", "A"), OUTSIDE);
    assert!(sent() > before);
    outside.wait_for("public.example");
    house.ctl(&["network", "disconnect", "net", "safe"]).ok();
    assert_eq!(look_up(&house, "safe", "secret.example", "A"), "NXDOMAIN");
}

/// A server of names in the network itself is no way out: it may be asked.
#[test]
fn a_container_may_be_the_server_of_names_of_others() {
    let house = House::with_network();
    let outside = outside(&house);
    house.ctl(&["network", "create", "--internal", "--subnet", "10.77.0.0/24", "vault"]).ok();
    // On port 53 of every address: that of the own server is none of them.
    let words = [
        "run",
        "-d",
        "--name",
        "dns",
        "--network",
        "vault",
        "--ip",
        "10.77.0.53",
        "guest",
        "/guest",
        "name-server",
        "0.0.0.0",
    ];
    house.ctl(&words).ok();
    eventually("it listens", SOON, || house.ctl(&["logs", "dns"]).ok().stdout.contains("ready"));

    sleeper(
        &house,
        "app",
        &["--network", "vault", "--dns", "10.77.0.53", "--dns-search", "corp.example", "--dns-opt", "ndots:2"],
    );

    assert_eq!(look_up(&house, "app", "thing.corp.example", "A"), OUTSIDE, "the words are the same, but");
    house.ctl(&["logs", "dns"]).ok().says(&["thing.corp.example"]);
    assert_eq!(look_up(&house, "app", "dns", "A"), found("10.77.0.53"));
    assert_eq!(look_up(&house, "dns", "app", "A"), found(&address(&house, "app", "vault")));
    let resolv_conf = house.ctl(&["exec", "app", "/guest", "read", "/etc/resolv.conf"]).ok();
    assert_eq!(resolv_conf.stdout, "nameserver 127.0.0.11\nsearch corp.example\noptions ndots:2\n");
    outside.signal(Signal::SIGKILL);
    assert!(!outside.finish().stdout.contains("corp.example"), "nobody outside was asked");
}

#[test]
fn ipv6_alone_has_names_too() {
    let house = House::with_network();
    let _outside = outside(&house);
    house.ctl(&["network", "create", "--ipv6", "--ipv4=false", "--subnet", "fd00:77::/64", "six"]).ok();
    sleeper(&house, "one", &["--network", "six", "--ip6", "fd00:77::5"]);
    sleeper(&house, "two", &["--network", "six"]);

    assert_eq!(look_up(&house, "two", "one", "AAAA"), found("fd00:77::5"));
    assert_eq!(look_up(&house, "two", "one", "A"), "NOERROR");
    assert_eq!(look_up(&house, "two", "elsewhere.example", "A"), OUTSIDE);
}

#[test]
fn after_a_crash_of_the_runtime_names_are_known_again() {
    let house = House::with_network();
    let _outside = outside(&house);
    house.ctl(&["network", "create", "net"]).ok();
    sleeper(&house, "web", &["--network", "net", "--network-alias", "www"]);
    sleeper(&house, "gone", &["--network", "net"]);
    sleeper(&house, "app", &["--network", "net"]);
    let (web, pid) = (address(&house, "web", "net"), house.ctl(&["inspect", "-f", "{{.State.Pid}}", "gone"]).ok());

    for _ in 0..3 {
        house.crash("runtime");
        house.ctl(&["ps"]).ok();
        eventually("it is served again", SOON, || {
            house.ctl(&["exec", "app", "/guest", "look-up", "www", "A"]).stdout.trim() == found(&web)
        });
    }
    house.crash("runtime");
    Command::new("kill").args(["-9", pid.text()]).status().unwrap();
    house.ctl(&["ps"]).ok();
    eventually("who ended meanwhile is known no more", SOON, || {
        house.ctl(&["exec", "app", "/guest", "look-up", "gone", "A"]).stdout.trim() == OUTSIDE
    });
    sleeper(&house, "new", &["--network", "net"]);
    assert_eq!(look_up(&house, "app", "new", "A"), found(&address(&house, "new", "net")));
    // An orderly restart.
    assert!(house.stop().is_empty());
    assert_eq!(look_up(&house, "new", "web", "A"), found(&web));
}

#[test]
fn connecting_and_disconnecting_many_times_leaves_no_name_and_no_socket() {
    let house = House::with_network();
    let _outside = outside(&house);
    house.ctl(&["network", "create", "net"]).ok();
    sleeper(&house, "web", &["--network", "net"]);
    sleeper(&house, "app", &["--network", "net"]);
    let sockets = || house.ctl(&["exec", "app", "/guest", "read", "/proc/net/udp"]).ok().stdout.lines().count();
    let before = sockets();

    for _ in 0..50 {
        house.ctl(&["network", "disconnect", "net", "web"]).ok();
        house.ctl(&["network", "connect", "net", "web"]).ok();
    }
    assert_eq!(look_up(&house, "app", "web", "A"), found(&address(&house, "web", "net")));
    assert_eq!(sockets(), before);
    house.ctl(&["network", "disconnect", "net", "web"]).ok();
    assert_eq!(look_up(&house, "app", "web", "A"), OUTSIDE);
    house.ctl(&["rm", "-f", "web", "app"]).ok();
    eventually("nothing keeps their network namespaces", SOON, || house.host().interfaces().len() == 1);
}

#[test]
fn who_shares_a_network_shares_its_names() {
    let house = House::with_network();
    let _outside = outside(&house);
    house.ctl(&["network", "create", "net"]).ok();
    sleeper(&house, "web", &["--network", "net"]);
    sleeper(&house, "app", &["--network", "net"]);

    sleeper(&house, "side", &["--network", "container:app"]);

    assert_eq!(look_up(&house, "side", "web", "A"), found(&address(&house, "web", "net")));
    assert_eq!(look_up(&house, "web", "side", "A"), OUTSIDE, "it has no network of its own to have a name in");
}

/// Redis and a client in Python, both of Debian's packages: the client finds the server by its name.
#[test]
fn a_python_client_finds_redis_by_name() {
    let house = House::with_network();
    let _outside = outside(&house);
    house.ctl(&["network", "create", "--ipv6", "net"]).ok();
    let debian = |name: &str, flags: &[&str], script: &str| {
        let mounts = ["-v", "/usr:/usr:ro", "-v", "/lib:/lib:ro", "-v", "/lib64:/lib64:ro", "--tmpfs", "/tmp"];
        let start = ["run", "--name", name, "--network", "net", "-w", "/tmp"];
        let run = ["guest", "/usr/bin/python3", "-c", script];
        house.ctl(&[&start[..], &mounts, flags, &run].concat())
    };
    let redis = "import os; os.execv('/usr/bin/redis-check-rdb', ['redis-server', '--bind', '*', '-::*', '--protected-mode', 'no', '--save', ''])";
    debian("redis", &["-d", "--network-alias", "db"], redis).ok();
    eventually("it listens", SOON, || {
        house.ctl(&["logs", "redis"]).ok().stdout.contains("Ready to accept connections")
    });

    let client = "
import socket
for name in ['redis', 'db', 'DB', 'redis.net']:
    kinds = sorted({family.name for family, *_ in socket.getaddrinfo(name, 6379)})
    assert kinds == ['AF_INET', 'AF_INET6'], (name, kinds)
stream = socket.create_connection(('db', 6379), 5)
say = lambda text: (stream.sendall(text), stream.recv(100))[1]
print(say(b'SET name strata\\r\\n'), say(b'GET name\\r\\n'))
print(socket.gethostbyaddr(socket.getaddrinfo('redis', 6379, socket.AF_INET)[0][4][0])[0])
";
    let said = debian("client", &["--rm"], client).ok();
    assert_eq!(said.text(), "b'+OK\\r\\n' b'$6\\r\\nstrata\\r\\n'\nredis.net");
}

/// Each container takes descriptors of the runtime, which is given few and may take more.
#[test]
fn more_containers_have_names_than_the_runtime_was_given_descriptors() {
    let house = House::with_network();
    house.ctl(&["network", "create", "net"]).ok();
    assert!(house.stop().is_empty());
    let command = |words: &[&str]| {
        let mut command = house.command("prlimit");
        command.args(["--nofile=64:4096", strata_tests::binaries().join("ctl").to_str().unwrap()]).args(words);
        Running::spawn(command).finish()
    };

    for number in 0..40 {
        let name = format!("c{number}");
        command(&["run", "-d", "--name", &name, "--network", "net", "guest", "/guest", "sleep", "600"]).ok();
    }

    let last = address(&house, "c39", "net");
    assert_eq!(look_up(&house, "c0", "c39", "A"), found(&last));
    let limits = house.ctl(&["exec", "c0", "/guest", "read", "/proc/self/limits"]).ok();
    let files = limits.stdout.lines().find(|line| line.starts_with("Max open files")).unwrap().to_owned();
    assert_eq!(files.split_whitespace().collect::<Vec<_>>(), ["Max", "open", "files", "64", "4096", "files"]);
}

/// A look-up, as a client in the network sees it. A figure for whoever runs it; what it must hold is looked at in quiet.
#[test]
#[ignore = "a measurement"]
fn how_long_a_look_up_takes() {
    let house = House::with_network();
    house.ctl(&["network", "create", "net"]).ok();
    sleeper(&house, "web", &["--network", "net"]);
    let pid = house.ctl(&["inspect", "-f", "{{.State.Pid}}", "web"]).ok().text().to_owned();
    let script = "
import socket, time
query = b'\\x12\\x34\\x01\\x00\\x00\\x01' + bytes(6) + b'\\x03web\\x00\\x00\\x01\\x00\\x01'
ask = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); ask.connect(('127.0.0.11', 53))
times = []
for _ in range(2000):
    start = time.perf_counter(); ask.send(query); ask.recv(512); times.append(time.perf_counter() - start)
times.sort()
print('median %.3f ms, 99%% %.3f ms' % (times[1000] * 1e3, times[1980] * 1e3))
";
    let start = Instant::now();
    let output = Command::new("nsenter").args(["-t", &pid, "-n", "python3", "-c", script]).output().unwrap();
    println!("{} ({:?} in all)", String::from_utf8_lossy(&output.stdout).trim(), start.elapsed());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
