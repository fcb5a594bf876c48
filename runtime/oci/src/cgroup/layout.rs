//! Which cgroup hierarchies this host has, read from mountinfo, and which of their directories a
//! container needs: on v1 only the joined hierarchies get one, every directory costs a few system calls.

use std::{
    collections::HashSet,
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use rustix::io::Errno;

use super::{
    Accounting, Directory, Error, Existing, keyed, processes::collect_pids, read, settings::CONTROLLERS, write,
};

/// Which interface limits are written through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// One hierarchy per controller; a hybrid host counts as this.
    V1,
    /// The unified hierarchy.
    V2,
}

/// The mounted hierarchies of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    hierarchies: Vec<Hierarchy>,
    /// The v2 hierarchy; a hybrid host has it beside the others, often without controllers.
    pub(super) unified: Option<PathBuf>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Hierarchy {
    controllers: Vec<String>,
    mount: PathBuf,
}

/// How often the parents of a cgroup are made again when somebody removes them meanwhile.
const PARENT_TRIES: u32 = 1000;

/// What v2 does without a controller.
const CORE: [&str; 3] = ["cgroup", "devices", "freezer"];

impl Layout {
    /// Reads `/proc/self/mountinfo`.
    pub fn detect() -> Result<Self, Error> {
        Self::parse(&read(Path::new("/proc/self/mountinfo"))?)
    }

    /// Parses the text of mountinfo: any v1 controller makes the host v1 (hybrid), else it is v2.
    pub fn parse(mountinfo: &str) -> Result<Self, Error> {
        let mut layout = Self { hierarchies: Vec::new(), unified: None };
        // A mount whose parent is at the same place covers it.
        let covered: HashSet<(&str, &str)> = mountinfo.lines().filter_map(place_of).map(|(_, at)| at).collect();
        for line in mountinfo.lines() {
            let Some((mount, kind, options)) = mount_of(line) else { continue };
            if place_of(line).is_some_and(|(id, (_, mount))| covered.contains(&(id, mount))) {
                continue;
            }
            let controllers: Vec<String> = options
                .split(',')
                .filter(|option| CONTROLLERS.contains(option))
                .map(|option| option.to_owned())
                .collect();
            let is_new = |have: &Hierarchy| have.controllers != controllers;
            match kind {
                "cgroup" if !controllers.is_empty() && layout.hierarchies.iter().all(is_new) => {
                    layout.hierarchies.push(Hierarchy { controllers, mount });
                }
                "cgroup2" if layout.unified.is_none() => layout.unified = Some(mount),
                _ => {}
            }
        }
        if layout.hierarchies.is_empty() && layout.unified.is_none() {
            return Err(Error::NoHierarchy);
        }
        Ok(layout)
    }

    /// A part of the unified hierarchy, as if it were all there is.
    pub(super) fn unified_at(directory: PathBuf) -> Self {
        Self { hierarchies: Vec::new(), unified: Some(directory) }
    }

    /// Returns the interface that limits are written through.
    pub fn version(&self) -> Version {
        if self.hierarchies.is_empty() { Version::V2 } else { Version::V1 }
    }

    /// Says whether rules for devices can be enforced here, by this process.
    pub fn filters_devices(&self) -> bool {
        match self.version_of("devices") {
            Version::V1 => self.hierarchies.iter().any(|one| one.has("devices")),
            Version::V2 => strata_init::can_filter_devices(),
        }
    }

    /// Returns the interface of one controller; on a hybrid host some may be on v2.
    pub(super) fn version_of(&self, controller: &str) -> Version {
        if self.version() == Version::V2 {
            return Version::V2;
        }
        if self.hierarchies.iter().any(|one| one.has(controller)) {
            return Version::V1;
        }
        let name = if controller == "blkio" { "io" } else { controller };
        let is_unified = match controller {
            "devices" => self.unified.is_some(),
            _ => self.unified_controllers().is_ok_and(|list| list.iter().any(|one| one == name)),
        };
        if is_unified { Version::V2 } else { Version::V1 }
    }

    fn unified_controllers(&self) -> Result<Vec<String>, Error> {
        let Some(mount) = &self.unified else { return Ok(Vec::new()) };
        let text = match read(&mount.join("cgroup.controllers")) {
            // Beside v1 it serves only what it can.
            Err(_) if self.version() == Version::V1 => String::new(),
            text => text?,
        };
        Ok(text.split_whitespace().map(str::to_owned).collect())
    }

