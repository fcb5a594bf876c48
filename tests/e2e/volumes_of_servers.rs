//! Volumes whose files are a server's. The server is the kernel's own, which a guest has (`make test-v2`, `tests/vm`): it is
//! told what exportfs(8), mountd(8) and nfsd(8) would tell it, so that none of them is needed.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime},
};

use strata_tests::{House, Output};

/// What the server is called on.
const CONTROL: &str = "/proc/fs/nfsd";
/// NFSEXP_INSECURE_PORT, NFSEXP_ASYNC, NFSEXP_NOSUBTREECHECK, NFSEXP_FSID of linux/nfsd/export.h.
const FLAGS: u32 = 0x2 | 0x10 | 0x400 | 0x2000;

/// A server of NFS 4 on loopback, whose root is a directory. There is one of a kernel.
struct Server(PathBuf);

impl Server {
    fn start() -> Self {
        let directory = tempfile::Builder::new().prefix("strata-export-").tempdir_in("/var/tmp").unwrap().keep();
        let server = Self(directory);
        run(Command::new("mount").args(["-t", "tmpfs", "memory"]).arg(&server.0));
        run(Command::new("mount").args(["-t", "nfsd", "nfsd", CONTROL]));
        // Without those that other programs of the server would be needed for.
        tell(&format!("{CONTROL}/versions"), "-2 -3 +4\n");
        let (path, tomorrow) = (server.0.display(), SystemTime::now() + Duration::from_secs(86_400));
        let until = tomorrow.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        // Who asks, what the root is, and on which terms he has it: Documentation/filesystems/nfs/rpc-cache.rst.
        tell("/proc/net/rpc/auth.unix.ip/channel", &format!("nfsd 127.0.0.1 {until} tests\n"));
        tell("/proc/net/rpc/nfsd.fh/channel", &format!("tests 1 \\x00000000 {until} {path}\n"));
        tell("/proc/net/rpc/nfsd.export/channel", &format!("tests {path} {until} {FLAGS} 65534 65534 0\n"));
        // Clients of a former life are waited for, of which there are none: as shortly as can be.
        for time in ["nfsv4leasetime", "nfsv4gracetime"] {
            tell(&format!("{CONTROL}/{time}"), "10\n");
        }
        tell(&format!("{CONTROL}/threads"), "2\n");
        server
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Each as far as it goes: the test may have failed on the way.
        let _ = fs::write(format!("{CONTROL}/threads"), "0\n");
        for mounted in [Path::new(CONTROL), &self.0] {
            let _ = Command::new("umount").arg("-l").arg(mounted).status();
        }
        let _ = fs::remove_dir(&self.0);
    }
}

#[track_caller]
fn run(command: &mut Command) {
    let status = command.status().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(status.success(), "{command:?}: {status}");
}

#[track_caller]
fn tell(file: &str, text: &str) {
    fs::write(file, text).unwrap_or_else(|error| panic!("{text:?} to {file}: {error}"));
}

/// Makes a volume of a server.
#[track_caller]
fn create(house: &House, name: &str, options: &str) {
    let options = format!("o={options}");
    house.ctl(&["volume", "create", "-o", "type=nfs", "-o", "device=:/", "-o", &options, name]).ok();
}

/// Lines of the table of mounts that are about a volume.
fn mounted(name: &str) -> Vec<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let place = format!("/volumes/{name}/_data ");
    table.lines().filter(|line| line.contains(&place)).map(str::to_owned).collect()
}

fn exec(house: &House, name: &str, words: &[&str]) -> Output {
    house.ctl(&[&["exec", name, "/guest"], words].concat())
}

#[test]
#[ignore = "needs the modules nfs and nfsd: make test-v2"]
fn the_files_of_a_server_are_a_volume_while_containers_run() {
    let house = House::with_guest();
    create(&house, "share", "addr=127.0.0.1,rw");
    create(&house, "frozen", "addr=127.0.0.1,ro,vers=4.1");
    let words = ["create", "--name", "one", "-v", "share:/data", "guest", "/guest", "sleep", "600"];
    house.ctl(&words).ok();
    house.ctl(&["start", "one"]).code(1).complains(&["cannot mount volume share", "does not answer"]);
    assert_eq!(mounted("share"), [""; 0]);

    let server = Server::start();
    house.ctl(&["start", "one"]).ok();
    exec(&house, "one", &["write", "/data/file", "kept"]).ok();
    fs::write(server.path("other"), "from there").unwrap();

    assert_eq!(fs::read_to_string(server.path("file")).unwrap(), "kept");
    assert_eq!(exec(&house, "one", &["read", "/data/other"]).ok().text(), "from there");
    let lines = mounted("share");
    assert!(lines.len() == 1 && lines[0].contains(" nfs4 ") && lines[0].contains("vers=4.2"), "{lines:?}");
    house.guest_with(&["-v", "share:/data:ro"], &["read", "/data/file"]).ok().says(&["kept"]);
    assert_eq!(mounted("share").len(), 1, "it goes with the last one");
    house.ctl(&["rm", "-f", "one"]).ok();
    assert_eq!(mounted("share"), [""; 0]);

    let frozen = ["-v", "frozen:/data"];
    house.guest_with(&frozen, &["read", "/data/file"]).ok().says(&["kept"]);
    house.guest_with(&frozen, &["write", "/data/file", "lost"]).code(99).complains(&["Read-only file system"]);
    house.ctl(&["volume", "rm", "share", "frozen"]).ok();
    assert_eq!(mounted("frozen"), [""; 0]);
    assert_eq!(fs::read_to_string(server.path("file")).unwrap(), "kept", "they are the server's");
}

#[test]
#[ignore = "needs the modules nfs and nfsd: make test-v2"]
fn a_server_that_does_not_answer_is_given_up_and_nothing_is_half_made() {
    let house = House::with_guest();
    // It takes connections, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    create(&house, "nobody", "addr=127.0.0.1,port=1,vers=4.2");
    create(&house, "silent", &format!("addr=127.0.0.1,port={port},vers=4.2"));

    for name in ["nobody", "silent"] {
        let volume = format!("{name}:/data");
        let refused = house.guest_with(&["-v", &volume], &["noop"]).code(125);

        refused.clone().complains(&[&format!("cannot mount volume {name}"), "its server does not answer", "o=addr="]);
        assert_eq!(refused.stderr.matches("cannot mount").count(), 1, "one error: {refused:?}");
        assert_eq!(mounted(name), [""; 0]);
    }

    assert_eq!(house.ctl(&["ps", "-aq"]).ok().text(), "");
    house.ctl(&["volume", "rm", "nobody", "silent"]).ok();
}
