//! Renames that race with the making of containers: 1,000 rounds, or as many as STRATA_ROUNDS says.
//! A round is one mount (or mask) through a directory that is swapped with a link to the host all the time;
//! each container makes many, which takes a tenth of the time and meets the swap just as often.

#[path = "../../../../tests/src/swapper.rs"]
mod swapper;

use std::{
    fs,
    io::BufRead,
    os::unix::{fs::symlink, net::UnixListener},
    path::Path,
};

use serde_json::{Value, json};
use swapper::Swapper;

use crate::{
    bundle::Bundle,
    rootfs::{manifest, sentinel},
    terminals::receive_fd,
};

const ROUNDS_EACH: usize = 25;

fn containers() -> usize {
    let rounds = std::env::var("STRATA_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1000_usize);
    rounds.div_ceil(ROUNDS_EACH)
}

/// Runs containers while `swapped` of the root is exchanged with a link to the sentinel; returns the outputs of those
/// that were made. The sentinel must stay as it is.
fn race(script: &str, swapped: &str, change: impl Fn(&mut Value)) -> Vec<String> {
    let bundle = Bundle::new(script, |spec| change(spec));
    let sentinel = sentinel(&bundle);
    let directory = bundle.path("rootfs").join(swapped);
    fs::create_dir_all(&directory).unwrap();
    let link = directory.with_file_name("exchanged");
    symlink(&sentinel, &link).unwrap();
    let before = manifest(&sentinel);
    let swapper = Swapper::new(directory, link);
    let mut outputs = Vec::new();
    for _ in 0..containers() {
        let output = bundle.run();
        if output.status.success() {
            outputs.push(String::from_utf8(output.stdout).unwrap());
        } else {
            assert_eq!(output.status.code(), Some(1), "{output:?}");
        }
    }
    assert!(swapper.count() > containers() as u64, "it was swapped {} times", swapper.count());
    drop(swapper);
    assert_eq!(manifest(&sentinel), before);
    assert_nothing_is_left(&bundle);
    outputs
}

fn assert_nothing_is_left(bundle: &Bundle) {
    assert_eq!(fs::read_dir(bundle.path("state")).map_or(0, Iterator::count), 0);
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(bundle.dir()), "{mounts}");
}

fn add(spec: &mut Value, mount: Value) {
    spec["mounts"].as_array_mut().unwrap().push(mount);
}

/// Rows 12 and 36 (CVE-2021-30465, CVE-2024-0132): a mount point below a directory that is swapped.
#[test]
fn row_12_36_cve_2021_30465_mounts_through_a_swapped_directory_stay_inside() {
    let outputs = race("cat /proc/self/mountinfo; echo end", "volume", |spec| {
        for index in 0..ROUNDS_EACH {
            add(spec, json!({"destination": format!("/volume/m{index}"), "type": "tmpfs", "source": "raced"}));
        }
    });

    assert!(!outputs.is_empty(), "at least one container was made");
    for output in outputs {
        assert_eq!(output.matches(" - tmpfs raced ").count(), ROUNDS_EACH, "every mount is in the container: {output}");
    }
}

/// Row 22 (CVE-2024-45310): missing mount points and their parents, made below a directory that is swapped.
#[test]
fn row_22_cve_2024_45310_mount_points_are_made_inside_only() {
    let outputs = race("echo end", "volume", |spec| {
        for index in 0..ROUNDS_EACH {
            add(spec, json!({"destination": format!("/volume/new{index}/a/b"), "type": "tmpfs", "source": "t"}));
        }
    });

    assert!(!outputs.is_empty(), "at least one container was made");
}

/// Rows 23, 24 and 28 (CVE-2025-31133, CVE-2025-52565, CVE-2025-62161): nodes, links and masks below a `/dev` that is swapped.
#[test]
fn row_23_24_28_cve_2025_31133_nodes_and_masks_of_a_swapped_dev_stay_inside() {
    let outputs = race("cat /proc/keys /proc/timer_list; echo end", "dev", |spec| {
        let mounts = spec["mounts"].as_array_mut().unwrap();
        mounts.retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
        let nodes = (0..ROUNDS_EACH)
            .map(|index| json!({"path": format!("/dev/n{index}"), "type": "c", "major": 1, "minor": 3}));
        spec["linux"]["devices"] = nodes.collect();
    });

    assert!(!outputs.is_empty(), "at least one container was made");
    outputs.iter().for_each(|output| assert_eq!(output, "end\n", "masked"));
}

/// A container with a terminal makes some ten things below its `/dev`.
const TERMINAL_ROUNDS_EACH: usize = 10;

