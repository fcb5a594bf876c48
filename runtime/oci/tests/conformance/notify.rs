//! What a service manager hands to a container: the socket of sd_notify(3), and those of socket activation.

use std::{
    fs,
    io::IoSliceMut,
    mem::MaybeUninit,
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixDatagram},
    },
    process::{Command, Stdio},
    thread,
};

use rustix::net::{RecvAncillaryBuffer, RecvFlags, recvmsg};

use crate::bundle::Bundle;

/// Speaks for the container: nothing in the bundle can send a datagram.
fn say(path: &std::path::Path, text: &str) {
    let socket = UnixDatagram::unbound().unwrap();
    socket.send_to(text.as_bytes(), path).unwrap();
}

/// Reads what a manager is told, until the barrier, which it lets pass.
fn told(manager: &UnixDatagram) -> Vec<String> {
    let mut all = Vec::new();
    loop {
        let mut buffer = [0; 256];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut slices = [IoSliceMut::new(&mut buffer)];
        let count = recvmsg(manager, &mut slices, &mut ancillary, RecvFlags::CMSG_CLOEXEC).unwrap().bytes;
        all.push(String::from_utf8(buffer[..count].to_vec()).unwrap());
        if all.last().unwrap() == "BARRIER=1" {
            assert_eq!(ancillary.drain().count(), 1, "no descriptor came with the barrier");
            return all;
        }
    }
}

const SCRIPT: &str = "echo $NOTIFY_SOCKET; stat -c '%a %F' $NOTIFY_SOCKET; touch /run/notify/x 2>/dev/null; \
    echo $?; exec sleep 100";

#[test]
fn start_passes_on_that_the_container_is_ready() {
    let bundle = Bundle::new(SCRIPT, |_| {});
    let address = bundle.path("manager");
    let manager = UnixDatagram::bind(&address).unwrap();
    let output = fs::File::create(bundle.path("output")).unwrap();
    let mut create = bundle.command();
    create.env("NOTIFY_SOCKET", &address).args(["create", "--bundle", bundle.dir(), "c"]);
    assert!(create.stdout(output.try_clone().unwrap()).stderr(output).status().unwrap().success());
    let mut start = bundle.command();
    let mut start = start.env("NOTIFY_SOCKET", &address).args(["start", "c"]).spawn().unwrap();
    bundle.wait_for_output("\n1\n");
    let socket = bundle.path("state/c/notify/notify.sock");

    // It waits, and only for that.
    say(&socket, "STATUS=not yet\nMAINPID=1");
    assert!(start.try_wait().unwrap().is_none());
    say(&socket, "STATUS=here\nREADY=1\n");

    let pid = bundle.state()["pid"].as_u64().unwrap();
    assert_eq!(told(&manager), ["READY=1\n".to_owned(), format!("MAINPID={pid}\n"), "BARRIER=1".to_owned()]);
    assert!(start.wait().unwrap().success());
    let said = fs::read_to_string(bundle.path("output")).unwrap();
    assert_eq!(said, "/run/notify/notify.sock\n777 socket\n1\n");
}

#[test]
fn start_does_not_wait_for_a_container_that_ends_without_a_word() {
    let bundle = Bundle::new("exit 0", |_| {});
    let address = bundle.path("manager");
    let _manager = UnixDatagram::bind(&address).unwrap();
    for words in [["create", "--bundle", bundle.dir(), "c"].as_slice(), &["start", "c"]] {
        let mut command = bundle.command();
        command.env("NOTIFY_SOCKET", &address).args(words).stdout(Stdio::null()).stderr(Stdio::null());
        assert!(command.status().unwrap().success(), "{words:?}");
    }
}

/// A manager behind an abstract name; this program stays its service, so it is told of no other process.
#[test]
fn run_in_the_foreground_passes_it_on_and_stays() {
    let bundle = Bundle::new("while :; do sleep 0.1; done", |_| {});
    let name = format!("strata-notify-{}", bundle.id());
    let manager = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    let mut run = bundle.command();
    let run = run.env("NOTIFY_SOCKET", format!("@{name}")).args(["run", "--bundle", bundle.dir(), "c"]);
    let mut run = run.stdout(Stdio::null()).spawn().unwrap();
    let socket = bundle.path("state/c/notify/notify.sock");
    bundle.wait_until("a socket", || socket.exists());

    say(&socket, "READY=1");

    let mut buffer = [0; 64];
    let count = manager.recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..count], b"READY=1\n");
    assert!(run.try_wait().unwrap().is_none());
    bundle.wait_for("running");
    bundle.strata(&["kill", "c", "KILL"]).unwrap();
    assert_eq!(run.wait().unwrap().code(), Some(137));
}

#[test]
fn run_detached_returns_once_it_is_passed_on() {
    let bundle = Bundle::new("exec sleep 100", |_| {});
    let address = bundle.path("manager");
    let manager = UnixDatagram::bind(&address).unwrap();
    let mut run = bundle.command();
    let run = run.env("NOTIFY_SOCKET", &address).args(["run", "--detach", "--bundle", bundle.dir(), "c"]);
    let mut run = run.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let socket = bundle.path("state/c/notify/notify.sock");
    bundle.wait_until("a socket", || socket.exists());
    let heard = thread::spawn(move || told(&manager));

    say(&socket, "READY=1");

    assert!(run.wait().unwrap().success());
    assert_eq!(heard.join().unwrap().len(), 3);
}

#[test]
fn without_a_manager_the_container_has_no_socket() {
    let bundle = Bundle::new("echo -$NOTIFY_SOCKET-; ls -d /run/notify 2>/dev/null", |_| {});

    let output = bundle.run();

    assert_eq!(String::from_utf8_lossy(&output.stdout), "--\n");
}

/// sd_listen_fds(3): sockets that were passed to this very process go on to the container's, before those preserved.
#[test]
fn sockets_of_activation_are_the_containers_if_they_were_meant_for_the_engine() {
    let bundle = Bundle::new("echo $LISTEN_FDS $LISTEN_PID $LISTEN_FDNAMES; ls /proc/self/fd", |_| {});
    let run = |pid: &str, options: &str| {
        let script = format!(
            "exec 3</dev/null 4</dev/null 5</dev/null; export LISTEN_FDS=2 LISTEN_FDNAMES=a:b LISTEN_PID={pid}; \
             exec {} --root {} run {options} --bundle {} c",
            env!("CARGO_BIN_EXE_strata-oci"),
            bundle.path("state").display(),
            bundle.dir()
        );
        let output = Command::new("sh").args(["-c", &script]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };

    // One more is that of the directory that ls reads.
    assert_eq!(run("$$", ""), "2 1 a:b\n0\n1\n2\n3\n4\n5\n");
    assert_eq!(run("$$", "--preserve-fds 1"), "2 1 a:b\n0\n1\n2\n3\n4\n5\n6\n");
    assert_eq!(run("1", ""), "\n0\n1\n2\n3\n");
}
