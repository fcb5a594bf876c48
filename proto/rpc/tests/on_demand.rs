//! Services started on demand, with the real thing: the example `lamp` as a process of its own.

use std::{
    fs,
    os::{
        fd::OwnedFd,
        unix::net::{UnixDatagram, UnixListener},
    },
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use strata_rpc::{
    Endpoint, connect_eager,
    spawn::{self, Error, OnDemand},
};

#[allow(dead_code)]
#[path = "sample/lamp.rs"]
mod lamp;

/// A lamp in a directory of its own. Its process stops by itself within the idle timeout, or is waited for.
struct House {
    dir: tempfile::TempDir,
}

impl House {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn lamp(&self, idle_seconds: u32) -> OnDemand {
        let exe = std::env::current_exe().unwrap();
        let binary = exe.parent().and_then(Path::parent).unwrap().join("examples/lamp");
        assert!(binary.exists(), "build the example first: cargo test builds it unless one target is picked");
        OnDemand {
            binary,
            args: vec!["--idle-timeout".into(), idle_seconds.to_string().into()],
            socket: self.dir.path().join("run/lamp.sock"),
            root: self.root(),
            is_privileged: false,
        }
    }

    /// Starts a lamp as a unit of systemd does: the manager has the socket open too, and listens for what it is told.
    fn unit(&self, idle_seconds: u32, socket: &UnixListener, notify: &Path) -> tokio::process::Child {
        let lamp = self.lamp(idle_seconds);
        let mut command = tokio::process::Command::new(&lamp.binary);
        command.args(["--listen", "systemd", "--root"]).arg(&lamp.root).args(&lamp.args).env("NOTIFY_SOCKET", notify);
        command.stdin(OwnedFd::from(socket.try_clone().unwrap())).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().unwrap()
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("lamp")
    }

    fn lives(&self) -> Vec<i32> {
        let text = fs::read_to_string(self.root().join("lives")).unwrap_or_default();
        text.lines().map(|pid| pid.parse().unwrap()).collect()
    }

    /// Waits for the end of every process that was started here.
    async fn wait_for_the_end(&self) {
        let begun = Instant::now();
        while self.lives().iter().any(|pid| alive(*pid)) {
            assert!(begun.elapsed() < Duration::from_secs(20), "a lamp did not stop");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = *self.lives().last().unwrap();
        rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), signal).unwrap();
    }
}

