//! Names of systemd: where a `cgroupsPath` of the form `slice:prefix:name` is. Pure.

use super::Error;

/// A scope, and the slice that it is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// As `system.slice`.
    pub slice: String,
    /// As `docker-web.scope`.
    pub unit: String,
}

/// What the kernel has files of, which no directory may be named after: systemd would name it otherwise.
const CONTROLLERS: [&str; 14] = [
    "blkio", "cgroup", "cpu", "cpuacct", "cpuset", "devices", "freezer", "hugetlb", "io", "memory", "misc", "net_cls",
    "pids", "rdma",
];

impl Place {
    /// Reads `slice:prefix:name`; an empty slice is the default. Without a path the container has a scope by its name.
    pub fn of(path: Option<&str>, id: &str, default_slice: &str) -> Result<Self, Error> {
        let Some(path) = path.filter(|path| !path.is_empty()) else {
            // The one character of our names that those of units have not.
            let unit = format!("strata-{}.scope", id.replace('+', "\\x2b"));
            return Self { slice: default_slice.to_owned(), unit }.checked(id);
        };
        let parts: Vec<&str> = path.split(':').collect();
        let &[slice, prefix, name] = parts.as_slice() else {
            return Err(refused(path, "with --systemd-cgroup it has the form slice:prefix:name"));
        };
        if name.is_empty() {
            return Err(refused(path, "it has no name"));
        }
        if name.ends_with(".slice") {
            return Err(refused(path, "a container is in a scope, and a slice has no processes"));
        }
        let unit = if prefix.is_empty() { format!("{name}.scope") } else { format!("{prefix}-{name}.scope") };
        let slice = if slice.is_empty() { default_slice } else { slice };
        Self { slice: slice.to_owned(), unit }.checked(path)
    }

    fn checked(self, path: &str) -> Result<Self, Error> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte);
        if self.unit.len() > 255 || !self.unit.bytes().all(is_plain) {
            return Err(refused(path, "its name is none that a unit of systemd can have"));
        }
        let is_file = |one: &&str| self.unit.strip_prefix(*one).is_some_and(|rest| rest.starts_with('.'));
        if self.unit.starts_with(['.', '_', '-']) || CONTROLLERS.iter().any(is_file) {
            return Err(refused(path, "its name is none that a cgroup can have"));
        }
        self.directory().map(|_| self.clone()).map_err(|reason| refused(path, reason))
    }

    /// Returns the cgroup below that of systemd: every dash of a slice's name is a level.
    pub fn directory(&self) -> Result<String, &'static str> {
        let name = self.slice.strip_suffix(".slice").ok_or("its slice does not end with .slice")?;
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte);
        if self.slice.len() > 255 || !name.bytes().all(is_plain) || name.is_empty() {
            return Err("its slice is none that systemd can have");
        }
        let mut directory = String::new();
        // The root slice.
        if name != "-" {
            if name.split('-').any(str::is_empty) || name.starts_with(['.', '_']) {
                return Err("its slice has a level without a name");
            }
            let dashes = name.match_indices('-').map(|(place, _)| place).chain([name.len()]);
            dashes.for_each(|end| directory += &format!("/{}.slice", &name[..end]));
        }
        Ok(format!("{directory}/{}", self.unit))
    }
}

fn refused(path: &str, reason: &'static str) -> Error {
    Error::Name { path: path.to_owned(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(path: &str) -> String {
        Place::of(Some(path), "x", "system.slice").unwrap().directory().unwrap()
    }

    #[test]
    fn a_path_of_three_parts_is_a_scope_in_a_slice() {
        assert_eq!(directory("system.slice:docker:1a"), "/system.slice/docker-1a.scope");
        assert_eq!(directory("machine.slice:libpod:1a"), "/machine.slice/libpod-1a.scope");
        assert_eq!(directory("::web"), "/system.slice/web.scope");
        assert_eq!(directory("-.slice:a:b"), "/a-b.scope");
    }

    #[test]
    fn dashes_of_a_slice_are_levels() {
        let path = "kubepods-besteffort-pod12_3.slice:cri-containerd:ff";

        let expected =
            "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod12_3.slice/cri-containerd-ff.scope";
        assert_eq!(directory(path), expected);
    }

    #[test]
    fn without_a_path_the_scope_has_the_name_of_the_container() {
        for path in [None, Some("")] {
            let place = Place::of(path, "web+1", "user.slice").unwrap();

            assert_eq!(place.directory().unwrap(), "/user.slice/strata-web\\x2b1.scope");
        }
    }

    #[test]
    fn paths_that_are_no_scope_are_refused() {
        for path in [
            "/a/b",
            "a:b",
            "a:b:c:d",
            "a.slice:b:",
            "a:b:c",
            "a--b.slice:c:d",
            "-a.slice:b:c",
            "a-.slice:b:c",
            ".slice:b:c",
            "../x.slice:b:c",
            "a/b.slice:c:d",
            "a.slice:b:../c",
            "a.slice:b:c d",
            "a.slice:b:c\0",
            "a.slice::pids",
            "a.slice::.x",
            "a.slice::_x",
            "a.slice:b:c.slice",
            "a.slice:cpu.x:y",
        ] {
            assert!(Place::of(Some(path), "x", "system.slice").is_err(), "{path:?}");
        }
        assert!(Place::of(Some(&format!("::{}", "x".repeat(250))), "x", "system.slice").is_err());
    }
}
