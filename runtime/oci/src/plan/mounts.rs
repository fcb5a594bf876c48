//! Mounts of a spec as steps: options to attributes and propagation, and the places nobody may mount over.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use oci_spec::runtime::{Linux, LinuxIdMapping, Mount};
use strata_init::plan::{Attributes, Cgroups, IdMap, MountIds, Namespace, Namespaces, Propagation, Step, attribute};

use super::{CgroupView, Error, absolute, clean, invalid, overflows};

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

/// File systems of the kernel that take no label of files: selinux(8), and what runc labels.
const UNLABELLED: [&str; 5] = ["cgroup", "cgroup2", "mqueue", "proc", "sysfs"];

/// What a mount depends on, besides itself.
pub(super) struct Around<'a> {
    pub linux: &'a Linux,
    pub namespaces: &'a Namespaces,
    pub view: &'a CgroupView,
    pub cgroups: &'a Cgroups,
    pub links: &'a BTreeMap<usize, PathBuf>,
    /// `linux.mountLabel`.
    pub label: Option<&'a str>,
}

/// What the options of one mount come to.
#[derive(Default)]
struct Options {
    attributes: Attributes,
    is_bind: bool,
    is_remount: bool,
    recursive: bool,
    copy_up: bool,
    /// Whether a source that is a link is made again instead of bound.
    copy_link: bool,
    /// Whether ids are mapped, and whether in the mounts below too.
    maps_ids: Option<bool>,
    propagation: Propagation,
    data: Vec<String>,
}

/// Says whether a mount is a bind rather than a new file system.
pub(super) fn is_bind(mount: &Mount) -> bool {
    mount.typ().as_deref() == Some("bind")
        || mount.options().iter().flatten().any(|option| option == "bind" || option == "rbind")
}

/// Returns what binds are asked for that is for new file systems (`size=1k`): mount(2) ignores it, and so does everybody.
pub fn ignored_options(mounts: &[Mount]) -> Vec<String> {
    let binds = mounts.iter().enumerate().filter(|(_, mount)| is_bind(mount));
    let of = |(index, mount): (usize, &Mount)| {
        let mut options = Options::default();
        let known =
            mount.options().iter().flatten().try_for_each(|option| options.add(option, &|name| name.to_owned()));
        let data = if known.is_err() || options.is_remount { Vec::new() } else { options.data };
        let ignored = data.into_iter().filter(|option| option.contains('='));
        ignored
            .map(move |option| format!("mounts[{index}].options: {option:?} means nothing to a bind and is ignored"))
            .collect::<Vec<_>>()
    };
    binds.flat_map(of).collect()
}

/// Returns the links that `copy-symlink` asks for a copy of, by the index of the mount: binds whose source is one.
pub fn links(mounts: &[Mount]) -> BTreeMap<usize, PathBuf> {
    let asked = |mount: &Mount| mount.options().iter().flatten().any(|option| option == "copy-symlink");
    let copied = mounts.iter().enumerate().filter(|(_, mount)| asked(mount));
    copied.filter_map(|(index, mount)| Some((index, std::fs::read_link(mount.source().as_ref()?).ok()?))).collect()
}

/// Appends the steps of the mount with this index.
pub(super) fn push(steps: &mut Vec<Step>, mount: &Mount, index: usize, around: &Around<'_>) -> Result<(), Error> {
    let field = |name: &str| format!("mounts[{index}].{name}");
    if mount.destination().as_os_str().is_empty() {
        return Err(invalid(field("destination"), "it is empty"));
    }
    // config.md, "Mounts": a relative one is deprecated, and means relative to the root.
    let target = absolute(&Path::new("/").join(mount.destination()), || field("destination"))?;
    let mut options = Options { is_bind: is_bind(mount), ..Options::default() };
    for option in mount.options().iter().flatten() {
        options.add(option, &field)?;
    }
    if options.is_remount {
        let Options { attributes, is_bind, data, .. } = options;
        if is_bind && !data.is_empty() {
            return Err(invalid(field("options"), format!("a bind does not take {:?}", data[0])));
        }
        steps.push(Step::Remount { target, attributes, options: data });
        return Ok(());
    }
    check_target(&target, mount, &field)?;
    let ids = ids(mount, &options, around, &field)?;
    if let (true, Some(link)) = (options.copy_link && options.is_bind, around.links.get(&index)) {
        steps.push(Step::Link { path: target, target: link.clone() });
        return Ok(());
    }
    if options.is_bind {
        return bind(steps, mount, (target, options, ids), &field);
    }
    if ids.is_some() {
        return Err(invalid(field("options"), "only the ids of a bind can be mapped"));
    }
    // A new file system has nothing below it yet: what is for all is for itself.
    options.attributes.set |= options.attributes.set_all & !options.attributes.clear;
    let kind = mount.typ().clone().filter(|kind| !kind.is_empty() && kind != "none");
    let kind = kind.ok_or_else(|| invalid(field("type"), "a mount that is no bind needs one"))?;
    if kind.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
        return Err(invalid(field("type"), format!("{kind:?} is not a file system")));
    }
    if options.copy_link {
        return Err(invalid(field("options"), "copy-symlink is for a bind"));
    }
    if options.copy_up && kind != "tmpfs" {
        return Err(invalid(field("options"), "tmpcopyup is for a tmpfs"));
    }
    if kind == "cgroup" {
        return cgroup(steps, target, options, around, &field);
    }
    let source = mount.source().as_ref().map_or_else(|| kind.clone(), |source| source.to_string_lossy().into_owned());
    if source.contains('\0') {
        return Err(invalid(field("source"), "it has a NUL byte"));
    }
    let Options { attributes: Attributes { set: attributes, .. }, copy_up, data: mut options, .. } = options;
    options
        .extend(around.label.filter(|_| !UNLABELLED.contains(&kind.as_str())).map(|label| format!("context={label}")));
    steps.push(Step::Filesystem { kind, source, target, attributes, options, copy_up });
    Ok(())
}

