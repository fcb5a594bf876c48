//! A bundle of this host's shell and a few programs, and the engine called on it as others call it.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::{Arc, Mutex, PoisonError, Weak},
};

use serde_json::{Value, json};
use tempfile::TempDir;

/// What scripts of tests may call.
const PROGRAMS: [&str; 26] = [
    "/bin/sh",
    "/bin/cat",
    "/bin/chmod",
    "/bin/dd",
    "/bin/grep",
    "/bin/hostname",
    "/bin/ln",
    "/bin/ls",
    "/bin/mkdir",
    "/bin/mknod",
    "/bin/mount",
    "/bin/readlink",
    "/bin/rm",
    "/bin/sleep",
    "/bin/stat",
    "/bin/stty",
    "/bin/touch",
    "/bin/uname",
    "/usr/bin/chrt",
    "/usr/bin/env",
    "/usr/bin/id",
    "/usr/bin/ionice",
    "/usr/bin/nice",
    "/usr/bin/nproc",
    "/usr/bin/taskset",
    "/usr/bin/tty",
];

/// A bundle with a container named `c`; dropped, nothing of it is left.
pub struct Bundle {
    directory: TempDir,
    _template: Arc<TempDir>,
}

impl Bundle {
    /// The spec that `strata-oci spec` writes, without a terminal, with this script and these changes.
    pub fn new(script: &str, change: impl FnOnce(&mut Value)) -> Self {
        assert!(rustix::process::geteuid().is_root(), "this test needs root");
        let template = template();
        let bundle = Self { directory: tempfile::tempdir_in("/var/tmp").unwrap(), _template: template.clone() };
        // Others than root may look inside: containers with user namespaces do.
        fs::set_permissions(bundle.directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        link(template.path(), &bundle.path("rootfs"));
        assert!(bundle.call(&["spec", "--bundle", bundle.dir()]).status.success());
        let mut spec: Value = serde_json::from_slice(&fs::read(bundle.path("config.json")).unwrap()).unwrap();
        spec["process"]["terminal"] = json!(false);
        spec["process"]["args"] = json!(["/bin/sh", "-c", script]);
        spec["linux"]["resources"]["pids"] = json!({"limit": 32});
        spec["linux"]["cgroupsPath"] = json!(format!("/strata-cli-{}/x", bundle.id()));
        change(&mut spec);
        fs::write(bundle.path("config.json"), spec.to_string()).unwrap();
        bundle
    }

    /// Changes the spec, for what has to know where the bundle is.
    pub fn edit(self, change: impl FnOnce(&mut Value, &Self)) -> Self {
        let mut spec: Value = serde_json::from_slice(&fs::read(self.path("config.json")).unwrap()).unwrap();
        change(&mut spec, &self);
        fs::write(self.path("config.json"), spec.to_string()).unwrap();
        self
    }

    /// The bundle's directory, as an argument.
    pub fn dir(&self) -> &str {
        self.directory.path().to_str().unwrap()
    }

    /// A path below it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A text that no other bundle has.
    pub fn id(&self) -> String {
        self.directory.path().file_name().unwrap().to_str().unwrap().trim_start_matches('.').to_owned()
    }

    /// The engine, with the bundle's own state directory, ready for arguments.
    pub fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_strata-oci"));
        command.arg("--root").arg(self.path("state")).stdin(Stdio::null());
        command
    }

    /// Calls the engine.
    pub fn call(&self, arguments: &[&str]) -> Output {
        self.command().args(arguments).output().unwrap()
    }

    /// Calls the engine for a process that outlives the call and would hold a pipe.
    pub fn call_without_output(&self, arguments: &[&str]) {
        let mut command = self.command();
        assert!(command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success());
    }

    /// Calls the engine: standard output, or standard error where it failed.
    pub fn strata(&self, arguments: &[&str]) -> Result<String, String> {
        let output = self.call(arguments);
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
    }

    /// Runs the container in the foreground.
    pub fn run(&self) -> Output {
        self.call(&["run", "--bundle", self.dir(), "c"])
    }

