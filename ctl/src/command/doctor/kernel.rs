//! What containers need of the kernel. What cannot be known is not told of.

use std::path::Path;

use strata_proto::runtime::v1::Finding;

use super::{problem, read};

/// The oldest kernel that has all that is called.
const LEAST: (u32, u32) = (5, 12);

/// Parts of the kernel that may be modules, and what does not work without them.
const PARTS: [(&str, &str); 4] = [
    ("overlay", "containers and builds have no root file system"),
    ("bridge", "containers have no networks"),
    ("veth", "containers have no networks"),
    ("nf_tables", "networks have no firewall, and no port is published"),
];

const NAMESPACES: [&str; 7] = ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"];

/// What a kernel lacks. `root` is "/", but for tests.
pub fn findings(root: &Path, release: &str) -> Vec<Finding> {
    let mut found = Vec::new();
    if let Some(version) = version(release).filter(|version| *version < LEAST) {
        let (major, minor) = LEAST;
        found.push(problem(
            format!("Linux {}.{} is too old: {major}.{minor} or later is needed", version.0, version.1),
            "install a later kernel; Debian 11 has one in its backports",
        ));
    }
    let modules = root.join("lib/modules").join(release);
    let known = ["modules.dep", "modules.builtin"].map(|name| read(&modules.join(name))).concat();
    for (name, consequence) in PARTS {
        if is_missing(root, &known, name) {
            found.push(problem(
                format!("the kernel has no {name}: {consequence}"),
                format!("install the kernel's modules (linux-image, or linux-modules-extra), then `modprobe {name}`"),
            ));
        }
    }
    let lacking: Vec<&str> =
        NAMESPACES.into_iter().filter(|kind| !root.join("proc/self/ns").join(kind).exists()).collect();
    if !lacking.is_empty() {
        found.push(problem(
            format!("the kernel has no namespaces of kind {}: containers cannot be kept apart", lacking.join(", ")),
            "a kernel with CONFIG_NAMESPACES and all below it, as distributions have",
        ));
    }
    // The line is there where the kernel has the filter at all.
    if !read(&root.join("proc/self/status")).lines().any(|line| line.starts_with("Seccomp:")) {
        found.push(problem(
            "the kernel has no filter of system calls: containers do not start, unless they are privileged",
            "a kernel with CONFIG_SECCOMP_FILTER",
        ));
    }
    found
}

/// "6.1.0-18-amd64": 6 and 1.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Whether a part is neither loaded, nor built in, nor among the modules, as far as a list of them is there.
fn is_missing(root: &Path, known: &str, name: &str) -> bool {
    let is_loaded = root.join("sys/module").join(name).exists();
    let is_file_system =
        || read(&root.join("proc/filesystems")).lines().any(|line| line.split_whitespace().last() == Some(name));
    // Names of files have the one or the other.
    let is_known =
        || [name.to_owned(), name.replace('_', "-")].iter().any(|name| known.contains(&format!("/{name}.ko")));
    !known.is_empty() && !is_loaded && !is_file_system() && !is_known()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn good() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for kind in NAMESPACES {
            fs::create_dir_all(root.path().join("proc/self/ns").join(kind)).unwrap();
        }
        fs::write(root.path().join("proc/self/status"), "Name:\tx\nSeccomp:\t0\n").unwrap();
        root
    }

    #[test]
    fn a_kernel_that_has_all_is_not_told_of() {
        let root = good();
        assert_eq!(findings(root.path(), "6.1.0-18-amd64"), []);

        let modules = root.path().join("lib/modules/6.1.0-18-amd64");
        fs::create_dir_all(&modules).unwrap();
        fs::write(
            modules.join("modules.dep"),
            "kernel/net/bridge/bridge.ko: kernel/net/llc/llc.ko\nk/nf_tables.ko.xz:\n",
        )
        .unwrap();
        fs::write(modules.join("modules.builtin"), "kernel/fs/overlay.ko\n").unwrap();
        fs::create_dir_all(root.path().join("sys/module/veth")).unwrap();
        assert_eq!(findings(root.path(), "6.1.0-18-amd64"), []);
    }

    #[test]
    fn what_a_kernel_lacks_is_named_with_its_fix() {
        let root = good();
        let modules = root.path().join("lib/modules/5.10.0");
        fs::create_dir_all(&modules).unwrap();
        fs::write(modules.join("modules.dep"), "kernel/net/bridge/bridge.ko:\n").unwrap();
        fs::write(root.path().join("proc/self/status"), "Name:\tx\n").unwrap();
        fs::remove_dir(root.path().join("proc/self/ns/user")).unwrap();

        let found = findings(root.path(), "5.10.0");

        let told = |words: &str| found.iter().any(|finding| finding.what.contains(words) && !finding.fix.is_empty());
        for words in
            ["5.10 is too old", "no overlay", "no veth", "no nf_tables", "kind user", "no filter of system calls"]
        {
            assert!(told(words), "{words}: {found:?}");
        }
        assert!(!told("no bridge"), "{found:?}");
        assert_eq!(version("6.18.44-fc"), Some((6, 18)));
        assert_eq!(version("x"), None);
    }
}