fn bind(
    steps: &mut Vec<Step>,
    mount: &Mount,
    (target, options, ids): (PathBuf, Options, Option<MountIds>),
    field: &impl Fn(&str) -> String,
) -> Result<(), Error> {
    let source = mount.source().as_ref().ok_or_else(|| invalid(field("source"), "a bind needs one"))?;
    let source = absolute(source, || field("source"))?;
    let Options { attributes, recursive, propagation, data, copy_up, .. } = options;
    let unknown = data.iter().find(|option| !option.contains('='));
    if let Some(data) = unknown.map(String::as_str).or(copy_up.then_some("tmpcopyup")) {
        return Err(invalid(field("options"), format!("a bind does not take {data:?}")));
    }
    steps.push(Step::Bind { source, target, recursive, attributes, propagation, ids });
    Ok(())
}

/// config.md, "Mounts": the maps of the mount, else those of the container's user namespace.
fn ids(
    mount: &Mount,
    options: &Options,
    around: &Around<'_>,
    field: &impl Fn(&str) -> String,
) -> Result<Option<MountIds>, Error> {
    let map = |name: &str, list: &Option<Vec<LinuxIdMapping>>| {
        let map = list.iter().flatten().map(|one| IdMap {
            inside: one.container_id(),
            outside: one.host_id(),
            count: one.size(),
        });
        let map: Vec<IdMap> = map.collect();
        match map.iter().any(overflows) {
            true => Err(invalid(field(name), "a mapping is empty or goes beyond the last id")),
            false => Ok(map),
        }
    };
    let (uids, gids) = (map("uidMappings", mount.uid_mappings())?, map("gidMappings", mount.gid_mappings())?);
    let recursive = match (options.maps_ids, uids.is_empty() && gids.is_empty()) {
        (None, true) => return Ok(None),
        (recursive, _) => recursive.unwrap_or(false),
    };
    for (name, map, other) in [("uidMappings", &uids, &gids), ("gidMappings", &gids, &uids)] {
        if map.is_empty() && !other.is_empty() {
            return Err(invalid(field(name), "user and group ids are mapped together"));
        }
    }
    if !uids.is_empty() {
        return Ok(Some(MountIds { uids, gids, recursive }));
    }
    match around.namespaces.user {
        Namespace::Host => {
            Err(invalid(field("options"), "without mappings of its own or a user namespace there is nothing to map by"))
        }
        Namespace::New => {
            let (uids, gids) = (around.linux.uid_mappings(), around.linux.gid_mappings());
            Ok(Some(MountIds { uids: map("uidMappings", uids)?, gids: map("gidMappings", gids)?, recursive }))
        }
        Namespace::Path { .. } => Ok(Some(MountIds { uids, gids, recursive })),
    }
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
    let is_bind_of = |path: &str| is_bind(mount) && mount.source().as_deref().map(clean) == Some(path.into());
    // Where a new one is not permitted, the host's may be bound; init checks that it is one.
    let is_proc = mount.typ().as_deref() == Some("proc") && !is_bind(mount) || is_bind_of("/proc");
    if target == Path::new("/proc") && !is_proc {
        return refuse("only a proc file system may be mounted here");
    }
    if target != Path::new("/proc") && !PROC_FILES.iter().any(|file| target == Path::new(file)) {
        return refuse("nothing may be mounted inside /proc but the files of lxcfs");
    }
    Ok(())
}