    /// Runs it, and returns what it wrote; it must end with status 0 and without a word on standard error.
    pub fn output(&self) -> String {
        let output = self.run();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && error.is_empty(), "{}: {error}", output.status);
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs it, and returns the error of the engine, which must leave nothing behind.
    pub fn refused(&self) -> String {
        let output = self.run();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert_eq!(fs::read_dir(self.path("state")).map_or(0, Iterator::count), 0, "state is left");
        assert_eq!(self.cgroups(), 0, "a cgroup is left");
        String::from_utf8(output.stderr).unwrap()
    }

    /// Creates with the container's output in the file `output`: its end of a pipe would stay open.
    pub fn create(&self) -> bool {
        let output = fs::File::create(self.path("output")).unwrap();
        let mut command = self.command();
        command.args(["create", "--bundle", self.dir(), "c"]);
        command.stderr(output.try_clone().unwrap()).stdout(output);
        command.status().unwrap().success()
    }

    /// Creates and starts; the container is expected to go on.
    pub fn start(&self) {
        assert!(self.create(), "{}", fs::read_to_string(self.path("output")).unwrap());
        self.strata(&["start", "c"]).unwrap();
    }

    /// The state document.
    pub fn state(&self) -> Value {
        serde_json::from_str(&self.strata(&["state", "c"]).unwrap()).unwrap()
    }

    /// Its status.
    pub fn status(&self) -> String {
        self.state()["status"].as_str().unwrap().to_owned()
    }

    /// Waits until the status is `status`.
    pub fn wait_for(&self, status: &str) {
        for _ in 0..500 {
            if self.status() == status {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("the container is {}, not {status}", self.status());
    }

    /// Waits until what the container wrote has `text` in it.
    pub fn wait_for_output(&self, text: &str) {
        self.wait_until(text, || fs::read_to_string(self.path("output")).unwrap().contains(text));
    }

    /// Waits until a file below the bundle has this content.
    pub fn wait_for_file(&self, name: &str, text: &str) {
        self.wait_until(name, || fs::read_to_string(self.path(name)).is_ok_and(|have| have == text));
    }

    /// Waits until the container has this many processes.
    pub fn wait_for_processes(&self, count: usize) {
        self.wait_until("processes", || {
            let pids: Vec<i32> = serde_json::from_str(&self.strata(&["ps", "-f", "json", "c"]).unwrap()).unwrap();
            pids.len() == count
        });
    }

    /// Waits until something is so.
    pub fn wait_until(&self, what: &str, is_so: impl Fn() -> bool) {
        for _ in 0..1000 {
            if is_so() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("waited in vain for {what}");
    }

    /// How many cgroups of the container there are.
    pub fn cgroups(&self) -> usize {
        let name = format!("strata-cli-{}/x", self.id());
        let hierarchies = fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|entry| entry.path());
        hierarchies.chain([PathBuf::from("/sys/fs/cgroup")]).filter(|path| path.join(&name).is_dir()).count()
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        self.call(&["delete", "--force", "c"]);
        let name = format!("strata-cli-{}", self.id());
        let hierarchies = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten().map(|entry| entry.path());
        hierarchies.chain([PathBuf::from("/sys/fs/cgroup")]).for_each(|path| drop(fs::remove_dir(path.join(&name))));
    }
}

/// A root file system of the programs and what they load: made once, and gone with the last that holds it.
pub fn template() -> Arc<TempDir> {
    static TEMPLATE: Mutex<Weak<TempDir>> = Mutex::new(Weak::new());
    let mut template = TEMPLATE.lock().unwrap_or_else(PoisonError::into_inner);
    template.upgrade().unwrap_or_else(|| {
        let rootfs = Arc::new(tempfile::tempdir_in("/var/tmp").unwrap());
        PROGRAMS.iter().for_each(|program| install(Path::new(program), rootfs.path()));
        *template = Arc::downgrade(&rootfs);
        rootfs
    })
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

/// The same tree again, of hard links.
fn link(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => link(&entry.path(), &target),
            false => fs::hard_link(entry.path(), target).unwrap(),
        }
    }
}