    /// Returns the directories that cgroup `name` needs for the `(controller, field)` pairs.
    pub(super) fn directories(
        &self,
        name: &str,
        needed: &[(&str, &str)],
        accounting: Accounting,
    ) -> Result<Vec<Directory>, Error> {
        let mut joined: Vec<bool> = vec![false; self.hierarchies.len()];
        let mut unified: Vec<&(&str, &str)> = Vec::new();
        for pair @ (controller, field) in needed {
            match self.hierarchies.iter().position(|one| one.has(controller)) {
                Some(index) => joined[index] = true,
                None if self.unified.is_some() => unified.push(pair),
                None => return Err(no_controller(controller, field)),
            }
        }
        let counted = ["memory", "cpuacct", "pids", "blkio"];
        let is_counted = |one: &String| accounting == Accounting::Yes && counted.contains(&one.as_str());
        // The freezer is always joined: it makes the list of processes, and killing them, reliable.
        let always = |one: &Hierarchy| one.has("freezer") || one.controllers.iter().any(is_counted);
        let v1 = self.hierarchies.iter().zip(joined).filter(|(one, joined)| *joined || always(one));
        let mut directories: Vec<Directory> = v1
            .map(|(one, _)| Directory {
                controllers: one.controllers.clone(),
                path: one.mount.join(name),
                version: Version::V1,
            })
            .collect();
        if self.version() == Version::V2 || !unified.is_empty() {
            directories.extend(self.unified_directory(name, &unified, accounting)?);
        }
        Ok(directories)
    }

    fn unified_directory(
        &self,
        name: &str,
        needed: &[&(&str, &str)],
        accounting: Accounting,
    ) -> Result<Option<Directory>, Error> {
        let Some(mount) = &self.unified else { return Ok(None) };
        let available = self.unified_controllers()?;
        let has = |controller: &str| available.iter().any(|one| one == controller);
        let mut controllers: Vec<String> = Vec::new();
        for (controller, field) in needed {
            if CORE.contains(controller) {
                continue;
            }
            if !has(controller) {
                return Err(no_controller(controller, field));
            }
            controllers.push((*controller).to_owned());
        }
        if accounting == Accounting::Yes && self.version() == Version::V2 {
            let counted = ["cpu", "io", "memory", "pids"].into_iter().filter(|controller| has(controller));
            controllers.extend(counted.map(str::to_owned));
        }
        controllers.sort_unstable();
        controllers.dedup();
        controllers.extend(CORE.map(str::to_owned));
        Ok(Some(Directory { controllers, path: mount.join(name), version: Version::V2 }))
    }

    /// Returns every directory that `name` has or could have.
    pub(super) fn places(&self, name: &str) -> Vec<PathBuf> {
        let mounts = self.hierarchies.iter().map(|one| &one.mount).chain(&self.unified);
        mounts.map(|mount| mount.join(name)).collect()
    }

    /// Returns the directories of `name` that are there.
    pub(super) fn existing(&self, name: &str) -> Vec<Directory> {
        let v1 = self.hierarchies.iter().map(|one| Directory {
            controllers: one.controllers.clone(),
            path: one.mount.join(name),
            version: Version::V1,
        });
        let unified = self.unified.iter().map(|mount| {
            let path = mount.join(name);
            let text = fs::read_to_string(path.join("cgroup.controllers")).unwrap_or_default();
            let controllers = text.split_whitespace().chain(CORE).map(str::to_owned).collect();
            Directory { controllers, path, version: Version::V2 }
        });
        v1.chain(unified).filter(|directory| directory.path.is_dir()).collect()
    }

    /// Makes one directory, and its parents the first time; `made` gets what was not there before.
    pub(super) fn make(&self, directory: &Directory, existing: Existing, made: &mut Vec<PathBuf>) -> Result<(), Error> {
        let path = &directory.path;
        let parent = path.parent().expect("a hierarchy is not mounted at the root");
        if directory.version == Version::V2 {
            self.enable(parent, &directory.controllers, made)?;
        }
        let mut result = fs::create_dir(path);
        // Another maker that gives up removes the empty parents that it made, perhaps between these two steps.
        for _ in 0..PARENT_TRIES {
            if !result.as_ref().is_err_and(|error| error.kind() == ErrorKind::NotFound) {
                break;
            }
            make_parents(parent, made)?;
            result = fs::create_dir(path);
        }
        match result {
            Ok(()) => made.push(path.clone()),
            Err(error) if error.kind() == ErrorKind::AlreadyExists && existing == Existing::Adopt => adopt(directory)?,
            Err(error) if error.kind() == ErrorKind::AlreadyExists && existing == Existing::Started => {}
            Err(source) => return Err(create_error(path, source)),
        }
        let is_cpuset = directory.version == Version::V1 && directory.has(&["cpuset"]);
        if is_cpuset { self.inherit_cpuset(path) } else { Ok(()) }
    }

