//! Who keeps the output of containers: `--log-driver`, `--log-opt`, and what the runtime is configured for.

use std::{
    fs,
    io::{self, Read},
    net::{TcpListener, UdpSocket},
    os::unix::net::{UnixDatagram, UnixListener},
    time::Duration,
};

use serde_json::{Value, json};
use strata_tests::{House, Output, eventually};

const SOON: Duration = Duration::from_secs(30);

/// Runs a container to its end, and leaves it there.
fn run(house: &House, name: &str, flags: &[&str], words: &[&str]) -> Output {
    house.ctl(&[&["run", "--name", name], flags, &["guest", "/guest"], words].concat())
}

/// The flags of a driver and its options.
fn log<'a>(driver: &'a str, options: &[&'a str]) -> Vec<&'a str> {
    let options = options.iter().flat_map(|option| ["--log-opt", *option]);
    ["--log-driver", driver].into_iter().chain(options).collect()
}

/// `HostConfig.LogConfig` of a container.
fn config(house: &House, name: &str) -> Value {
    house.ctl(&["inspect", name]).ok().json()[0]["HostConfig"]["LogConfig"].clone()
}

/// Who connects to a listener that does not wait.
fn accepted<T>(mut accept: impl FnMut() -> io::Result<T>) -> T {
    let mut found = None;
    eventually("somebody connects", SOON, || {
        found = accept().ok();
        found.is_some()
    });
    found.expect("somebody did")
}

fn inspected(house: &House, name: &str, template: &str) -> String {
    house.ctl(&["inspect", "-f", template, name]).ok().text().to_owned()
}

/// A house whose runtime is configured so.
fn configured(settings: &str) -> House {
    let house = House::with_guest();
    assert_eq!(house.stop().len(), 0);
    house.configure_runtime(&format!("[networks]\ndefault = \"none\"\n{settings}"));
    house
}

fn names(house: &House, name: &str) -> Vec<String> {
    let dir = house.root().join("runtime/containers").join(inspected(house, name, "{{.Id}}"));
    let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut files: Vec<String> = files.filter(|file| file.starts_with("log.json")).collect();
    files.sort();
    files
}

#[test]
fn files_have_the_bounds_that_were_chosen() {
    let house = House::with_guest();
    let flags = log("json-file", &["max-size=1k", "max-file=3"]);
    run(&house, "web", &flags, &["spam", "500"]).ok();

    assert_eq!(names(&house, "web"), ["log.json", "log.json.1", "log.json.2"]);
    let kept = house.ctl(&["logs", "web"]).ok().stdout;
    assert!(kept.ends_with("line 499\n") && kept.lines().count() < 50, "{kept}");
    let expected = json!({"Type": "json-file", "Config": {"max-file": "3", "max-size": "1k"}});
    assert_eq!(config(&house, "web"), expected);
    assert!(inspected(&house, "web", "{{.LogPath}}").ends_with("/log.json"));
}

#[test]
fn older_files_are_compressed_and_read_as_the_others() {
    let house = House::with_guest();
    run(&house, "web", &log("local", &["max-size=1k", "max-file=50"]), &["spam", "300"]).ok();

    eventually("older files are compressed", SOON, || {
        let names = names(&house, "web");
        names.len() > 10 && names.iter().skip(1).all(|name| name.ends_with(".gz"))
    });
    let expected: String = (0..300).map(|number| format!("line {number}\n")).collect();
    assert_eq!(house.ctl(&["logs", "web"]).ok().stdout, expected);
    assert_eq!(house.ctl(&["logs", "-n", "200", "web"]).ok().stdout.lines().next(), Some("line 100"));
    assert_eq!(inspected(&house, "web", "{{.HostConfig.LogConfig.Type}}{{.LogPath}}"), "local");
    house.ctl(&["logs", "--clear", "web"]).ok();
    assert_eq!(names(&house, "web").len(), 0);
    assert_eq!(house.ctl(&["logs", "web"]).ok().stdout, "");
}

#[test]
fn a_container_without_a_log_says_so_and_is_heard_by_who_is_attached() {
    let house = House::with_guest();

    assert_eq!(run(&house, "web", &log("none", &[]), &["echo", "hello"]).ok().stdout, "hello\n");

    house.ctl(&["logs", "web"]).fails().complains(&["web", "keeps no log", "none"]);
    house.ctl(&["logs", "--clear", "web"]).fails().complains(&["keeps no log"]);
    assert_eq!(inspected(&house, "web", "{{.HostConfig.LogConfig.Type}}{{.LogPath}}"), "none");
    assert_eq!(names(&house, "web").len(), 0);
}

#[test]
fn unknown_drivers_and_options_say_which_there_are() {
    let house = House::with_guest();
    let refused = |flags: &[&str]| run(&house, "web", flags, &["noop"]).code(125);

    refused(&log("fluentd", &[])).complains(&["fluentd", "json-file, local, journald, syslog, none"]);
    refused(&log("json-file", &["max-sise=1m"])).complains(&["max-sise", "max-size", "max-file"]);
    refused(&log("json-file", &["max-size=many"])).complains(&["max-size", "many", "10m"]);
    refused(&log("syslog", &["syslog-address=tcp+tls://a"])).complains(&["TLS"]);
    refused(&log("syslog", &["syslog-format=xml"])).complains(&["xml", "rfc5424micro"]);
    refused(&log("json-file", &["tag={{.Nmae}}"])).complains(&["{{.Nmae}}", "{{.Name}}"]);
    refused(&["--log-opt", "max-size"]).complains(&["--log-opt", "NAME=VALUE"]);
    assert_eq!(house.ctl(&["ps", "-aq"]).ok().stdout, "", "nothing half made");
}

#[test]
fn the_configuration_says_what_becomes_of_logs_unless_flags_do() {
    let house = configured("[logs]\ndriver = \"local\"\noptions = { max-size = \"5m\", tag = \"{{.Name}}\" }\n");
    run(&house, "usual", &[], &["echo", "hello"]).ok();
    run(&house, "own", &["--log-opt", "max-size=6m"], &["noop"]).ok();
    run(&house, "other", &log("json-file", &[]), &["noop"]).ok();

    let local = |size: &str| json!({"Type": "local", "Config": {"max-size": size, "tag": "{{.Name}}"}});
    assert_eq!(config(&house, "usual"), local("5m"));
    assert_eq!(config(&house, "own"), local("6m"));
    assert_eq!(config(&house, "other"), json!({"Type": "json-file", "Config": {}}));
    assert_eq!(house.ctl(&["logs", "--details", "usual"]).ok().stdout, "tag=usual hello\n");
    house.ctl(&["info"]).ok().says(&["Logging Driver: local"]);
    assert_eq!(house.ctl(&["info", "--format", "{{.LoggingDriver}}"]).ok().text(), "local");
}

#[test]
fn a_configuration_that_no_container_could_have_is_refused() {
    for settings in ["[logs]\ndriver = \"splunk\"\n", "[logs]\noptions = { max-sice = \"1m\" }\n"] {
        let house = configured(settings);

        house.ctl(&["ps"]).fails();

        let log = fs::read_to_string(house.root().join("runtime/service.log")).unwrap();
        assert!(log.contains("splunk") || log.contains("max-sice"), "{log}");
    }
}

#[test]
fn syslog_gets_each_line_over_every_kind_of_socket() {
    let house = House::with_guest();
    let send = |name: &str, address: &str, format: &str| {
        let address = format!("syslog-address={address}");
        let flags = log("syslog", &[&address, format, "tag={{.Name}}", "syslog-facility=local0"]);
        run(&house, name, &flags, &["say", "left", "right"]).ok();
    };
    let check = |text: &str, name: &str| {
        // local0 is 16; of its eight, what was said is 6, and an error 3.
        let (out, error) = if text.contains("left") { ("<134>", "left") } else { ("<131>", "right") };
        assert!(text.starts_with(out) && text.contains(name) && text.ends_with(&format!("{error}\n")), "{text:?}");
    };

    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    udp.set_read_timeout(Some(SOON)).unwrap();
    send("udp", &format!("udp://{}", udp.local_addr().unwrap()), "syslog-format=rfc5424");
    let mut buffer = [0; 4096];
    for _ in 0..2 {
        let count = udp.recv(&mut buffer).unwrap();
        let text = String::from_utf8(buffer[..count].to_vec()).unwrap();
        assert_eq!(text.split(' ').nth(3), Some("udp"), "{text}");
        check(&text, "udp");
    }

    let path = house.path("datagrams");
    let datagrams = UnixDatagram::bind(&path).unwrap();
    datagrams.set_read_timeout(Some(SOON)).unwrap();
    send("grams", &format!("unixgram://{}", path.display()), "syslog-format=rfc3164");
    for _ in 0..2 {
        let count = datagrams.recv(&mut buffer).unwrap();
        check(std::str::from_utf8(&buffer[..count]).unwrap(), "grams[");
    }

    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    tcp.set_nonblocking(true).unwrap();
    send("tcp", &format!("tcp://{}", tcp.local_addr().unwrap()), "syslog-format=rfc5424micro");
    let mut text = String::new();
    accepted(|| tcp.accept()).0.read_to_string(&mut text).unwrap();
    assert_eq!(text.lines().count(), 2, "{text}");
    text.split_inclusive('\n').for_each(|line| check(line, " tcp "));

    let path = house.path("stream");
    let stream = UnixListener::bind(&path).unwrap();
    stream.set_nonblocking(true).unwrap();
    send("stream", &format!("unix://{}", path.display()), "syslog-format=");
    let mut text = String::new();
    accepted(|| stream.accept()).0.read_to_string(&mut text).unwrap();
    text.split_inclusive('\n').for_each(|line| check(line, "stream["));

    // All of it is here too.
    let here = house.ctl(&["logs", "stream"]).ok();
    assert_eq!((here.stdout.as_str(), here.stderr.as_str()), ("left\n", "right\n"));
}

#[test]
fn a_server_of_syslog_that_is_away_or_stands_still_does_not_hold_the_container_up() {
    let house = House::with_guest();
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let address = format!("syslog-address=tcp://{address}");
    run(&house, "away", &log("syslog", &[&address, "max-buffer-size=10k"]), &["spam", "3000"]).ok();

    let here = house.ctl(&["logs", "away"]).ok();
    assert!(here.stdout.contains("line 2999\n") && here.stdout.lines().count() == 3000);
    assert!(here.stderr.contains("[strata: 3000 messages were not taken by syslog and dropped]"), "{}", here.stderr);

    let path = house.path("still");
    let _nobody_reads = UnixListener::bind(&path).unwrap();
    for (name, mode) in [("goes", "mode=non-blocking"), ("waits", "mode=blocking")] {
        let address = format!("syslog-address=unix://{}", path.display());
        run(&house, name, &log("syslog", &[&address, mode]), &["spam", "50000"]).ok();

        assert_eq!(house.ctl(&["logs", name]).ok().stdout.lines().count(), 50_000);
        // What is still queued at the end has a moment to go.
        let is_noted = || house.ctl(&["logs", name]).ok().stderr.contains("not taken by syslog");
        eventually("it is noted what was dropped", SOON, is_noted);
    }
}

#[test]
fn the_journal_gets_each_line_with_dockers_fields_whatever_becomes_of_the_runtime() {
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    let path = dir.path().join("journal");
    let house = configured(&format!("[logs]\njournald_socket = {path:?}\n"));
    let journal = UnixDatagram::bind(&path).unwrap();
    journal.set_read_timeout(Some(SOON)).unwrap();
    let mut buffer = [0; 65_536];
    let mut next = || {
        let count = journal.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..count].to_vec()).unwrap()
    };
    let flags = [&log("journald", &["labels=team", "tag=it"])[..], &["--label", "team=red", "-d"]].concat();

    let id =
        run(&house, "web", &flags, &["then", "say", "left", "right", "+", "await", "/go", "+", "echo", "more"]).ok();

    let (one, other) = (next(), next());
    let (out, error) = if one.contains("MESSAGE=left\n") { (one, other) } else { (other, one) };
    for field in [
        format!("CONTAINER_ID_FULL={}\n", id.text()),
        format!("CONTAINER_ID={}\n", &id.text()[..12]),
        "CONTAINER_NAME=web\n".into(),
        "CONTAINER_TAG=it\n".into(),
        "IMAGE_NAME=guest\n".into(),
        "SYSLOG_IDENTIFIER=it\n".into(),
        "TEAM=red\n".into(),
        "PRIORITY=6\n".into(),
    ] {
        assert!(out.contains(&field), "no {field} in {out}");
    }
    assert!(error.contains("PRIORITY=3\n") && error.ends_with("MESSAGE=right\n"), "{error}");
    house.ctl(&["exec", "-d", "web", "/guest", "then", "sleep", "1", "+", "write", "/go", ""]).ok();
    assert!(house.crash("runtime"));
    assert!(next().ends_with("MESSAGE=more\n"));
    house.ctl(&["wait", "web"]).ok();
    assert_eq!(house.ctl(&["logs", "web"]).ok().stdout, "left\nmore\n");
    assert_eq!(inspected(&house, "web", "{{.HostConfig.LogConfig.Type}}{{.LogPath}}"), "journald");
}

#[test]
fn without_a_copy_here_what_was_sent_elsewhere_is_not_read() {
    let house = House::with_guest();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = format!("syslog-address=udp://{}", udp.local_addr().unwrap());

    run(&house, "web", &log("syslog", &[&address, "cache-disabled=true"]), &["echo", "hello"]).ok();

    house.ctl(&["logs", "web"]).fails().complains(&["keeps no log", "syslog"]);
    assert_eq!(names(&house, "web").len(), 0);
    let address = "syslog-address=udp://no.such.host.invalid";
    run(&house, "lost", &log("syslog", &[address]), &["noop"]).fails().complains(&["no.such.host.invalid"]);
}
