//! What is left after many containers: nothing. The engine is called in namespaces of the test's own, where every
//! process, mount and file is one of its making: 100 runs, 100 execs and 40 failed starts, or as STRATA_LEAKS says
//! (1000: 200 failures). STRATA_SEED repeats a sequence.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::net::UnixListener,
    path::Path,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{WaitOptions, wait};
use serde_json::{Value, json};

use crate::bundle::Bundle;

/// A first process that buries what others leave to it.
const INIT: &str = "sleep 100000 & wait";

/// Set for the part that runs inside.
const INSIDE: &str = "STRATA_LEAKS_INSIDE";

/// What the namespaces of the test cover: directories in which nobody else leaves files.
const PRIVATE: [&str; 3] = ["/tmp", "/run", "/dev/shm"];

fn count() -> usize {
    std::env::var("STRATA_LEAKS").ok().and_then(|text| text.parse().ok()).unwrap_or(100)
}

/// A sequence that can be had again.
struct Random(u64);

impl Random {
    fn new() -> Self {
        let seed = std::env::var("STRATA_SEED").ok().and_then(|text| text.parse().ok());
        let seed = seed.unwrap_or_else(|| u64::from(std::process::id()) ^ 0x9e37_79b9_7f4a_7c15);
        eprintln!("STRATA_SEED={seed}");
        Self(seed | 1)
    }

    /// A number below `end`. xorshift
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % end
    }
}

/// Runs `work` in new pid and mount namespaces with empty directories of its own: this very test again, inside.
fn apart(test: &str, work: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        return work();
    }
    let engine = Path::new(env!("CARGO_BIN_EXE_strata-oci")).parent().unwrap();
    // The programs may be below what is covered.
    let script = format!(
        "mount --bind \"$0\" /mnt && for place in {}; do mount -t tmpfs -o mode=1777 covered $place || exit 1; done &&
        mkdir -p \"$0\" && mount --move /mnt \"$0\" && exec \"$@\"",
        PRIVATE.join(" ")
    );
    let output = Command::new("unshare")
        .args(["--pid", "--fork", "--kill-child", "--mount", "--mount-proc", "sh", "-c", &script])
        .arg(engine)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads", "1"])
        .env(INSIDE, "1")
        .env_remove("TMPDIR")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{}: {text}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
}

/// All that can be left, as far as it is visible from here: a line for each thing.
struct World(BTreeSet<String>);

impl World {
    fn new(bundle: &Bundle) -> Self {
        reap();
        let mut all = BTreeSet::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let name = entry.file_name().into_string().unwrap();
            if !name.bytes().all(|byte| byte.is_ascii_digit()) {
                continue;
            }
            // Zombies are processes too.
            let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            let end = stat.find(')').map_or(0, |end| end + 1);
            all.insert(format!("process {}", &stat[..end]));
            for kind in ["mnt", "net", "ipc", "uts", "cgroup", "pid", "time", "user"] {
                let link = fs::read_link(entry.path().join("ns").join(kind));
                all.extend(link.map(|link| format!("namespace {}", link.display())));
            }
        }
        let descriptors = fs::read_dir("/proc/self/fd").unwrap().flatten();
        all.extend(descriptors.map(|entry| format!("descriptor {}", entry.file_name().display())));
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        all.extend(mounts.lines().map(|mount| format!("mount {mount}")));
        all.extend(cgroups(bundle));
        PRIVATE.iter().for_each(|path| all.extend(tree(Path::new(path))));
        all.extend(tree(bundle.dir().as_ref()));
        Self(all)
    }

    /// Once what is dying is dead: two looks show the same.
    fn settled(bundle: &Bundle) -> Self {
        let mut last = Self::new(bundle);
        for _ in 0..500 {
            std::thread::sleep(Duration::from_millis(20));
            let next = Self::new(bundle);
            if next.0 == last.0 {
                return next;
            }
            last = next;
        }
        panic!("it never stands still");
    }

    /// What this has more than the other.
    fn more_than(&self, other: &Self) -> Vec<String> {
        self.0.difference(&other.0).cloned().collect()
    }
}

/// What died and is the caller's to bury: the first process of a created container.
fn reap() {
    while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
}

/// The names of all files below a directory; what is in them is not ours to judge.
fn tree(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        // The programs, where they are below it.
        if entry.path() == Path::new(env!("CARGO_BIN_EXE_strata-oci")).parent().unwrap() {
            continue;
        }
        found.push(entry.path().display().to_string());
        if entry.file_type().unwrap().is_dir() {
            found.extend(tree(&entry.path()));
        }
    }
    found.sort();
    found
}

