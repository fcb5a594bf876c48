//! `ctl cp`: files into containers and out of them, whether these run or not.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use strata_tests::House;

/// What a file has that is to be kept.
const SECRET: &str = "sentinel of the host";

/// A directory of this host to copy from and to.
fn place() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    let path = dir.path().to_owned();
    (dir, path)
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// A container that runs, and one that does not.
fn two(house: &House) -> [&'static str; 2] {
    house.ctl(&["run", "-d", "--name", "up", "guest", "/guest", "sleep", "300"]).ok();
    house.ctl(&["create", "--name", "down", "guest", "/no/program/is/needed"]).ok();
    ["up", "down"]
}

fn remove(house: &House) {
    house.ctl(&["rm", "-f", "up", "down"]).ok();
}

/// Reads a file of a container by way of a tar.
fn read(house: &House, container: &str, path: &str) -> String {
    let tar = house.ctl_piped(&["cp", &format!("{container}:{path}"), "-"]).finish().ok();
    let mut archive = tar::Archive::new(tar.stdout.as_bytes());
    let mut entry = archive.entries().unwrap().next().unwrap().unwrap();
    std::io::read_to_string(&mut entry).unwrap()
}

#[test]
fn files_and_trees_go_where_dockers_documentation_says() {
    let house = House::with_guest();
    let (_kept, here) = place();
    fs::create_dir_all(here.join("tree/sub")).unwrap();
    fs::write(here.join("tree/sub/file"), "deep").unwrap();
    fs::write(here.join("tree/top"), "top").unwrap();
    fs::write(here.join("file"), "alone").unwrap();
    fs::set_permissions(here.join("file"), fs::Permissions::from_mode(0o640)).unwrap();
    let here_is = |name: &str| text(&here.join(name));
    for container in two(&house) {
        let inside = |path: &str| format!("{container}:{path}");
        house.ctl(&["cp", &here_is("tree"), &inside("/made")]).ok().complains(&["Successfully copied", "to "]);
        house.ctl(&["cp", "-q", &here_is("tree"), &inside("/made")]).ok();
        house.ctl(&["cp", &here_is("tree/."), &inside("/made/sub")]).ok();
        house.ctl(&["cp", &here_is("file"), &inside("/made/renamed")]).ok();
        house.ctl(&["cp", &here_is("file"), &inside("made")]).ok();
        house.ctl(&["cp", &here_is("file"), &inside("/made/new/")]).fails().complains(&["no such directory"]);
        house.ctl(&["cp", &here_is("tree"), &inside("/made/file")]).fails().complains(&["cannot copy a directory"]);
        house
            .ctl(&["cp", &here_is("file"), &inside("/none/there")])
            .fails()
            .complains(&["could not find the file /none"]);
        house.ctl(&["cp", &here_is("none"), &inside("/")]).fails().complains(&["none"]);

        let (_kept, out) = place();
        house.ctl(&["cp", &inside("/made"), &text(&out)]).ok();
        for (path, expected) in [
            ("made/top", "top"),
            ("made/sub/file", "deep"),
            ("made/tree/sub/file", "deep"),
            ("made/sub/top", "top"),
            ("made/sub/sub/file", "deep"),
            ("made/renamed", "alone"),
            ("made/file", "alone"),
        ] {
            assert_eq!(fs::read_to_string(out.join(path)).ok().as_deref(), Some(expected), "{container} {path}");
        }
        assert_eq!(fs::metadata(out.join("made/file")).unwrap().mode() & 0o7777, 0o640);
        house.ctl(&["cp", &inside("/made/sub/."), &text(&out.join("inner"))]).ok();
        assert_eq!(fs::read_to_string(out.join("inner/top")).unwrap(), "top");
        house.ctl(&["cp", &inside("/made/top"), &text(&out.join("as"))]).ok();
        assert_eq!(fs::read_to_string(out.join("as")).unwrap(), "top");
        house.ctl(&["cp", &inside("/made"), &text(&out.join("as"))]).fails();
        house.ctl(&["cp", &inside("/made/top"), &text(&out.join("no/dir"))]).fails().complains(&["does not exist"]);
        house.ctl(&["cp", &inside("/absent"), &text(&out)]).fails().complains(&["could not find the file /absent"]);
        house.ctl(&["cp", &here_is("file"), &inside("/made/sub")]).ok();
        assert_eq!(read(&house, container, "/made/sub/file"), "alone");
    }
    house.ctl(&["cp", "up:/guest", "down:/guest"]).code(125).complains(&["between containers"]);
    house.ctl(&["cp", &here_is("file"), "elsewhere"]).code(125).complains(&["at least one container"]);
    remove(&house);
}

