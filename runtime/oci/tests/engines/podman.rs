//! podman with conmon: no daemon, a root of its own.

use std::{fs, process::Command};

use crate::work::{ENGINE, SERVER, Said, Work, call, call_in_terminal, demand, wait_for};

struct Podman(Work);

impl Podman {
    fn new() -> Self {
        demand("podman", &["podman", "conmon"]);
        let work = Work::new();
        // Without CAP_SYS_RESOURCE podman's default limits cannot be set; locks in shared memory would stay behind.
        let config = "[containers]\ndefault_ulimits = []\n[engine]\nlock_type = \"file\"\nevents_logger = \"file\"\n";
        fs::write(work.path("containers.conf"), config).unwrap();
        let podman = Self(work);
        podman.call(&["import", "--quiet", &podman.0.tar(), "strata:test"]).ok();
        podman
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("podman");
        command.env("CONTAINERS_CONF", self.0.path("containers.conf"));
        for (option, name) in [("--root", "root"), ("--runroot", "runroot"), ("--tmpdir", "tmp")] {
            command.arg(option).arg(self.0.path(name));
        }
        command.args(["--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--runtime", ENGINE]);
        command.args(words);
        command
    }

    fn call(&self, words: &[&str]) -> Said {
        call(&self.command(words))
    }

    fn run(&self, options: &[&str], words: &[&str]) -> Vec<String> {
        let cgroup = self.0.cgroup();
        let all = [&["run", "--network", "none", "--cgroup-parent", &cgroup], options, &["strata:test"], words];
        all.concat().into_iter().map(str::to_owned).collect()
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        self.call(&["rm", "--all", "--force", "--time", "0"]);
    }
}

#[test]
fn podman_runs_executes_measures_checks_and_stops_containers() {
    let podman = Podman::new();
    let run = |options: &[&str], words: &[&str]| {
        let words = podman.run(options, words);
        podman.command(&words.iter().map(String::as_str).collect::<Vec<_>>())
    };

    assert_eq!(call(&run(&["--rm"], &["sh", "-c", "echo out; exit 3"])).output, "out\n");
    call(&run(&["--rm"], &["sh", "-c", "exit 3"])).failed(3);
    assert!(call(&run(&["--rm"], &["absent"])).failed(127).contains("cannot execute absent"));
    // podman loses what a container with a terminal says in its last moment, with every runtime: it lives on a little.
    let terminal = call_in_terminal(&run(&["--rm", "-it"], &["sh", "-c", "tty; sleep 1; exit 4"]));
    assert!(terminal.output.contains("/dev/pts/0"), "{terminal:?}");
    terminal.failed(4);

    let options = ["--detach", "--name", "web", "--memory", "64m", "--pids-limit", "40", "--health-cmd", "ls /bin/sh"];
    call(&run(&[&options[..], &["--health-interval", "disable"]].concat(), &["sh", "-c", SERVER])).ok();
    assert_eq!(podman.call(&["exec", "web", "sh", "-c", "echo $0"]).ok(), "sh\n");
    podman.call(&["exec", "web", "sh", "-c", "exit 5"]).failed(5);
    podman.call(&["exec", "web", "absent"]).failed(127);
    let terminal = call_in_terminal(&podman.command(&["exec", "-it", "web", "tty"]));
    assert!(terminal.ok().contains("/dev/pts/"));
    podman.call(&["healthcheck", "run", "web"]).ok();
    assert_eq!(podman.call(&["inspect", "--format", "{{.State.Health.Status}}", "web"]).ok(), "healthy\n");
    let stats = podman.call(&["stats", "--no-stream", "--format", "{{.MemUsage}} {{.PIDs}}", "web"]).ok();
    assert!(stats.contains("/ 67.11MB") && !stats.starts_with("0B"), "{stats}");
    assert!(podman.call(&["top", "web"]).ok().contains("sleep 0.05"));
    podman.call(&["pause", "web"]).ok();
    assert_eq!(podman.call(&["inspect", "--format", "{{.State.Status}}", "web"]).ok(), "paused\n");
    podman.call(&["unpause", "web"]).ok();
    wait_for("the output", || podman.call(&["logs", "web"]).output == "on\n");
    podman.call(&["stop", "--time", "30", "web"]).ok();
    assert_eq!(podman.call(&["inspect", "--format", "{{.State.ExitCode}}", "web"]).ok(), "7\n");
    podman.call(&["rm", "web"]).ok();
}
