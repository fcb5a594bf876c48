//! Images that builds start from and that are still at their registry: their layers come when somebody needs files.

use std::fs;

use strata_tests::{Context, DockerRegistry, House, Steps, Tar, Went, Wire};

/// More than all documents of an image, less than its layer.
const DOCUMENTS: u64 = 64 << 10;

/// A registry with an image of a megabyte that nobody can compress, behind a wire that counts, and a house that keeps
/// nothing that it need not.
fn lazy() -> (House, DockerRegistry, Wire, String) {
    let registry = DockerRegistry::open();
    let house = House::start();
    fs::write(house.root().join("etc/store.toml"), "garbage_grace_seconds = 0\n").unwrap();
    let mut state = 7_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    let noise: Vec<u8> = (0..1 << 20).map(|_| next()).collect();
    let tar = Tar::of_guest().file("noise", 0o644, &noise).write(house.path("base.tar"));
    let full = registry.image("base:1");
    house.ctl(&["import", tar.to_str().unwrap(), &full]).ok();
    house.ctl(&["push", "-q", &full]).ok();
    house.ctl(&["rmi", &full]).ok();
    house.ctl(&["system", "prune", "-f"]).ok();
    let wire = registry.wire();
    let name = wire.image("base:1");
    (house, registry, wire, name)
}

#[test]
fn layers_of_a_base_come_when_a_step_needs_files() {
    let (house, _registry, wire, base) = lazy();

    let missing = Context::new(&format!("FROM {base}\nENV a=b\nCOPY missing /\n"));
    house.build(&missing, "made").fails().complains(&["Dockerfile:3:", "missing"]);
    assert!(wire.carried() < DOCUMENTS, "{} bytes for an image that no step has read", wire.carried());

    let runs = Context::new(&format!("FROM {base}\nRUN [\"/guest\", \"write\", \"/made\", \"x\"]\n"));
    let built = house.build(&runs, "made").ok();
    assert!(wire.carried() > 1 << 20, "{} bytes for a step that runs", wire.carried());
    assert_eq!(Steps::of(&built).went("RUN"), Went::Done);
    house.ctl(&["run", "--rm", "--pull", "never", &base, "/guest", "noop"]).ok();
}

#[test]
fn what_a_step_made_is_found_without_the_layers_of_its_base() {
    let (house, _registry, wire, base) = lazy();
    let run = format!("FROM {base} AS one\nRUN [\"/guest\", \"write\", \"/made\", \"x\"]\n");
    house.build(&Context::new(&run), "made").ok();
    house.ctl(&["rmi", "made", &base]).ok();
    house.ctl(&["system", "prune", "-f"]).ok();
    wire.mend();

    let built = house.build(&Context::new(&format!("{run}COPY missing /\n")), "made").fails();

    assert_eq!(Steps::of(&built).went("RUN"), Went::Cached);
    assert!(wire.carried() < DOCUMENTS, "{} bytes for a step that is in the cache", wire.carried());
    let stage = Context::new(&format!("{run}FROM scratch\nCOPY --from=one /made /\n"));
    house.build(&stage, "two").ok();
    wire.mend();
    house.ctl(&["rmi", "two", &base]).ok();
    house.ctl(&["system", "prune", "-f"]).ok();

    let built = house.build(&stage, "two").ok();

    Steps::of(&built).all_cached();
    assert!(wire.carried() < DOCUMENTS, "{} bytes for a build that is in the cache", wire.carried());
}

#[test]
fn a_registry_that_is_gone_when_layers_are_needed_is_named_at_the_step() {
    let (house, _registry, wire, base) = lazy();
    house.configure("[registries]\nattempts = 1\n");
    let context = Context::new(&format!("FROM {base}\nRUN [\"/guest\", \"noop\"]\n"));
    wire.break_after(DOCUMENTS);

    house.build(&context, "made").fails().complains(&["Dockerfile:2:", &wire.host()]);

    wire.mend();
    house.build(&context, "made").ok();
}