/// Creates containers with terminals on a `/dev` that is a volume, in which `name` is exchanged with `other` all the
/// time; returns how many were made. Each has a terminal of its own devpts, and its console is that.
fn race_terminals(name: &str, prepare: impl Fn(&Bundle, &Path)) -> usize {
    let script = "stat -c %F /dev/console; exec sleep 100";
    let bundle = Bundle::new(script, |spec| {
        spec["process"]["terminal"] = json!(true);
        let mounts = spec["mounts"].as_array_mut().unwrap();
        let dev = mounts.iter_mut().find(|mount| mount["destination"] == "/dev").unwrap();
        *dev = json!({"destination": "/dev", "type": "bind", "source": "volume", "options": ["bind"]});
    });
    let (volume, sentinel) = (bundle.path("volume"), sentinel(&bundle));
    fs::create_dir(&volume).unwrap();
    prepare(&bundle, &volume);
    let before = manifest(&sentinel);
    let listener = UnixListener::bind(bundle.path("console")).unwrap();
    let swapper = Swapper::new(volume.join(name), volume.join("exchanged"));
    let rounds = (containers() * ROUNDS_EACH).div_ceil(TERMINAL_ROUNDS_EACH);
    let mut made = 0;
    for _ in 0..rounds {
        let socket = bundle.path("console");
        let output =
            bundle.call(&["create", "--bundle", bundle.dir(), "--console-socket", socket.to_str().unwrap(), "c"]);
        if output.status.success() {
            let master = receive_fd(&listener);
            // It is a master of a pty, and of an instance in which there are no others.
            assert_eq!(rustix::pty::ptsname(&master, Vec::new()).unwrap().as_bytes(), b"/dev/pts/0");
            bundle.strata(&["start", "c"]).unwrap();
            let mut kind = String::new();
            std::io::BufReader::new(master).read_line(&mut kind).unwrap();
            // The name may be another by now: the volume's empty file, or the link itself.
            let kinds = ["character special file", "regular empty file", "symbolic link"];
            assert!(kinds.contains(&kind.trim()), "{kind}");
            made += 1;
        } else {
            assert_eq!(output.status.code(), Some(1), "{output:?}");
        }
        bundle.strata(&["delete", "--force", "c"]).unwrap();
    }
    assert!(swapper.count() > rounds as u64, "it was swapped {} times", swapper.count());
    drop(swapper);
    assert_eq!(manifest(&sentinel), before);
    assert_nothing_is_left(&bundle);
    made
}

/// Row 24 (CVE-2025-52565): `/dev/pts` is exchanged with a directory whose `ptmx` and terminals are files of the host.
#[test]
fn row_24_cve_2025_52565_a_terminal_is_of_the_containers_own_devpts() {
    let made = race_terminals("pts", |bundle, volume| {
        fs::create_dir(volume.join("pts")).unwrap();
        fs::create_dir(volume.join("exchanged")).unwrap();
        symlink(bundle.path("sentinel/file"), volume.join("exchanged/ptmx")).unwrap();
        fs::hard_link(bundle.path("sentinel/file"), volume.join("exchanged/0")).unwrap();
    });

    assert!(made > 0, "at least one container was made");
}

/// Row 24 (CVE-2025-52565): so is `/dev/console`, with a link to a file of the host.
#[test]
fn row_24_cve_2025_52565_a_console_is_bound_inside_only() {
    let made = race_terminals("console", |bundle, volume| {
        fs::create_dir(volume.join("pts")).unwrap();
        fs::write(volume.join("console"), "").unwrap();
        symlink(bundle.path("sentinel/file"), volume.join("exchanged")).unwrap();
    });

    assert!(made > 0, "at least one container was made");
}

/// Row 10 (CVE-2019-19921): `/proc` itself is swapped with another directory; what is masked is masked in the real one.
#[test]
fn row_10_cve_2019_19921_masks_hit_the_real_proc_whatever_is_renamed() {
    let script =
        "for p in /proc /other; do [ -e $p/self/status ] && cat $p/keys $p/timer_list && echo found $p; done; exit 0";
    let bundle = Bundle::new(script, |_| {});
    let (proc, other) = (bundle.path("rootfs/proc"), bundle.path("rootfs/other"));
    [&proc, &other].iter().for_each(|path| fs::create_dir_all(path).unwrap());
    let swapper = Swapper::new(proc, other);

    let mut made = 0;
    for _ in 0..containers() {
        let output = bundle.run();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.lines().all(|line| line.starts_with("found /")), "not masked: {output:?}");
        made += text.lines().count();
    }

    assert!(made > 0 && swapper.count() > containers() as u64, "{made} made, {} swaps", swapper.count());
    drop(swapper);
    assert!(Path::new("/proc/self").exists());
    assert_nothing_is_left(&bundle);
}