/// On v1 a small tmpfs holds one mount per hierarchy; on v2 there is one file system.
///
/// Without a cgroup namespace a new mount would show the host's cgroups: the container's own are bound instead.
fn cgroup(
    steps: &mut Vec<Step>,
    target: PathBuf,
    options: Options,
    around: &Around<'_>,
    field: &impl Fn(&str) -> String,
) -> Result<(), Error> {
    let attributes = options.attributes.set;
    let is_readonly = attributes & attribute::RDONLY != 0;
    let filesystem = |kind: &str, target: PathBuf, attributes: u64, data: Vec<String>| Step::Filesystem {
        kind: kind.to_owned(),
        source: "cgroup".to_owned(),
        target,
        attributes,
        options: data,
        copy_up: false,
    };
    let is_private = around.namespaces.cgroup != (Namespace::Host {});
    let own = |directory: Option<&Path>, target: PathBuf| {
        let source = directory.ok_or_else(|| {
            invalid(field("type"), "without a cgroup namespace the container needs cgroups of its own to show")
        })?;
        Ok::<_, Error>(Step::Bind {
            source: source.to_owned(),
            target,
            recursive: false,
            attributes: options.attributes.clone(),
            propagation: Propagation::Private {},
            ids: None,
        })
    };
    match around.view {
        CgroupView::Nothing => {}
        CgroupView::Unified if is_private => steps.push(filesystem("cgroup2", target, attributes, Vec::new())),
        CgroupView::Unified => steps.push(own(around.cgroups.unified.as_deref(), target)?),
        CgroupView::Hierarchies(hierarchies) => {
            // What cannot be written is of use only where it tells the container its limits.
            let tells = |one: &Vec<String>| !is_readonly || one.iter().any(|name| INFORMATIVE.contains(&name.as_str()));
            let shown: Vec<_> = hierarchies.iter().enumerate().filter(|(_, one)| tells(one)).collect();
            let outer = if shown.is_empty() { attributes } else { attributes & !attribute::RDONLY };
            let data = vec!["mode=755".to_owned(), "size=64k".to_owned()];
            steps.push(filesystem("tmpfs", target.clone(), outer, data));
            for (index, controllers) in &shown {
                let name = controllers.join(",");
                let place = target.join(&name);
                steps.push(match is_private {
                    true => filesystem("cgroup", place, attributes, controllers.to_vec()),
                    // The files to join are in the order of the hierarchies.
                    false => own(around.cgroups.procs.get(*index).and_then(|procs| procs.parent()), place)?,
                });
                for one in controllers.iter().filter(|_| controllers.len() > 1) {
                    steps.push(Step::Symlink { path: target.join(one), target: name.clone().into() });
                }
            }
            if is_readonly && !shown.is_empty() {
                steps.push(Step::ReadOnly { path: target });
            }
        }
    }
    Ok(())
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

/// Adds bits to those that are set and cleared; the last word counts.
fn take(all_set: &mut u64, all_clear: &mut u64, (set, clear): (u64, u64)) {
    let mode = if set & attribute::ATIME_MASK != 0 { attribute::ATIME_MASK } else { 0 };
    *all_set = *all_set & !clear & !mode | set;
    *all_clear = *all_clear & !set | clear;
}

impl Options {
    fn add(&mut self, option: &str, field: &impl Fn(&str) -> String) -> Result<(), Error> {
        if let Some((set, clear)) = attributes(option) {
            take(&mut self.attributes.set, &mut self.attributes.clear, (set, clear));
            return Ok(());
        }
        // The recursive form of an attribute is its name with an "r".
        if let Some((set, clear)) = option.strip_prefix('r').and_then(attributes) {
            let Attributes { set: own_set, clear: own_clear, set_all, clear_all } = &mut self.attributes;
            take(set_all, clear_all, (set, clear));
            *own_set &= !(clear | if set & attribute::ATIME_MASK != 0 { attribute::ATIME_MASK } else { 0 });
            *own_clear &= !set;
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
            "" | "async" | "defaults" | "loud" | "noiversion" | "nolazytime" | "nomand" | "silent" => {}
            "idmap" => self.maps_ids = Some(self.maps_ids.unwrap_or(false)),
            "remount" => self.is_remount = true,
            "ridmap" => self.maps_ids = Some(true),
            "tmpcopyup" => self.copy_up = true,
            "copy-symlink" => self.copy_link = true,
            _ if option.bytes().any(|byte| byte < b' ' || byte == 0x7f) => {
                return Err(invalid(field("options"), format!("{option:?} has a control character")));
            }
            // As mount(2) takes them, several may come in one text.
            _ => self.data.extend(option.split(',').filter(|one| !one.is_empty()).map(str::to_owned)),
        }
        Ok(())
    }
}