/// Whether any of its threads runs: a zombie whose other threads are still on their way out has its socket yet.
/// proc_pid_stat(5): field 3 is the state, field 20 the number of threads.
fn alive(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let Some((_, rest)) = stat.rsplit_once(')') else { return false };
    let fields: Vec<&str> = rest.split_whitespace().collect();
    fields[0] != "Z" || fields[17].parse::<u32>().unwrap() > 1
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once_start_one_service() {
    let house = House::new();
    let callers: Vec<_> = (0..12)
        .map(|_| {
            let lamp = house.lamp(1);
            tokio::spawn(async move { lamp::call(spawn::ensure(lamp).await.unwrap(), "Ping").await.unwrap() })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    assert_eq!(house.lives().len(), 1);
    house.wait_for_the_end().await;
    assert!(!house.lamp(1).socket.exists(), "an idle stop left its socket");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_killed_dead_is_started_again_by_the_same_channel() {
    let house = House::new();
    let channel = spawn::ensure(house.lamp(1)).await.unwrap();
    lamp::call(channel.clone(), "Ping").await.unwrap();
    house.signal(rustix::process::Signal::KILL);
    house.wait_for_the_end().await;
    assert!(house.lamp(1).socket.exists(), "this test needs a stale socket");
    // The first call may still meet the broken connection.
    let _ = lamp::call(channel.clone(), "Ping").await;
    lamp::call(channel.clone(), "Ping").await.unwrap();
    assert_eq!(house.lives().len(), 2);
    drop(channel);
    house.wait_for_the_end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_told_to_stop_makes_room_for_the_next() {
    let house = House::new();
    lamp::call(spawn::ensure(house.lamp(1)).await.unwrap(), "Ping").await.unwrap();
    house.signal(rustix::process::Signal::TERM);
    house.wait_for_the_end().await;
    assert!(!house.lamp(1).socket.exists());
    lamp::call(spawn::ensure(house.lamp(1)).await.unwrap(), "Ping").await.unwrap();
    assert_eq!(house.lives().len(), 2);
    house.wait_for_the_end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_refuses_to_start_says_why() {
    let house = House::new();
    fs::create_dir(house.root()).unwrap();
    fs::write(house.root().join("refuse"), "").unwrap();
    let err = spawn::ensure(house.lamp(1)).await.unwrap_err();
    assert!(matches!(&err, Error::Ended { said, .. } if said.contains("the root says no")), "{err:?}");

    // One that is gone before it was called says how it ended, not that the connection broke.
    let mut ended = 0;
    for _ in 0..50 {
        let gone = OnDemand { binary: "/bin/false".into(), ..house.lamp(1) };
        // A process that another test makes just then has the socket until it executes its program: that looks like a service.
        let Err(err) = spawn::ensure(gone).await else { continue };
        assert!(matches!(&err, Error::Ended { status, .. } if status.contains("exit status: 1")), "{err:?}");
        ended += 1;
    }
    assert!(ended > 0);

    // At a socket of its own: the last one may have been inherited for a moment, as above.
    let missing = OnDemand { binary: "/nonexistent/strata-lamp".into(), ..House::new().lamp(1) };
    let text = strata_rpc::fault::chain(&spawn::ensure(missing).await.unwrap_err());
    assert!(text.contains("/nonexistent/strata-lamp"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_client_is_lost_to_a_service_that_stops() {
    let house = House::new();
    // Calls that come just when the service stops: the idle timeout is one second.
    for extra_ms in [980, 995, 1000, 1003, 1006, 1010, 1020] {
        let channel = spawn::ensure(house.lamp(1)).await.unwrap();
        lamp::call(channel, "Ping").await.expect("a call was lost");
        tokio::time::sleep(Duration::from_millis(extra_ms)).await;
    }
    house.wait_for_the_end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_of_systemd_stays_and_who_comes_between_two_lives_is_served_by_the_next() {
    let house = House::new();
    let (path, told) = (house.dir.path().join("lamp.sock"), house.dir.path().join("notify"));
    let (socket, manager) = (UnixListener::bind(&path).unwrap(), UnixDatagram::bind(&told).unwrap());
    manager.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let hears = |wanted: &str| {
        let mut text = [0; 64];
        let length = manager.recv(&mut text).unwrap();
        assert_eq!(String::from_utf8_lossy(&text[..length]), wanted);
    };
    let at = Endpoint::Unix(path.clone());

    let mut first = house.unit(1, &socket, &told);
    lamp::call(connect_eager(&at, None).await.unwrap(), "Ping").await.unwrap();
    hears("READY=1");
    assert!(first.wait().await.unwrap().success(), "an idle stop is a success: systemd restarts only what fails");
    hears("STOPPING=1");
    assert!(path.exists(), "the socket is systemd's");

    // Nobody accepts now; the connection waits in the queue.
    let waiting = tokio::spawn(async move { lamp::call(connect_eager(&at, None).await.unwrap(), "Ping").await });
    let mut second = house.unit(1, &socket, &told);
    waiting.await.unwrap().unwrap();
    hears("READY=1");
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(i32::try_from(second.id().unwrap()).unwrap()).unwrap(),
        rustix::process::Signal::TERM,
    )
    .unwrap();
    assert!(second.wait().await.unwrap().success());
    hears("STOPPING=1");
    assert!(path.exists());
    assert_eq!(house.lives().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_whose_socket_was_replaced_makes_room_for_the_one_of_the_new_socket() {
    let house = House::new();
    let lamp = house.lamp(600);
    let (path, told) = (lamp.socket.clone(), house.dir.path().join("notify"));
    let channel = spawn::ensure(lamp).await.unwrap();
    lamp::call(channel.clone(), "Ping").await.unwrap();
    // As systemd does when its socket unit is started: what is there is taken for stale.
    fs::remove_file(&path).unwrap();
    let socket = UnixListener::bind(&path).unwrap();
    drop(channel);

    let mut next = house.unit(1, &socket, &told);
    lamp::call(connect_eager(&Endpoint::Unix(path.clone()), None).await.unwrap(), "Ping").await.unwrap();

    assert_eq!(house.lives().len(), 2);
    assert!(next.wait().await.unwrap().success());
    house.wait_for_the_end().await;
    assert!(path.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_ends_the_service_and_the_next_one_begins_with_nothing() {
    let house = House::new();
    let channel = spawn::ensure(house.lamp(600)).await.unwrap();
    lamp::call(channel, "Ping").await.unwrap();
    let first = house.lives();
    fs::write(house.root().join("state"), "x").unwrap();

    house.lamp(600).reset().await.unwrap();

    let begun = Instant::now();
    while first.iter().any(|pid| alive(*pid)) {
        assert!(begun.elapsed() < Duration::from_secs(20), "a lamp did not stop");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let left: Vec<_> = fs::read_dir(house.root()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["service.lock"]);
    lamp::call(spawn::ensure(house.lamp(1)).await.unwrap(), "Ping").await.unwrap();
    assert_eq!(house.lives().len(), 1);
    house.lamp(1).reset().await.unwrap();
}
