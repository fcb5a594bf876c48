//! kill -9 and replacement of each service while 10 containers run, or as many as STRATA_CONTAINERS says: a fifth of them on
//! terminals that somebody sits at, a fifth with much to say. The containers notice nothing.

use std::{fs, os::unix::fs::MetadataExt, path::PathBuf, time::Duration};

use strata_tests::{Context, House, Terminal, amount, eventually};

const SOON: Duration = Duration::from_secs(60);
const SERVICES: [&str; 3] = ["store", "builder", "runtime"];

/// The processes of containers: number and start time, by name.
#[derive(Debug, PartialEq, Eq)]
struct Processes(Vec<(String, String, String)>);

impl Processes {
    /// proc_pid_stat(5): field 22 is the start time.
    fn of(house: &House) -> Self {
        let listed = house.ctl(&["ps", "--format", "{{.Names}}"]).ok();
        let mut names: Vec<&str> = listed.stdout.lines().collect();
        names.sort_unstable();
        let words = [&["inspect", "-f", "{{.Name}} {{.State.Pid}}"], names.as_slice()].concat();
        let shown = house.ctl(&words).ok();
        let one = |line: &str| {
            let (name, pid) = line.split_once(' ').expect("two words");
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_else(|err| panic!("{name}: {err}"));
            let started = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(19)).expect("a start time");
            (name.to_owned(), pid.to_owned(), started.to_owned())
        };
        Self(shown.stdout.lines().map(one).collect())
    }
}

/// A shell on a terminal that somebody sits at.
struct Seat {
    name: String,
    terminal: Terminal,
    /// What ctl ends with when its stream breaks off.
    broken: i32,
}

impl Seat {
    fn take(house: &House, number: u64) -> Self {
        let name = format!("shell{number}");
        let words = ["run", "-it", "--name", &name, "debian:bookworm", "bash", "--norc"];
        let mut terminal = Terminal::run(&house.ctl_command(&words), 24, 80);
        terminal.wait_for("# ");
        terminal.ask(&format!("own=$((1000 + {number})); echo own-$own"), &format!("own-{}", 1000 + number));
        Self { name, terminal, broken: 125 }
    }

    /// The shell answers, and is the one that it was.
    fn is_good(&mut self, number: u64, round: &str) {
        let answer = format!("{round}-{}-", 1000 + number);
        self.terminal.ask(&format!("echo {round}-$own-"), &answer);
    }

    /// The stream went with the runtime: `ctl` gives the terminal back and says what to do. One sits down anew.
    fn take_again(&mut self, house: &House) {
        self.terminal.wait_for("ctl attach ");
        assert!(self.terminal.is_cooked(), "{}", self.terminal.shown());
        let shown = self.terminal.shown();
        let hint = shown.rsplit_once("`ctl attach ").and_then(|(_, rest)| rest.split_once('`'));
        let (id, _) = hint.unwrap_or_else(|| panic!("no command to connect anew:\n{shown}"));
        let again = Terminal::run(&house.ctl_command(&["attach", id]), 24, 80);
        let left = std::mem::replace(&mut self.terminal, again);
        assert_eq!(left.finish(), self.broken, "{shown}");
        self.broken = 1;
        self.terminal.press("\n");
        self.terminal.wait_for("# ");
    }
}

/// What `count` writes: all lines of one stream, and of the other.
fn counted(lines: u64) -> (String, String) {
    let out: String = (0..lines).map(|number| format!("line {number:>94}\n")).collect();
    let err = (1..=lines / 20).map(|number| format!("block {number}\n")).collect();
    (format!("{out}counted {lines}\n"), err)
}

/// Insists that a log has every byte, in order.
fn is_whole(house: &House, name: &str) {
    let logged = house.ctl(&["logs", name]).ok();
    let last = logged.stdout.lines().last().unwrap_or_default();
    let lines = last.strip_prefix("counted ").unwrap_or_else(|| panic!("{name} ends with {last:?}"));
    let lines: u64 = lines.parse().expect("a number");
    let (out, err) = counted(lines);
    let differs = |one: &str, other: &str| one.lines().zip(other.lines()).position(|(one, other)| one != other);
    assert!(logged.stdout == out, "{name}, of {lines} lines, differs at {:?}", differs(&logged.stdout, &out));
    assert!(logged.stderr == err, "{name}, standard error, differs at {:?}", differs(&logged.stderr, &err));
    assert!(lines > 100, "{name} said nothing worth keeping: {lines} lines");
}

/// A house that has its services in a directory of its own, where they can be replaced.
fn house() -> House {
    let mut house = House::with_debian();
    assert!(house.stop().is_empty());
    let dir = house.path("bin");
    fs::create_dir(&dir).unwrap();
    for entry in fs::read_dir(strata_tests::binaries()).unwrap().flatten() {
        if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), dir.join(entry.file_name())).unwrap();
        }
    }
    house.set("STRATA_BIN_DIR", dir.to_str().unwrap());
    house.import_guest();
    house
}

