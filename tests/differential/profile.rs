//! What a container may do that nothing was said about, ours beside docker's: Debian's docker.io runs one, and the bundle of its
//! shim says what it was made from, as ours does of one of ours. Where ours may do more, the test fails; where it may do
//! less, or where a later moby decides as we do and Debian's does not yet, `known` says why.
//!
//! AppArmor and SELinux are not looked at: we have no profile and no label for containers, which the top README says.

mod bundle;
mod devices;
mod filter;
mod force;
mod known;

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::Value;
use strata_tests::{House, Tar};

use crate::engines::Docker;
use filter::Filter;

/// A device of CDI that brings nothing but a hook: a container that has it is made from what any other is made from, and
/// what that is stays in its directory, for the hook to read.
const SHOWN: &str = "cdiVersion: 0.6.0\nkind: strata.test/spec\ndevices:\n- name: shown\n  containerEdits:\n    hooks:\n    \
    - {hookName: poststop, path: /bin/true}\n";

/// Where two profiles differ, in words that are the same in every run.
#[derive(Debug, Default)]
struct Places {
    /// Ours may do what theirs may not.
    looser: BTreeSet<String>,
    /// Theirs may do what ours may not.
    stricter: BTreeSet<String>,
}

impl Places {
    /// Notes a place that one side has, or that both have alike.
    fn note(&mut self, place: String, is_ours: bool, is_theirs: bool) {
        match (is_ours, is_theirs) {
            (true, false) => self.looser.insert(place),
            (false, true) => self.stricter.insert(place),
            _ => return,
        };
    }
}

/// A container that runs, and what it was made from.
struct Sample {
    config: Value,
    pid: u32,
}

fn read(path: &Path) -> Value {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&bytes).unwrap()
}

/// A house whose runtime knows [`SHOWN`].
fn house() -> House {
    let house = House::with_guest();
    assert_eq!(house.stop().len(), 0);
    let directory = house.path("cdi");
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("shown.yaml"), SHOWN).unwrap();
    house.configure_runtime(&format!("[networks]\ndefault = \"none\"\n[cdi]\nspec_dirs = [{directory:?}]\n"));
    house
}

/// What one of ours is made from, and one that nothing at all was said about.
fn ours(house: &House) -> Sample {
    let run = |name: &str, flags: &[&str]| {
        let words = [&["run", "-d", "--name", name], flags, &["guest", "/guest", "sleep", "3600"]].concat();
        house.ctl(&words).ok().text().to_owned()
    };
    let id = run("shown", &["--device", "strata.test/spec=shown"]);
    run("plain", &[]);
    let pid = house.ctl(&["inspect", "-f", "{{.State.Pid}}", "plain"]).ok().text().parse().unwrap();
    Sample { config: read(&house.root().join("runtime/containers").join(id).join("config.json")), pid }
}

/// A cgroup for docker's container, which dockerd would leave there.
struct Parent(String);

impl Drop for Parent {
    fn drop(&mut self) {
        let top = Path::new("/sys/fs/cgroup");
        let hierarchies = fs::read_dir(top).into_iter().flatten().flatten().map(|entry| entry.path());
        for hierarchy in hierarchies.chain([top.to_owned()]) {
            // Not there, or not in this hierarchy.
            let _ = fs::remove_dir(hierarchy.join(&self.0));
        }
    }
}

fn theirs(docker: &Docker, parent: &Parent, work: &Path) -> Sample {
    let tar = Tar::of_guest().write(work.join("guest.tar"));
    docker.call(&["import", tar.to_str().unwrap(), "guest"]).ok();
    let at = format!("/{}", parent.0);
    let words = ["run", "--detach", "--name", "judge", "--cgroup-parent", &at, "guest", "/guest", "sleep", "3600"];
    let id = docker.call(&words).ok().text().to_owned();
    let pid = docker.call(&["inspect", "--format", "{{.State.Pid}}", &id]).ok().text().parse().unwrap();
    Sample { config: read(&docker.bundle(&id).join("config.json")), pid }
}

#[test]
fn a_default_container_may_do_nothing_that_dockers_may_not() {
    let work = tempfile::Builder::new().prefix("strata-profile-").tempdir_in("/var/tmp").expect("/var/tmp is there");
    let parent = Parent(format!("strata-judge-{}", std::process::id()));
    let docker = Docker::start(work.path());
    let theirs = theirs(&docker, &parent, work.path());
    let house = house();
    let ours = ours(&house);

    let mut places = Places::default();
    bundle::compare(&ours.config, &theirs.config, &mut places);
    devices::compare(&ours.config, &theirs.config, &mut places);
    filter::compare(&Filter::of(&ours.config), &Filter::of(&theirs.config), &mut places);
    let weaker = force::weaker(&ours, &theirs);
    let version = docker.call(&["version", "--format", "{{.Server.Version}}"]).ok();

    docker.call(&["rm", "--force", "judge"]).ok();
    let complaints = known::complaints(&places, version.text());
    assert!(complaints.is_empty(), "beside docker {}:\n{}", version.text(), complaints.join("\n"));
    assert!(weaker.is_empty(), "what is in force is weaker than with docker {}: {weaker:#?}", version.text());
}

#[test]
fn what_later_mobys_refuse_is_refused() {
    let house = house();

    let config = ours(&house).config;

    let filter = Filter::of(&config);
    assert_eq!(filter.default_action(), "SCMP_ACT_ERRNO");
    let never = known::NEVER.map(|call| (call, &[][..], "no moby does"));
    for (call, arguments, why) in known::REFUSED.into_iter().chain(never) {
        for architecture in filter.architectures() {
            let lets_through = filter.lets_through(architecture, call, &known::arguments(arguments));
            assert!(!lets_through, "{architecture}: {call} {arguments:x?} is let through; {why}");
        }
    }
    for (path, why) in known::MASKED {
        assert!(bundle::words(&config["linux"]["maskedPaths"]).contains(path), "{path} is not masked; {why}");
    }
}

#[test]
fn where_it_is_stricter_is_told() {
    let path = strata_tests::repository().join("runtime/oci/README.md");
    let text = fs::read_to_string(path).unwrap();

    for place in known::told() {
        assert!(text.contains(&format!("| {place} |")), "no line of runtime/oci/README.md begins with {place:?}");
    }
}
