//! Quotas of containers and volumes. File systems with project quotas need a kernel that has them: what shows that they hold
//! runs in a guest (`make test-v2`, `tests/vm`), what shows that they are refused runs everywhere.

use std::{fs::File, path::PathBuf, process::Command, thread, time::Duration};

use strata_tests::{House, Output, Tar};

use crate::tenant::{Ids, Tenant};

const MEBI: u64 = 1 << 20;

/// A file system in a file.
struct Disk {
    dir: PathBuf,
    image: PathBuf,
}

impl Disk {
    fn new(kind: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("strata-disk-").tempdir_in("/var/tmp").unwrap().keep();
        let disk = Self { image: dir.with_extension("img"), dir };
        File::create(&disk.image).unwrap().set_len(512 * MEBI).unwrap();
        let words: &[&str] = match kind {
            "ext4" => &["mkfs.ext4", "-q", "-O", "quota,project"],
            "ext4 without quotas" => &["mkfs.ext4", "-q"],
            kind => &[&format!("mkfs.{kind}"), "-q"],
        };
        run(Command::new(words[0]).args(&words[1..]).arg(&disk.image));
        disk
    }

    fn mounted(kind: &str, options: &str) -> Self {
        let disk = Self::new(kind);
        disk.mount(options);
        disk
    }

    fn mount(&self, options: &str) {
        run(Command::new("mount").args(["-o", options]).args([&self.image, &self.dir]));
    }

    fn unmount(&self) -> bool {
        // Who had it open ends a moment later.
        let once = || {
            let is_done = Command::new("umount").arg(&self.dir).status().unwrap().success();
            thread::sleep(Duration::from_millis(if is_done { 0 } else { 100 }));
            is_done
        };
        (0..100).any(|_| once())
    }

    fn house(&self) -> House {
        let house = House::with_root(Some(&self.dir.join("state")));
        house.import_guest();
        house
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.unmount() {
            let _ = std::fs::remove_dir(&self.dir);
            let _ = std::fs::remove_file(&self.image);
        }
    }
}

#[track_caller]
fn run(command: &mut Command) {
    let status = command.status().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(status.success(), "{command:?}: {status}");
}

/// Does it on each file system that has project quotas, with what it says when one is used up.
fn on_each(test: impl Fn(&House, &str)) {
    for (kind, full) in [("ext4", "Disk quota exceeded"), ("xfs", "No space left on device")] {
        let disk = Disk::mounted(kind, "loop,prjquota");
        println!("on {kind}");
        test(&disk.house(), full);
    }
}

#[track_caller]
fn exec(house: &House, name: &str, words: &[&str]) -> Output {
    house.ctl(&[&["exec", name, "/guest"], words].concat())
}

#[test]
#[ignore = "needs a kernel with project quotas: make test-v2"]
fn what_a_container_writes_is_limited_and_what_others_write_is_not() {
    on_each(|house, full| {
        let sleep = ["guest", "/guest", "sleep", "1000"];
        house.ctl(&[&["run", "-d", "--name", "box", "--storage-opt", "size=8m"][..], &sleep].concat()).ok();
        house.ctl(&[&["run", "-d", "--name", "free"][..], &sleep].concat()).ok();

        exec(house, "box", &["fill", "/some", "4000000"]).ok();
        exec(house, "box", &["fill", "/more", "8000000"]).code(99).complains(&[full]);
        exec(house, "free", &["fill", "/more", "16000000"]).ok();
        house.guest_with(&["--storage-opt", "size=8m"], &["fill", "/more", "16000000"]).code(99).complains(&[full]);

        assert_eq!(exec(house, "box", &["room", "/"]).ok().text(), (8 * MEBI).to_string(), "it sees its limit");
        let shown = house.ctl(&["inspect", "-f", "{{json .HostConfig.StorageOpt}}", "box"]).ok();
        assert_eq!(shown.text(), "{\"size\":\"8388608\"}");
        exec(house, "box", &["rm", "/more"]).ok();
        exec(house, "box", &["fill", "/more", "2000000"]).ok();

        house.ctl(&["restart", "-t", "0", "box"]).ok();
        exec(house, "box", &["fill", "/again", "8000000"]).code(99).complains(&[full]);
        house.ctl(&["rm", "-f", "box", "free"]).ok();
    });
}

