//! What this host cannot show: our tests again on Debian's own kernel, where cgroup v2 is the only hierarchy and overlays
//! are mounted the old way. `make test-v2` fetches the kernel and says which test binaries there are.
//!
//! One guest does all jobs, and each test looks at one of them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

mod archive;
mod machine;

use archive::Archive;
use machine::{Job, Machine};

/// Jobs that run tests of ours: the source of a test binary, and which of its tests.
const TESTS: [(&str, &str, &[&str]); 6] = [
    ("engine", "runtime/oci/src/lib.rs", &["cgroup::"]),
    ("init", "runtime/init/tests/container/main.rs", &["cgroups::"]),
    ("overlays", "runtime/init/src/lib.rs", &["overlay::"]),
    ("trees", "store/src/lib.rs", &["tree::"]),
    ("conformance", "runtime/oci/tests/conformance/main.rs", &["cgroups::", "devices::", "operations::"]),
    ("product", "tests/e2e/main.rs", &["sixty_layers", "limits::"]),
];
/// Files of Cargo's that they call, beside the installed ones.
const CALLED: [&str; 2] = ["strata-init", "strata-oci"];

#[test]
fn the_guest_has_cgroup_v2_alone() {
    let output = done("hierarchies");

    assert_eq!(output, "cgroup2 /sys/fs/cgroup\n");
}

#[test]
fn the_engine_s_unit_tests_of_cgroups_pass() {
    passes("engine");
}

#[test]
fn containers_join_their_cgroups() {
    passes("init");
}

#[test]
fn overlays_of_the_old_mount_call_are_as_those_of_the_new_one() {
    passes("overlays");
}

#[test]
fn snapshots_are_mounted() {
    passes("trees");
}

#[test]
fn the_engine_s_conformance_tests_of_cgroups_and_devices_pass() {
    passes("conformance");
}

#[test]
fn sixty_layers_are_built_and_run_and_limits_hold() {
    passes("product");
}

#[test]
fn no_cgroup_of_a_container_is_left() {
    assert_eq!(done("left"), "");
}

/// A job that ran tests: some, and all passed.
#[track_caller]
fn passes(name: &str) {
    let output = done(name);
    let passed = |line: &str| line.strip_prefix("test result: ok. ")?.split(' ').next()?.parse::<u32>().ok();
    let passed: u32 = output.lines().filter_map(passed).sum();
    assert!(passed > 0, "{name} ran no test");
}

/// What a job of the guest printed; it must have ended well.
#[track_caller]
fn done(name: &str) -> String {
    let guest = guest();
    let done = guest.done(name);
    println!("{name}: {} seconds\n{}", done.seconds, done.output);
    assert!(done.status == Some(0), "{name} ended with {:?}\n--- console\n{}", done.status, guest.console());
    done.output
}

/// The guest, which has done all jobs.
fn guest() -> &'static Machine {
    static GUEST: OnceLock<Machine> = OnceLock::new();
    GUEST.get_or_init(|| {
        let dir = tempfile::Builder::new().prefix("strata-vm-").tempdir_in("/var/tmp").expect("/var/tmp is there");
        let archive = dir.path().join("root.cpio");
        pack(&archive).expect("the archive can be written");
        Machine::boot(&made("vmlinuz"), &archive, dir.path())
    })
}

fn jobs() -> Vec<Job> {
    let shell = |name, command: &str| Job { name, command: command.to_owned() };
    let mut jobs = vec![shell("hierarchies", "awk '$3 ~ /^cgroup/ {print $3, $2}' /proc/mounts")];
    for (name, source, filters) in TESTS {
        jobs.push(Job {
            name,
            command: format!("exec '{}' --color=never {}", made_of(source).display(), filters.join(" ")),
        });
    }
    // The runtime service keeps the one that its containers are below.
    let own = "! -path '/sys/fs/cgroup/system.slice*' ! -path /sys/fs/cgroup/strata";
    jobs.push(Job { name: "left", command: format!("find /sys/fs/cgroup -mindepth 1 -type d {own}") });
    jobs
}

/// Debian, our binaries where they are here, and what begins.
fn pack(path: &Path) -> std::io::Result<()> {
    let mut archive = Archive::create(path)?;
    archive.tar(&strata_tests::debian())?;
    archive.copy(&made("busybox"), Path::new("/usr/bin/busybox"))?;
    archive.copy_all(&made("modules/lib/modules"), Path::new("/usr/lib/modules"))?;
    archive.copy(&made("wanted"), Path::new("/vm/wanted"))?;
    archive.file(Path::new("/init"), 0o755, include_bytes!("init.sh"))?;
    let mut lines = String::new();
    for Job { name, command } in jobs() {
        lines += &format!("{name} {command}\n");
    }
    archive.file(Path::new("/vm/jobs"), 0o644, lines.as_bytes())?;

    let guest = strata_tests::guest();
    archive.copy(&guest, &guest)?;
    archive.copy_all(&strata_tests::binaries(), &strata_tests::binaries())?;
    let tests = TESTS.map(|(_, source, _)| made_of(source));
    for test in &tests {
        archive.copy(test, test)?;
        // This host's libraries may be newer than the image's, and serve its programs as well.
        for library in libraries(test)? {
            archive.copy(&library, &library.canonicalize()?)?;
        }
    }
    // Test binaries lie in PROFILE/deps.
    let profile = tests[0].ancestors().nth(2).expect("cargo makes folders");
    for program in CALLED.map(|name| profile.join(name)) {
        archive.copy(&program, &program)?;
    }
    archive.finish()
}

/// The test binary that cargo made of a source.
fn made_of(source: &str) -> PathBuf {
    let list = fs::read_to_string(made("tests")).expect("the list is text");
    let path = list.lines().find_map(|line| line.strip_prefix(source)?.strip_prefix(' '));
    path.unwrap_or_else(|| panic!("no test binary of {source} in:\n{list}")).into()
}

/// The libraries that a program loads, its loader among them.
fn libraries(program: &Path) -> std::io::Result<Vec<PathBuf>> {
    let output = Command::new("ldd").arg(program).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect())
}

/// A file of those that `make test-v2` makes.
fn made(name: &str) -> PathBuf {
    strata_tests::made(strata_tests::target().join("vm").join(name), "make test-v2")
}
