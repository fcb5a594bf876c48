//! An ordinary user, for whom nothing was set up: the same `ctl`, with and without subordinate ids.
//! The test is root and lends a house to a user that only it knows.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::Value;
use strata_tests::{Context, House, Running, Tar, eventually};

use crate::tenant::{FIRST, Ids, Tenant, USER};

/// A context that the user may read.
pub fn context(dockerfile: &str) -> Context {
    let context = Context::new(dockerfile).file("a.txt", "a\n").file("tree/b.txt", "b\n");
    for name in ["Dockerfile", "a.txt", "tree/b.txt"] {
        context.chmod(name, 0o644);
    }
    for name in ["", "tree"] {
        context.chmod(name, 0o755);
    }
    context
}

fn everything_works(ids: Ids) {
    let tenant = Tenant::new(ids);
    let first = context(
        "FROM guest\nRUN [\"/guest\", \"append\", \"/etc/note\", \"made;\"]\nWORKDIR /app\nCOPY --chown=7:8 a.txt .\n\
         COPY tree tree\nRUN [\"/guest\", \"rm\", \"/etc/group\"]\nCMD [\"/guest\", \"read\", \"/app/a.txt\"]\n",
    );

    tenant.build(&first, "app").ok();
    let again = tenant.build(&first, "app").ok();
    assert_eq!(again.both().matches("CACHED").count(), 6, "{again:?}");
    assert_eq!(tenant.ctl(&["run", "--rm", "app"]).ok().text(), "a");
    tenant.ctl(&["run", "--rm", "app", "/guest", "exists", "/etc/group"]).code(1);

    let id = tenant.ctl(&["run", "-d", "--name", "long", "guest", "/guest", "sleep", "300"]).ok();
    tenant.ctl(&["ps"]).ok().says(&["long", "Up "]);
    tenant
        .ctl(&["exec", "long", "/guest", "then", "append", "/note", "by exec", "+", "read", "/note"])
        .ok()
        .says(&["by exec"]);
    tenant.ctl(&["stop", "-t", "1", "long"]).ok();
    tenant.ctl(&["ps", "-a"]).ok().says(&["long", "Exited (", &id.text()[..12]]);
    tenant.ctl(&["start", "long"]).ok();
    tenant.ctl(&["rm", "-f", "long"]).ok();
    tenant.ctl(&["run", "--name", "said", "guest", "/guest", "echo", "words"]).ok();
    tenant.ctl(&["logs", "said"]).ok().says(&["words"]);
    tenant.ctl(&["rm", "said"]).ok();

    assert_eq!(tenant.namespaces().len(), 1, "store and runtime share theirs");
    tenant.ctl(&["system", "verify"]).ok();
    tenant.ctl(&["rmi", "app"]).ok();
    assert!(!tenant.ctl(&["images"]).ok().stdout.contains("app"));
}

#[test]
fn a_user_without_subordinate_ids_builds_runs_and_removes() {
    everything_works(Ids::Single);
}

#[test]
fn a_user_with_subordinate_ids_builds_runs_and_removes() {
    everything_works(Ids::Subordinate);
}

#[test]
fn layers_are_the_same_bytes_whatever_ids_their_maker_has() {
    let of_root = House::with_guest();
    let (single, subordinate) = (Tenant::new(Ids::Single), Tenant::new(Ids::Subordinate));
    // What an archive says of times and owners is in the layer.
    let archive = Tar::default().symlink("link", "b.txt").owned_by(7, 8).directory("kept", 0o750);
    let archive = archive.file("kept/a.txt", 0o4711, b"a").owned_by(99_999, 8).file("b.txt", 0o644, b"b");
    let context = context("FROM guest\nADD tree.tar /\n");
    context.write("tree.tar", archive.bytes());
    context.chmod("tree.tar", 0o644);
    let layers = |found: &Value| -> Vec<String> {
        let layers = found[0]["RootFS"]["Layers"].as_array().unwrap_or_else(|| panic!("no layers in {found:#}"));
        layers.iter().map(Value::to_string).collect()
    };

    of_root.build(&context, "owned").ok();
    let wanted = layers(&of_root.ctl(&["inspect", "owned"]).ok().json());

    for (tenant, owners) in [(&single, ["0:0", "0:0"]), (&subordinate, ["7:8", "65534:8"])] {
        tenant.build(&context, "owned").ok();
        assert_eq!(layers(&tenant.ctl(&["inspect", "owned"]).ok().json()), wanted);
        let seen = tenant.ctl(&["run", "--rm", "owned", "/guest", "stat", "/kept/a.txt", "/b.txt"]).ok();
        seen.says(&[&format!("a.txt: file of 1 4711 {}", owners[0]), &format!("b.txt: file of 1 644 {}", owners[1])]);
        tenant.ctl(&["system", "verify"]).ok();
    }
}

