//! Intel Resource Director Technology: the groups of a container in a mounted resctrl file system.
//! Tested against a tree that looks like one: there is no machine with the hardware to develop on.

use std::{
    fs,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use oci_spec::runtime::LinuxIntelRdt;
use serde::{Deserialize, Serialize};

/// Why the groups could not be made or removed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A field has a value that makes no sense.
    #[error("linux.intelRdt.{field}: {reason}")]
    Invalid {
        /// The field below `linux.intelRdt`.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no resctrl file system.
    #[error("linux.intelRdt: no resctrl file system is mounted")]
    NotMounted,
    /// A file or directory of it could not be used.
    #[error("linux.intelRdt.{field}: cannot {verb} {}", path.display())]
    Io {
        /// The field below `linux.intelRdt`.
        field: &'static str,
        /// What was attempted.
        verb: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

/// The groups that a container is in, as a record of its state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Groups {
    /// The class of service.
    class: PathBuf,
    /// Whether it was made for this container, and goes with it.
    is_own: bool,
    /// The monitoring group.
    monitoring: Option<PathBuf>,
}

impl Groups {
    /// Makes what `spec` asks for below the first resctrl file system that is mounted.
    pub fn make(spec: &LinuxIntelRdt, id: &str) -> Result<Self, Error> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let root = mount_point(&mounts).ok_or(Error::NotMounted)?;
        Self::make_below(&root, spec, id)
    }

    fn make_below(root: &Path, spec: &LinuxIntelRdt, id: &str) -> Result<Self, Error> {
        let name = spec.clos_id().as_deref().filter(|name| !name.is_empty());
        let class = match name {
            Some("/") => root.to_owned(),
            Some(name) => root.join(plain("closID", name)?),
            None => root.join(plain("closID", id)?),
        };
        let lines = schemata(spec)?;
        let is_made = make_class(&class, name, !lines.is_empty())?;
        let mut groups = Self { class, is_own: is_made && name.is_none(), monitoring: None };
        // What this call has made goes again if the rest fails.
        let undo = |groups: &Self| groups.remove().and(if is_made { remove(&groups.class) } else { Ok(()) });
        let result = match is_made || name.is_none() || name == Some("/") {
            true => write_schemata(&groups.class, &lines),
            false => compare_schemata(&groups.class, &lines),
        }
        .and_then(|()| groups.monitor(spec, id));
        if let Err(error) = result {
            // The first error counts.
            let _ = undo(&groups);
            return Err(error);
        }
        Ok(groups)
    }

    fn monitor(&mut self, spec: &LinuxIntelRdt, id: &str) -> Result<(), Error> {
        if !spec.enable_monitoring().unwrap_or(false) {
            return Ok(());
        }
        let path = self.class.join("mon_groups").join(plain("enableMonitoring", id)?);
        fs::create_dir(&path).map_err(failed("enableMonitoring", "create", &path))?;
        self.monitoring = Some(path);
        Ok(())
    }

    /// Returns the `tasks` files that the process joins by, in order.
    pub fn tasks(&self) -> Vec<PathBuf> {
        [Some(&self.class), self.monitoring.as_ref()].into_iter().flatten().map(|group| group.join("tasks")).collect()
    }

    /// Removes what was made for the container; what is gone already is no error.
    pub fn remove(&self) -> Result<(), Error> {
        self.monitoring.as_ref().map_or(Ok(()), |path| remove(path))?;
        if self.is_own { remove(&self.class) } else { Ok(()) }
    }
}

/// Returns where resctrl is mounted. proc_pid_mountinfo(5): field 5 is the mount point, the type follows " - ".
fn mount_point(mountinfo: &str) -> Option<PathBuf> {
    let line = mountinfo.lines().find(|line| line.contains(" - resctrl "))?;
    // Spaces and the like are octal there; nobody mounts resctrl on such a name.
    line.split(' ').nth(4).map(PathBuf::from)
}

/// Refuses names that could leave the file system or are files of its own.
fn plain<'a>(field: &'static str, name: &'a str) -> Result<&'a str, Error> {
    let is_taken = ["info", "mon_groups", "mon_data"].contains(&name);
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.+-:@".contains(&byte);
    if name.is_empty() || name.len() > 255 || name.starts_with('.') || is_taken || !name.bytes().all(is_plain) {
        return Err(Error::Invalid { field, reason: format!("{name:?} is not a name of a group") });
    }
    Ok(name)
}

/// Returns the lines to write, in the order of the specification.
fn schemata(spec: &LinuxIntelRdt) -> Result<Vec<&str>, Error> {
    let mut lines = Vec::new();
    let singles = [("l3CacheSchema", spec.l3_cache_schema(), None), ("memBwSchema", spec.mem_bw_schema(), Some("MB:"))];
    for (field, line, prefix) in singles {
        let Some(line) = line.as_deref().filter(|line| !line.is_empty()) else { continue };
        if prefix.is_some_and(|prefix| !line.starts_with(prefix)) {
            return Err(Error::Invalid { field, reason: format!("{line:?} does not begin with MB:") });
        }
        lines.push((field, line));
    }
    lines.extend(spec.schemata().iter().flatten().map(|line| ("schemata", line.as_str())));
    match lines.iter().find(|(_, line)| line.contains(['\n', '\0'])) {
        Some((field, line)) => Err(Error::Invalid { field, reason: format!("{line:?} is more than a line") }),
        None => Ok(lines.into_iter().map(|(_, line)| line).collect()),
    }
}

/// Makes the class if it is to be made, and says whether it did.
fn make_class(class: &Path, name: Option<&str>, has_schemata: bool) -> Result<bool, Error> {
    if class.is_dir() && name.is_some() {
        return Ok(false);
    }
    if name.is_some() && !has_schemata {
        let reason = format!("{} does not exist, and there are no schemata to make it of", class.display());
        return Err(Error::Invalid { field: "closID", reason });
    }
    match fs::create_dir(class) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        result => result.map(|()| true).map_err(failed("closID", "create", class)),
    }
}

