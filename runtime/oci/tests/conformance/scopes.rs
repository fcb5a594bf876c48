//! `--systemd-cgroup` against a systemd that the test plays, on hosts without one: what it is asked for, and in which
//! order. What the real one makes of it is in `systemd`.

use std::{
    fs,
    io::{Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::PathBuf,
    process::{Command, Output, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use serde_json::{Value, json};

use crate::bundle::Bundle;

/// What systemd says to a start.
#[derive(Clone, Copy, PartialEq)]
enum Mood {
    Willing,
    Failing,
    HasOne,
    Silent,
}

/// A bundle whose engine finds a systemd that does nothing and says what it is told to.
struct Fake {
    bundle: Bundle,
    socket: PathBuf,
    /// Names of the calls, and their bodies as text.
    asked: Arc<Mutex<Vec<(String, String)>>>,
}

impl Fake {
    fn new(mood: Mood, script: &str, change: impl FnOnce(&mut Value, &str)) -> Self {
        let bundle = Bundle::new(script, |_| {}).edit(|spec, bundle| {
            spec["linux"]["cgroupsPath"] = json!(format!("strata-cli.slice:{}:x", bundle.id()));
            change(spec, &bundle.id());
        });
        let socket = bundle.path("bus");
        let listener = UnixListener::bind(&socket).unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let heard = asked.clone();
        // It ends with the test's process: nobody waits for its next client.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let heard = heard.clone();
                thread::spawn(move || drop(serve(stream, mood, &heard)));
            }
        });
        Self { bundle, socket, asked }
    }

    fn command(&self) -> Command {
        let mut command = self.bundle.command();
        command.env("DBUS_SYSTEM_BUS_ADDRESS", format!("unix:path={}", self.socket.display())).arg("--systemd-cgroup");
        command
    }

    fn call(&self, arguments: &[&str]) -> Output {
        self.command().args(arguments).output().unwrap()
    }

    /// Calls that are about units.
    fn calls(&self) -> Vec<String> {
        let asked = self.asked.lock().unwrap();
        asked.iter().map(|(name, _)| name.clone()).filter(|name| name.contains("Unit")).collect()
    }

    fn body(&self, call: &str) -> String {
        let asked = self.asked.lock().unwrap();
        asked.iter().find(|(name, _)| name == call).map(|(_, body)| body.clone()).unwrap_or_default()
    }

    fn directories(&self) -> Vec<PathBuf> {
        let name = format!("strata-cli.slice/{}-x.scope", self.bundle.id());
        let name = name.replacen("strata-cli.slice", "strata.slice/strata-cli.slice", 1);
        let hierarchies = fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|entry| entry.path());
        let all = hierarchies.chain([PathBuf::from("/sys/fs/cgroup")]).map(|path| path.join(&name));
        all.filter(|path| path.is_dir()).collect()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.call(&["delete", "--force", "c"]);
        // What systemd would have removed; others may be in the slices.
        let hierarchies = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten().map(|entry| entry.path());
        for path in hierarchies.chain([PathBuf::from("/sys/fs/cgroup")]) {
            let _ = fs::remove_dir(path.join("strata.slice/strata-cli.slice"));
            let _ = fs::remove_dir(path.join("strata.slice"));
        }
    }
}

/// Answers every call: with a job that is done, with an empty text, or with nothing.
fn serve(mut stream: UnixStream, mood: Mood, heard: &Mutex<Vec<(String, String)>>) -> std::io::Result<()> {
    let mut greeting = [0; 29];
    stream.read_exact(&mut greeting)?;
    stream.write_all(b"DATA\r\nOK 0123456789abcdef\r\n")?;
    loop {
        let mut head = [0; 16];
        stream.read_exact(&mut head)?;
        let number = |place: usize| u32::from_ne_bytes(head[place..place + 4].try_into().unwrap());
        let mut fields = vec![0; (number(12) as usize).next_multiple_of(8)];
        stream.read_exact(&mut fields)?;
        let mut body = vec![0; number(4) as usize];
        stream.read_exact(&mut body)?;
        // The field of the method's name: 3, the type s, four bytes of length.
        let place = fields.windows(4).position(|four| four == b"\x03\x01s\0").unwrap() + 8;
        let name: Vec<u8> = fields[place..].iter().copied().take_while(|byte| *byte != 0).collect();
        let name = String::from_utf8(name).unwrap();
        heard.lock().unwrap().push((name.clone(), String::from_utf8_lossy(&body).into_owned()));
        let serial = number(8);
        let result = if mood == Mood::Failing { "failed" } else { "done" };
        let exists = "org.freedesktop.systemd1.UnitExists";
        match name.as_str() {
            "StartTransientUnit" if mood == Mood::Silent => loop {
                // Until the engine is gone.
                stream.read_exact(&mut [0])?;
            },
            "StartTransientUnit" if mood == Mood::HasOne => {
                stream.write_all(&message(3, serial, Some((4, exists)), "s", &text("it runs")))?;
            }
            "StartTransientUnit" | "StopUnit" => {
                stream.write_all(&message(2, serial, None, "o", &text("/job/7")))?;
                let body = [&7u32.to_ne_bytes()[..], &padded("/job/7"), &padded("x.scope"), &text(result)].concat();
                stream.write_all(&message(4, 0, Some((3, "JobRemoved")), "uoss", &body))?;
            }
            "Get" => stream.write_all(&message(2, serial, None, "v", &[b"\x01s\0\0", &text("")[..]].concat()))?,
            _ => stream.write_all(&message(2, serial, None, "", &[]))?,
        }
    }
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u32).to_ne_bytes()[..], text.as_bytes(), b"\0"].concat()
}

