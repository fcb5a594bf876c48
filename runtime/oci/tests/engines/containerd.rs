//! containerd with its shim for runc, whose binary is this engine; called by ctr.

use std::{fs, process::Command};

use crate::work::{ENGINE, SERVER, Said, Work, call, call_in_terminal, demand, wait_for};

struct Containerd(Work);

impl Containerd {
    fn new() -> Self {
        demand("containerd", &["containerd", "ctr", "containerd-shim-runc-v2"]);
        let mut work = Work::new();
        let config = format!(
            "version = 2\nroot = {:?}\nstate = {:?}\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
             [grpc]\naddress = {:?}\n",
            work.path("root"),
            work.path("state"),
            work.path("socket")
        );
        fs::write(work.path("config.toml"), config).unwrap();
        let socket = work.path("socket");
        work.daemon(Command::new("containerd").arg("--config").arg(work.path("config.toml")), &socket);
        let containerd = Self(work);
        let image = crate::work::oci_archive(&containerd.0);
        containerd.call(&["images", "import", &image]).ok();
        containerd
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("ctr");
        command.arg("--address").arg(self.0.path("socket")).args(words);
        command
    }

    fn call(&self, words: &[&str]) -> Said {
        call(&self.command(words))
    }

    fn run(&self, options: &[&str], id: &str, words: &[&str]) -> Command {
        let cgroup = format!("{}/{id}", self.0.cgroup());
        let fixed = ["run", "--runc-binary", ENGINE, "--snapshotter", "native", "--cgroup", &cgroup];
        self.command(&[&fixed, options, &["docker.io/library/strata:test", id], words].concat())
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        self.call(&["tasks", "kill", "--signal", "KILL", "web"]);
        wait_for("the end", || !self.call(&["tasks", "ls"]).output.contains("RUNNING"));
        self.call(&["tasks", "delete", "web"]);
        self.call(&["containers", "delete", "web"]);
    }
}

#[test]
fn containerd_runs_executes_measures_and_kills_containers() {
    let containerd = Containerd::new();

    assert_eq!(call(&containerd.run(&["--rm"], "one", &["sh", "-c", "echo out"])).ok(), "out\n");
    call(&containerd.run(&["--rm"], "two", &["sh", "-c", "exit 3"])).failed(3);
    let absent = call(&containerd.run(&["--rm"], "three", &["absent"])).failed(1);
    assert!(absent.contains("cannot execute absent: no such file or directory"), "{absent}");
    let terminal = call_in_terminal(&containerd.run(&["--rm", "--tty"], "four", &["tty"]));
    assert!(terminal.ok().contains("/dev/pts/0"));

    call(&containerd.run(&["--detach"], "web", &["sh", "-c", SERVER])).ok();
    let exec =
        |id: &str, words: &[&str]| containerd.command(&[&["tasks", "exec", "--exec-id", id, "web"], words].concat());
    assert_eq!(call(&exec("a", &["sh", "-c", "echo $0"])).ok(), "sh\n");
    call(&exec("b", &["sh", "-c", "exit 5"])).failed(5);
    assert!(call(&exec("c", &["absent"])).failed(1).contains("cannot execute absent"));
    let terminal = containerd.command(&["tasks", "exec", "--tty", "--exec-id", "d", "web", "tty"]);
    assert!(call_in_terminal(&terminal).ok().contains("/dev/pts/"));
    let metrics = containerd.call(&["tasks", "metrics", "web"]).ok();
    let figure = |name: &str| {
        let line = metrics.lines().find(|line| line.starts_with(name)).expect(name);
        line.split_whitespace().last().unwrap().parse::<u64>().unwrap()
    };
    assert!(figure("pids.current") >= 1, "{metrics}");
    // v1 and v2 have names of their own for it.
    let memory = metrics.lines().any(|line| line.starts_with("memory.usage"));
    assert!(memory, "{metrics}");
    containerd.call(&["tasks", "pause", "web"]).ok();
    assert!(containerd.call(&["tasks", "ls"]).ok().contains("PAUSED"));
    containerd.call(&["tasks", "resume", "web"]).ok();
    assert!(containerd.call(&["tasks", "ps", "web"]).ok().lines().count() > 1);
    containerd.call(&["tasks", "kill", "--signal", "TERM", "web"]).ok();
    wait_for("the end", || containerd.call(&["tasks", "ls"]).ok().contains("STOPPED"));
    assert!(containerd.call(&["tasks", "delete", "web"]).error.contains("non-zero exit code 7"));
    containerd.call(&["containers", "delete", "web"]).ok();
}
