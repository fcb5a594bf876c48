//! `ctl image cp`: images from one store to another, file by file, whoever dies on the way.

use std::{
    fs,
    path::{Path, PathBuf},
};

use nix::sys::signal::Signal;
use strata_tests::{House, Output, Running, Tar, eventually, update, update::noise};

/// A store besides the one that ctl starts, with a context of its name.
struct Store {
    running: Option<Running>,
    root: PathBuf,
    socket: PathBuf,
}

impl Store {
    fn start(house: &House, name: &str) -> Self {
        let (root, socket) = (house.path(name), house.path(&format!("{name}.sock")));
        let mut store = Self { running: None, root, socket };
        store.run(house);
        let endpoint = format!("unix:{}", store.socket.display());
        let words = ["context", "create", name, "--store", &endpoint, "--builder", &endpoint, "--runtime", &endpoint];
        house.ctl(&words).ok();
        store
    }

    fn run(&mut self, house: &House) {
        let mut command = house.command(strata_tests::binaries().join("strata-store"));
        command.arg("--listen").arg(format!("unix:{}", self.socket.display())).arg("--root").arg(&self.root);
        let mut running = Running::spawn(command);
        running.wait_for("serving service=");
        self.running = Some(running);
    }

    fn signal(&mut self, signal: Signal) {
        let Some(running) = self.running.take() else { return };
        running.signal(signal);
        running.finish();
    }

    /// Bytes of blobs and contents that came in part.
    fn in_part(&self) -> u64 {
        let boots = fs::read_dir(self.root.join("partials")).into_iter().flatten().flatten();
        let files = boots.flat_map(|boot| fs::read_dir(boot.path()).into_iter().flatten().flatten());
        files.map(|file| file.metadata().map_or(0, |found| found.len())).sum()
    }
}

fn moved(output: &Output) -> u64 {
    update::moved(&output.stdout).expect("it says what moved")
}

/// An image of files without any order.
fn import(house: &House, context: &str, name: &str, seeds: impl IntoIterator<Item = u64>) {
    let all = seeds.into_iter().enumerate();
    let tar =
        all.fold(Tar::default(), |tar, (place, seed)| tar.file(&format!("f{place}"), 0o644, &noise(seed, 65_536)));
    let file = tar.write(house.path("image.tar"));
    house.ctl(&["-c", context, "import", file.to_str().unwrap(), name]).ok();
}

fn id(house: &House, context: &str, name: &str) -> String {
    house.ctl(&["-c", context, "images", "-q", "--no-trunc", name]).ok().text().to_owned()
}

#[test]
fn an_image_is_copied_by_name_and_says_what_moved() {
    let house = House::start();
    let mut far = Store::start(&house, "far");
    import(&house, "default", "app:1", 0..40);

    let first = house.ctl(&["image", "cp", "app:1", "far:"]).ok().says(&["Copied", "Digest: sha256:", "far:app:1"]);
    import(&house, "default", "app:2", (0..38).chain(100..102));
    let second = house.ctl(&["image", "cp", "app:2", "far:other:3"]).ok();

    assert!(moved(&first) > 39 * 65_536, "{first:?}");
    assert!(moved(&second) < 3 * 65_536, "{second:?}");
    assert_eq!(id(&house, "far", "app:1"), id(&house, "default", "app:1"));
    assert_eq!(id(&house, "far", "other:3"), id(&house, "default", "app:2"));
    second.says(&["were there", "spared 2.49MB"]);
    let back = house.ctl(&["-c", "far", "image", "cp", "-q", "other:3", "default:back:1"]).ok();
    assert_eq!(back.text(), "default:back:1");
    house.ctl(&["-c", "far", "system", "verify"]).ok();
    house.verify();

    house.ctl(&["image", "cp", "none:1", "far:"]).code(1).complains(&["default: no such image", "no context \"none\""]);
    house.ctl(&["image", "cp", "app:1", "fra:app:1"]).code(125).complains(&["no context \"fra\"", "context ls"]);
    house.ctl(&["image", "cp", "app:1", "app:2"]).code(125).complains(&["same context", "ctl tag"]);
    let endpoint = format!("unix:{}", far.socket.display());
    let words = ["context", "create", "again", "--store", &endpoint, "--builder", &endpoint, "--runtime", &endpoint];
    house.ctl(&words).ok();
    house.ctl(&["image", "cp", "far:app:1", "again:app:9"]).code(1).complains(&["same store"]);
    let platform = ["image", "cp", "--platform", "linux/s390x", "app:1", "far:s:1"];
    house.ctl(&platform).code(1).complains(&["linux/s390x"]);
    far.signal(Signal::SIGTERM);
    house.ctl(&["image", "cp", "app:1", "far:"]).code(1).complains(&["far"]);
}

