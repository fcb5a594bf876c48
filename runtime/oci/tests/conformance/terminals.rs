//! config.md, "process.terminal": the console socket, and the terminal of the foreground.

use std::{
    fs,
    io::Read,
    os::unix::net::UnixListener,
    process::{Command, Stdio},
};

use serde_json::json;

use crate::bundle::Bundle;

/// Spec: config.md, process.terminal: the master goes to the console socket, and is the process's terminal
#[test]
fn the_console_socket_gets_the_master() {
    let bundle = Bundle::new("tty; exec sleep 100", |spec| spec["process"]["terminal"] = json!(true));
    let socket = bundle.path("console");
    let listener = UnixListener::bind(&socket).unwrap();

    let (directory, socket) = (bundle.dir().to_owned(), socket.to_str().unwrap().to_owned());
    bundle.strata(&["create", "--bundle", &directory, "--console-socket", &socket, "c"]).unwrap();
    let mut master = receive_fd(&listener);
    bundle.strata(&["start", "c"]).unwrap();

    let mut text = String::new();
    while !text.ends_with('\n') {
        let mut byte = [0];
        master.read_exact(&mut byte).unwrap();
        text.push(byte[0].into());
    }
    assert_eq!(text, "/dev/pts/0\r\n");
}

/// Spec: runtime.md, Create: a console socket that nobody listens on is an error, and nothing is left
#[test]
fn a_closed_console_socket_is_an_error_that_leaves_nothing() {
    let bundle = Bundle::new("true", |spec| spec["process"]["terminal"] = json!(true));
    let socket = bundle.path("console");
    drop(UnixListener::bind(&socket).unwrap());

    let output = bundle.call(&["create", "--bundle", bundle.dir(), "--console-socket", socket.to_str().unwrap(), "c"]);
    let without = bundle.call(&["create", "--bundle", bundle.dir(), "c"]);

    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("hand over the terminal"), "{output:?}");
    assert!(String::from_utf8_lossy(&without.stderr).contains("process.terminal: "), "{without:?}");
    assert_eq!(fs::read_dir(bundle.path("state")).unwrap().count(), 0);
    assert_eq!(bundle.cgroups(), 0);
}

/// Spec: config.md, process.terminal: in the foreground the caller's terminal is the process's, and its size
#[test]
fn run_and_exec_in_the_foreground_give_a_terminal() {
    let bundle = Bundle::new("exec sleep 100", |_| {});
    bundle.start();
    let engine = |words: &str| {
        let line = format!(
            "stty rows 33 columns 77; {} --root {} {words}",
            env!("CARGO_BIN_EXE_strata-oci"),
            bundle.path("state").display()
        );
        let mut command = Command::new("script");
        command.args(["--quiet", "--return", "--command", &line, "/dev/null"]).stdin(Stdio::null());
        let mut output = command.output().unwrap();
        // script types a NUL at the end of its input, which is echoed somewhere.
        output.stdout = String::from_utf8(output.stdout).unwrap().replace("^@", "").into();
        output
    };

    let output = engine("exec --tty c sh -c 'tty; stty size; exit 5'");
    assert_eq!(output.status.code(), Some(5), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).ends_with("/dev/pts/0\r\n33 77\r\n"), "{output:?}");

    let other = Bundle::new("tty; stty size; exit 6", |spec| spec["process"]["terminal"] = json!(true));
    let output = engine(&format!("run --bundle {} d", other.dir()));
    assert_eq!(output.status.code(), Some(6), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).ends_with("/dev/pts/0\r\n33 77\r\n"), "{output:?}");
}

/// Receives the descriptor that comes with the first bytes.
pub fn receive_fd(listener: &UnixListener) -> fs::File {
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
    let (stream, _) = listener.accept().unwrap();
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = [0; 64];
    let mut slices = [std::io::IoSliceMut::new(&mut bytes)];
    recvmsg(&stream, &mut slices, &mut ancillary, RecvFlags::CMSG_CLOEXEC).unwrap();
    let fds = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    fs::File::from(fds.expect("a descriptor came along"))
}
