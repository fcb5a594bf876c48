//! What is seen of images on the host.

use std::{fs, time::Duration};

use strata_tests::House;

/// A house whose store makes images of what comes as an archive.
fn house() -> House {
    let house = House::start();
    fs::write(house.root().join("etc/store.toml"), "layer_backend = \"erofs\"\n").unwrap();
    house
}

fn layers(house: &House) -> Vec<fs::FileType> {
    let directory = house.root().join("store/layers");
    fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_type().unwrap()).collect()
}

#[test]
fn a_container_runs_from_an_image_that_no_mount_table_shows() {
    let house = house();
    house.import_guest();
    assert!(layers(&house).iter().all(fs::FileType::is_file), "{:?}", layers(&house));

    let running = house.ctl_running(&["run", "--rm", "--name", "one", "guest", "/guest", "sleep", "60"]);
    strata_tests::eventually("the container runs", Duration::from_secs(30), || {
        house.ctl(&["ps"]).stdout.contains("one")
    });
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(" erofs "), "{mounts}");
    house.ctl(&["kill", "one"]).ok();
    drop(running);
}

#[test]
fn a_store_that_cannot_use_images_says_so_when_it_starts() {
    // Rootless: the service is root of a user namespace, which may mount no image.
    let house = house();
    let mut command = house.command("unshare");
    command.args(["--user", "--map-root-user"]).arg(strata_tests::binaries().join("strata-store"));
    command
        .arg("--root")
        .arg(house.path("rootless"))
        .arg("--listen")
        .arg(format!("unix:{}", house.path("s").display()));
    command.arg("--config").arg(house.root().join("etc/store.toml"));

    let output = command.output().unwrap();

    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains("layer_backend") && text.contains("rootless"), "{text}");
}