#[test]
fn owners_are_roots_and_the_callers_unless_they_are_kept() {
    let house = House::with_guest();
    let (_kept, here) = place();
    fs::write(here.join("file"), "x").unwrap();
    std::os::unix::fs::chown(here.join("file"), Some(1234), Some(4321)).unwrap();
    fs::set_permissions(here.join("file"), fs::Permissions::from_mode(0o4755)).unwrap();
    for container in two(&house) {
        let owner = |path: &str| {
            let (_kept, out) = place();
            house.ctl(&["cp", "-a", &format!("{container}:{path}"), &text(&out.join("file"))]).ok();
            let found = fs::metadata(out.join("file")).unwrap();
            (found.uid(), found.gid(), found.mode() & 0o7777)
        };
        house.ctl(&["cp", &text(&here.join("file")), &format!("{container}:/roots")]).ok();
        house.ctl(&["cp", "-a", &text(&here.join("file")), &format!("{container}:/kept")]).ok();
        assert_eq!(owner("/roots"), (0, 0, 0o4755), "{container}");
        assert_eq!(owner("/kept"), (1234, 4321, 0o4755), "{container}");

        let (_kept, out) = place();
        house.ctl(&["cp", &format!("{container}:/kept"), &text(&out)]).ok();
        let found = fs::metadata(out.join("kept")).unwrap();
        assert_eq!((found.uid(), found.mode() & 0o7777), (0, 0o755), "no rights are given away");
    }
    remove(&house);
}

#[test]
fn links_are_copied_or_followed() {
    let house = House::with_guest();
    let (_kept, here) = place();
    fs::write(here.join("file"), "content").unwrap();
    symlink("file", here.join("link")).unwrap();
    for container in two(&house) {
        house.ctl(&["cp", &text(&here.join("link")), &format!("{container}:/link")]).ok();
        house.ctl(&["cp", &text(&here.join("file")), &format!("{container}:/file")]).ok();
        house.ctl(&["cp", "-L", &text(&here.join("link")), &format!("{container}:/followed")]).ok();
        assert_eq!(read(&house, container, "/followed"), "content");
        let (_kept, out) = place();
        house.ctl(&["cp", &format!("{container}:/link"), &text(&out)]).ok();
        assert_eq!(fs::read_link(out.join("link")).unwrap(), Path::new("file"));
        house.ctl(&["cp", "-L", &format!("{container}:/link"), &text(&out.join("whole"))]).ok();
        assert_eq!(fs::read_to_string(out.join("whole")).unwrap(), "content");
        // What is copied onto a link goes where it leads.
        fs::write(here.join("other"), "other").unwrap();
        house.ctl(&["cp", &text(&here.join("other")), &format!("{container}:/link")]).ok();
        assert_eq!(read(&house, container, "/file"), "other", "{container}");
    }
    remove(&house);
}

#[test]
fn tars_come_in_and_go_out() {
    let house = House::with_guest();
    let (_kept, here) = place();
    fs::create_dir_all(here.join("a/b")).unwrap();
    fs::write(here.join("a/b/c"), "by tar").unwrap();
    for container in two(&house) {
        let packed = Command::new("tar").arg("-C").arg(&here).args(["-cz", "a"]).output().unwrap();
        house.ctl_with(&["cp", "-", &format!("{container}:/")], &packed.stdout).ok();
        assert_eq!(read(&house, container, "/a/b/c"), "by tar");
        let refused = house.ctl_with(&["cp", "-", &format!("{container}:/a/b/c")], &packed.stdout);
        refused.fails().complains(&["must be a directory"]);
        house.ctl_with(&["cp", "-", &format!("{container}:/a")], b"no archive at all, but some text of a kind").fails();
    }
    remove(&house);
}