fn padded(word: &str) -> Vec<u8> {
    let mut bytes = text(word);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// A message with one text field, the call it answers, and the types of its body.
fn message(kind: u8, reply_to: u32, field: Option<(u8, &str)>, signature: &str, body: &[u8]) -> Vec<u8> {
    let mut fields = Vec::new();
    let mut add = |code: u8, of: u8, value: Vec<u8>| {
        fields.resize(fields.len() + fields.len().next_multiple_of(8) - fields.len(), 0);
        fields.extend_from_slice(&[code, 1, of, 0]);
        fields.extend_from_slice(&value);
    };
    if let Some((code, value)) = field {
        add(code, b's', text(value));
    }
    add(5, b'u', reply_to.to_ne_bytes().to_vec());
    add(8, b'g', [&[signature.len() as u8], signature.as_bytes(), b"\0"].concat());
    let order = if cfg!(target_endian = "little") { b'l' } else { b'B' };
    let numbers = [body.len() as u32, 1, fields.len() as u32].map(u32::to_ne_bytes).concat();
    fields.resize(fields.len().next_multiple_of(8), 0);
    [&[order, kind, 0, 1], numbers.as_slice(), &fields, body].concat()
}

/// Whether all controllers are on the unified hierarchy.
fn is_v2() -> bool {
    PathBuf::from("/sys/fs/cgroup/cgroup.controllers").exists()
}

#[test]
fn systemd_is_asked_for_a_scope_with_the_limits_and_told_when_it_ends() {
    let fake = Fake::new(Mood::Willing, "exec sleep 100", |spec, _| {
        spec["linux"]["resources"]["memory"] = json!({"limit": 64 << 20});
        spec["annotations"] = json!({"org.systemd.property.TimeoutStopUSec": "uint64 1234"});
    });
    let mut create = fake.command();
    create.args(["create", "--bundle", fake.bundle.dir(), "c"]).stdout(Stdio::null());
    assert!(create.status().unwrap().success());
    assert_eq!(fake.calls(), ["StartTransientUnit"]);
    let body = fake.body("StartTransientUnit");
    let limit = if is_v2() { "MemoryMax" } else { "MemoryLimit" };
    for word in ["Slice", "Delegate", "PIDs", "DefaultDependencies", "TasksMax", limit, "TimeoutStopUSec"] {
        assert!(body.contains(word), "{word} is not in {body:?}");
    }
    assert!(body.contains(&format!("{}-x.scope", fake.bundle.id())) && body.contains("strata-cli.slice"), "{body:?}");
    // In force whatever systemd does with them; the process is there.
    let pid = fake.bundle.state()["pid"].as_u64().unwrap().to_string();
    let directories = fake.directories();
    assert!(!directories.is_empty());
    for directory in &directories {
        assert_eq!(fs::read_to_string(directory.join("cgroup.procs")).unwrap().trim(), pid, "{}", directory.display());
    }
    let memory = directories.iter().find_map(|path| {
        let file = if is_v2() { "memory.max" } else { "memory.limit_in_bytes" };
        fs::read_to_string(path.join(file)).ok()
    });
    assert_eq!(memory.unwrap().trim(), (64 << 20).to_string());

    // The record knows the driver, whatever later calls say.
    let plain = |arguments: &[&str]| {
        let mut command = fake.bundle.command();
        command.env("DBUS_SYSTEM_BUS_ADDRESS", format!("unix:path={}", fake.socket.display()));
        let output = command.args(arguments).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    plain(&["start", "c"]);
    plain(&["exec", "c", "/bin/sh", "-c", ":"]);
    plain(&["pause", "c"]);
    assert_eq!(fake.bundle.status(), "paused");
    plain(&["resume", "c"]);
    plain(&["update", "--pids-limit", "9", "c"]);
    assert!(fake.body("SetUnitProperties").contains("TasksMax"));
    plain(&["delete", "--force", "c"]);
    // The hierarchy of v1 that has no controllers is systemd's alone: it brings further processes there.
    let attach = if is_v2() { None } else { Some("AttachProcessesToUnit") };
    let rest = ["SetUnitProperties", "StopUnit", "ResetFailedUnit"];
    let expected: Vec<&str> = ["StartTransientUnit"].into_iter().chain(attach).chain(rest).collect();
    assert_eq!(fake.calls(), expected);
    assert_eq!(fake.directories(), [] as [PathBuf; 0]);
}

#[test]
fn without_a_cgroup_namespace_the_cgroups_of_the_scope_are_shown() {
    let script = "cat /sys/fs/cgroup/cgroup.procs /sys/fs/cgroup/pids/cgroup.procs 2>/dev/null | grep -c .";
    let fake = Fake::new(Mood::Willing, script, |spec, _| {
        spec["linux"]["namespaces"]
            .as_array_mut()
            .unwrap()
            .retain(|one| one["type"] != "cgroup" && one["type"] != "pid");
    });

    let output = fake.call(&["run", "--bundle", fake.bundle.dir(), "c"]);

    // The shell, cat and grep, or less of them.
    let count: u32 = String::from_utf8_lossy(&output.stdout).trim().parse().unwrap_or_else(|_| panic!("{output:?}"));
    assert!((1..=4).contains(&count), "{output:?}");
}

#[test]
fn a_start_that_systemd_refuses_leaves_nothing() {
    for (mood, expected) in [(Mood::Failing, "the job is failed"), (Mood::HasOne, "it runs")] {
        let fake = Fake::new(mood, "echo it ran", |_, _| {});

        let output = fake.call(&["run", "--bundle", fake.bundle.dir(), "c"]);

        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(error.contains(expected), "{error}");
        assert_eq!(fs::read_dir(fake.bundle.path("state")).unwrap().count(), 0);
        assert_eq!(fake.directories(), [] as [PathBuf; 0]);
    }
}

/// What nobody has started is nobody's to stop: the unit of the name may be another's.
#[test]
fn a_maker_that_is_killed_while_systemd_starts_leaves_a_unit_of_the_name_alone() {
    let fake = Fake::new(Mood::Silent, "echo it ran", |_, _| {});
    let mut create = fake.command();
    let create = create.args(["create", "--bundle", fake.bundle.dir(), "c"]).stdout(Stdio::null());
    let mut create = create.stderr(Stdio::null()).spawn().unwrap();
    fake.bundle.wait_until("a call", || !fake.calls().is_empty());
    create.kill().unwrap();
    create.wait().unwrap();

    let output = fake.call(&["delete", "--force", "c"]);

    assert!(output.status.success(), "{output:?}");
    assert_eq!(fake.calls(), ["StartTransientUnit"]);
    assert_eq!(fs::read_dir(fake.bundle.path("state")).unwrap().count(), 0);
}

#[test]
fn paths_and_annotations_that_systemd_could_not_take_are_refused_by_name() {
    for (path, expected) in [
        ("/a/b", "linux.cgroupsPath: \"/a/b\": with --systemd-cgroup it has the form slice:prefix:name"),
        ("a:b:c", "its slice does not end with .slice"),
        ("../a.slice:b:c", "its slice is none that systemd can have"),
    ] {
        let fake = Fake::new(Mood::Willing, "echo it ran", |spec, _| spec["linux"]["cgroupsPath"] = json!(path));
        let output = fake.call(&["run", "--bundle", fake.bundle.dir(), "c"]);
        assert!(String::from_utf8_lossy(&output.stderr).contains(expected), "{output:?}");
        assert_eq!(fake.calls(), [] as [&str; 0]);
    }
    let fake = Fake::new(Mood::Willing, "echo it ran", |spec, _| {
        spec["annotations"] = json!({"org.systemd.property.TimeoutStopUSec": "uint64 x"});
    });
    let output = fake.call(&["run", "--bundle", fake.bundle.dir(), "c"]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("annotations.org.systemd.property.TimeoutStopUSec: "), "{error}");
}

#[test]
fn without_a_systemd_the_error_says_where_it_was_looked_for() {
    let bundle = Bundle::new("echo it ran", |spec| spec["linux"]["cgroupsPath"] = json!("::x"));
    let nowhere = bundle.path("nowhere");
    let mut command = bundle.command();
    command.env("DBUS_SYSTEM_BUS_ADDRESS", format!("unix:path={}", nowhere.display()));

    let output = command.args(["--systemd-cgroup", "run", "--bundle", bundle.dir(), "c"]).output().unwrap();

    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8_lossy(&output.stderr);
    let expected = format!("--systemd-cgroup: systemd cannot be reached ({}: no such file", nowhere.display());
    assert!(error.contains(&expected), "{error}");
    assert_eq!(fs::read_dir(bundle.path("state")).unwrap().count(), 0);
}
