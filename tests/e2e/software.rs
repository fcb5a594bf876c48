//! What Debian ships, on networks and volumes: a database, a server of names, a measure of streams. Each test is a host of its own.

use std::time::Duration;

use serde_json::Value;
use strata_tests::{
    House, Output, Running, eventually,
    host::{HOST, WORLD},
};

/// A database that finds itself after a crash takes a moment.
const SOON: Duration = Duration::from_secs(20);

/// PostgreSQL of the image on the volume "data", for everybody in its network.
const DATABASE: &str = "echo 'host all all all trust' >/tmp/hba; exec /usr/lib/postgresql/15/bin/postgres \
    -D /var/lib/postgresql/15/main -c config_file=/etc/postgresql/15/main/postgresql.conf -c hba_file=/tmp/hba \
    -c listen_addresses='*' -c unix_socket_directories=/tmp -c external_pid_file= -c ssl=off -c shared_buffers=1MB";

/// A house with PostgreSQL, dnsmasq and iperf3 in it, as "services".
fn house() -> House {
    let house = House::with_network();
    let tar = strata_tests::made(strata_tests::target().join("images/debian-services.tar"), "make services-base");
    house.ctl(&["import", tar.to_str().unwrap(), "services"]).ok();
    house
}

/// Asks the database, from a container of its network, until it answers.
fn ask(house: &House, question: &str) -> String {
    let words = ["exec", "client", "psql", "-h", "db", "-U", "postgres", "-At", "-c", question];
    eventually("it listens", SOON, || house.ctl(&["exec", "client", "pg_isready", "-qh", "db"]).code == 0);
    house.ctl(&words).ok().text().to_owned()
}

#[test]
fn postgresql_keeps_its_data_through_restarts_a_crash_and_a_replaced_container() {
    let house = house();
    house.ctl(&["network", "create", "back"]).ok();
    let start = || {
        let place = ["run", "-d", "--name", "db", "--network", "back", "-v", "data:/var/lib/postgresql"];
        house.ctl(&[&place[..], &["-u", "postgres", "services", "sh", "-c", DATABASE]].concat()).ok();
    };
    house.ctl(&["run", "-d", "--name", "client", "--network", "back", "services", "sleep", "600"]).ok();
    start();
    ask(&house, "CREATE TABLE kept (line text); INSERT INTO kept VALUES ('first')");

    house.ctl(&["stop", "db"]).ok();
    house.ctl(&["start", "db"]).ok();
    assert_eq!(ask(&house, "INSERT INTO kept VALUES ('second'); SELECT count(*) FROM kept"), "INSERT 0 1\n2");
    house.ctl(&["kill", "db"]).ok();
    house.ctl(&["wait", "db"]).ok();
    house.ctl(&["start", "db"]).ok();
    assert_eq!(ask(&house, "SELECT string_agg(line, ' ') FROM kept"), "first second");
    house.ctl(&["rm", "-f", "db"]).ok();
    start();

    assert_eq!(ask(&house, "SELECT string_agg(line, ' ') FROM kept"), "first second");
    let log = house.ctl(&["logs", "db"]).ok();
    assert!(log.stderr.contains("database system is ready"), "{log:?}");
}

/// Bytes that arrived, as iperf3 tells them.
fn arrived(output: &Output) -> f64 {
    let report: Value = serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    let end = &report["end"];
    let sum = end.get("sum_received").or(end.get("sum")).unwrap_or_else(|| panic!("{report}"));
    sum["bytes"].as_f64().unwrap_or_else(|| panic!("{report}"))
}

#[test]
fn iperf3_measures_between_containers_over_ipv6_alone_and_through_a_published_port() {
    let house = house();
    house.ctl(&["network", "create", "--ipv6", "--ipv4=false", "six"]).ok();
    for (name, flags) in [("near", &["--network", "six"][..]), ("far", &["-p", "5201:5201", "-p", "5201:5201/udp"])] {
        let words = [&["run", "-d", "--name", name][..], flags, &["services", "iperf3", "-s", "--forceflush"]].concat();
        house.ctl(&words).ok();
        eventually("it listens", SOON, || house.ctl(&["logs", name]).ok().stdout.contains("Server listening"));
    }
    let within = |flags: &[&str]| {
        let run = ["run", "--rm", "--network", "six", "services", "iperf3", "-J", "-c", "near"];
        house.ctl(&[&run[..], flags].concat()).ok()
    };
    let from_world = |flags: &[&str]| {
        let mut command = house.host().in_world("iperf3");
        command.args(["-J", "-c", HOST]).args(flags);
        Running::spawn(command).finish().ok()
    };

    for flags in [&["-n", "20M"][..], &["-n", "20M", "-R"], &["-n", "1M", "-u", "-b", "100M"]] {
        assert!(arrived(&within(flags)) > 0.9e6, "within, {flags:?}");
        assert!(arrived(&from_world(flags)) > 0.9e6, "from the world, {flags:?}");
    }
    let log = house.ctl(&["logs", "far"]).ok();
    assert!(log.stdout.contains(&format!("Accepted connection from {WORLD}")), "{}", log.stdout);
}

#[test]
fn a_server_of_names_behind_a_published_port_knows_who_asks() {
    let house = house();
    let serve = ["dnsmasq", "-k", "-q", "--no-resolv", "--no-hosts", "--log-facility=-", "--user=root"];
    let told = ["--address=/shop.example/192.0.2.7"];
    let run = ["run", "-d", "--name", "names", "-p", "53:53/udp", "-p", "53:53", "services"];
    house.ctl(&[&run[..], &serve, &told].concat()).ok();
    eventually("it listens", SOON, || house.ctl(&["logs", "names"]).ok().stderr.contains("started"));
    let script = format!(
        "
import socket
query = b'\\x12\\x34\\x01\\x00\\x00\\x01' + bytes(6) + b'\\x04shop\\x07example\\x00\\x00\\x01\\x00\\x01'
ask = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); ask.settimeout(2)
for _ in range(20):
    try:
        ask.sendto(query, ('{HOST}', 53)); answer, server = ask.recvfrom(512); break
    except TimeoutError: pass
print(server[0], '.'.join(str(byte) for byte in answer[-4:]))
stream = socket.create_connection(('{HOST}', 53), 5)
stream.sendall(len(query).to_bytes(2, 'big') + query)
print('.'.join(str(byte) for byte in stream.recv(512)[-4:]))
"
    );

    let mut command = house.host().in_world("python3");
    command.args(["-c", &script]);
    let said = Running::spawn(command).finish().ok();

    assert_eq!(said.text(), format!("{HOST} 192.0.2.7\n192.0.2.7"));
    let line = format!("query[A] shop.example from {WORLD}");
    eventually("it is in the log", SOON, || house.ctl(&["logs", "names"]).ok().stderr.contains(&line));
}
