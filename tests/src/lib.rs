//! The harness of the tests: a house of its own for each test, images to run in it, and a look for what was left behind.
//!
//! What belongs here serves several test binaries. What one test needs lives beside that test.

use std::{
    env,
    path::{Path, PathBuf},
};

mod collector;
mod dice;
mod faulty;
pub mod flood;
pub mod host;
mod house;
mod images;
mod leaks;
mod process;
mod registry;
mod repository;
mod steps;
mod swapper;
mod terminal;
mod tmux;
pub mod update;
mod web;
mod world;

pub use collector::{Collector, Sent};
pub use dice::{Dice, amount, every_case};
pub use faulty::{Answer, Asked, FaultyRegistry, Part, digest};
pub use host::OwnHost;
pub use house::{House, NOBODY, layers};
pub use images::{Context, Tar};
pub use leaks::{Trace, living};
pub use process::{Output, Running, eventually};
pub use registry::{DockerRegistry, Wire};
pub use repository::{COMMITTED, GitServer, Repositories, Repository};
pub use steps::{Steps, Went};
pub use swapper::Swapper;
pub use terminal::Terminal;
pub use tmux::Tmux;
pub use web::Web;
pub use world::{World, anonymous_memory};

/// The top of the repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is a folder of the repository").to_owned()
}

/// Cargo's target directory: STRATA_TARGET, or where this binary lies.
pub fn target() -> PathBuf {
    if let Some(dir) = env::var_os("STRATA_TARGET") {
        return dir.into();
    }
    let exe = env::current_exe().expect("a running program has a path");
    let is_profile = |dir: &&Path| dir.file_name().is_some_and(|name| name == "release" || name == "debug");
    let profile = exe.ancestors().find(is_profile).expect("tests lie below target/release");
    profile.parent().expect("a profile lies in a target directory").to_owned()
}

/// The programs that are looked at: STRATA_BINARIES, or those that `make build` makes.
pub fn binaries() -> PathBuf {
    env::var_os("STRATA_BINARIES").map_or_else(|| made(target().join("bin"), "make build"), PathBuf::from)
}

/// The static guest.
pub fn guest() -> PathBuf {
    made(target().join("guest/strata-guest"), "make build")
}

/// The root file system of Debian, as a tar.
pub fn debian() -> PathBuf {
    made(target().join("images/debian-bookworm.tar"), "make base")
}

/// The test binary that cargo made of a source of ours.
pub fn test_binary(source: &str) -> PathBuf {
    let list = made(target().join("vm/tests"), "make test-list");
    let list = std::fs::read_to_string(list).expect("the list is text");
    let path = list.lines().find_map(|line| line.strip_prefix(source)?.strip_prefix(' '));
    PathBuf::from(path.unwrap_or_else(|| panic!("no test binary of {source} in:\n{list}")))
}

/// A path that a command of the Makefile makes. Its absence fails the test: nothing is skipped in silence.
pub fn made(path: PathBuf, command: &str) -> PathBuf {
    assert!(path.exists(), "{} is not there: `{command}` makes it", path.display());
    path
}
