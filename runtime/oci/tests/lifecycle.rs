//! The command line against the kernel: a bundle made of this host's shell, from create to delete.
//! Needs root and a cgroup hierarchy.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::{Value, json};
use tempfile::TempDir;

struct Bundle {
    directory: TempDir,
}

impl Bundle {
    /// A default spec with this script, and a root file system of a shell and what it loads.
    fn new(script: &str, change: impl Fn(&mut Value)) -> Self {
        assert!(rustix::process::geteuid().is_root(), "this test needs root");
        let bundle = Self { directory: tempfile::tempdir_in("/var/tmp").unwrap() };
        let rootfs = bundle.path("rootfs");
        for program in ["/bin/sh", "/bin/sleep"] {
            install(Path::new(program), &rootfs);
        }
        assert!(bundle.strata_plain(&["spec", "--bundle", bundle.directory.path().to_str().unwrap()]).status.success());
        let mut spec: Value = serde_json::from_slice(&fs::read(bundle.path("config.json")).unwrap()).unwrap();
        spec["process"]["terminal"] = json!(false);
        spec["process"]["args"] = json!(["/bin/sh", "-c", script]);
        spec["linux"]["resources"]["pids"] = json!({"limit": 32});
        spec["linux"]["cgroupsPath"] = json!(format!("/strata-cli-{}/x", bundle.id()));
        change(&mut spec);
        fs::write(bundle.path("config.json"), spec.to_string()).unwrap();
        bundle
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn id(&self) -> String {
        self.directory.path().file_name().unwrap().to_str().unwrap().trim_start_matches('.').to_owned()
    }

    fn strata_plain(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_strata-oci"));
        command.arg("--root").arg(self.path("state")).args(arguments).stdin(Stdio::null());
        command.output().unwrap()
    }

    fn strata(&self, arguments: &[&str]) -> Result<String, String> {
        let output = self.strata_plain(arguments);
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
    }

    /// Creates with the container's output in a file: its end of a pipe would stay open.
    fn create(&self) -> bool {
        let output = fs::File::create(self.path("output")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_strata-oci"));
        command.arg("--root").arg(self.path("state")).args(["create", "--bundle"]).arg(self.directory.path()).arg("c");
        command.stdin(Stdio::null()).stderr(output.try_clone().unwrap()).stdout(output);
        command.status().unwrap().success()
    }

    fn status(&self) -> String {
        let state: Value = serde_json::from_str(&self.strata(&["state", "c"]).unwrap()).unwrap();
        state["status"].as_str().unwrap().to_owned()
    }

    fn cgroups(&self) -> usize {
        let name = format!("strata-cli-{}/x", self.id());
        let hierarchies = fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|entry| entry.path());
        hierarchies.chain([PathBuf::from("/sys/fs/cgroup")]).filter(|path| path.join(&name).is_dir()).count()
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        self.strata_plain(&["delete", "--force", "c"]);
        let name = format!("strata-cli-{}", self.id());
        let hierarchies = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten().map(|entry| entry.path());
        hierarchies.chain([PathBuf::from("/sys/fs/cgroup")]).for_each(|path| drop(fs::remove_dir(path.join(&name))));
    }
}

/// Copies a program and the libraries it loads.
fn install(program: &Path, rootfs: &Path) {
    let libraries = Command::new("ldd").arg(program).output().unwrap();
    let libraries = String::from_utf8(libraries.stdout).unwrap();
    let paths = libraries.split_whitespace().filter(|word| word.starts_with('/')).map(Path::new);
    for path in paths.chain([program]) {
        let target = rootfs.join(path.strip_prefix("/").unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(path, target).unwrap();
    }
}

#[test]
fn run_gives_the_containers_output_and_status_and_leaves_nothing() {
    let script = "echo pid $$; read name value rest < /proc/self/status; echo $name; exit 7";
    let bundle = Bundle::new(script, |_| {});

    let output = bundle.strata_plain(&["run", "--bundle", bundle.directory.path().to_str().unwrap(), "c"]);

    assert_eq!(output.status.code(), Some(7), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "pid 1\nName:\n");
    assert_eq!(fs::read_dir(bundle.path("state")).unwrap().count(), 0);
    assert_eq!(bundle.cgroups(), 0);
}

#[test]
fn a_container_goes_from_created_through_running_to_stopped_and_away() {
    let bundle = Bundle::new("echo started; exec sleep 100", |_| {});

    assert!(bundle.create(), "{}", fs::read_to_string(bundle.path("output")).unwrap());
    assert_eq!(bundle.status(), "created");
    assert_eq!(fs::read_to_string(bundle.path("output")).unwrap(), "", "nothing runs before start");
    assert!(bundle.cgroups() >= 1);
    assert!(!bundle.create(), "a name is used once");

    bundle.strata(&["start", "c"]).unwrap();
    assert_eq!(bundle.status(), "running");
    assert!(bundle.strata(&["start", "c"]).unwrap_err().contains("not in state created"));
    assert!(bundle.strata(&["delete", "c"]).unwrap_err().contains("is not stopped"));

    bundle.strata(&["kill", "c", "KILL"]).unwrap();
    for _ in 0..200 {
        if bundle.status() == "stopped" {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert_eq!(bundle.status(), "stopped");
    assert!(bundle.strata(&["kill", "c"]).unwrap_err().contains("is not running"));
    bundle.strata(&["delete", "c"]).unwrap();
    assert!(bundle.strata(&["state", "c"]).unwrap_err().contains("does not exist"));
    assert_eq!(bundle.cgroups(), 0);
}

#[test]
fn a_created_container_can_be_deleted_by_force() {
    let bundle = Bundle::new("true", |_| {});
    assert!(bundle.create());

    bundle.strata(&["delete", "--force", "c"]).unwrap();
    bundle.strata(&["delete", "--force", "c"]).unwrap();

    assert_eq!(bundle.cgroups(), 0);
}

#[test]
fn a_bad_spec_is_refused_by_field_and_leaves_nothing() {
    let bundle = Bundle::new("true", |spec| spec["process"]["env"] = json!(["FOO"]));

    let error = bundle.strata(&["run", "--bundle", bundle.directory.path().to_str().unwrap(), "c"]).unwrap_err();

    assert!(error.contains("process.env[0]: \"FOO\" is not of the form NAME=value"), "{error}");
    assert_eq!(fs::read_dir(bundle.path("state")).unwrap().count(), 0);
    assert_eq!(bundle.cgroups(), 0);
}

#[test]
fn commands_that_are_not_there_say_so() {
    let output = Command::new(env!("CARGO_BIN_EXE_strata-oci")).args(["checkpoint", "x"]).output().unwrap();

    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "strata-oci: not available yet: checkpoint\n");
}