    /// Enables `controllers` for the children of `parent`, from the top down (cgroup-v2.rst, "Top-down Constraint").
    fn enable(&self, parent: &Path, controllers: &[String], made: &mut Vec<PathBuf>) -> Result<(), Error> {
        let real = || controllers.iter().filter(|one| !CORE.contains(&one.as_str()));
        let control = parent.join("cgroup.subtree_control");
        let enabled = fs::read_to_string(&control);
        let has = |one: &String| enabled.as_ref().is_ok_and(|text| text.split_whitespace().any(|have| have == one));
        if enabled.is_ok() && real().all(has) {
            return Ok(());
        }
        let is_root = self.unified.as_deref() == Some(parent);
        if let (false, Some(above)) = (is_root, parent.parent()) {
            self.enable(above, controllers, made)?;
            match fs::create_dir(parent) {
                Ok(()) => made.push(parent.to_owned()),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(source) => return Err(create_error(parent, source)),
            }
        }
        let missing: Vec<String> = real().filter(|one| !has(one)).map(|one| format!("+{one}")).collect();
        if missing.is_empty() {
            return Ok(());
        }
        fs::write(&control, missing.join(" ")).map_err(|source| {
            let reason = match Errno::from_io_error(&source) {
                Some(Errno::BUSY) => "it has processes of its own, and only leaves may have both",
                Some(Errno::OPNOTSUPP) => "it is threaded",
                Some(Errno::NOENT) => "it was not given them by its parent",
                Some(Errno::ACCESS | Errno::PERM) => "it is not delegated to this user",
                _ => "the kernel refused",
            };
            let controllers = real().cloned().collect::<Vec<_>>().join(" ");
            Error::Enable { path: parent.to_owned(), controllers, reason, source }
        })
    }

    /// Has the parents of a directory of v2 that is there hand out its controllers.
    pub(super) fn hand_out(&self, directory: &Directory) -> Result<(), Error> {
        let parent = directory.path.parent().expect("a hierarchy is not mounted at the root");
        self.enable(parent, &directory.controllers, &mut Vec::new())
    }

    /// Copies cpus and mems from the parent, since a new v1 cpuset is empty and nothing can join it. cpusets(7)
    fn inherit_cpuset(&self, path: &Path) -> Result<(), Error> {
        let parent = path.parent().expect("a cgroup has a parent");
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if !read(&path.join(file))?.trim().is_empty() {
                continue;
            }
            let mut value = read(&parent.join(file))?;
            if value.trim().is_empty() && self.hierarchies.iter().all(|one| one.mount != parent) {
                self.inherit_cpuset(parent)?;
                value = read(&parent.join(file))?;
            }
            write(&path.join(file), value.trim())?;
        }
        Ok(())
    }
}

impl Hierarchy {
    fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|one| one == controller)
    }
}

fn make_parents(path: &Path, made: &mut Vec<PathBuf>) -> Result<(), Error> {
    match fs::create_dir(path) {
        Ok(()) => made.push(path.to_owned()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {
            make_parents(path.parent().ok_or_else(|| create_error(path, error))?, made)?;
            return make_parents(path, made);
        }
        Err(source) => return Err(create_error(path, source)),
    }
    Ok(())
}

/// Checks that a cgroup that is there can be a container's: empty, thawed, and on v2 not threaded.
fn adopt(directory: &Directory) -> Result<(), Error> {
    let path = &directory.path;
    let refuse = |reason| Err(Error::Occupied { path: path.clone(), reason });
    let mut pids = Vec::new();
    collect_pids(path, &mut pids)?;
    if !pids.is_empty() {
        return refuse("processes are in it");
    }
    if directory.version == Version::V2 {
        if read(&path.join("cgroup.type"))?.trim() != "domain" {
            return refuse("it is threaded");
        }
        if keyed(&read(&path.join("cgroup.events"))?, "frozen") == Some(1) {
            return refuse("it is frozen");
        }
    } else if directory.has(&["freezer"]) && read(&path.join("freezer.state"))?.trim() != "THAWED" {
        return refuse("it is frozen");
    }
    Ok(())
}

fn no_controller(controller: &str, field: &str) -> Error {
    Error::NoController { field: field.to_owned(), controller: controller.to_owned() }
}

fn create_error(path: &Path, source: std::io::Error) -> Error {
    let path = path.to_owned();
    if source.kind() == ErrorKind::AlreadyExists {
        return Error::Exists { path };
    }
    Error::Io { action: "create", path, source }
}

/// Returns mount point, file system type and super options of a line. proc_pid_mountinfo(5)
fn mount_of(line: &str) -> Option<(PathBuf, &str, &str)> {
    let (left, right) = line.split_once(" - ")?;
    let mount = left.split(' ').nth(4)?;
    let mut right = right.split(' ');
    let kind = right.next()?;
    let options = right.nth(1)?;
    Some((PathBuf::from(unescape(mount)), kind, options))
}

/// Returns the id of a mount, and its parent's id with the mount point.
fn place_of(line: &str) -> Option<(&str, (&str, &str))> {
    let mut fields = line.split(' ');
    Some((fields.next()?, (fields.next()?, fields.nth(2)?)))
}

/// Undoes the octal escapes of mountinfo.
fn unescape(text: &str) -> String {
    text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}
