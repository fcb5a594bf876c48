//! Containers of a user without privileges and without an entry in passwd, and what a container with a user
//! namespace leaves on the host. Nothing is set up for the user but the bundle.

use std::{
    fs,
    io::{IoSliceMut, Read},
    mem::MaybeUninit,
    os::{
        fd::AsRawFd,
        unix::{
            fs::{MetadataExt, PermissionsExt, chown},
            net::{UnixListener, UnixStream},
            process::CommandExt,
        },
    },
    path::Path,
    process::{Command, Output, Stdio},
    sync::OnceLock,
};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde_json::{Value, json};

use crate::bundle::Bundle;

mod rows;

/// In nobody's passwd.
pub const USER: u32 = 54321;

/// A bundle that belongs to the user, with the spec that the user's `spec --rootless` wrote.
pub struct Rootless {
    pub bundle: Bundle,
}

impl Rootless {
    /// A bundle of the user's own.
    pub fn new(script: &str, change: impl FnOnce(&mut Value)) -> Self {
        let bundle = Bundle::new(script, |_| {});
        let path = bundle.path("config.json");
        fs::remove_file(&path).unwrap();
        give(Path::new(bundle.dir()), USER);
        let own = Self { bundle };
        own.strata(&["spec", "--rootless", "--bundle", own.bundle.dir()]).unwrap();
        let mut spec: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        spec["process"]["terminal"] = json!(false);
        spec["process"]["args"] = json!(["/bin/sh", "-c", script]);
        change(&mut spec);
        fs::write(&path, spec.to_string()).unwrap();
        own
    }

    /// Changes the spec, for what has to know what no other bundle has.
    pub fn edit(self, change: impl FnOnce(&mut Value, &str)) -> Self {
        let id = self.bundle.id();
        let bundle = self.bundle.edit(|spec, _| change(spec, &id));
        Self { bundle }
    }

    /// The engine as the user calls it.
    pub fn command(&self) -> Command {
        let mut command = as_user(USER, engine());
        command.arg("--root").arg(self.bundle.path("state"));
        command
    }

    /// Calls the engine.
    pub fn call(&self, arguments: &[&str]) -> Output {
        self.command().args(arguments).output().unwrap()
    }

    /// Standard output, or standard error where the engine failed.
    fn strata(&self, arguments: &[&str]) -> Result<String, String> {
        text(self.call(arguments))
    }