#[test]
fn an_owner_that_copy_cannot_give_is_kept_in_mind() {
    let tenant = Tenant::new(Ids::Single);

    tenant.build(&context("FROM guest\nCOPY --chown=7:8 a.txt /\n"), "owned").ok();

    let layers = fs::read_dir(tenant.house.root().join("store/layers")).unwrap().flatten();
    let found = layers.map(|layer| layer.path().join("a.txt")).find(|path| path.exists()).unwrap();
    let mut value = [0; 64];
    let length = rustix::fs::getxattr(&found, "user.strata.owner", &mut value[..]).unwrap();
    assert_eq!(&value[..length], b"7:8 0:0");
}

#[test]
fn the_network_is_none_or_that_of_the_host() {
    let tenant = Tenant::new(Ids::Single);
    let interfaces = |network: &str| tenant.guest(&["--network", network], &["interfaces"]).ok().stdout;

    let host: usize = fs::read_dir("/sys/class/net").unwrap().count();
    assert_eq!(interfaces("host").lines().count(), host);
    assert_eq!(interfaces("none").trim(), "lo");
}

#[test]
fn a_limit_is_refused_by_name_and_nothing_stays() {
    let tenant = Tenant::new(Ids::Single);

    for (flags, field) in [
        (["-m", "64m"], "linux.resources.memory.limit"),
        (["--cpus", "0.5"], "linux.resources.cpu."),
        (["--pids-limit", "20"], "linux.resources.pids.limit"),
    ] {
        let refused = tenant.guest(&flags, &["noop"]).code(125);
        refused.complains(&["cannot apply", field]);
    }

    assert_eq!(tenant.ctl(&["ps", "-aq"]).ok().text(), "");
}

#[test]
fn ids_that_the_user_lacks_are_refused_by_number() {
    let (single, subordinate) = (Tenant::new(Ids::Single), Tenant::new(Ids::Subordinate));

    single.guest(&["-u", "7"], &["id"]).code(125).complains(&["user 7 is not among the ids", "/etc/subuid"]);
    subordinate.guest(&["-u", "70000"], &["id"]).code(125).complains(&["user 70000 is not among the ids"]);
    subordinate.guest(&["-u", "alice"], &["id"]).ok().says(&["uid 1000 gid 1000", "50"]);
    single.guest(&[], &["id"]).ok().says(&["uid 0 gid 0"]);
}

#[test]
fn without_newuidmap_a_user_goes_on_with_the_own_id() {
    let tenant = Tenant::new(Ids::Unreachable);

    let map = tenant.guest(&[], &["read", "/proc/self/uid_map"]).ok();

    let words: Vec<&str> = map.stdout.split_whitespace().collect();
    assert_eq!(words, ["0", &USER.to_string(), "1"]);
    let log = fs::read_to_string(tenant.house.root().join("store/service.log")).unwrap();
    assert!(log.contains("newuidmap") && log.contains("going on with the own id alone"), "{log}");
}

#[test]
fn services_that_start_again_join_the_namespace_of_a_monitor() {
    let tenant = Tenant::new(Ids::Single);
    tenant.ctl(&["run", "-d", "--name", "long", "guest", "/guest", "sleep", "300"]).ok();
    let before = tenant.namespaces();

    for service in ["runtime", "store"] {
        assert!(tenant.house.crash(service));
    }

    tenant.ctl(&["exec", "long", "/guest", "noop"]).ok();
    assert_eq!(tenant.namespaces(), before);
    tenant.ctl(&["rm", "-f", "long"]).ok();
}

