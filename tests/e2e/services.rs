//! Services on demand: found when they run, started when they do not, gone when nobody needs them.

use std::{os::unix::fs::PermissionsExt, time::Duration};

use strata_tests::{House, Running, eventually};

fn count(house: &House, name: &str) -> usize {
    house.services().iter().filter(|trace| trace.program() == name).count()
}

#[test]
fn several_ctl_at_once_start_each_service_once() {
    let house = House::start();

    let all: Vec<Running> = (0..8).map(|n| house.ctl_running(if n % 2 == 0 { &["images"] } else { &["ps"] })).collect();
    for one in all {
        one.finish().ok();
    }

    assert_eq!(count(&house, "strata-store"), 1);
    assert_eq!(count(&house, "strata-runtime"), 1);
}

#[test]
fn sockets_are_private() {
    let house = House::start();

    house.ctl(&["images"]).ok();

    let mode = |path: std::path::PathBuf| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(house.socket("store")), 0o600);
    assert_eq!(mode(house.run_dir()), 0o700);
    assert_eq!(mode(house.root().join("store")), 0o700);
}

#[test]
fn a_stale_socket_is_replaced() {
    let house = House::with_guest();
    assert!(house.crash("store"));
    assert!(house.socket("store").exists(), "a crash leaves the socket");

    house.ctl(&["images"]).ok().says(&["guest"]);

    assert_eq!(count(&house, "strata-store"), 1);
}

#[test]
fn a_second_service_on_the_same_root_is_refused() {
    let house = House::start();
    for (service, first) in [("store", "images"), ("runtime", "ps")] {
        house.ctl(&[first]).ok();
        let root = house.root().join(service);
        let mut command = house.command(strata_tests::binaries().join(format!("strata-{service}")));
        command.arg("--listen").arg(format!("unix:{}", house.path("other.sock").display())).arg("--root").arg(&root);

        let refused = Running::spawn(command).finish_within(Duration::from_secs(20)).fails();

        assert!(refused.stderr.contains(root.to_str().unwrap()), "it names the root: {refused:?}");
        house.ctl(&[first]).ok();
    }
}

#[test]
fn services_end_when_idle_and_start_again() {
    let mut house = House::start();
    house.set("STRATA_IDLE_TIMEOUT", "1");
    house.import_guest();
    house.guest(&["noop"]).ok();

    eventually("every service has stopped", Duration::from_secs(20), || house.services().is_empty());

    assert!(!house.socket("store").exists(), "a stop removes the socket");
    house.guest(&["noop"]).ok();
}

#[test]
fn services_stay_while_a_container_runs() {
    let mut house = House::start();
    house.set("STRATA_IDLE_TIMEOUT", "1");
    house.import_guest();
    house.ctl(&["run", "-d", "--name", "long", "guest", "/guest", "sleep", "300"]).ok();

    std::thread::sleep(Duration::from_secs(5));

    assert_eq!(count(&house, "strata-runtime"), 1);
    house.ctl(&["exec", "long", "/guest", "noop"]).ok();
    house.ctl(&["rm", "-f", "long"]).ok();
    eventually("every service has stopped", Duration::from_secs(20), || house.services().is_empty());
}

#[test]
fn version_and_info_name_every_service() {
    let house = House::start();

    house.ctl(&["version"]).ok().says(&["ctl", "store", "builder", "runtime", env!("CARGO_PKG_VERSION")]);
    let info = house.ctl(&["info"]).ok();
    assert!(info.stdout.contains(house.root().to_str().unwrap()), "{info:?}");
}

#[test]
fn a_service_says_what_its_configuration_lacks() {
    let house = House::start();
    let config = house.path("store.toml");
    std::fs::write(&config, "\nno_such_key = 1\n").unwrap();
    let mut command = house.command(strata_tests::binaries().join("strata-store"));
    command.arg("--listen").arg(format!("unix:{}", house.path("s.sock").display()));
    command.arg("--root").arg(house.path("r")).arg("--config").arg(&config);

    let refused = Running::spawn(command).finish_within(Duration::from_secs(20)).fails();

    refused.complains(&["store.toml", "no_such_key", "line 2"]);
}

#[test]
fn services_that_ctl_starts_read_the_configuration_of_this_house() {
    let house = House::start();
    std::fs::create_dir_all(house.root().join("etc")).unwrap();
    house.configure_runtime("profile = \"strict\"\n[networks]\ndefault = \"none\"\n");
    house.import_guest();

    house.guest(&["read", "/proc/self/status"]).ok().says(&["NoNewPrivs:\t1"]);
}

#[test]
fn tcp_without_certificates_is_refused() {
    let house = House::start();
    for service in ["store", "builder", "runtime"] {
        let mut command = house.command(strata_tests::binaries().join(format!("strata-{service}")));
        command.args(["--listen", "tcp:127.0.0.1:0", "--root"]).arg(house.path(service));

        Running::spawn(command).finish_within(Duration::from_secs(20)).fails().complains(&["--tls-ca"]);
    }
}

#[test]
fn contexts_are_named_chosen_and_listed() {
    let house = House::start();
    let endpoint = |name: &str| format!("unix:{}", house.path(name).display());

    house
        .ctl(&[
            "context",
            "create",
            "away",
            "--store",
            &endpoint("s"),
            "--builder",
            &endpoint("b"),
            "--runtime",
            &endpoint("r"),
        ])
        .ok();
    house.ctl(&["context", "ls"]).ok().says(&["default", "away"]);
    house.ctl(&["-c", "away", "images"]).fails().complains(&[house.path("s").to_str().unwrap()]);
    house.ctl(&["context", "use", "away"]).ok();
    house.ctl(&["images"]).fails();
    house.ctl(&["context", "use", "default"]).ok();
    house.ctl(&["images"]).ok();
    house.ctl(&["context", "use", "nowhere"]).fails().complains(&["nowhere"]);
}