/// The cgroups of the bundle, and all below them, in every hierarchy.
fn cgroups(bundle: &Bundle) -> Vec<String> {
    let name = format!("strata-cli-{}", bundle.id());
    let hierarchies = fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|entry| entry.path());
    let mut found = Vec::new();
    for hierarchy in hierarchies.chain(["/sys/fs/cgroup".into()]) {
        let top = hierarchy.join(&name);
        // The parent is the caller's choice; it stays, as other containers may be below it.
        let below = fs::read_dir(top).into_iter().flatten().flatten().filter(|entry| entry.path().is_dir());
        found.extend(below.map(|entry| entry.path().display().to_string()));
    }
    found.sort();
    found
}

/// Compares once all that is dying is dead; what a killed engine began ends by itself, at the next gate.
fn assert_nothing_is_left(before: &World, bundle: &Bundle) {
    let mut after = World::new(bundle);
    for _ in 0..500 {
        if after.0 == before.0 {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
        after = World::new(bundle);
    }
    assert_eq!((after.more_than(before), before.more_than(&after)), (Vec::new(), Vec::new()), "left, and lost");
}

fn write(bundle: &Bundle, spec: &Value) {
    fs::write(bundle.path("config.json"), spec.to_string()).unwrap();
}

/// Ways in which a container is not made.
const FAULTS: usize = 12;

/// Makes the spec one that fails, and returns what the engine says of it.
fn spoil(spec: &mut Value, fault: usize) -> &'static str {
    let hook = |text: &str| json!([{"path": "/bin/sh", "args": ["sh", "-c", text], "timeout": 1}]);
    let mut add = |mount: Value| spec["mounts"].as_array_mut().unwrap().push(mount);
    match fault {
        0 => spec["process"]["args"] = json!(["/no/such/program"]),
        1 => add(json!({"destination": "/m", "source": "/no/such/source", "options": ["rbind"]})),
        2 => add(json!({"destination": "/m", "type": "tmpfs", "source": "t", "options": ["no-such-option"]})),
        3 => add(json!({"destination": "/m", "type": "no-such-type", "source": "t"})),
        4 => spec["linux"]["resources"]["memory"] = json!({"limit": 64 << 20, "swap": 1 << 20}),
        5 => spec["linux"]["resources"]["cpu"] = json!({"cpus": "0-100000"}),
        6 => spec["hooks"] = json!({"createRuntime": hook("exit 1")}),
        7 => spec["hooks"] = json!({"createContainer": hook("sleep 100")}),
        8 => spec["hooks"] = json!({"startContainer": hook("exit 1")}),
        9 => spec["hooks"] = json!({"poststart": hook("exit 1")}),
        10 => spec["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "no number"}),
        _ => spec["linux"]["namespaces"][0]["path"] = json!("/dev/null"),
    }
    match fault {
        0 => "/no/such/program",
        1 => "/no/such/source",
        2 => "no-such-option",
        3 => "no-such-type",
        4 => "linux.resources.memory.swap",
        5 => "linux.resources.cpu.cpus",
        6 => "hooks.createRuntime",
        7 => "hooks.createContainer",
        8 => "hooks.startContainer",
        9 => "hooks.poststart",
        10 => "ip_forward",
        _ => "/dev/null",
    }
}

fn assert_ends_well(output: &Output, expected: &str) {
    let (text, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text == expected, "{}: {text}{error}", output.status);
}

/// Leaks: containers that ran and were deleted leave nothing.
#[test]
fn nothing_is_left_of_containers_that_ran() {
    apart("leaks::nothing_is_left_of_containers_that_ran", || {
        let (mut random, bundle) = (Random::new(), Bundle::new("echo fine", |_| {}));
        assert_ends_well(&bundle.run(), "fine\n");
        let before = World::settled(&bundle);

        for _ in 0..count() {
            match random.below(4) {
                0 => {
                    bundle.start();
                    bundle.wait_for("stopped");
                    bundle.strata(&["delete", "c"]).unwrap();
                    reap();
                    fs::remove_file(bundle.path("output")).unwrap();
                }
                1 => {
                    assert!(bundle.create());
                    bundle.strata(&["delete", "--force", "c"]).unwrap();
                    reap();
                    fs::remove_file(bundle.path("output")).unwrap();
                }
                _ => assert_ends_well(&bundle.run(), "fine\n"),
            }
        }

        assert_nothing_is_left(&before, &bundle);
    });
}

/// Leaks: processes that were executed in a container leave nothing in it, nor outside.
#[test]
fn nothing_is_left_of_further_processes() {
    apart("leaks::nothing_is_left_of_further_processes", || {
        let (mut random, bundle) = (Random::new(), Bundle::new(INIT, |_| {}));
        // Mount points are made once, and stay.
        bundle.start();
        bundle.strata(&["delete", "--force", "c"]).unwrap();
        let none = World::settled(&bundle);
        let begun = Instant::now();
        bundle.start();
        let length = begun.elapsed();
        let exec = |args: &[&str]| bundle.call(&[&["exec"], args].concat());
        assert_ends_well(&exec(&["c", "/bin/sh", "-c", "echo fine"]), "fine\n");
        let before = World::settled(&bundle);

        for _ in 0..count() {
            match random.below(8) {
                0 => assert_eq!(exec(&["c", "/no/such/program"]).status.code(), Some(255)),
                1 => assert_eq!(exec(&["--cwd", "/proc/self/fd/3", "c", "/bin/sh"]).status.code(), Some(255)),
                2 => assert_ends_well(&exec(&["--tty", "c", "/bin/sh", "-c", "echo fine"]), "fine\r\n"),
                // Its orphan becomes a child of the engine, or of this process, and dies with neither.
                3 => assert_ends_well(&exec(&["c", "/bin/sh", "-c", "sleep 0 & echo fine"]), "fine\n"),
                4 => assert_ends_well(&exec(&["--detach", "c", "/bin/sh", "-c", ":"]), ""),
                5 => {
                    let mut command = bundle.command();
                    command.args(["exec", "c", "/bin/sh", "-c", ":"]);
                    kill_after(command, length.mul_f64(random.below(1000) as f64 / 1000.0));
                }
                _ => assert_ends_well(&exec(&["c", "/bin/sh", "-c", "echo fine"]), "fine\n"),
            }
            reap();
        }

        assert_nothing_is_left(&before, &bundle);
        bundle.strata(&["delete", "--force", "c"]).unwrap();
        assert_nothing_is_left(&none, &bundle);
    });
}

/// Leaks: containers that could not be made or started, and those whose maker was killed, leave nothing.
#[test]
fn nothing_is_left_of_failures() {
    apart("leaks::nothing_is_left_of_failures", || {
        let (mut random, bundle) = (Random::new(), Bundle::new("exec sleep 100000", |_| {}));
        let good: Value = serde_json::from_slice(&fs::read(bundle.path("config.json")).unwrap()).unwrap();
        let begun = Instant::now();
        bundle.start();
        let length = begun.elapsed();
        bundle.strata(&["delete", "--force", "c"]).unwrap();
        fs::remove_file(bundle.path("output")).unwrap();
        fs::create_dir(bundle.path("rootfs/m")).unwrap();
        let before = World::settled(&bundle);

        for round in 0..(count() / 5).max(40) {
            match round % (FAULTS + 3) {
                fault @ 0..FAULTS => {
                    let mut spec = good.clone();
                    let words = spoil(&mut spec, fault);
                    write(&bundle, &spec);
                    let output = bundle.run();
                    let error = String::from_utf8_lossy(&output.stderr);
                    assert!(output.status.code() == Some(1) && error.contains(words), "{fault}: {output:?}");
                }
                FAULTS => console(&bundle, &good, random.below(2) == 0),
                _ => kill(&bundle, &good, length.mul_f64(random.below(1000) as f64 / 1000.0), random.below(2) == 0),
            }
            reap();
        }

        write(&bundle, &good);
        assert_nothing_is_left(&before, &bundle);
    });
}

/// A console socket at which nobody listens, or whose listener closes what it accepts.
fn console(bundle: &Bundle, good: &Value, is_open: bool) {
    let mut spec = good.clone();
    spec["process"]["terminal"] = json!(true);
    write(bundle, &spec);
    let path = bundle.path("console");
    let listener = UnixListener::bind(&path).unwrap();
    let listener = is_open.then_some(listener);
    let socket = path.to_str().unwrap();
    let mut child = bundle.command();
    child.args(["create", "--bundle", bundle.dir(), "--console-socket", socket, "c"]);
    let mut child = child.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    if let Some(listener) = listener {
        // The master may be on its way or not: whoever holds it closes it.
        drop(listener.accept().unwrap());
    }
    let status = child.wait().unwrap();
    assert!(is_open || status.code() == Some(1), "{status}");
    bundle.strata(&["delete", "--force", "c"]).unwrap();
    fs::remove_file(path).unwrap();
}

/// A maker is killed some time after it began.
fn kill(bundle: &Bundle, good: &Value, after: Duration, is_run: bool) {
    write(bundle, good);
    let mut command = bundle.command();
    command.args([if is_run { "run" } else { "create" }, "--bundle", bundle.dir(), "c"]);
    kill_after(command, after);
    bundle.strata(&["delete", "--force", "c"]).unwrap();
}

fn kill_after(mut command: Command, after: Duration) {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(after);
    let _ = child.kill();
    child.wait().unwrap();
}