/// Puts another file at the place of a service's program, as an update does. Returns its inode.
fn replace(house: &House, service: &str) -> u64 {
    let program = house.path("bin").join(format!("strata-{service}"));
    let new = program.with_extension("new");
    let mut bytes = fs::read(&program).unwrap();
    // What follows the sections of an executable is nobody's.
    bytes.extend(b"newer");
    fs::write(&new, bytes).unwrap();
    fs::set_permissions(&new, fs::metadata(&program).unwrap().permissions()).unwrap();
    fs::rename(&new, &program).unwrap();
    fs::metadata(&program).unwrap().ino()
}

/// Insists that a service runs the file with this inode.
fn runs(house: &House, service: &str, inode: u64) {
    let name = format!("strata-{service}");
    let running = house.services().into_iter().find(|trace| trace.program() == name).expect("it was started again");
    let program: PathBuf = format!("/proc/{}/exe", running.pid).into();
    assert_eq!(fs::metadata(program).unwrap().ino(), inode, "{name} is the one that was before");
}

/// Has each service do something: it is started where it does not run.
fn use_all(house: &House) {
    let context = Context::new("FROM guest\nRUN [\"/guest\", \"write\", \"/x\", \"kept\"]\n");
    house.build(&context, "app").ok();
    assert_eq!(house.ctl(&["run", "--rm", "app", "/guest", "read", "/x"]).ok().text(), "kept");
    house.ctl(&["images"]).ok().says(&["app", "guest", "debian"]);
}

#[test]
fn containers_notice_neither_kills_nor_replacements_of_services() {
    let house = house();
    use_all(&house);
    let number = amount("STRATA_CONTAINERS", 10);
    let fifth = number / 5;
    let shared = house.path("shared");
    fs::create_dir(&shared).unwrap();
    let volume = format!("{}:/shared", shared.display());
    // Beyond what a log has room for by default: none of it is to make room.
    let loud = ["run", "-d", "-v", &volume, "--log-opt", "max-size=1g", "guest", "/guest", "count"];
    for n in 0..fifth {
        let (name, end, code) = (format!("--name=loud{n}"), format!("/shared/end{}", n % 2), (n + 10).to_string());
        house.ctl(&[&loud[..1], &[&name], &loud[1..], &[&end, &code]].concat()).ok();
    }
    for n in 0..number - 2 * fifth {
        let (name, code) = (format!("quiet{n}"), ((n + 40) % 256).to_string());
        house.ctl(&["run", "-d", "--name", &name, "guest", "/guest", "trap", &code, "SIGTERM"]).ok();
    }
    let mut seats: Vec<Seat> = (0..fifth).map(|n| Seat::take(&house, n)).collect();
    let before = Processes::of(&house);
    assert_eq!(before.0.len() as u64, number);

    for service in SERVICES {
        for is_replaced in [false, true] {
            let round = format!("{service}{}", u8::from(is_replaced));
            let inode = is_replaced.then(|| replace(&house, service));
            assert!(house.crash(service), "{service}");
            use_all(&house);
            if let Some(inode) = inode {
                runs(&house, service, inode);
            }
            assert_eq!(Processes::of(&house), before, "{round}");
            for (n, seat) in seats.iter_mut().enumerate() {
                if service == "runtime" {
                    seat.take_again(&house);
                }
                seat.is_good(n as u64, &round);
            }
        }
    }
    // All of them at once, told to stop as an update does, with the other programs replaced as well.
    let inodes = SERVICES.map(|service| replace(&house, service));
    replace(&house, "init");
    assert!(house.stop().is_empty());
    use_all(&house);
    SERVICES.iter().zip(inodes).for_each(|(service, inode)| runs(&house, service, inode));
    assert_eq!(Processes::of(&house), before);

    // Half of those with much to say end while nobody is there to see it.
    assert!(house.crash("runtime"));
    fs::write(shared.join("end0"), "").unwrap();
    let left = |pid: &str| fs::read_to_string(format!("/proc/{pid}/stat")).is_ok();
    let ending = before.0.iter().filter(|(name, ..)| is_even_loud(name));
    ending.for_each(|(name, pid, _)| eventually(&format!("{name} has ended"), SOON, || !left(pid)));
    fs::write(shared.join("end1"), "").unwrap();
    for n in 0..fifth {
        let name = format!("loud{n}");
        assert_eq!(house.ctl(&["wait", &name]).ok().text(), (n + 10).to_string(), "{name}");
        is_whole(&house, &name);
    }
    for n in 0..number - 2 * fifth {
        let name = format!("quiet{n}");
        house.ctl(&["stop", &name]).ok();
        assert_eq!(house.ctl(&["wait", &name]).ok().text(), ((n + 40) % 256).to_string(), "{name}");
    }
    for (n, seat) in seats.iter_mut().enumerate() {
        seat.take_again(&house);
        seat.is_good(n as u64, "last");
        seat.terminal.press(&format!("exit {}\n", n + 70));
    }
    for (n, seat) in seats.into_iter().enumerate() {
        assert_eq!(seat.terminal.finish(), n as i32 + 70, "{}", seat.name);
    }
}

/// Those that end with the first file.
fn is_even_loud(name: &str) -> bool {
    let number = name.trim_start_matches('/').strip_prefix("loud").and_then(|number| number.parse::<u64>().ok());
    number.is_some_and(|number| number % 2 == 0)
}
