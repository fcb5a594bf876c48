//! Mounts of a spec as steps: options to attributes and propagation, and the places nobody may mount over.

use std::path::{Path, PathBuf};

use oci_spec::runtime::Mount;
use strata_init::plan::{Propagation, Step, attribute};

use super::{CgroupView, Error, absolute, invalid, unsupported};

/// Files of proc that lxcfs and the like may replace; the rest of proc is the kernel's alone.
const PROC_FILES: [&str; 11] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/net/dev",
    "/proc/slabinfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/sys/crypto/fips_enabled",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/uptime",
];

/// Controllers whose files programs read to learn their limits.
const INFORMATIVE: [&str; 5] = ["cpu", "cpuacct", "cpuset", "memory", "pids"];

/// What the options of one mount come to.
#[derive(Default)]
struct Options {
    set: u64,
    clear: u64,
    /// Whether an attribute was given in its recursive form.
    recursive_attributes: bool,
    is_bind: bool,
    recursive: bool,
    propagation: Propagation,
    data: Vec<String>,
}

/// Says whether a mount is a bind rather than a new file system.
pub(super) fn is_bind(mount: &Mount) -> bool {
    mount.typ().as_deref() == Some("bind")
        || mount.options().iter().flatten().any(|option| option == "bind" || option == "rbind")
}

/// Appends the steps of the mount with this index.
pub(super) fn push(steps: &mut Vec<Step>, mount: &Mount, index: usize, view: &CgroupView) -> Result<(), Error> {
    let field = |name: &str| format!("mounts[{index}].{name}");
    let target = absolute(mount.destination(), || field("destination"))?;
    check_target(&target, mount, &field)?;
    if mount.uid_mappings().is_some() || mount.gid_mappings().is_some() {
        return Err(unsupported(field("uidMappings")));
    }
    let mut options = Options { is_bind: is_bind(mount), ..Options::default() };
    for option in mount.options().iter().flatten() {
        options.add(option, &field)?;
    }

    if options.is_bind {
        let source = mount.source().as_ref().ok_or_else(|| invalid(field("source"), "a bind needs one"))?;
        let source = absolute(source, || field("source"))?;
        if let Some(data) = options.data.first() {
            return Err(invalid(field("options"), format!("a bind does not take {data:?}")));
        }
        let Options { set, clear, recursive, recursive_attributes, propagation, .. } = options;
        steps.push(Step::Bind { source, target, recursive, set, clear, recursive_attributes, propagation });
        return Ok(());
    }
    if options.recursive_attributes {
        return Err(invalid(field("options"), "a new file system has nothing below that attributes could apply to"));
    }
    let kind = mount.typ().clone().filter(|kind| !kind.is_empty() && kind != "none");
    let kind = kind.ok_or_else(|| invalid(field("type"), "a mount that is no bind needs one"))?;
    if kind.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
        return Err(invalid(field("type"), format!("{kind:?} is not a file system")));
    }
    if kind == "cgroup" {
        cgroup(steps, target, options, view);
        return Ok(());
    }
    let source = mount.source().as_ref().map_or_else(|| kind.clone(), |source| source.to_string_lossy().into_owned());
    if source.contains('\0') {
        return Err(invalid(field("source"), "it has a NUL byte"));
    }
    steps.push(Step::Filesystem { kind, source, target, attributes: options.set, options: options.data });
    Ok(())
}

/// Security rows 4 and 9: a mount over `/` or inside `/proc` would put lies where the runtime and labels look.
fn check_target(target: &Path, mount: &Mount, field: &impl Fn(&str) -> String) -> Result<(), Error> {
    let refuse = |reason: &str| Err(invalid(field("destination"), format!("{}: {reason}", target.display())));
    if target == Path::new("/") {
        return refuse("the root itself is not a mount point");
    }
    if !target.starts_with("/proc") {
        return Ok(());
    }
    let is_proc = mount.typ().as_deref() == Some("proc") && !is_bind(mount);
    if target == Path::new("/proc") && !is_proc {
        return refuse("only a proc file system may be mounted here");
    }
    if target != Path::new("/proc") && !PROC_FILES.iter().any(|file| target == Path::new(file)) {
        return refuse("nothing may be mounted inside /proc but the files of lxcfs");
    }
    Ok(())
}

