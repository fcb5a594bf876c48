//! Interruptions and a full disk: nothing acknowledged is lost, nothing is left behind.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use nix::{
    mount::{MsFlags, mount, umount},
    sys::signal::Signal,
};
use strata_tests::{Context, House, Tar, eventually};

/// A small disk of memory.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn new(size: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("strata-disk-").tempdir_in("/var/tmp").unwrap().keep();
        let options = format!("size={size},mode=700");
        mount(Some("small"), &dir, Some("tmpfs"), MsFlags::empty(), Some(options.as_str())).expect("tests run as root");
        Self(dir)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let start = std::time::Instant::now();
        while let Err(err) = umount(&self.0) {
            if start.elapsed() > Duration::from_secs(10) {
                eprintln!("cannot unmount {}: {err}", self.0.display());
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = std::fs::remove_dir(&self.0);
    }
}

#[test]
fn a_full_disk_is_said_and_loses_nothing() {
    let disk = SmallDisk::new("48m");
    let house = House::with_root(Some(&disk.0.join("state")));
    house.import_guest();

    let image = strata_tests::debian();
    house.ctl(&["import", image.to_str().unwrap(), "debian"]).fails();
    let said = house.ctl(&["import", image.to_str().unwrap(), "debian"]).fails().stderr.to_lowercase();
    assert!(said.contains("no space") || said.contains("disk full") || said.contains("disk is full"), "{said}");
    house.guest(&["fill", "/big", "200000000"]).code(99).complains(&["No space left on device"]);
    let context = Context::new("FROM guest\nRUN [\"/guest\", \"fill\", \"/big\", \"200000000\"]\n");
    house.build(&context, "big").fails().complains(&["Dockerfile:2", "No space left on device"]);
    let large = Context::new("FROM guest\nCOPY big /big\n");
    large.write("big", vec![7; 100 << 20]);
    let refused = house.build(&large, "large").fails().stderr.to_lowercase();
    assert!(refused.contains("no space") || refused.contains("disk"), "{refused}");

    house.guest(&["noop"]).ok();
    house.verify();
    assert_eq!(house.ctl(&["images", "-q"]).ok().stdout.lines().count(), 1);
    drop(house);
    drop(disk);
}

#[test]
fn a_disk_without_a_free_byte_lets_images_be_removed() {
    let disk = SmallDisk::new("32m");
    let house = House::with_root(Some(&disk.0.join("state")));
    house.import_guest();
    house.guest(&["noop"]).ok();
    let others = std::fs::File::create(disk.0.join("others"));
    let written = std::io::copy(&mut std::io::repeat(1), &mut others.unwrap()).unwrap_err();
    assert_eq!(written.raw_os_error(), Some(nix::libc::ENOSPC));

    house.ctl(&["run", "--rm", "guest", "/guest", "noop"]).code(125).complains(&["No space left on device"]);
    house.crash("store");
    house.ctl(&["rmi", "guest"]).ok();
    house.ctl(&["system", "prune", "-f"]).ok();

    assert_eq!(house.ctl(&["images", "-q"]).ok().stdout, "");
    house.verify();
    drop(house);
    drop(disk);
}

fn no_container(house: &House) {
    eventually("no container is left", Duration::from_secs(20), || house.ctl(&["ps", "-aq"]).ok().stdout.is_empty());
}

fn no_cgroup(house: &House) {
    eventually("no cgroup is left", Duration::from_secs(10), || house.unowned_cgroups().is_empty());
}

#[test]
fn an_interrupted_build_leaves_nothing() {
    let house = House::with_guest();
    let context =
        Context::new("FROM guest\nRUN [\"/guest\", \"then\", \"echo\", \"it works\", \"+\", \"sleep\", \"300\"]\n");
    let mut build = house.ctl_running(&["build", "--progress", "plain", "-t", "never", context.arg()]);
    build.wait_for("it works");

    build.signal(Signal::SIGINT);

    let ended = build.finish_within(Duration::from_secs(30));
    assert_eq!(ended.code, 130, "{ended:?}");
    no_container(&house);
    assert_eq!(house.ctl(&["images", "-q", "never"]).ok().stdout, "");
    no_cgroup(&house);
    house.verify();
}

#[test]
fn a_killed_client_leaves_nothing() {
    let house = House::with_guest();
    let context =
        Context::new("FROM guest\nRUN [\"/guest\", \"then\", \"echo\", \"it works\", \"+\", \"sleep\", \"300\"]\n");
    let mut build = house.ctl_running(&["build", "--progress", "plain", "-t", "never", context.arg()]);
    build.wait_for("it works");

    build.signal(Signal::SIGKILL);
    build.finish().code(137);

    no_container(&house);
    no_cgroup(&house);
}

#[test]
fn an_interrupted_import_leaves_nothing() {
    let house = House::start();
    let whole = Tar::of_guest().file("more", 0o644, &vec![5; 8 << 20]).bytes();
    let mut import = house.ctl_piped(&["import", "-", "half"]);
    import.write(&whole[..whole.len() / 2]);
    eventually("the store has begun", Duration::from_secs(20), || !house.services().is_empty());
    std::thread::sleep(Duration::from_millis(300));

    import.signal(Signal::SIGINT);

    let ended = import.finish_within(Duration::from_secs(30));
    assert_eq!(ended.code, 130, "{ended:?}");
    assert_eq!(house.ctl(&["images", "-q"]).ok().stdout, "");
    house.verify();
    let left = || files_of(house.root(), 1 << 20);
    eventually("what had arrived is gone", Duration::from_secs(20), || left().is_empty());
}

/// Files of at least this size below a directory.
fn files_of(dir: &Path, size: u64) -> Vec<PathBuf> {
    let mut found = vec![];
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let Ok(meta) = entry.metadata() else { continue };
        if meta.is_dir() {
            found.extend(files_of(&entry.path(), size));
        } else if meta.is_file() && meta.len() >= size && !entry.path().to_string_lossy().contains(".db") {
            found.push(entry.path());
        }
    }
    found
}

#[test]
fn an_interrupted_run_passes_the_signal_on_and_removes() {
    let house = House::with_guest();
    let mut run = house.ctl_running(&["run", "--rm", "guest", "/guest", "trap", "77", "SIGINT"]);
    run.wait_for("ready");

    run.signal(Signal::SIGINT);

    assert!(run.finish_within(Duration::from_secs(30)).code(77).stdout.contains("SIGINT"));
    no_container(&house);
}