/// Writes each line by itself: the kernel then tells which of them it does not take.
fn write_schemata(class: &Path, lines: &[&str]) -> Result<(), Error> {
    let path = class.join("schemata");
    lines.iter().try_for_each(|line| {
        fs::OpenOptions::new()
            .append(true)
            .open(&path)
            .and_then(|mut file| io::Write::write_all(&mut file, format!("{line}\n").as_bytes()))
            .map_err(failed("schemata", "write", &path))
    })
}

/// Refuses a class of others that has not what is asked: `L3:0=f;1=f` is two domains of the line `L3` of the file.
fn compare_schemata(class: &Path, lines: &[&str]) -> Result<(), Error> {
    if lines.is_empty() {
        return Ok(());
    }
    let path = class.join("schemata");
    let text = fs::read_to_string(&path).map_err(failed("schemata", "read", &path))?;
    let has: Vec<_> = text.lines().flat_map(domains).collect();
    let differs = lines.iter().find(|line| domains(line).iter().any(|domain| !has.contains(domain)));
    match differs {
        Some(line) => {
            let reason = format!("{} has not {line:?}", class.display());
            Err(Error::Invalid { field: "closID", reason })
        }
        None => Ok(()),
    }
}

/// Splits a line into resource, domain and value; the kernel pads with spaces and zeros.
fn domains(line: &str) -> Vec<(String, String, String)> {
    let Some((resource, rest)) = line.split_once(':') else { return Vec::new() };
    let part = |domain: &str| {
        let (id, value) = domain.split_once('=')?;
        let value = value.trim().trim_start_matches('0').to_ascii_lowercase();
        Some((resource.trim().to_owned(), id.trim().to_owned(), value))
    };
    rest.split(';').filter_map(part).collect()
}

fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_dir(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(failed("closID", "remove", path)(error)),
        _ => Ok(()),
    }
}

fn failed<'a>(field: &'static str, verb: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Error + 'a {
    move |source| Error::Io { field, verb, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests;