/// On v1 a small tmpfs holds one mount per hierarchy; on v2 there is one file system.
fn cgroup(steps: &mut Vec<Step>, target: PathBuf, options: Options, view: &CgroupView) {
    let is_readonly = options.set & attribute::RDONLY != 0;
    let filesystem = |kind: &str, target: PathBuf, attributes: u64, data: Vec<String>| Step::Filesystem {
        kind: kind.to_owned(),
        source: "cgroup".to_owned(),
        target,
        attributes,
        options: data,
    };
    match view {
        CgroupView::Nothing => {}
        CgroupView::Unified => steps.push(filesystem("cgroup2", target, options.set, Vec::new())),
        CgroupView::Hierarchies(hierarchies) => {
            // What cannot be written is of use only where it tells the container its limits.
            let tells =
                |one: &&Vec<String>| !is_readonly || one.iter().any(|name| INFORMATIVE.contains(&name.as_str()));
            let shown: Vec<_> = hierarchies.iter().filter(tells).collect();
            let attributes = if shown.is_empty() { options.set } else { options.set & !attribute::RDONLY };
            let data = vec!["mode=755".to_owned(), "size=64k".to_owned()];
            steps.push(filesystem("tmpfs", target.clone(), attributes, data));
            for controllers in &shown {
                let place = target.join(controllers.join(","));
                steps.push(filesystem("cgroup", place, options.set, controllers.to_vec()));
            }
            if is_readonly && !shown.is_empty() {
                steps.push(Step::ReadOnly { path: target });
            }
        }
    }
}

/// Parses the name of a propagation; the recursive form is what init does anyway.
pub(super) fn propagation(text: &str) -> Option<Propagation> {
    match text {
        "private" | "rprivate" => Some(Propagation::Private {}),
        "slave" | "rslave" => Some(Propagation::Slave {}),
        "shared" | "rshared" => Some(Propagation::Shared {}),
        "unbindable" | "runbindable" => Some(Propagation::Unbindable {}),
        _ => None,
    }
}

/// Returns the bits an option sets and clears.
fn attributes(option: &str) -> Option<(u64, u64)> {
    use attribute::*;
    Some(match option {
        "ro" => (RDONLY, 0),
        "rw" => (0, RDONLY),
        "nosuid" => (NOSUID, 0),
        "suid" => (0, NOSUID),
        "nodev" => (NODEV, 0),
        "dev" => (0, NODEV),
        "noexec" => (NOEXEC, 0),
        "exec" => (0, NOEXEC),
        "noatime" => (NOATIME, ATIME_MASK),
        "strictatime" => (STRICTATIME, ATIME_MASK),
        "relatime" | "atime" | "norelatime" | "nostrictatime" => (0, ATIME_MASK),
        "nodiratime" => (NODIRATIME, 0),
        "diratime" => (0, NODIRATIME),
        "nosymfollow" => (NOSYMFOLLOW, 0),
        "symfollow" => (0, NOSYMFOLLOW),
        _ => return None,
    })
}

impl Options {
    fn add(&mut self, option: &str, field: &impl Fn(&str) -> String) -> Result<(), Error> {
        // The recursive form of an attribute is its name with an "r"; "ro" and "rw" themselves are not.
        let recursive = option.strip_prefix('r').and_then(attributes);
        if let Some((set, clear)) = attributes(option).or(recursive) {
            // The last word counts.
            self.set =
                self.set & !clear & !(if set & attribute::ATIME_MASK != 0 { attribute::ATIME_MASK } else { 0 }) | set;
            self.clear = self.clear & !set | clear;
            self.recursive_attributes |= attributes(option).is_none();
            return Ok(());
        }
        if let Some(propagation) = propagation(option) {
            self.propagation = propagation;
            return Ok(());
        }
        match option {
            "bind" => {}
            "rbind" => self.recursive = true,
            // What every new mount is.
            "" | "async" | "defaults" | "loud" | "noiversion" | "nolazytime" | "nomand" => {}
            "copy-symlink" | "idmap" | "remount" | "ridmap" | "tmpcopyup" => {
                return Err(unsupported(format!("{}: {option}", field("options"))));
            }
            _ if option.bytes().any(|byte| byte < b' ' || byte == 0x7f) => {
                return Err(invalid(field("options"), format!("{option:?} has a control character")));
            }
            _ => self.data.push(option.to_owned()),
        }
        Ok(())
    }
}