    /// Runs the container; it must end with status 0 and without a word on standard error.
    fn output(&self) -> String {
        let output = self.call(&["run", "--bundle", self.bundle.dir(), "c"]);
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        assert!(output.status.success(), "{output:?}");
        self.assert_gone();
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs the container, and returns the error of the engine, which must leave nothing behind.
    fn refused(&self) -> String {
        let output = self.call(&["run", "--bundle", self.bundle.dir(), "c"]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        self.assert_gone();
        String::from_utf8(output.stderr).unwrap()
    }

    fn assert_gone(&self) {
        assert_eq!(fs::read_dir(self.bundle.path("state")).map_or(0, Iterator::count), 0, "state is left");
    }

    /// Creates with the container's output in the file `output`: its end of a pipe would stay open.
    fn create(&self) {
        let output = fs::File::create(self.bundle.path("output")).unwrap();
        let mut command = self.command();
        command.args(["create", "--bundle", self.bundle.dir(), "c"]);
        command.stderr(output.try_clone().unwrap()).stdout(output);
        assert!(command.status().unwrap().success(), "{}", self.said());
    }

    /// What the container wrote so far.
    pub fn said(&self) -> String {
        fs::read_to_string(self.bundle.path("output")).unwrap()
    }

    /// Runs a script of root in a mount namespace of its own; `$RUN` in it runs the container as the user.
    fn in_private_mounts(&self, script: &str) -> Output {
        let (state, bundle) = (self.bundle.path("state"), self.bundle.dir());
        let user = format!("setpriv --reuid {USER} --regid {USER} --clear-groups");
        let run = format!("{user} {} --root {} run --bundle {bundle} c", engine(), state.display());
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-ec", script]);
        command.env("RUN", run).env("BUNDLE", bundle).stdin(Stdio::null()).output().unwrap()
    }
}

fn text(output: Output) -> Result<String, String> {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

/// The engine by a descriptor that children inherit: the user may be unable to walk to where it was built.
fn engine() -> &'static str {
    static ENGINE: OnceLock<(fs::File, String)> = OnceLock::new();
    let (_, path) = ENGINE.get_or_init(|| {
        let file = fs::File::open(env!("CARGO_BIN_EXE_strata-oci")).unwrap();
        rustix::io::fcntl_setfd(&file, rustix::io::FdFlags::empty()).unwrap();
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        (file, path)
    });
    path
}

/// A program as a user without groups and without an environment.
fn as_user(uid: u32, program: &str) -> Command {
    let mut command = Command::new(program);
    command.uid(uid).gid(uid).env_clear().env("PATH", "/usr/bin:/bin").stdin(Stdio::null());
    command
}

/// Gives directories away; the files in them are links to those of other bundles.
fn give(directory: &Path, uid: u32) {
    chown(directory, Some(uid), Some(uid)).unwrap();
    let entries = fs::read_dir(directory).unwrap().flatten();
    entries.filter(|entry| entry.file_type().unwrap().is_dir()).for_each(|entry| give(&entry.path(), uid));
}

/// Maps root inside to `outside`, and the 65535 ids after it.
fn map_ids(spec: &mut Value, outside: u32) {
    let map = json!([{"containerID": 0, "hostID": outside, "size": 65536}]);
    spec["linux"]["uidMappings"] = map.clone();
    spec["linux"]["gidMappings"] = map;
    spec["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
}

fn without_namespaces(spec: &mut Value, kinds: &[&str]) {
    let namespaces = spec["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.retain(|one| !kinds.contains(&one["type"].as_str().unwrap()));
}

/// Spec: config-linux.md, User namespace mappings: a user without privileges maps the own id, and nothing else is needed
#[test]
fn what_spec_rootless_wrote_runs_at_once_for_a_user_without_privileges() {
    let script = "read a b c < /proc/self/uid_map; echo $a $b $c; cat /proc/self/setgroups; id -u; id -g; hostname; \
                  echo x > /dev/null; cat /proc/sys/net/ipv4/ip_unprivileged_port_start";
    let bundle = Rootless::new(script, |_| {});

    assert_eq!(bundle.output(), format!("0 {USER} 1\ndeny\n0\n0\nstrata\n0\n"));
}

/// Spec: runtime.md, Operations: create, state, start, kill and delete work for a user without privileges
#[test]
fn a_user_creates_starts_kills_and_deletes_a_container() {
    let bundle = Rootless::new("echo started; exec sleep 100", |_| {});
    let status = || {
        let state: Value = serde_json::from_str(&bundle.strata(&["state", "c"]).unwrap()).unwrap();
        state["status"].as_str().unwrap().to_owned()
    };

    bundle.create();
    assert_eq!((status().as_str(), bundle.said().as_str()), ("created", ""));
    bundle.strata(&["start", "c"]).unwrap();
    assert_eq!(status(), "running");
    assert!(bundle.strata(&["delete", "c"]).unwrap_err().contains("not stopped"));
    bundle.bundle.wait_for_output("started\n");
    bundle.strata(&["kill", "c", "KILL"]).unwrap();
    bundle.bundle.wait_for("stopped");
    bundle.strata(&["delete", "c"]).unwrap();

    bundle.assert_gone();
    assert_eq!(bundle.said(), "started\n");
}

/// Spec: runtime.md, Operations: a user without privileges executes further processes in the own container
#[test]
fn a_user_executes_in_a_container_with_its_ids_and_its_limits() {
    let bundle = Rootless::new("exec sleep 100", |spec| spec["process"]["oomScoreAdj"] = json!(300));
    bundle.create();
    bundle.strata(&["start", "c"]).unwrap();
    let script = "id -u; read a b c < /proc/self/uid_map; echo $a $b $c; cat /proc/self/oom_score_adj; hostname; \
                  echo $(ls -d /proc/1); cat /proc/sys/kernel/hostname; : > /proc/1/oom_score_adj; echo $?";

    let said = bundle.strata(&["exec", "c", "/bin/sh", "-c", script]);
    let failed = bundle.call(&["exec", "c", "/bin/sh", "-c", "exit 7"]);
    let unmapped = bundle.strata(&["exec", "--user", "1", "c", "id"]).unwrap_err();
    let groups = bundle.strata(&["exec", "--additional-gids", "0", "c", "id"]).unwrap_err();

    assert_eq!(said.unwrap(), format!("0\n0 {USER} 1\n300\nstrata\n/proc/1\nstrata\n0\n"));
    assert_eq!(failed.status.code(), Some(7), "{failed:?}");
    assert!(unmapped.contains("process.user.uid: 1 is not mapped into the user namespace"), "{unmapped}");
    assert!(groups.contains("cannot set supplementary groups: a user namespace made without newgidmap"), "{groups}");
}

/// Spec: runtime.md, Kill: without a cgroup all processes of a container are those of its pid namespace
#[test]
fn processes_of_a_container_without_a_cgroup_are_listed_and_signalled() {
    let bundle = Rootless::new("trap 'exit 3' TERM; sleep 100 & wait; exit 4", |_| {});
    bundle.create();
    bundle.strata(&["start", "c"]).unwrap();
    let listed =
        || -> Vec<u64> { serde_json::from_str(&bundle.strata(&["ps", "--format", "json", "c"]).unwrap()).unwrap() };
    while listed().len() < 2 {
        std::thread::yield_now();
    }

    bundle.strata(&["kill", "--all", "c", "KILL"]).unwrap();

    bundle.bundle.wait_for("stopped");
    let paused = bundle.strata(&["pause", "c"]).unwrap_err();
    assert!(!paused.is_empty());
    bundle.strata(&["delete", "c"]).unwrap();
    bundle.assert_gone();
}

/// Spec: runtime-linux, Terminal: a user's console socket gets the terminal
#[test]
fn a_users_console_socket_gets_the_terminal() {
    let bundle = Rootless::new("tty; stat -c %u /dev/pts/0", |spec| spec["process"]["terminal"] = json!(true));
    let path = bundle.bundle.path("console.sock");
    let socket = UnixListener::bind(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    let path = path.to_str().unwrap();

    let made = bundle.call(&["create", "--console-socket", path, "--bundle", bundle.bundle.dir(), "c"]);
    assert!(made.status.success(), "{made:?}");
    let (stream, _) = socket.accept().unwrap();
    let mut terminal = receive_terminal(&stream);
    bundle.strata(&["start", "c"]).unwrap();

    let mut said = Vec::new();
    // EIO: the other end is closed.
    let _ = terminal.read_to_end(&mut said);
    assert_eq!(String::from_utf8_lossy(&said), "/dev/pts/0\r\n0\r\n");
}

fn receive_terminal(stream: &UnixStream) -> fs::File {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = [0; 64];
    recvmsg(stream, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, RecvFlags::CMSG_CLOEXEC).unwrap();
    let descriptors = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    fs::File::from(descriptors.unwrap())
}

#[test]
fn a_users_running_container_is_deleted_by_force() {
    let bundle = Rootless::new("exec sleep 100", |_| {});
    bundle.create();
    let pid = bundle.bundle.state()["pid"].as_u64().unwrap();

    bundle.strata(&["delete", "--force", "c"]).unwrap();

    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    assert!(stat.is_empty() || stat.contains(") Z "), "{stat}");
    bundle.assert_gone();
}

/// Spec: runtime.md, Errors: a spec without a user namespace is refused before anything is made for a user
#[test]
fn without_privileges_a_user_namespace_is_demanded_by_name() {
    let bundle = Rootless::new("true", |spec| {
        without_namespaces(spec, &["user"]);
        spec["linux"]["uidMappings"] = json!([]);
        spec["linux"]["gidMappings"] = json!([]);
    });

    let error = bundle.refused();

    assert!(error.contains(&format!("linux.namespaces: user {USER} has no privileges")), "{error}");
    assert!(error.contains("needs a user namespace"), "{error}");
}

/// Spec: config-linux.md, Cgroups: a limit that cannot be applied is an error that names it
#[test]
fn a_limit_without_a_delegated_cgroup_is_refused_by_field() {
    let bundle = Rootless::new("true", |spec| spec["linux"]["resources"] = json!({"memory": {"limit": 1 << 20}}));

    let error = bundle.refused();

    // On v1 nothing can be delegated, on v2 nothing was.
    assert!(error.contains("cannot apply linux.resources.memory.limit: "), "{error}");
    assert!(error.contains("rootless limits need cgroup v2") || error.contains("delegated to this user"), "{error}");
}

#[test]
fn device_rules_without_a_delegated_cgroup_are_dropped_with_a_note() {
    let rules = json!({"devices": [{"allow": false, "access": "rwm"}]});
    let bundle = Rootless::new("echo ran", |spec| spec["linux"]["resources"] = rules);

    let output = bundle.call(&["run", "--bundle", bundle.bundle.dir(), "c"]);

    assert_eq!(String::from_utf8_lossy(&output.stdout), "ran\n");
    let note = String::from_utf8_lossy(&output.stderr);
    assert!(note.contains("note: linux.resources.devices is not applied: "), "{note}");
}

#[test]
fn a_score_of_zero_that_may_not_be_set_is_dropped_with_a_note_and_any_other_is_refused() {
    let run = |score: i32| {
        let bundle =
            Rootless::new("cat /proc/self/oom_score_adj", |spec| spec["process"]["oomScoreAdj"] = json!(score));
        bundle.in_private_mounts("echo 500 > /proc/self/oom_score_adj; exec env -i $RUN")
    };

    let (zero, other) = (run(0), run(-5));

    assert_eq!(String::from_utf8_lossy(&zero.stdout), "500\n", "{zero:?}");
    let note = String::from_utf8_lossy(&zero.stderr).into_owned();
    assert!(note.contains("note: process.oomScoreAdj: it stays 500"), "{note}");
    assert_eq!(other.status.code(), Some(1), "{other:?}");
    let error = String::from_utf8_lossy(&other.stderr).into_owned();
    assert!(error.contains("process.oomScoreAdj to -5: it may not be lowered without CAP_SYS_RESOURCE"), "{error}");
}

/// Spec: config-linux.md, Namespaces: with the network of the host a user's container sees its sysfs, read-only
#[test]
fn without_a_network_namespace_the_sysfs_of_the_host_is_bound_read_only() {
    let bundle = Rootless::new("ls /sys/class/net; : > /sys/kernel/uevent_seqnum", |spec| {
        without_namespaces(spec, &["network"]);
        spec["linux"]["sysctl"] = json!({});
    });

    let output = bundle.call(&["run", "--bundle", bundle.bundle.dir(), "c"]);

    let host: String = names(Path::new("/sys/class/net")).concat();
    assert_eq!(String::from_utf8_lossy(&output.stdout).replace('\n', ""), host, "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("Read-only file system"), "{output:?}");
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Spec: config.md, Mounts: a read-only bind in a user namespace keeps what the source's mount forbids
#[test]
fn a_bind_keeps_the_flags_of_its_source_that_are_locked() {
    let options = json!(["rbind", "ro", "relatime"]);
    let bundle = Rootless::new(
        "while read a b c d point flags rest; do echo $point $flags; done < /proc/self/mountinfo",
        |spec| {
            let mount = json!({"destination": "/locked", "type": "bind", "source": "locked", "options": options});
            spec["mounts"].as_array_mut().unwrap().push(mount);
        },
    );
    fs::create_dir(bundle.bundle.path("locked")).unwrap();

    let script = "mount -t tmpfs -o nosuid,nodev,noexec,noatime t $BUNDLE/locked; exec env -i $RUN";
    let output = bundle.in_private_mounts(script);

    let mounts = text(output).unwrap();
    assert!(mounts.contains("/locked ro,nosuid,nodev,noexec,noatime\n"), "{mounts}");
}

#[test]
fn a_bind_that_would_undo_a_locked_flag_is_refused() {
    let bundle = Rootless::new("true", |spec| {
        let mount = json!({"destination": "/locked", "type": "bind", "source": "locked", "options": ["rbind", "rw"]});
        spec["mounts"].as_array_mut().unwrap().push(mount);
    });
    fs::create_dir(bundle.bundle.path("locked")).unwrap();

    let output = bundle.in_private_mounts("mount -t tmpfs -o ro t $BUNDLE/locked; exec env -i $RUN");

    let error = text(output).unwrap_err();
    assert!(error.contains("cannot bind /locked: operation not permitted"), "{error}");
}

/// Spec: config-linux.md, User namespace mappings: maps of several lines are written by newuidmap and newgidmap
#[test]
fn a_user_with_subordinate_ids_gets_maps_of_several_lines_and_groups() {
    let script = "while read a b c; do echo $a $b $c; done < /proc/self/uid_map; cat /proc/self/setgroups; id -u; \
                  id -G; touch /shared/x; stat -c %u:%g /shared/x";
    let bundle = Rootless::new(script, |spec| {
        map_subordinates(spec, 1_800_000);
        spec["process"]["user"] = json!({"uid": 7, "gid": 8, "additionalGids": [9]});
        let mount = json!({"destination": "/shared", "type": "bind", "source": "shared", "options": ["bind"]});
        spec["mounts"].as_array_mut().unwrap().push(mount);
    });
    fs::create_dir(bundle.bundle.path("shared")).unwrap();
    fs::set_permissions(bundle.bundle.path("shared"), fs::Permissions::from_mode(0o777)).unwrap();

    let said = text(bundle.in_private_mounts(SUBORDINATES)).unwrap();

    assert_eq!(said, format!("0 {USER} 1\n1 1800000 1000\nallow\n7\n8 9\n7:8\n"));
    let made = fs::metadata(bundle.bundle.path("shared/x")).unwrap();
    assert_eq!((made.uid(), made.gid()), (1_800_006, 1_800_007));
    bundle.assert_gone();
}

/// Spec: config-linux.md, User namespace mappings: ids that are not the user's are refused
#[test]
fn ids_that_the_user_was_not_given_are_refused_in_the_words_of_newuidmap() {
    let bundle = Rootless::new("true", |spec| map_subordinates(spec, 1_900_000));

    let error = text(bundle.in_private_mounts(SUBORDINATES)).unwrap_err();

    assert!(error.contains("cannot write uid_map by newuidmap: "), "{error}");
    assert!(error.contains("not allowed"), "{error}");
    bundle.assert_gone();
}

/// Gives the user 1000 ids from 1800000 on, in this mount namespace alone, and runs.
const SUBORDINATES: &str = "echo u:1800000:1000 > $BUNDLE/sub
    (cat /etc/passwd; echo u:x:54321:54321::/:/bin/sh) > $BUNDLE/passwd
    for file in subuid subgid passwd; do test -e /etc/$file; done
    mount --bind $BUNDLE/sub /etc/subuid
    mount --bind $BUNDLE/sub /etc/subgid
    mount --bind $BUNDLE/passwd /etc/passwd
    exec env -i $RUN";

fn map_subordinates(spec: &mut Value, first: u32) {
    let map = json!([
        {"containerID": 0, "hostID": USER, "size": 1}, {"containerID": 1, "hostID": first, "size": 1000}
    ]);
    spec["linux"]["uidMappings"] = map.clone();
    spec["linux"]["gidMappings"] = map;
}

#[test]
fn a_users_state_is_below_the_runtime_directory_or_in_a_private_one() {
    let bundle = Rootless::new("exec sleep 100", |_| {});
    let [runtime, temporary] = ["runtime", "temporary"].map(|name| bundle.bundle.path(name));
    for directory in [&runtime, &temporary] {
        fs::create_dir(directory).unwrap();
        give(directory, USER);
    }
    let call = |name: &str, value: &Path, arguments: &[&str]| {
        // Not into a pipe: the container keeps its end.
        let output = fs::File::create(bundle.bundle.path("output")).unwrap();
        let mut command = as_user(USER, engine());
        command.env(name, value).stdout(output.try_clone().unwrap()).stderr(output);
        assert!(command.args(arguments).status().unwrap().success(), "{}", bundle.said());
    };

    for (name, value, state) in [
        ("XDG_RUNTIME_DIR", &runtime, runtime.join("strata-oci")),
        ("TMPDIR", &temporary, temporary.join(format!("strata-oci-{USER}"))),
    ] {
        call(name, value, &["create", "--bundle", bundle.bundle.dir(), "c"]);
        assert!(state.join("c/state.json").exists());
        assert_eq!(fs::metadata(&state).unwrap().mode() & 0o7777, 0o700);
        call(name, value, &["delete", "--force", "c"]);
        assert_eq!(fs::read_dir(&state).unwrap().count(), 0);
    }
}
