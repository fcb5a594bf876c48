//! From the programs of an older commit to ours, in one root and with containers running, and back again. `make test-upgrade`
//! builds the older ones. What `upgrades` writes into records by hand, they wrote themselves.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use rusqlite::{Connection, OpenFlags};
use serde_json::Value;
use strata_tests::{Context, House, Output, Running, Steps, Tar, Terminal, eventually, host::HOST};

const SOON: Duration = Duration::from_secs(60);

/// How often the logger writes, fifty times a second: for longer than the upgrade takes.
const LINES: usize = 6000;

/// A house in which the older programs work on the same state.
struct Old<'a> {
    house: &'a House,
    bin: PathBuf,
}

impl<'a> Old<'a> {
    fn of(house: &'a House) -> Self {
        let bin = strata_tests::made(strata_tests::target().join("old/bin"), "make test-upgrade");
        Self { house, bin }
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = self.house.command(self.bin.join("ctl"));
        command.env("STRATA_BIN_DIR", &self.bin).args(words);
        command
    }

    #[track_caller]
    fn ctl(&self, words: &[&str]) -> Output {
        Running::spawn(self.command(words)).finish()
    }

    /// Runs a container in the background; its id.
    #[track_caller]
    fn run(&self, name: &str, flags: &[&str], image: &[&str]) -> String {
        self.ctl(&[&["run", "-d", "--name", name], flags, image].concat()).ok().text().to_owned()
    }
}

fn record(house: &House, id: &str) -> PathBuf {
    house.root().join("runtime/containers").join(id).join("record.json")
}

fn version(bytes: &[u8]) -> u64 {
    serde_json::from_slice::<Value>(bytes).unwrap()["version"].as_u64().unwrap()
}

/// Version of the store's catalog, whose service does not run.
fn schema(house: &House) -> i64 {
    let path = house.root().join("store/catalog.db");
    let connection = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    connection.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap()
}

/// What a template says of a container.
#[track_caller]
fn seen(house: &House, name: &str, template: &str) -> String {
    house.ctl(&["inspect", "-f", template, name]).ok().text().to_owned()
}

/// What a server in a container says to somebody outside.
fn answer(house: &House) -> String {
    let mut command = house.host().in_world(strata_tests::guest());
    command.args(["ask", HOST, "8080"]);
    Running::spawn(command).finish().stdout
}

fn written(house: &House) -> String {
    house
        .ctl(&["run", "--rm", "--network", "none", "-v", "data:/data", "guest", "/guest", "read", "/data/kept"])
        .ok()
        .stdout
}

/// A shell that was left by an older `ctl`, and has a variable.
fn shell(old: &Old<'_>) -> String {
    let words = ["run", "-it", "--name", "shell", "--network", "none", "debian:bookworm", "bash", "--norc"];
    let mut terminal = Terminal::run(&old.command(&words), 24, 80);
    terminal.wait_for("# ");
    terminal.ask("here=$((40+2)); echo set-$here", "set-42");
    terminal.hang_up();
    assert_eq!(terminal.finish(), 129);
    old.ctl(&["inspect", "-f", "{{.Id}}", "shell"]).ok().text().to_owned()
}

