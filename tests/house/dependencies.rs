//! The dependency rule, read from `cargo metadata`: services meet only in protos, leaves are synchronous.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

use serde_json::Value;

/// What a crate of ours may name as a normal or build dependency, of ours.
const MAY_USE: &[(&str, &[&str])] = &[
    ("strata-types", &[]),
    ("strata-archive", &["strata-types"]),
    ("strata-erofs", &["strata-archive"]),
    ("strata-image", &["strata-archive", "strata-types"]),
    ("strata-dockerfile", &["strata-types"]),
    ("strata-init", &[]),
    ("strata-guest", &[]),
    ("strata-proto", &["strata-types"]),
    ("strata-rpc", &["strata-proto", "strata-types"]),
    ("strata-oci", &["strata-init", "strata-types"]),
    ("strata-net", &["strata-types"]),
    ("strata-dns", &["strata-net", "strata-types"]),
    ("strata-registry", &["strata-types"]),
    // Quotas are set by system calls that only strata-init may make.
    (
        "strata-store",
        &[
            "strata-archive",
            "strata-erofs",
            "strata-image",
            "strata-init",
            "strata-proto",
            "strata-registry",
            "strata-rpc",
            "strata-types",
        ],
    ),
    ("strata-builder", &["strata-dockerfile", "strata-proto", "strata-rpc", "strata-types"]),
    // Volumes are filled from archives, and written as such.
    (
        "strata-runtime",
        &[
            "strata-archive",
            "strata-dns",
            "strata-init",
            "strata-net",
            "strata-oci",
            "strata-proto",
            "strata-rpc",
            "strata-types",
        ],
    ),
    // The client applies .dockerignore before it sends anything, finds its user's credentials, and saves and loads
    // directories.
    (
        "strata-ctl",
        &["strata-archive", "strata-dockerfile", "strata-proto", "strata-registry", "strata-rpc", "strata-types"],
    ),
];

/// Crates whose whole normal graph is synchronous.
const LEAVES: &[&str] = &[
    "strata-types",
    "strata-archive",
    "strata-erofs",
    "strata-image",
    "strata-dockerfile",
    "strata-init",
    "strata-guest",
    "strata-oci",
    "strata-net",
];

struct Graph {
    /// Name of each package by id.
    names: BTreeMap<String, String>,
    /// Normal and build dependencies by package id.
    edges: BTreeMap<String, Vec<String>>,
}

fn host() -> String {
    let output = Command::new("rustc").arg("-vV").output().expect("rustc runs");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().find_map(|line| line.strip_prefix("host: ")).expect("rustc names its host").to_owned()
}

fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--filter-platform", &host()])
        .current_dir(strata_tests::repository())
        .output()
        .expect("cargo runs: it runs this test");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn graph() -> Graph {
    let metadata = metadata();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let names = metadata["packages"].as_array().unwrap().iter().map(|p| (text(&p["id"]), text(&p["name"]))).collect();
    let is_used = |dep: &Value| dep["dep_kinds"].as_array().unwrap().iter().any(|kind| kind["kind"] != "dev");
    let used = |node: &Value| {
        let deps = node["deps"].as_array().unwrap().iter();
        deps.filter(|dep| is_used(dep)).map(|dep| text(&dep["pkg"])).collect()
    };
    let edges = metadata["resolve"]["nodes"].as_array().unwrap().iter().map(|n| (text(&n["id"]), used(n))).collect();
    Graph { names, edges }
}

impl Graph {
    fn id(&self, name: &str) -> &String {
        self.names.iter().find(|(_, other)| *other == name).unwrap_or_else(|| panic!("there is no package {name}")).0
    }

    /// Everything that a package needs, by name.
    fn closure(&self, name: &str) -> BTreeSet<&str> {
        let mut seen = BTreeSet::new();
        let mut open = vec![self.id(name)];
        while let Some(id) = open.pop() {
            if seen.insert(id) {
                open.extend(&self.edges[id]);
            }
        }
        seen.into_iter().map(|id| self.names[id].as_str()).collect()
    }
}

/// One more feature for tests, and cargo builds all that depends on it twice: tokio's is minutes.
#[test]
fn tests_ask_for_no_feature_that_programs_do_not_have() {
    let metadata = metadata();
    let ours = metadata["packages"].as_array().unwrap().iter();
    let ours = ours.filter(|package| package["name"].as_str().unwrap().starts_with("strata-"));
    let (mut usual, mut of_tests) = (BTreeMap::<&str, BTreeSet<&str>>::new(), vec![]);
    for dependency in ours.flat_map(|package| package["dependencies"].as_array().unwrap()) {
        let name = dependency["name"].as_str().unwrap();
        let features = dependency["features"].as_array().unwrap().iter().map(|feature| feature.as_str().unwrap());
        match dependency["kind"] == "dev" {
            true => of_tests.extend(features.map(|feature| (name, feature))),
            false => usual.entry(name).or_default().extend(features),
        }
    }

    of_tests.retain(|(name, feature)| usual.get(name).is_some_and(|usual| !usual.contains(feature)));

    assert_eq!(of_tests, []);
}

#[test]
fn every_crate_of_ours_depends_only_downwards() {
    let graph = graph();

    let mut wrong = vec![];
    for (id, name) in graph.names.iter().filter(|(_, name)| name.starts_with("strata-")) {
        if name == "strata-tests" {
            continue;
        }
        let allowed = MAY_USE.iter().find(|(crate_name, _)| crate_name == name);
        let allowed = allowed.unwrap_or_else(|| panic!("{name} has no place in the house yet")).1;
        for dep in graph.edges[id].iter().map(|dep| graph.names[dep].as_str()) {
            if dep.starts_with("strata-") && !allowed.contains(&dep) {
                wrong.push(format!("{name} -> {dep}"));
            }
        }
    }

    assert!(wrong.is_empty(), "not allowed: {}", wrong.join(", "));
}

#[test]
fn leaves_know_neither_tokio_nor_tonic() {
    let graph = graph();

    for leaf in LEAVES {
        let closure = graph.closure(leaf);

        for engine in ["tokio", "tonic", "hyper", "futures-util"] {
            assert!(!closure.contains(engine), "{leaf} depends on {engine}");
        }
    }
}

#[test]
fn the_init_process_needs_std_and_the_kernel_only() {
    let graph = graph();
    let direct: BTreeSet<&str> =
        graph.edges[graph.id("strata-init")].iter().map(|dep| graph.names[dep].as_str()).collect();

    let strangers: Vec<_> = direct.iter().filter(|dep| !["nix", "rustix", "libc"].contains(*dep)).collect();

    assert!(strangers.is_empty(), "strata-init depends on {strangers:?}");
}

/// Names of the crates that are compiled for a package. Unlike metadata, `cargo tree` leaves optional ones out.
fn compiled(package: &str) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "-e", "normal,build", "--prefix", "none", "--format", "{p}", "-p", package])
        .current_dir(strata_tests::repository())
        .output()
        .expect("cargo runs: it runs this test");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

#[test]
fn there_is_one_tls_provider_and_it_is_not_ring() {
    for service in ["strata-store", "strata-builder", "strata-runtime", "strata-ctl"] {
        let crates = compiled(service);

        assert!(!crates.contains("ring"), "{service} is compiled with ring");
        assert!(crates.contains("aws-lc-rs"), "{service} has no TLS");
    }
}
