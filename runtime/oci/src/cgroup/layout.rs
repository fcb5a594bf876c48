//! Which cgroup hierarchies this host has, read from mountinfo, and which of their directories a
//! container needs: on v1 only the joined hierarchies get one, every directory costs a few system calls.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use super::{Accounting, Directory, Error, read, settings::CONTROLLERS, write};

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
    version: Version,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Hierarchy {
    controllers: Vec<String>,
    mount: PathBuf,
}

impl Layout {
    /// Reads `/proc/self/mountinfo`.
    pub fn detect() -> Result<Self, Error> {
        Self::parse(&read(Path::new("/proc/self/mountinfo"))?)
    }

    /// Parses the text of mountinfo: any v1 controller makes the host v1 (hybrid), else it is v2.
    pub fn parse(mountinfo: &str) -> Result<Self, Error> {
        let mut v1: Vec<Hierarchy> = Vec::new();
        let mut unified = None;
        for line in mountinfo.lines() {
            let Some((mount, kind, options)) = mount_of(line) else { continue };
            let controllers: Vec<String> = options
                .split(',')
                .filter(|option| CONTROLLERS.contains(option))
                .map(|option| option.to_owned())
                .collect();
            let is_new = |have: &Hierarchy| have.controllers != controllers;
            match kind {
                "cgroup" if !controllers.is_empty() && v1.iter().all(is_new) => {
                    v1.push(Hierarchy { controllers, mount })
                }
                "cgroup2" if unified.is_none() => unified = Some(mount),
                _ => {}
            }
        }
        match unified {
            _ if !v1.is_empty() => Ok(Self { hierarchies: v1, version: Version::V1 }),
            Some(mount) => {
                let hierarchy = Hierarchy { controllers: Vec::new(), mount };
                Ok(Self { hierarchies: vec![hierarchy], version: Version::V2 })
            }
            None => Err(Error::NoHierarchy),
        }
    }

    /// Returns the interface that limits are written through.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Returns the directories that cgroup `name` needs for the `(controller, field)` pairs.
    pub(super) fn directories(
        &self,
        name: &str,
        needed: &[(&str, &str)],
        accounting: Accounting,
    ) -> Result<Vec<Directory>, Error> {
        if self.version == Version::V2 {
            return self.unified(name, needed, accounting);
        }
        for (controller, field) in needed {
            self.hierarchies.iter().find(|one| one.has(controller)).ok_or_else(|| no_controller(controller, field))?;
        }
        let counted = ["memory", "cpuacct", "pids"];
        let wanted = |controller: &String| {
            // The freezer is always joined: it makes the list of processes, and killing them, reliable.
            controller == "freezer"
                || needed.iter().any(|(one, _)| one == controller)
                || (accounting == Accounting::Yes && counted.contains(&controller.as_str()))
        };
        let joined = self.hierarchies.iter().filter(|one| one.controllers.iter().any(wanted));
        Ok(joined.map(|one| Directory { controllers: one.controllers.clone(), path: one.mount.join(name) }).collect())
    }

    fn unified(&self, name: &str, needed: &[(&str, &str)], accounting: Accounting) -> Result<Vec<Directory>, Error> {
        let available = read(&self.hierarchies[0].mount.join("cgroup.controllers"))?;
        let has = |controller: &str| available.split_whitespace().any(|one| one == controller);
        let mut controllers: Vec<String> = Vec::new();
        for (controller, field) in needed {
            if !has(controller) {
                return Err(no_controller(controller, field));
            }
            controllers.push((*controller).to_owned());
        }
        if accounting == Accounting::Yes {
            let counted = ["cpu", "memory", "pids"].into_iter().filter(|controller| has(controller));
            controllers.extend(counted.map(str::to_owned));
        }
        controllers.sort_unstable();
        controllers.dedup();
        // Part of the core on v2, without a controller of its own.
        controllers.push("freezer".to_owned());
        Ok(vec![Directory { controllers, path: self.hierarchies[0].mount.join(name) }])
    }

    /// Returns the directories of `name` that are there.
    pub(super) fn existing(&self, name: &str) -> Vec<Directory> {
        let found = self.hierarchies.iter().map(|one| (one, one.mount.join(name))).filter(|(_, path)| path.is_dir());
        let directory = |(hierarchy, path): (&Hierarchy, PathBuf)| {
            let mut controllers = hierarchy.controllers.clone();
            if self.version == Version::V2 {
                let text = read(&path.join("cgroup.controllers")).unwrap_or_default();
                controllers = text.split_whitespace().map(str::to_owned).chain(["freezer".to_owned()]).collect();
            }
            Directory { controllers, path }
        };
        found.map(directory).collect()
    }

    /// Makes one directory, and its parents the first time.
    pub(super) fn make(&self, directory: &Directory) -> Result<(), Error> {
        let path = &directory.path;
        let parent = path.parent().expect("a cgroup name has two components");
        if self.version == Version::V2 {
            self.enable(parent, &directory.controllers)?;
        }
        match fs::create_dir(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                fs::create_dir_all(parent).map_err(|source| create_error(parent, source))?;
                fs::create_dir(path).map_err(|source| create_error(path, source))?;
            }
            result => result.map_err(|source| create_error(path, source))?,
        }
        let is_cpuset = self.version == Version::V1 && directory.controllers.iter().any(|one| one == "cpuset");
        if is_cpuset { self.inherit_cpuset(path) } else { Ok(()) }
    }

    /// Enables `controllers` for the children of `parent`, from the top down (cgroup-v2.rst, "Top-down Constraint").
    fn enable(&self, parent: &Path, controllers: &[String]) -> Result<(), Error> {
        let real = || controllers.iter().filter(|one| *one != "freezer");
        let control = parent.join("cgroup.subtree_control");
        let enabled = fs::read_to_string(&control).unwrap_or_default();
        if parent.is_dir() && real().all(|one| enabled.split_whitespace().any(|have| have == one)) {
            return Ok(());
        }
        if let (true, Some(above)) = (parent != self.hierarchies[0].mount, parent.parent()) {
            self.enable(above, controllers)?;
            if !parent.is_dir() {
                fs::create_dir(parent).or_else(exists_is_fine).map_err(|source| create_error(parent, source))?;
            }
        }
        let value: Vec<String> = real().map(|one| format!("+{one}")).collect();
        if value.is_empty() { Ok(()) } else { write(&control, &value.join(" ")) }
    }

    /// Copies cpus and mems from the parent, since a new v1 cpuset is empty and nothing can join it. cpusets(7)
    fn inherit_cpuset(&self, path: &Path) -> Result<(), Error> {
        let parent = path.parent().expect("a cgroup has a parent");
        for file in ["cpuset.cpus", "cpuset.mems"] {
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

fn no_controller(controller: &str, field: &str) -> Error {
    let known = CONTROLLERS.iter().find(|one| **one == controller).copied();
    Error::NoController { field: field.to_owned(), controller: known.unwrap_or("of the key's prefix") }
}

fn create_error(path: &Path, source: std::io::Error) -> Error {
    let path = path.to_owned();
    if source.kind() == ErrorKind::AlreadyExists {
        return Error::Exists { path };
    }
    Error::Io { action: "create", path, source }
}

fn exists_is_fine(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == ErrorKind::AlreadyExists { Ok(()) } else { Err(error) }
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

/// Undoes the octal escapes of mountinfo.
fn unescape(text: &str) -> String {
    text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}
