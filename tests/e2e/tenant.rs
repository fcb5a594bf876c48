//! A house that belongs to an ordinary user, for whom nothing was set up. The test is root and lends it.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown},
    process::Command,
};

use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use strata_tests::{Context, House, Output, Running, Tar};

/// In nobody's passwd but the test's.
pub const USER: u32 = 54_777;
/// The first subordinate id.
pub const FIRST: u32 = 2_100_000;

/// Which ids the user has for containers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Ids {
    /// The own one.
    Single,
    /// 65,536 more.
    Subordinate,
    /// 65,536 more, and nobody who could hand them out.
    Unreachable,
}

/// A house that belongs to the user.
pub struct Tenant {
    pub house: House,
}

impl Tenant {
    pub fn new(ids: Ids) -> Self {
        Self::of(House::start(), ids)
    }

    /// On a host of its own, with a world beside it, where the user may open /dev/net/tun.
    pub fn with_network(ids: Ids) -> Self {
        let mut house = House::on_own_host();
        // Distributions leave the device to everybody. Where the test runs it may be root's alone.
        let tun = house.path("tun");
        mknod(&tun, SFlag::S_IFCHR, Mode::empty(), makedev(10, 200)).expect("the test is root");
        fs::set_permissions(&tun, fs::Permissions::from_mode(0o666)).unwrap();
        house.set("WITH_TUN", "yes");
        eprintln!("the user of the test has a /dev/net/tun that everybody may open");
        Self::of(house, ids)
    }

    fn of(mut house: House, ids: Ids) -> Self {
        // State and sockets are the user's to make; it may look into the rest as others may.
        fs::remove_dir_all(house.root()).unwrap();
        for path in [house.path(""), house.path("home")] {
            chown(&path, Some(USER), Some(USER)).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        // The user may be unable to walk to where this was built.
        let binaries = house.path("bin");
        fs::create_dir(&binaries).unwrap();
        for entry in fs::read_dir(strata_tests::binaries()).unwrap().flatten() {
            fs::copy(entry.path(), binaries.join(entry.file_name())).unwrap();
        }
        house.set("STRATA_BIN_DIR", binaries.to_str().unwrap());
        let subordinates = if ids != Ids::Single { format!("lodger:{FIRST}:65536\n") } else { String::new() };
        fs::write(house.path("subordinates"), subordinates).unwrap();
        let passwd = fs::read_to_string("/etc/passwd").unwrap();
        fs::write(house.path("passwd"), format!("{passwd}lodger:x:{USER}:{USER}::/:/bin/sh\n")).unwrap();
        if ids == Ids::Unreachable {
            house.set("WITHOUT_HELPER", "yes");
        }
        let tenant = Self { house };
        let tar = Tar::of_guest().write(tenant.house.path("guest.tar"));
        tenant.ctl(&["import", tar.to_str().unwrap(), "guest"]).ok();
        tenant
    }

    /// Writes the configuration of the runtime; the next one knows it.
    pub fn configure_runtime(&self, text: &str) {
        assert!(self.house.stop().is_empty());
        let dir = self.house.root().join("etc");
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("runtime.toml"), text).unwrap();
        for path in [dir.join("runtime.toml"), dir] {
            chown(path, Some(USER), Some(USER)).unwrap();
        }
    }

    /// Its processes of a program.
    pub fn processes(&self, program: &str) -> Vec<i32> {
        let all = strata_tests::living(&self.house.path("")).into_iter();
        all.filter(|trace| trace.program() == program).map(|trace| trace.pid).collect()
    }

    /// A command as the user, on a host whose passwd, subuid and subgid are the test's.
    pub fn command(&self, program: &str, words: &[&str]) -> Command {
        const SCRIPT: &str = "
            for file in subuid subgid; do test -e /etc/$file; done
            mount --bind $0/subordinates /etc/subuid
            mount --bind $0/subordinates /etc/subgid
            mount --bind $0/passwd /etc/passwd
            test -z \"$WITH_TUN\" || mount --bind $0/tun /dev/net/tun
            test -z \"$WITHOUT_HELPER\" || mount --bind /dev/null /usr/bin/newuidmap
            exec setpriv --reuid $USER_ID --regid $USER_ID --clear-groups \"$@\"";
        let mut command = self.house.command("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-ec", SCRIPT]).arg(self.house.path(""));
        command.env("USER_ID", USER.to_string()).arg(program).args(words);
        command
    }

    #[track_caller]
    pub fn ctl(&self, words: &[&str]) -> Output {
        let program = self.house.path("bin/ctl");
        Running::spawn(self.command(program.to_str().unwrap(), words)).finish()
    }

    #[track_caller]
    pub fn guest(&self, flags: &[&str], words: &[&str]) -> Output {
        self.ctl(&[&["run", "--rm"], flags, &["guest", "/guest"], words].concat())
    }

    #[track_caller]
    pub fn build(&self, context: &Context, name: &str) -> Output {
        self.ctl(&["build", "--progress", "plain", "-t", name, context.arg()])
    }

    /// The user namespaces that the services run in.
    pub fn namespaces(&self) -> Vec<String> {
        let services = self.house.services().into_iter().filter(|service| service.program() != "strata-builder");
        let mut found: Vec<_> = services
            .map(|service| fs::read_link(format!("/proc/{}/ns/user", service.pid)).unwrap().display().to_string())
            .collect();
        found.sort();
        found.dedup();
        found
    }
}