#[test]
#[ignore = "needs the programs of an older commit: make test-upgrade"]
fn what_older_programs_made_and_run_goes_on_with_ours_and_is_set_aside_by_theirs() {
    let house = House::on_own_host();
    let old = Old::of(&house);
    for (tar, name) in
        [(Tar::of_guest().write(house.path("guest.tar")), "guest"), (strata_tests::debian(), "debian:bookworm")]
    {
        old.ctl(&["import", tar.to_str().unwrap(), name]).ok();
    }
    let context = Context::new("FROM guest\nCOPY text /text\nRUN [\"/guest\", \"append\", \"/text\", \", older\"]\n")
        .file("text", "built");
    let build = ["build", "--progress", "plain", "-t", "app", context.arg()];
    old.ctl(&build).ok();
    old.ctl(&["network", "create", "back"]).ok();
    old.ctl(&["volume", "create", "data"]).ok();
    let serve = ["guest", "/guest", "then", "write", "/data/kept", "older", "+", "serve", "8080"];
    let db = old.run("db", &["--network", "back", "-p", "8080:8080", "-v", "data:/data"], &serve);
    let client = old.run("client", &["--network", "back"], &["guest", "/guest", "sleep", "3600"]);
    let shell = shell(&old);
    let once = ["run", "--name", "once", "--network", "none", "guest", "/guest"];
    let grow = ["then", "append", "/kept", "x", "+", "read", "/kept"];
    assert_eq!(old.ctl(&[&once[..], &grow].concat()).ok().stdout, "x");
    let once = old.ctl(&["inspect", "-f", "{{.Id}}", "once"]).ok().text().to_owned();
    let made = old
        .ctl(&["create", "--name", "made", "--network", "none", "app", "/guest", "exit", "4"])
        .ok()
        .text()
        .to_owned();
    let ticks = LINES.to_string();
    let tick = ["guest", "/guest", "then", "tick", &ticks, "20", "+", "exit", "23"];
    let logger = old.run("logger", &["--network", "none"], &tick);
    eventually("the server answers", SOON, || !answer(&house).is_empty());
    let (world, address) = (answer(&house), old.ctl(&["exec", "client", "/guest", "look-up", "db", "A"]).ok().stdout);
    assert!(address.starts_with("NOERROR\n"), "{address}");
    let names = ["db", "client", "shell", "logger"];
    let pids = names.map(|name| old.ctl(&["inspect", "-f", "{{.State.Pid}}", name]).ok().text().to_owned());

    // Our ctl with their services.
    house.ctl(&["ps", "-a"]).ok().says(&["db", "client", "shell", "logger", "once", "made"]);
    house.ctl(&["exec", "client", "/guest", "noop"]).ok();
    house.ctl(&["pause", "client"]).fails().complains(&["not available"]);

    assert_eq!(house.stop().len(), 0);
    let before: Vec<(PathBuf, Vec<u8>)> = [&db, &client, &shell, &once, &made, &logger]
        .map(|id| record(&house, id))
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .into();
    let catalog = schema(&house);
    house.ctl(&["ps", "-a"]).ok().says(&["db", "client", "shell", "logger", "Exited (0)", "Created"]);

    // What runs still does, and nobody lost anybody.
    assert_eq!(names.map(|name| seen(&house, name, "{{.State.Pid}}")), pids);
    assert!(pids.iter().all(|pid| Path::new("/proc").join(pid).exists()), "{pids:?}");
    for (path, bytes) in &before {
        let now = version(&fs::read(path).unwrap());
        let copy = path.with_file_name(format!("record.json.v{}", version(bytes)));
        assert!(now >= version(bytes), "{}", path.display());
        assert_eq!(fs::read(copy).ok().as_ref(), Some(bytes).filter(|_| now > version(bytes)), "{}", path.display());
    }
    eventually("the server answers", SOON, || answer(&house) == world);
    let look_up = || house.ctl(&["exec", "client", "/guest", "look-up", "db", "A"]).stdout;
    eventually("its name is known", SOON, || look_up() == address);
    house.ctl(&["pause", "client"]).ok();
    assert_eq!(seen(&house, "client", "{{.State.Status}}"), "paused");
    house.ctl(&["unpause", "client"]).ok();
    house.ctl(&["logs", "--clear", "client"]).fails().complains(&["restart the container"]);
    let mut terminal = Terminal::run(&house.ctl_command(&["attach", "--detach-keys", "ctrl-x,q", "shell"]), 30, 90);
    terminal.press("\n");
    terminal.wait_for("# ");
    terminal.ask("echo is-$here", "is-42");
    terminal.ask("stty size", "30 90");
    terminal.press("\u{18}");
    terminal.press("q");
    assert_eq!(terminal.finish(), 0);

    // Images run and build from the cache, volumes and containers have what they had.
    assert_eq!(
        house.ctl(&["run", "--rm", "--network", "none", "app", "/guest", "read", "/text"]).ok().stdout,
        "built, older"
    );
    Steps::of(&house.ctl(&build).ok()).all_cached();
    assert_eq!(written(&house), "older");
    house.ctl(&["start", "-a", "made"]).code(4);
    assert_eq!(house.ctl(&["start", "-a", "once"]).ok().stdout, "xx");
    house.ctl(&["restart", "-t", "0", "client"]).ok();
    house.ctl(&["logs", "--clear", "client"]).ok();
    eventually("its name is known", SOON, || look_up() == address);
    house.ctl(&["stop", "-t", "1", "db"]).ok();
    assert_eq!(seen(&house, "db", "{{.State.ExitCode}}"), "137");
    house.ctl(&["start", "db"]).ok();
    eventually("the server answers", SOON, || answer(&house) == world);
    house.ctl(&["rm", "-f", "db", "client", "shell", "made"]).ok();
    house.ctl(&["network", "rm", "back"]).ok();
    assert_eq!(house.ctl(&["wait", "logger"]).ok().text(), "23");
    let log = house.ctl(&["logs", "logger"]).ok().stdout;
    assert!(log.lines().eq((0..LINES).map(|number| format!("tick {number}"))), "{} lines", log.lines().count());
    house.ctl(&["rm", "logger"]).ok();
    house.verify();

    assert_eq!(house.stop().len(), 0);
    let backup = house.root().join(format!("store/catalog.db.v{catalog}"));
    assert_eq!(backup.exists(), schema(&house) > catalog, "{}", backup.display());
    go_back(&house, &old, &once);
}

/// Programs from before records had a copy take a later record for a damaged one: they leave it as it is, and so what it is
/// about, and do with the rest what they always did. Those that know of later versions refuse: see `upgrades`.
fn go_back(house: &House, old: &Old<'_>, id: &str) {
    let path = record(house, id);
    let bytes = fs::read(&path).unwrap();
    assert_eq!(version(&bytes), 2, "with another version, the older programs may know better: mend this test");

    let listed = old.ctl(&["ps", "-a"]).ok().stdout;

    let aside = house.root().join("runtime/quarantine").join(id);
    assert!(!listed.contains("once"), "{listed}");
    assert_eq!(fs::read(aside.join("record.json")).unwrap(), bytes);
    assert!(aside.join("record.json.v1").exists());
    let told = fs::read_to_string(house.root().join("runtime/service.log")).unwrap();
    assert!(told.lines().any(|line| line.contains("quarantine") && line.contains(id)), "{told}");
    let read = ["run", "--rm", "--network", "none", "-v", "data:/data", "app", "/guest", "read", "/data/kept"];
    assert_eq!(old.ctl(&read).ok().stdout, "older");
    old.ctl(&["system", "verify"]).ok();
    assert_eq!(house.stop().len(), 0);
    // With ours, what was set aside is there again when it is put back.
    fs::rename(&aside, path.parent().unwrap()).unwrap();
    assert_eq!(house.ctl(&["start", "-a", "once"]).ok().stdout, "xxx");
    house.ctl(&["rm", "once"]).ok();
    house.ctl(&["volume", "rm", "data"]).ok();
}
