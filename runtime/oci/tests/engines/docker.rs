//! dockerd with this engine as an added runtime.

use std::{fs, process::Command};

use crate::work::{ENGINE, SERVER, Said, Work, call, call_in_terminal, demand, wait_for};

struct Docker(Work);

impl Docker {
    fn new() -> Self {
        demand("docker.io", &["dockerd", "docker", "containerd"]);
        let mut work = Work::new();
        fs::write(work.path("daemon.json"), "{}").unwrap();
        let mut command = Command::new("dockerd");
        for (option, name) in
            [("--config-file", "daemon.json"), ("--data-root", "data"), ("--exec-root", "exec"), ("--pidfile", "pid")]
        {
            command.arg(option).arg(work.path(name));
        }
        command.arg(format!("--host=unix://{}", work.text("socket"))).arg(format!("--add-runtime=strata={ENGINE}"));
        command.args(["--bridge=none", "--iptables=false", "--ip6tables=false", "--storage-driver=vfs"]);
        command.arg(format!("--cgroup-parent={}", work.cgroup())).arg("--exec-opt=native.cgroupdriver=cgroupfs");
        let socket = work.path("socket");
        work.daemon(&mut command, &socket);
        let docker = Self(work);
        docker.call(&["import", &docker.0.tar(), "strata:test"]).ok();
        docker
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command.env("DOCKER_HOST", format!("unix://{}", self.0.text("socket")));
        command.env("DOCKER_CONFIG", self.0.path("client"));
        command.args(words);
        command
    }

    fn call(&self, words: &[&str]) -> Said {
        call(&self.command(words))
    }

    fn run(&self, options: &[&str], words: &[&str]) -> Command {
        let fixed = ["run", "--runtime", "strata", "--network", NETWORK];
        self.command(&[&fixed, options, &["strata:test"], words].concat())
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        self.call(&["rm", "--force", "web"]);
    }
}

/// A namespace of the container's own, which Docker sets up by a prestart hook.
const NETWORK: &str = "none";

#[test]
fn docker_runs_executes_measures_checks_and_stops_containers() {
    let docker = Docker::new();

    assert_eq!(call(&docker.run(&["--rm"], &["sh", "-c", "echo out"])).ok(), "out\n");
    call(&docker.run(&["--rm"], &["sh", "-c", "exit 3"])).failed(3);
    assert!(call(&docker.run(&["--rm"], &["absent"])).failed(127).contains("cannot execute absent"));
    let terminal = call_in_terminal(&docker.run(&["--rm", "-it"], &["sh", "-c", "tty; exit 4"]));
    assert!(terminal.output.contains("/dev/pts/0"), "{terminal:?}");
    terminal.failed(4);

    let options = ["--detach", "--name", "web", "--memory", "64m", "--cpus", "0.5", "--pids-limit", "40"];
    let health = ["--health-cmd", "ls /bin/sh", "--health-interval", "1s"];
    call(&docker.run(&[&options[..], &health].concat(), &["sh", "-c", SERVER])).ok();
    assert_eq!(docker.call(&["exec", "web", "sh", "-c", "echo $0"]).ok(), "sh\n");
    docker.call(&["exec", "web", "sh", "-c", "exit 5"]).failed(5);
    let absent = docker.call(&["exec", "web", "absent"]);
    assert!(format!("{absent:?}").contains("cannot execute absent"), "{absent:?}");
    let terminal = call_in_terminal(&docker.command(&["exec", "-it", "web", "tty"]));
    assert!(terminal.ok().contains("/dev/pts/"));
    let inspect = |format: &str| docker.call(&["inspect", "--format", format, "web"]).ok();
    wait_for("the health check", || inspect("{{.State.Health.Status}}") == "healthy\n");
    let stats = docker.call(&["stats", "--no-stream", "--format", "{{.MemUsage}}", "web"]).ok();
    assert!(stats.contains("/ 64MiB") && !stats.starts_with("0B"), "{stats}");
    assert!(docker.call(&["top", "web"]).ok().contains("sleep 0.05"));
    docker.call(&["pause", "web"]).ok();
    assert_eq!(inspect("{{.State.Status}}"), "paused\n");
    docker.call(&["unpause", "web"]).ok();
    docker.call(&["update", "--memory", "80m", "--memory-swap", "160m", "web"]).ok();
    assert!(docker.call(&["stats", "--no-stream", "--format", "{{.MemUsage}}", "web"]).ok().contains("/ 80MiB"));
    docker.call(&["stop", "--time", "30", "web"]).ok();
    assert_eq!(inspect("{{.State.ExitCode}}"), "7\n");
    docker.call(&["rm", "web"]).ok();
}