/// Without a cgroup nothing but its first process tells what belongs to a container.
#[test]
fn a_container_whose_monitor_was_killed_is_killed() {
    let tenant = Tenant::new(Ids::Single);
    tenant.ctl(&["run", "-d", "--name", "long", "guest", "/guest", "sleep", "321"]).ok();
    let found = tenant.ctl(&["inspect", "long"]).ok().json();
    let first = found[0]["State"]["Pid"].as_i64().unwrap();
    let status = fs::read_to_string(format!("/proc/{first}/status")).unwrap();
    let monitor: i32 = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap().trim().parse().unwrap();
    assert!(!tenant.processes("strata-runtime").contains(&monitor));

    nix::sys::signal::kill(nix::unistd::Pid::from_raw(monitor), nix::sys::signal::Signal::SIGKILL).unwrap();

    tenant.ctl(&["wait", "long"]);
    let is_gone = || fs::read(format!("/proc/{first}/cmdline")).map_or(true, |line| line.is_empty());
    eventually("the first process is gone", Duration::from_secs(20), is_gone);
    tenant.ctl(&["rm", "long"]).ok();
}

/// Row 39 (CVE-2021-21284): who a container's ids are on the host finds nothing of the engine's, to write or to read.
#[test]
fn row_39_cve_2021_21284_mapped_ids_reach_nothing_below_the_state_root() {
    let tenant = Tenant::new(Ids::Subordinate);
    tenant.build(&context("FROM guest\nCOPY --chown=7:8 a.txt /\n"), "owned").ok();
    tenant.ctl(&["run", "-d", "--name", "long", "-u", "7", "owned", "/guest", "sleep", "300"]).ok();
    let is_mapped = |uid: u32| {
        let list = Command::new("find").arg(tenant.house.root()).args(["-uid", &uid.to_string()]).output().unwrap();
        !list.stdout.is_empty()
    };
    assert!(is_mapped(FIRST + 6), "there is something to find");

    for uid in [FIRST, FIRST + 6, FIRST + 65_533, 65_534] {
        for directory in [tenant.house.root().to_owned(), tenant.house.run_dir()] {
            let found = find(uid, &directory);
            assert_eq!(found, "", "as {uid}");
            assert_eq!(fs::metadata(&directory).unwrap().mode() & 0o077, 0, "{}", directory.display());
        }
    }
    tenant.ctl(&["rm", "-f", "long"]).ok();
}

/// What a user finds below a directory.
fn find(uid: u32, directory: &Path) -> String {
    let mut command = Command::new("setpriv");
    let id = uid.to_string();
    command.args(["--reuid", &id, "--regid", &id, "--clear-groups", "find"]).arg(directory).args(["-mindepth", "1"]);
    let output = command.stdin(Stdio::null()).current_dir("/").output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("Permission denied"), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn without_a_variable_state_and_sockets_are_in_the_home_directory() {
    let tenant = Tenant::new(Ids::Single);
    let home = tenant.house.path("home");
    let call = |words: &[&str]| {
        let program = tenant.house.path("bin/ctl");
        let mut command = tenant.command(program.to_str().unwrap(), words);
        for name in ["STRATA_ROOT", "STRATA_RUN", "XDG_DATA_HOME", "XDG_RUNTIME_DIR"] {
            command.env_remove(name);
        }
        command.env("STRATA_IDLE_TIMEOUT", "1");
        Running::spawn(command).finish()
    };

    let tar = tenant.house.path("guest.tar");
    call(&["import", tar.to_str().unwrap(), "guest"]).ok();
    call(&["run", "--rm", "guest", "/guest", "noop"]).ok();

    let data = home.join(".local/share/strata");
    assert!(data.join("run/store.sock").exists() && data.join("store/catalog.db").exists());
    eventually("idle services have stopped", Duration::from_secs(30), || {
        strata_tests::living(&home).iter().all(|trace| !trace.words.iter().any(|word| word.contains(".local/share")))
    });
}

/// The store is in a user namespace, from where it cannot reach what `ctl` has open: the bytes are streamed.
#[test]
fn images_go_out_to_files_and_come_in_from_them() {
    let tenant = Tenant::new(Ids::Single);
    let archive = tenant.house.path("guest-saved.tar");
    let archive = archive.to_str().unwrap();

    tenant.ctl(&["save", "-o", archive, "guest"]).ok();
    tenant.ctl(&["rmi", "guest"]).ok();
    tenant.ctl(&["load", "-i", archive]).ok().says(&["Loaded image: guest"]);
}
