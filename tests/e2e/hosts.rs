//! Three hosts, as network namespaces: ctl; the builder; the node with store and runtime. They share no path, only mutual TLS.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use strata_tests::{Context, House, Running, Steps, Tar, eventually};

/// Three namespaces on one bridge; everything is removed at the end.
struct Hosts {
    names: [String; 3],
    bridge: String,
    addresses: [String; 3],
}

fn ip(words: &str) {
    let output = Command::new("ip").args(words.split(' ')).output().expect("iproute2 is installed");
    assert!(output.status.success(), "ip {words}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Hosts {
    fn new() -> Self {
        let tag = std::process::id() % 100_000;
        let hosts = Self {
            names: ["ctl", "build", "node"].map(|role| format!("strata-{role}-{tag}")),
            bridge: format!("stbr{tag}"),
            addresses: [1, 2, 3].map(|n| format!("10.213.77.{n}")),
        };
        ip(&format!("link add {} type bridge", hosts.bridge));
        ip(&format!("link set {} up", hosts.bridge));
        for (index, (name, address)) in hosts.names.iter().zip(&hosts.addresses).enumerate() {
            let (outer, inner) = (format!("st{index}o{tag}"), format!("st{index}i{tag}"));
            ip(&format!("netns add {name}"));
            ip(&format!("link add {outer} type veth peer name {inner} netns {name}"));
            ip(&format!("link set {outer} master {} up", hosts.bridge));
            ip(&format!("-n {name} addr add {address}/24 dev {inner}"));
            ip(&format!("-n {name} link set {inner} up"));
            ip(&format!("-n {name} link set lo up"));
        }
        hosts
    }

    /// A program on one of the hosts. Each has files of its own: the others' directories are hidden.
    fn command(&self, host: usize, hidden: &[&Path], house: &House, program: &Path, args: &[String]) -> Command {
        // Not `ip netns exec`: it mounts another /sys, in which a host would have no cgroups. The mount namespace is the
        // host's own, so what is hidden there is hidden there only.
        let mut command = house.command("nsenter");
        let hide: String = hidden.iter().map(|dir| format!("mount -t tmpfs none {}; ", dir.display())).collect();
        let script = format!("set -e; {hide}exec \"$0\" \"$@\"");
        command.arg(format!("--net=/run/netns/{}", self.names[host]));
        command.args(["unshare", "--mount", "--propagation", "private", "sh", "-c", &script]).arg(program).args(args);
        command
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for name in &self.names {
            let _ = Command::new("ip").args(["netns", "del", name]).status();
        }
        let _ = Command::new("ip").args(["link", "del", &self.bridge]).status();
    }
}

struct Service(Child);

impl Drop for Service {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let start = std::time::Instant::now();
        while matches!(self.0.try_wait(), Ok(None)) && start.elapsed() < Duration::from_secs(35) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn strings<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.map(str::to_owned).to_vec()
}

#[test]
fn three_hosts_build_and_run_and_share_no_path() {
    let hosts = Hosts::new();
    let house = House::start();
    let binaries = strata_tests::binaries();
    let [ctl_dir, build_dir, node_dir] = ["host-ctl", "host-build", "host-node"].map(|name| house.path(name));
    for dir in [&ctl_dir, &build_dir, &node_dir] {
        std::fs::create_dir(dir).unwrap();
    }
    let tls = ctl_dir.join("tls");
    let words = ["tls", "init", tls.to_str().unwrap(), "--host", &hosts.addresses[1], "--host", &hosts.addresses[2]];
    house.ctl(&words).ok();
    // Each host gets what is its own: the authority's certificate and a pair.
    for dir in [&build_dir, &node_dir] {
        let services: &[&str] = if dir == &build_dir { &["builder"] } else { &["store", "runtime"] };
        let pairs = services.iter().flat_map(|name| [format!("{name}.pem"), format!("{name}.key")]);
        for file in pairs.chain(["ca.pem".to_owned()]) {
            std::fs::copy(tls.join(&file), dir.join(&file)).unwrap_or_else(|err| panic!("{file}: {err}"));
        }
    }
    let endpoint = |host: usize, port: u16| format!("tcp:{}:{port}", hosts.addresses[host]);
    let client = |dir: &Path, name: &str| {
        format!("[tls]\nca = \"{0}/ca.pem\"\ncert = \"{0}/{name}.pem\"\nkey = \"{0}/{name}.key\"\n", dir.display())
    };
    let (store, runtime, builder) = (endpoint(2, 7001), endpoint(2, 7002), endpoint(1, 7003));
    std::fs::write(node_dir.join("runtime.toml"), format!("store = \"{store}\"\n{}", client(&node_dir, "runtime")))
        .unwrap();
    let both = format!("store = \"{store}\"\nruntime = \"{runtime}\"\n{}", client(&build_dir, "builder"));
    std::fs::write(build_dir.join("builder.toml"), both).unwrap();
    let start = |host: usize, dir: &PathBuf, hidden: &[&Path], name: &str, listen: &str, config: bool| {
        let dir_text = dir.display();
        let mut args = strings(["--listen", listen]);
        args.extend([format!("--root={dir_text}/{name}"), format!("--tls-ca={dir_text}/ca.pem")]);
        args.extend([format!("--tls-cert={dir_text}/{name}.pem"), format!("--tls-key={dir_text}/{name}.key")]);
        if config {
            args.push(format!("--config={dir_text}/{name}.toml"));
        }
        let mut command = hosts.command(host, hidden, &house, &binaries.join(format!("strata-{name}")), &args);
        command.env("STRATA_ROOT", dir).env("STRATA_RUN", dir.join("run"));
        let log = std::fs::File::create(dir.join(format!("{name}.log"))).unwrap();
        Service(command.current_dir(dir).stdout(Stdio::null()).stderr(log).spawn().unwrap())
    };
    let _store = start(2, &node_dir, &[&ctl_dir, &build_dir], "store", &store, false);
    let _runtime = start(2, &node_dir, &[&ctl_dir, &build_dir], "runtime", &runtime, true);
    let _builder = start(1, &build_dir, &[&ctl_dir, &node_dir], "builder", &builder, true);
    let ctl = |words: &[&str]| {
        let args: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let mut command = hosts.command(0, &[&build_dir, &node_dir], &house, &binaries.join("ctl"), &args);
        command.current_dir(&ctl_dir).env("STRATA_ROOT", ctl_dir.join("state")).env("STRATA_RUN", ctl_dir.join("run"));
        Running::spawn(command).finish()
    };
    let pem = |file: &str| tls.join(file).to_str().unwrap().to_owned();
    ctl(&[
        "context",
        "create",
        "fleet",
        "--store",
        &store,
        "--builder",
        &builder,
        "--runtime",
        &runtime,
        "--tls-ca",
        &pem("ca.pem"),
        "--tls-cert",
        &pem("client.pem"),
        "--tls-key",
        &pem("client.key"),
    ])
    .ok();
    ctl(&["context", "use", "fleet"]).ok();
    eventually("the services answer", Duration::from_secs(30), || ctl(&["version"]).code == 0);

    let tar = Tar::of_guest().write(ctl_dir.join("guest.tar"));
    ctl(&["import", tar.to_str().unwrap(), "guest"]).ok();
    let context = Context::new("FROM guest\nCOPY word /word\nRUN [\"/guest\", \"append\", \"/word\", \" and made on another\"]\nCMD [\"/guest\", \"read\", \"/word\"]\n").file("word", "sent from one host");
    ctl(&["build", "--progress", "plain", "-t", "far", context.arg()]).ok();
    let run = ctl(&["run", "--rm", "far"]).ok();
    assert_eq!(run.stdout, "sent from one host and made on another");
    Steps::of(&ctl(&["build", "--progress", "plain", "-t", "far", context.arg()]).ok()).all_cached();
    let piped = ctl(&["run", "-d", "--name", "far1", "far", "/guest", "tick", "3", "10"]).ok();
    assert_eq!(ctl(&["wait", piped.text()]).ok().text(), "0");
    assert_eq!(ctl(&["logs", "far1"]).ok().stdout, "tick 0\ntick 1\ntick 2\n");
    ctl(&["rm", "far1"]).ok();
    ctl(&["system", "verify"]).ok();

    assert!(!ctl_dir.join("state").exists(), "ctl kept no state of its own");
    assert!(
        !build_dir.join("store").exists() && !build_dir.join("runtime").exists(),
        "the builder's host has a builder only"
    );
    let nothing = ctl(&["run", "--rm", "-v", &format!("{}:/x", tar.display()), "far", "/guest", "stat", "/x"]);
    assert!(!nothing.stdout.contains("file of"), "a volume is a path of the node, where that file is not: {nothing:?}");
}
