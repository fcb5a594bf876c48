//! `ctl system reset`: what it asks, what goes, and that nothing of it is left on the host.

use std::{fs, path::Path, time::Duration};

use strata_tests::{Context, House, Running, eventually};

use crate::{
    rootless::context,
    tenant::{Ids, Tenant},
};

/// Names in a directory, sorted.
fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The state of a house that was reset: what fences each root, and nothing else.
#[track_caller]
fn is_bare(house: &House) {
    for service in ["builder", "runtime", "store"] {
        let left = names(&house.root().join(service));
        assert!(left.is_empty() || left == ["service.lock"], "{service}: {left:?}");
    }
    assert!(!house.run_dir().join("runtime").exists());
    eventually("its services have ended", Duration::from_secs(20), || house.services().is_empty());
    assert!(house.leaks().is_empty(), "{:?}", house.leaks());
}

/// Cgroups of a name, in all hierarchies.
fn cgroups(name: &str) -> Vec<String> {
    let top = Path::new("/sys/fs/cgroup");
    let hierarchies = names(top).into_iter().chain([String::new()]);
    hierarchies.filter(|hierarchy| top.join(hierarchy).join(name).exists()).collect()
}

#[test]
fn everything_goes_and_nothing_is_left_on_the_host() {
    let house = House::with_network();
    let interfaces = house.host().interfaces();
    let parent = format!("strata-reset-{}", std::process::id());
    assert!(house.stop().is_empty());
    house.configure_runtime(&format!("cgroup_parent = \"{parent}\"\n"));
    house.ctl(&["network", "create", "inner"]).ok();
    house.ctl(&["volume", "create", "precious"]).ok();
    let run = ["run", "-d", "--restart", "always", "-p", "8080:80", "--network", "inner", "-v", "precious:/data"];
    house.ctl(&[&run[..], &["--name", "web", "guest", "/guest", "serve", "80"]].concat()).ok();
    house.ctl(&["run", "-d", "--name", "beside", "--network", "container:web", "guest", "/guest", "sleep", "300"]).ok();
    house.ctl(&["run", "--name", "done", "guest", "/guest", "noop"]).ok();
    house.ctl(&["pause", "beside"]).ok();
    house.build(&Context::new("FROM guest\nRUN [\"/guest\", \"noop\"]\n"), "built").ok();
    assert!(!cgroups(&parent).is_empty());

    let asked = house.ctl_with(&["system", "reset"], b"n\n").ok();
    asked.says(&["all containers (3, 2 of them running)", "(precious)", "all images", "Are you sure"]);
    assert_eq!(house.ctl(&["ps", "-aq"]).ok().stdout.lines().count(), 3, "who says no keeps all");
    house.ctl(&["system", "reset", "--force"]).ok().says(&["3 containers", "Nothing is left in"]);

    is_bare(&house);
    assert_eq!(house.host().interfaces(), interfaces);
    let mut tables = house.host().on_host("nft");
    tables.args(["list", "tables"]);
    assert!(!Running::spawn(tables).finish().ok().stdout.contains("strata"));
    assert_eq!(cgroups(&parent), Vec::<String>::new());
    assert!(house.root().join("etc/runtime.toml").exists(), "settings stay");
    // It is as on the first day.
    assert_eq!(house.ctl(&["ps", "-aq"]).ok().text(), "");
    assert_eq!(house.ctl(&["images", "-q"]).ok().text(), "");
    assert_eq!(house.ctl(&["volume", "ls", "-q"]).ok().text(), "");
    house.import_guest();
    house.guest(&["noop"]).ok();
    house.ctl(&["system", "reset", "--force"]).ok();
    assert_eq!(cgroups(&parent), Vec::<String>::new());
    // The end of the test asks a runtime what is left, which makes it at its start.
    house.configure_runtime("");
}

#[test]
fn an_ordinary_user_resets_what_is_of_many_ids() {
    let tenant = Tenant::new(Ids::Subordinate);
    let files = context("FROM guest\nWORKDIR /app\nCOPY --chown=7:8 a.txt .\n");
    tenant.build(&files, "app").ok();
    tenant.ctl(&["run", "-d", "--name", "long", "-u", "7:8", "app", "/guest", "sleep", "300"]).ok();

    tenant.ctl(&["system", "reset", "-f"]).ok().says(&["1 containers"]);

    is_bare(&tenant.house);
    assert_eq!(tenant.ctl(&["images", "-q"]).ok().text(), "");
}

#[test]
fn a_service_whose_state_is_broken_is_no_hindrance() {
    let house = House::with_guest();
    house.ctl(&["run", "--name", "done", "guest", "/guest", "noop"]).ok();
    assert!(house.stop().is_empty());
    fs::write(house.root().join("store/catalog.db"), "no database at all").unwrap();
    // It would mend what it is the log of.
    fs::remove_file(house.root().join("store/catalog.db-wal")).unwrap();
    house.ctl(&["images"]).fails();

    house.ctl(&["system", "reset", "-f"]).ok();

    is_bare(&house);
    house.import_guest();
    house.guest(&["noop"]).ok();
}

#[test]
fn services_elsewhere_are_not_reset() {
    let house = House::with_guest();
    let directory = format!("unix://{}", house.run_dir().display());

    let refused = house.ctl(&["--host", &directory, "system", "reset", "-f"]).code(125);

    refused.complains(&["the services of this host", "--context default"]);
    house.ctl(&["images"]).ok().says(&["guest"]);
}