#[test]
fn whoever_dies_on_the_way_the_next_copy_goes_on() {
    let house = House::start();
    let (mut one, mut two) = (Store::start(&house, "one"), Store::start(&house, "two"));
    for (round, victim) in ["ctl", "source", "target"].into_iter().enumerate() {
        // Fresh the first time, of which the whole layer comes; then half of it is there, and files come.
        let start = 10_000 * (round as u64 + 1);
        let all = 600 * 65_536_u64;
        import(&house, "one", "large:1", (0..500).chain(start..start + 600));
        let copying = house.ctl_running(&["image", "cp", "one:large:1", "two:"]);
        eventually("a third has come", std::time::Duration::from_secs(120), || two.in_part() > all / 3);

        match victim {
            "ctl" => copying.signal(Signal::SIGKILL),
            "source" => one.signal(Signal::SIGKILL),
            _ => two.signal(Signal::SIGKILL),
        }
        let ended = copying.finish().fails();
        match victim {
            "source" => one.run(&house),
            "target" => two.run(&house),
            _ => {}
        }
        if victim != "ctl" {
            ended.complains(&[if victim == "source" { "one: " } else { "two: " }]);
        }
        let again = house.ctl(&["image", "cp", "one:large:1", "two:"]).ok();

        let fresh = if round == 0 { 500 * 65_536 } else { 0 };
        assert!(moved(&again) < fresh + all - all / 3 + (4 << 20), "{victim}: {again:?}");
        assert_eq!(id(&house, "two", "large:1"), id(&house, "one", "large:1"), "{victim}");
        assert_eq!(two.in_part(), 0, "{victim}");
        house.ctl(&["-c", "two", "system", "verify"]).ok();
    }
    one.signal(Signal::SIGTERM);
    two.signal(Signal::SIGTERM);
}

#[test]
fn a_security_update_of_debian_moves_a_small_part_over_mutual_tls() {
    let house = House::start();
    let tls = house.path("tls");
    house.ctl(&["tls", "init", tls.to_str().unwrap(), "--host", "127.0.0.1"]).ok();
    let pem = |name: &str| tls.join(name).to_str().unwrap().to_owned();
    let mut command = house.command(strata_tests::binaries().join("strata-store"));
    command.args(["--listen", "tcp:127.0.0.1:0", "--root"]).arg(house.path("far"));
    command.args(["--tls-ca", &pem("ca.pem"), "--tls-cert", &pem("store.pem"), "--tls-key", &pem("store.key")]);
    let mut far = Running::spawn(command);
    far.wait_for("serving service=");
    let log = far.stderr();
    let said = log.lines().find(|line| line.contains("serving service=")).unwrap();
    let endpoint = said.split("endpoint=").nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
    let keys = [pem("ca.pem"), pem("client.pem"), pem("client.key")];
    let words = ["context", "create", "far", "--store", &endpoint, "--builder", &endpoint, "--runtime", &endpoint];
    let words = [&words[..], &["--tls-ca", &keys[0], "--tls-cert", &keys[1], "--tls-key", &keys[2]]].concat();
    house.ctl(&words).ok();
    let base = strata_tests::debian();
    house.ctl(&["import", base.to_str().unwrap(), "debian:1"]).ok();
    let newer = house.path("update.tar");
    assert!(update::with_another_openssl(&base, &newer).unwrap() > 0, "Debian has OpenSSL");
    house.ctl(&["import", newer.to_str().unwrap(), "debian:2"]).ok();
    let archive = house.path("debian.tar");
    house.ctl(&["save", "-o", archive.to_str().unwrap(), "debian:2"]).ok();
    // All of it but the layer is a few kilobytes.
    let compressed = fs::metadata(&archive).unwrap().len();

    house.ctl(&["image", "cp", "debian:1", "far:"]).ok();
    let copied = house.ctl(&["image", "cp", "debian:2", "far:"]).ok();

    assert!(moved(&copied) * 100 <= compressed * 15, "of {compressed}: {copied:?}");
    assert_eq!(id(&house, "far", "debian:2"), id(&house, "default", "debian:2"));
    let elsewhere = house.path("far.tar");
    house.ctl(&["-c", "far", "save", "-o", elsewhere.to_str().unwrap(), "debian:2"]).ok();
    assert_eq!(entries(&archive), entries(&elsewhere), "it is the same image for others");
    assert!(fs::read(&archive).unwrap() == fs::read(&elsewhere).unwrap(), "to the byte");
    house.ctl(&["-c", "far", "system", "verify"]).ok();
    far.signal(Signal::SIGTERM);
    far.finish().ok();
}

/// What is in an archive: names, which are digests of what matters, and sizes.
fn entries(archive: &Path) -> Vec<(PathBuf, u64)> {
    let mut archive = tar::Archive::new(fs::File::open(archive).unwrap());
    let entries = archive.entries().unwrap().map(|entry| entry.unwrap());
    entries.map(|entry| (entry.path().unwrap().into_owned(), entry.size())).collect()
}