#[test]
fn volumes_binds_and_read_only_roots_are_as_the_container_has_them() {
    let house = House::with_guest();
    let (_kept, host) = place();
    let (_also, here) = place();
    fs::write(here.join("file"), "x").unwrap();
    let file = text(&here.join("file"));
    let bind = format!("{}:/host", host.display());
    let mounts = ["-v", "state:/data", "-v", &bind, "--read-only", "--tmpfs", "/memory"];
    house.ctl(&[&["run", "-d", "--name", "up"], &mounts[..], &["guest", "/guest", "sleep", "300"]].concat()).ok();
    house.ctl(&[&["create", "--name", "down"], &mounts[..], &["guest", "/guest"]].concat()).ok();

    for (container, name) in [("up", "one"), ("down", "two")] {
        house.ctl(&["cp", &file, &format!("{container}:/data/{name}")]).ok();
        house.ctl(&["cp", &file, &format!("{container}:/host/{name}")]).ok();
        assert_eq!(fs::read_to_string(host.join(name)).unwrap(), "x", "{container}");
        house.ctl(&["cp", &file, &format!("{container}:/new")]).fails().complains(&["read-only"]);
        house.ctl(&["cp", &format!("{container}:/proc/self/status"), "-"]).fails();
        house.ctl(&["cp", &file, &format!("{container}:/proc/file")]).fails();
    }
    house.ctl(&["cp", &file, "up:/memory/file"]).ok();
    assert_eq!(house.ctl(&["exec", "up", "/guest", "read", "/memory/file"]).ok().text(), "x");
    assert_eq!(house.ctl(&["exec", "up", "/guest", "ls", "/data"]).ok().text(), "one\ntwo");
    assert_eq!(house.ctl(&["diff", "down"]).ok().stdout, "", "looking into it changed nothing");
    remove(&house);
    house.ctl(&["volume", "rm", "state"]).ok();
}

/// CVE-2019-10152, CVE-2019-18466, row 62: a link of the container never leads to the host.
#[test]
fn row_62_links_of_a_container_stay_inside_when_files_are_copied() {
    let house = House::with_guest();
    let (_kept, host) = place();
    fs::write(host.join("secret"), SECRET).unwrap();
    fs::create_dir(host.join("target")).unwrap();
    let (_also, here) = place();
    fs::write(here.join("file"), "from outside").unwrap();
    for container in two(&house) {
        let links = here.join("links");
        let _ = fs::remove_dir_all(&links);
        fs::create_dir(&links).unwrap();
        for (name, target) in [("file", "secret"), ("directory", "target"), ("new", "made")] {
            symlink(host.join(target), links.join(name)).unwrap();
        }
        symlink("../../../../../../..", links.join("up")).unwrap();
        house.ctl(&["cp", &text(&links), &format!("{container}:/")]).ok();
        let (_kept, out) = place();

        for path in ["/links/file/", "/links/directory/.", &format!("/links/up{}/secret", host.display())] {
            house.ctl(&["cp", "-L", &format!("{container}:{path}"), &text(&out.join("got"))]).fails();
        }
        house.ctl(&["cp", "-L", &format!("{container}:/links/file"), &text(&out.join("got"))]).fails();
        house.ctl(&["cp", &text(&here.join("file")), &format!("{container}:/links/directory/file")]).fails();
        house.ctl(&["cp", &text(&here.join("file")), &format!("{container}:/links/new")]).fails();
        house.ctl(&["cp", &format!("{container}:/links"), &text(&out)]).ok();

        assert!(!out.join("got").exists());
        assert_eq!(fs::read_link(out.join("links/file")).unwrap(), host.join("secret"));
        assert_eq!(fs::read_dir(host.join("target")).unwrap().count(), 0);
        assert!(!host.join("made").exists());
        assert_eq!(fs::read_to_string(host.join("secret")).unwrap(), SECRET);
    }
    remove(&house);
}

/// CVE-2018-15664, CVE-2021-41089, rows 60 and 65: a name that is swapped for a link while files are copied never leads to the
/// host, and no mode there changes.
#[test]
fn row_60_row_65_a_swapped_link_leads_nowhere_while_files_are_copied() {
    let house = House::with_guest();
    let (_kept, host) = place();
    let target = host.join("target");
    fs::create_dir(&target).unwrap();
    fs::set_permissions(&target, fs::Permissions::from_mode(0o750)).unwrap();
    fs::write(target.join("secret"), SECRET).unwrap();
    let (_also, here) = place();
    fs::create_dir(here.join("tree")).unwrap();
    fs::write(here.join("tree/secret"), "from outside").unwrap();
    fs::set_permissions(here.join("tree"), fs::Permissions::from_mode(0o777)).unwrap();
    let shown = text(&target);
    // The same path inside, that the link may lead somewhere.
    let swap = [
        "then",
        "mkdir",
        "/swap",
        "+",
        "write",
        "/swap/secret",
        "inside",
        "+",
        "link",
        &shown,
        "/link",
        "+",
        "exchange",
    ];
    let swap = [&["run", "-d", "--name", "up", "guest", "/guest"], &swap[..], &["/swap", "/link", "/end"]].concat();
    house.ctl(&swap).ok();

    for round in 0..150 {
        let (_kept, out) = place();
        let _lost_a_race = house.ctl(&["cp", "up:/swap/secret", &text(&out.join("got"))]);
        let _lost_a_race = house.ctl(&["cp", &text(&here.join("tree/.")), "up:/swap/"]);
        let got = fs::read_to_string(out.join("got")).unwrap_or_default();
        assert!(!got.contains(SECRET), "round {round}");
    }

    assert_eq!(fs::read_to_string(target.join("secret")).unwrap(), SECRET);
    assert_eq!(fs::read_dir(&target).unwrap().count(), 1);
    assert_eq!(fs::metadata(&target).unwrap().mode() & 0o7777, 0o750);
    house.ctl(&["rm", "-f", "up"]).ok();
}

