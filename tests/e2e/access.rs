//! Users of this host who are not the owner of the services: what the configuration gives them, and nothing else.

use std::{
    fs::{self, Permissions},
    os::unix::{fs::PermissionsExt, process::CommandExt},
};

use strata_tests::{House, Output, Running};

const VIEWER: u32 = 48_211;
const STRANGER: u32 = 48_212;

/// `ctl` of another user, with a context of the services' sockets.
fn as_user(house: &House, uid: u32, words: &[&str]) -> Output {
    let home = house.path(&format!("home-{uid}"));
    if !home.exists() {
        fs::create_dir(&home).unwrap();
        std::os::unix::fs::chown(&home, Some(uid), Some(uid)).unwrap();
    }
    let run = |words: &[&str]| {
        let mut command = std::process::Command::new(strata_tests::binaries().join("ctl"));
        command.env_clear().env("HOME", &home).env("PATH", "/usr/bin:/bin").args(words).uid(uid).gid(uid);
        Running::spawn(command).finish()
    };
    let at = |name: &str| format!("unix:{}", house.socket(name).display());
    let [store, builder, runtime] = ["store", "builder", "runtime"].map(at);
    if !home.join(".config/strata/contexts.toml").exists() {
        let words = ["context", "create", "host", "--store", &store, "--builder", &builder, "--runtime", &runtime];
        run(&words).ok();
    }
    run(&[&["-c", "host"], words].concat())
}

#[test]
fn a_user_of_this_host_may_do_what_the_configuration_says_and_a_stranger_nothing() {
    let house = House::start();
    let etc = house.root().join("etc");
    fs::create_dir_all(&etc).unwrap();
    fs::write(etc.join("strata.toml"), format!("[access.users]\n{VIEWER} = \"viewer\"\n")).unwrap();
    // The way to the sockets; in an installed system it is /run/strata.
    let mut way = house.socket("store");
    while way.pop() && way.starts_with(std::env::temp_dir()) && way != std::env::temp_dir() {
        if way.exists() {
            fs::set_permissions(&way, Permissions::from_mode(0o711)).unwrap();
        }
    }
    house.ctl(&["import", strata_tests::debian().to_str().unwrap(), "debian"]).ok();
    house.ctl(&["ps"]).ok();

    let seen = as_user(&house, VIEWER, &["images", "-q"]).ok();
    assert_eq!(seen.stdout.lines().count(), 1, "{seen:?}");
    as_user(&house, VIEWER, &["ps", "-a"]).ok();
    for words in [&["run", "--rm", "debian", "true"][..], &["rmi", "debian"], &["system", "prune", "-f"]] {
        let refused = as_user(&house, VIEWER, words).fails();
        assert!(refused.stderr.contains("user:48211") && refused.stderr.contains("viewer"), "{words:?}: {refused:?}");
    }
    for words in [&["images"][..], &["ps"]] {
        let refused = as_user(&house, STRANGER, words).fails();
        assert!(refused.stderr.contains("user:48212 has no role here"), "{words:?}: {refused:?}");
    }

    let audited = house.ctl(&["system", "audit", "verify"]).ok();
    assert!(
        audited.stdout.lines().any(|line| line.starts_with("store: ") && line.contains(" records, head ")),
        "{audited:?}"
    );
    let log = fs::read_to_string(house.root().join("store/audit/audit.log")).unwrap();
    assert!(log.contains("user:48212") && !log.contains("user:0"), "the owner is not recorded: {log}");
    let head = audited.stdout.split(" head ").nth(1).and_then(|rest| rest.split(',').next()).unwrap().to_owned();
    house.ctl(&["system", "audit", "verify", "--head", &format!("store:{head}")]).ok();
    let other = "0".repeat(64);
    let missing = house.ctl(&["system", "audit", "verify", "--head", &format!("store:{other}")]).fails();
    assert!(missing.stdout.contains("store: broken"), "{missing:?}");
}
