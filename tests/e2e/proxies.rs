//! What answers names and passes on ports outlives the runtime, and ends with the containers. Each test is a host of its own.

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use strata_tests::{House, Running, eventually, host::HOST};

use crate::tenant::{Ids, Tenant};

const SOON: Duration = Duration::from_secs(20);

fn guest() -> String {
    strata_tests::guest().to_string_lossy().into_owned()
}

/// Starts a container that waits, and returns its first process.
#[track_caller]
fn sleeper(house: &House, name: &str) -> String {
    house.ctl(&["run", "-d", "--name", name, "--network", "net", "guest", "/guest", "sleep", "600"]).ok();
    house.ctl(&["inspect", "-f", "{{.State.Pid}}", name]).ok().text().to_owned()
}

#[track_caller]
fn address(house: &House, name: &str) -> String {
    house.ctl(&["inspect", "-f", "{{.NetworkSettings.Networks.net.IPAddress}}", name]).ok().text().to_owned()
}

/// What a container hears of a name, whatever becomes of the services.
fn look_up(pid: &str, name: &str) -> String {
    let mut command = Command::new("nsenter");
    command.args(["-t", pid, "-m", "-n", "/guest", "look-up", name, "A"]);
    let said = Running::spawn(command).finish();
    if said.code == 0 { said.text().to_owned() } else { said.stderr }
}

fn kill(pid: &str) {
    assert!(Command::new("kill").args(["-9", pid]).status().unwrap().success());
}

/// The one process that keeps names and ports.
#[track_caller]
fn proxy(house: &House) -> i32 {
    let proxies = house.proxies();
    assert_eq!(proxies.len(), 1, "{proxies:?}");
    proxies[0].pid
}

fn has_runtime(house: &House) -> bool {
    house.services().iter().any(|trace| trace.program() == "strata-runtime")
}

/// A connection that stays.
struct Talk(Running);

impl Talk {
    #[track_caller]
    fn begin(mut command: Command, address: &str, port: &str) -> Self {
        command.args(["talk", address, port]).stdin(Stdio::piped());
        let mut talk = Self(Running::spawn(command));
        talk.say("hello");
        talk
    }

    #[track_caller]
    fn say(&mut self, word: &str) {
        self.0.write(format!("{word}\n").as_bytes());
        self.0.wait_for(word);
    }
}

#[test]
fn names_are_answered_while_there_is_no_runtime_and_all_ends_with_the_containers() {
    let house = House::with_network();
    house.ctl(&["network", "create", "--internal", "net"]).ok();
    let (web, app) = (sleeper(&house, "web"), sleeper(&house, "app"));
    let (found, before) = (format!("NOERROR\n{}", address(&house, "web")), proxy(&house));

    assert!(house.crash("runtime"));
    for _ in 0..20 {
        assert_eq!(look_up(&app, "web"), found);
    }
    assert!(!has_runtime(&house), "nobody has started it");
    house.ctl(&["ps"]).ok();
    let new = sleeper(&house, "new");
    assert_eq!(look_up(&app, "web"), found);
    assert_eq!(look_up(&new, "app"), format!("NOERROR\n{}", address(&house, "app")));
    assert_eq!(proxy(&house), before, "the next runtime finds it");

    // Without a runtime it sees the ends of containers itself.
    assert!(house.crash("runtime"));
    kill(&web);
    eventually("who has ended is not known", SOON, || look_up(&app, "web") == "NXDOMAIN");
    assert_eq!(proxy(&house), before);
    kill(&app);
    kill(&new);
    eventually("nothing is left", SOON, || house.proxies().is_empty());
    assert!(!has_runtime(&house));
    house.ctl(&["rm", "-f", "web", "app", "new"]).ok();
}

#[test]
fn names_and_ports_come_back_when_what_keeps_them_is_killed() {
    let house = House::with_network();
    house.ctl(&["network", "create", "net"]).ok();
    let flags = ["--network", "net", "-p", "8080:80"];
    house.ctl(&[&["run", "-d", "--name", "web"], &flags[..], &["guest", "/guest", "serve", "80"]].concat()).ok();
    let app = sleeper(&house, "app");
    let found = format!("NOERROR\n{}", address(&house, "web"));
    let from_host = || {
        let mut command = house.host().on_host(guest());
        command.args(["ask", "::1", "8080"]);
        Running::spawn(command).finish().code
    };
    eventually("it listens", SOON, || from_host() == 0);

    for _ in 0..2 {
        let before = proxy(&house);
        kill(&before.to_string());
        eventually("names are answered again", SOON, || look_up(&app, "web") == found);
        eventually("the port leads there again", SOON, || from_host() == 0);
        assert_ne!(proxy(&house), before);
    }

    // One that died while no runtime was there.
    assert!(house.crash("runtime"));
    kill(&proxy(&house).to_string());
    house.ctl(&["ps"]).ok();
    eventually("names are answered again", SOON, || look_up(&app, "web") == found);
    eventually("the port leads there again", SOON, || from_host() == 0);
    house.ctl(&["rm", "-f", "web"]).ok();
    proxy(&house);
    house.ctl(&["rm", "-f", "app"]).ok();
    eventually("nothing is left", SOON, || house.proxies().is_empty());
}