/// CVE-2026-42306, GHSA-vp62-88p7-qqf5, rows 63 and 64: whatever stands where a volume is mounted, nothing is mounted or made on
/// the host when files are copied.
#[test]
fn row_63_row_64_mount_points_that_are_links_lead_nowhere_while_files_are_copied() {
    let house = House::with_guest();
    let (_kept, host) = place();
    fs::create_dir(host.join("target")).unwrap();
    let (_also, here) = place();
    fs::write(here.join("file"), "x").unwrap();
    let mounts = || fs::read_to_string("/proc/self/mountinfo").unwrap();
    house.ctl(&["create", "--name", "box", "-v", "state:/mnt/data", "guest", "/guest"]).ok();
    // The directory above the mount point is a link that leads to the host, if it is not followed inside.
    let link = format!("FROM guest\nRUN [\"/guest\", \"link\", {:?}, \"/elsewhere\"]\n", text(&host.join("target")));
    house.build(&strata_tests::Context::new(&link), "linked").ok();
    house.ctl(&["create", "--name", "other", "-v", "state:/elsewhere/data", "linked", "/guest"]).ok();
    let before = mounts();

    for (container, path) in [("box", "/mnt/data/file"), ("other", "/elsewhere/data/file")] {
        for _ in 0..20 {
            house.ctl(&["cp", &text(&here.join("file")), &format!("{container}:{path}")]).ok();
            assert_eq!(mounts(), before);
        }
    }

    assert_eq!(fs::read_dir(host.join("target")).unwrap().count(), 0);
    assert_eq!(read(&house, "box", "/mnt/data/file"), "x", "it is in the volume");
    house.ctl(&["rm", "-f", "box", "other"]).ok();
    house.ctl(&["volume", "rm", "state"]).ok();
}

/// GHSA-x86f-5xw2-fm2r, CVE-2019-14271, CVE-2022-1227, rows 55, 61 and 15: programs and libraries of the container are never
/// executed for a copy, whatever the archive is compressed with.
#[test]
fn row_55_row_61_a_copy_executes_nothing_of_the_container() {
    let house = House::with_guest();
    let (_kept, here) = place();
    fs::create_dir_all(here.join("root/bin")).unwrap();
    fs::create_dir_all(here.join("root/lib/x86_64-linux-gnu")).unwrap();
    let canary = here.join("canary");
    let trojan = format!("#!/bin/sh\necho x >> {}\necho x >> /canary\n", canary.display());
    for name in ["xz", "gzip", "unpigz", "zstd", "bzip2", "tar", "sh", "cp", "nsenter"] {
        fs::write(here.join("root/bin").join(name), &trojan).unwrap();
        fs::set_permissions(here.join("root/bin").join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    for name in ["libnss_files.so.2", "libnss_dns.so.2", "libc.so.6"] {
        fs::write(here.join("root/lib/x86_64-linux-gnu").join(name), &trojan).unwrap();
    }
    fs::write(here.join("file"), "compressed").unwrap();
    fs::write(here.join("other"), "other").unwrap();
    for container in two(&house) {
        house.ctl(&["cp", &text(&here.join("root/.")), &format!("{container}:/")]).ok();
        for flag in ["-z", "-j", "-J", "--zstd"] {
            let packed = Command::new("tar").arg("-C").arg(&here).args([flag, "-cf", "-", "file"]).output().unwrap();
            assert!(packed.status.success(), "{flag}");
            house.ctl_with(&["cp", "-", &format!("{container}:/")], &packed.stdout).ok();
            assert_eq!(read(&house, container, "/file"), "compressed", "{flag}");
            house.ctl(&["cp", &text(&here.join("other")), &format!("{container}:/file")]).ok();
        }
        house.ctl(&["cp", &format!("{container}:/bin"), &text(&here.join("out"))]).ok();
        house.ctl(&["cp", &format!("{container}:/canary"), &text(&here)]).fails();
        fs::remove_dir_all(here.join("out")).unwrap();
    }
    assert!(!canary.exists());
    remove(&house);
}