#[test]
#[ignore = "needs a kernel with project quotas: make test-v2"]
fn what_is_in_a_volume_is_limited_also_what_comes_from_an_image_or_an_archive() {
    on_each(|house, full| {
        house.ctl(&["volume", "create", "-o", "size=8m", "data"]).ok();
        let data = |words: &[&str]| house.guest_with(&["-v", "data:/data"], words);
        data(&["fill", "/data/some", "4000000"]).ok();
        data(&["fill", "/data/more", "8000000"]).code(99).complains(&[full]);
        assert_eq!(data(&["room", "/data"]).ok().text(), (8 * MEBI).to_string());
        house.ctl(&["volume", "inspect", "data"]).ok().says(&["\"size\": \"8m\""]);
        let made = ["--mount", "type=volume,src=made,dst=/made,volume-opt=size=2m"];
        house.guest_with(&made, &["fill", "/made/more", "8000000"]).code(99).complains(&[full]);

        let tar = Tar::of_guest().file("big/file", 0o644, &vec![7; 6 << 20]).write(house.path("big.tar"));
        house.ctl(&["import", tar.to_str().unwrap(), "big"]).ok();
        house.ctl(&["volume", "create", "-o", "size=4m", "small"]).ok();
        house.ctl(&["run", "--rm", "-v", "small:/big", "big", "/guest", "noop"]).code(125).complains(&[full]);
        assert_eq!(house.ctl(&["ps", "-aq"]).ok().text(), "");
        house.ctl(&["volume", "import", "small", tar.to_str().unwrap()]).code(1).complains(&[full]);
        assert_eq!(house.guest_with(&["-v", "small:/small:nocopy"], &["ls", "/small"]).ok().text(), "");
        house.ctl(&["run", "--rm", "-v", "data:/big:nocopy", "big", "/guest", "ls", "/big"]).ok().says(&["some"]);
        house.ctl(&["volume", "rm", "data", "made", "small"]).ok();
    });
}

#[test]
#[ignore = "needs a kernel with project quotas: make test-v2"]
fn nothing_is_started_where_its_limit_no_longer_holds() {
    let disk = Disk::mounted("ext4", "loop,prjquota");
    let house = disk.house();
    house.ctl(&["volume", "create", "-o", "size=8m", "data"]).ok();
    house.ctl(&["create", "--name", "box", "--storage-opt", "size=8m", "guest", "/guest", "noop"]).ok();
    house.ctl(&["create", "--name", "other", "-v", "data:/data", "guest", "/guest", "noop"]).ok();

    assert!(house.stop().is_empty());
    assert!(disk.unmount());
    disk.mount("loop");
    for name in ["box", "other"] {
        let refused = house.ctl(&["start", name]).code(1);
        refused.complains(&["cannot apply limit size", "ext4 at", "has no project quotas in force", "prjquota"]);
    }

    assert!(house.stop().is_empty());
    assert!(disk.unmount());
    disk.mount("loop,prjquota");
    house.ctl(&["start", "-a", "box"]).ok();
    house.ctl(&["start", "-a", "other"]).ok();
}

#[test]
#[ignore = "needs a kernel with project quotas: make test-v2"]
fn a_file_system_without_quotas_is_told_with_what_to_do() {
    let disk = Disk::mounted("ext4 without quotas", "loop");
    let house = disk.house();

    let refused = house.guest_with(&["--storage-opt", "size=8m"], &["noop"]).code(125);

    refused.complains(&["cannot apply limit size", disk.dir.to_str().unwrap(), "tune2fs -O project,quota /dev/loop"]);
}

#[test]
fn what_cannot_be_limited_is_refused_and_nothing_is_left_of_it() {
    let disk = Disk { image: "/nonexistent".into(), dir: tempfile::tempdir_in("/var/tmp").unwrap().keep() };
    run(Command::new("mount").args(["-t", "tmpfs", "memory"]).arg(&disk.dir));
    let house = disk.house();
    let place = disk.dir.to_str().unwrap();

    let words = ["cannot apply limit size", place, "tmpfs at", "has no project quotas in force: they need ext4 or XFS"];
    house.guest_with(&["--storage-opt", "size=8m"], &["noop"]).code(125).complains(&words);
    house.ctl(&["create", "--storage-opt", "size=8m", "guest", "/guest", "noop"]).code(1).complains(&words);
    house.ctl(&["volume", "create", "-o", "size=8m", "data"]).code(1).complains(&words);
    let volume = ["--mount", "type=volume,dst=/data,volume-opt=size=8m"];
    house.guest_with(&volume, &["noop"]).code(125).complains(&words);
    for wrong in ["size", "size=lots", "dm.basesize=1g"] {
        house.guest_with(&["--storage-opt", wrong], &["noop"]).code(125).complains(&["--storage-opt"]);
    }
    house.ctl(&["volume", "create", "-o", "size=lots", "data"]).code(1).complains(&["invalid size \"lots\""]);

    assert_eq!(house.ctl(&["ps", "-aq"]).ok().text(), "");
    assert_eq!(house.ctl(&["volume", "ls", "-q"]).ok().text(), "");
}

#[test]
fn an_ordinary_user_has_no_quotas_to_give() {
    let tenant = Tenant::new(Ids::Single);

    let refused = tenant.guest(&["--storage-opt", "size=8m"], &["noop"]).code(125);

    refused.complains(&["cannot apply limit size", "project quotas are root's"]);
    tenant.ctl(&["volume", "create", "-o", "size=8m", "data"]).code(1).complains(&["project quotas are root's"]);
}