#[test]
fn a_connection_through_a_port_stays_while_runtimes_come_and_go() {
    let house = House::with_network();
    let run = ["run", "-d", "--name", "web", "-p", "8080:80", "guest", "/guest", "echo-streams", "80"];
    house.ctl(&run).ok();
    eventually("it listens", SOON, || house.ctl(&["logs", "web"]).ok().stdout.contains("ready"));
    let mut talk = Talk::begin(house.host().on_host(guest()), "::1", "8080");

    assert!(house.crash("runtime"));
    talk.say("killed");
    Talk::begin(house.host().on_host(guest()), "::1", "8080").say("another");
    assert!(!has_runtime(&house));
    house.ctl(&["ps"]).ok();
    talk.say("started");
    assert!(house.stop().is_empty());
    talk.say("stopped");
    // Its last port is closed: connections that are there stay.
    house.ctl(&["container", "unpublish", "web", "8080:80"]).ok();
    talk.say("closed");
    let mut late = house.host().on_host(guest());
    late.args(["talk", "::1", "8080"]);
    Running::spawn(late).finish().code(99).complains(&["refused"]);
}

#[test]
fn a_connection_through_a_port_of_a_user_stays_while_runtimes_come_and_go() {
    let tenant = Tenant::with_network(Ids::Single);
    let run = ["run", "-d", "--name", "web", "-p", "8080:80", "guest", "/guest", "echo-streams", "80"];
    tenant.ctl(&run).ok();
    eventually("it listens", SOON, || tenant.ctl(&["logs", "web"]).ok().stdout.contains("ready"));
    let mut talk = Talk::begin(tenant.house.host().in_world(guest()), HOST, "8080");
    let before = proxy(&tenant.house);

    assert!(tenant.house.crash("runtime"));
    talk.say("killed");
    Talk::begin(tenant.house.host().in_world(guest()), HOST, "8080").say("another");
    assert!(!has_runtime(&tenant.house));
    tenant.ctl(&["ps"]).ok();
    talk.say("started");
    assert_eq!(proxy(&tenant.house), before);
    drop(talk);
    tenant.ctl(&["rm", "-f", "web"]).ok();
    eventually("nothing is left", SOON, || tenant.house.proxies().is_empty());
}

/// What listens in its place, and says that it speaks another version.
const STRANGER: &str = "
import socket, struct, sys
open('/proc/self/comm', 'w').write('strata-proxy')
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1]); listener.listen(); print('ready', flush=True)
peer, _ = listener.accept()
peer.recv(4096)
message = b'{\"version\":0,\"containers\":[],\"more\":1}'
peer.sendall(struct.pack('>I', len(message)) + message)
listener.accept()
";

#[test]
fn one_that_speaks_another_version_is_replaced() {
    let house = House::with_network();
    house.ctl(&["network", "create", "net"]).ok();
    let socket = house.run_dir().join("runtime/proxy.sock");
    let mut command = house.host().on_host("python3");
    command.args(["-c", STRANGER, socket.to_str().unwrap()]);
    let mut stranger = Running::spawn(command);
    stranger.wait_for("ready");

    let web = sleeper(&house, "web");

    assert_eq!(look_up(&web, "web"), format!("NOERROR\n{}", address(&house, "web")));
    assert!(!stranger.is_running(), "it was told to end");
    proxy(&house);
}

/// It needs to enter network namespaces and to speak in the name of clients, and is not given what the runtime may do.
#[test]
fn it_has_few_capabilities_and_no_descriptor_of_the_runtime() {
    let house = House::with_network();
    house.ctl(&["network", "create", "net"]).ok();
    sleeper(&house, "web");

    let pid = proxy(&house);

    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    // CAP_NET_ADMIN is 12, CAP_SYS_ADMIN 21.
    let held = format!("{:016x}", (1_u64 << 12) | (1 << 21));
    for line in [format!("CapPrm:\t{held}"), format!("CapEff:\t{held}"), "NoNewPrivs:\t1".to_owned()] {
        assert!(status.lines().any(|seen| seen == line), "no {line:?} in {status}");
    }
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let links = descriptors.filter_map(|entry| std::fs::read_link(entry.path()).ok());
    let files: Vec<_> = links.filter(|link| link.starts_with(house.root())).collect();
    assert_eq!(files, [house.root().join("runtime/service.log")]);
}
