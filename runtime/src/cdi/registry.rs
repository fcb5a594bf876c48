//! The devices that the spec files of this host describe now. Of two directories the later one counts; within one, a device
//! of two files is nobody's. A file that cannot be read takes nothing else with it, and is told when something is missing.

use std::{
    collections::BTreeMap,
    fmt, fs,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    Error, check,
    document::{DeviceEntry, Document, Edits, Malformed},
    name::DeviceName,
};

/// The most bytes of a spec file; a machine with hundreds of devices needs a tenth.
const MAX_BYTES: u64 = 4 << 20;

/// What a device is called besides its name: devices of several kinds may be of one class.
const CLASS: &str = "org.mobyproject.buildkit.device.class";

/// Any build may have the device.
const AUTO_ALLOW: &str = "org.mobyproject.buildkit.device.autoallow";

/// A spec file that was read.
#[derive(Debug)]
struct Spec {
    path: PathBuf,
    document: Document,
}

/// A device.
#[derive(Debug, Clone)]
pub struct Device {
    spec: Arc<Spec>,
    index: usize,
}

/// Why a file does not count, or a device of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it, and in which field.
    pub problem: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.problem)
    }
}

/// Edits of a spec file, and where in it they stand.
#[derive(Debug, Clone, Copy)]
pub struct Placed<'a> {
    /// The file.
    pub spec: &'a Path,
    /// The index of the device that they are for; none: for all of the file.
    pub device: Option<usize>,
    /// The edits.
    pub edits: &'a Edits,
}

/// All devices of this host.
#[derive(Debug, Default)]
pub struct Registry {
    devices: BTreeMap<DeviceName, Device>,
    problems: Vec<Problem>,
    directories: Vec<PathBuf>,
}

impl Registry {
    /// Reads the spec files of these directories. Blocking.
    pub fn read(directories: &[PathBuf]) -> Self {
        let mut registry = Self { directories: directories.to_vec(), ..Self::default() };
        for directory in directories {
            registry.read_directory(directory);
        }
        registry
    }

    fn read_directory(&mut self, directory: &Path) {
        let paths = match spec_files(directory) {
            Ok(paths) => paths,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) => return self.problem(directory, format!("cannot list it: {error}")),
        };
        let mut found: BTreeMap<DeviceName, Vec<Device>> = BTreeMap::new();
        for path in paths {
            match read(&path) {
                Err(problem) => self.problem(&path, problem),
                Ok(document) => {
                    let spec = Arc::new(Spec { path, document });
                    for (index, entry) in spec.document.devices.iter().enumerate() {
                        let name = DeviceName::of(&spec.document.kind, &entry.name);
                        found.entry(name).or_default().push(Device { spec: spec.clone(), index });
                    }
                }
            }
        }
        for (name, mut devices) in found {
            match devices.len() {
                1 => drop(self.devices.insert(name, devices.swap_remove(0))),
                _ => {
                    self.devices.remove(&name);
                    let other = devices[1].spec.path.display().to_string();
                    self.problem(&devices[0].spec.path, format!("device {name} is in {other} too, so it is neither's"));
                }
            }
        }
    }

    fn problem(&mut self, path: &Path, problem: String) {
        self.problems.push(Problem { path: path.to_owned(), problem });
    }

    /// Every device, by name.
    pub fn devices(&self) -> impl Iterator<Item = (&DeviceName, &Device)> {
        self.devices.iter()
    }

    /// Why files do not count.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// The edits of devices, in the order of their names here; those of a whole file once, before the first of its devices.
    pub fn edits(&self, names: &[DeviceName]) -> Result<Vec<Placed<'_>>, Error> {
        let mut placed = Vec::new();
        let mut seen: Vec<&Path> = Vec::new();
        for name in names {
            let device = self.devices.get(name).ok_or_else(|| self.unknown(name))?;
            let spec: &Spec = &device.spec;
            if !seen.contains(&spec.path.as_path()) {
                seen.push(&spec.path);
                placed.push(Placed { spec: &spec.path, device: None, edits: &spec.document.container_edits });
            }
            let edits = &device.entry().container_edits;
            placed.push(Placed { spec: &spec.path, device: Some(device.index), edits });
        }
        Ok(placed)
    }

    fn unknown(&self, name: &DeviceName) -> Error {
        let of_kind: Vec<&str> =
            self.devices.keys().filter(|known| known.kind() == name.kind()).map(DeviceName::as_str).collect();
        let all = || self.devices.keys().map(DeviceName::as_str).collect::<Vec<_>>();
        let known = match (of_kind.is_empty(), self.devices.is_empty()) {
            (false, _) => format!("there is {}", some_of(&of_kind)),
            (true, false) => format!("there is {}", some_of(&all())),
            (true, true) if self.directories.is_empty() => "no directory is looked in".to_owned(),
            (true, true) => {
                let directories: Vec<_> = self.directories.iter().map(|path| path.display().to_string()).collect();
                format!("there is none in {}", directories.join(" and "))
            }
        };
        Error::Unknown { name: name.clone(), known, problems: self.problems.clone() }
    }
}

/// The first of many names.
fn some_of(names: &[&str]) -> String {
    const MOST: usize = 10;
    match names.len() {
        0..=MOST => names.join(", "),
        all => format!("{} and {} more", names[..MOST].join(", "), all - MOST),
    }
}

impl Device {
    fn entry(&self) -> &DeviceEntry {
        &self.spec.document.devices[self.index]
    }

    /// The file that describes it.
    pub fn path(&self) -> &Path {
        &self.spec.path
    }

    /// The class that its annotations say it is of.
    pub fn class(&self) -> &str {
        self.annotation(CLASS)
    }

    /// Its annotations say that any build may have it.
    pub fn is_auto_allowed(&self) -> bool {
        // strconv.ParseBool.
        ["1", "t", "T", "TRUE", "true", "True"].contains(&self.annotation(AUTO_ALLOW))
    }

    /// What is said of the device comes before what is said of all of the file.
    fn annotation(&self, key: &str) -> &str {
        let annotations = [&self.entry().annotations, &self.spec.document.annotations];
        annotations.into_iter().find_map(|texts| texts.get(key)).map_or("", String::as_str)
    }
}

/// The files of a directory that can be specs, by name.
fn spec_files(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let is_spec = path.extension().is_some_and(|ending| ending == "json" || ending == "yaml");
        // A link to a file is a file; a FIFO would hang this service.
        if is_spec && fs::metadata(&path).map_or(true, |metadata| metadata.is_file()) {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn read(path: &Path) -> Result<Document, String> {
    let mut text = String::new();
    let file = fs::File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_string(&mut text));
    file.map_err(|error| format!("cannot read it: {error}"))?;
    if text.len() as u64 > MAX_BYTES {
        return Err("it is larger than a spec file can be".to_owned());
    }
    let document = Document::parse(path, &text).and_then(|document| check::check(&document).map(|()| document));
    document.map_err(|Malformed { field, problem }| match field.is_empty() {
        true => problem,
        false => format!("{field}: {problem}"),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// A directory with spec files: name, kind, devices.
    fn directory(files: &[(&str, &str, Value)]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for (name, kind, devices) in files {
            let document = json!({
                "cdiVersion": "0.6.0",
                "kind": kind,
                "containerEdits": {"env": [format!("FILE={name}")]},
                "devices": devices,
            });
            fs::write(directory.path().join(name), document.to_string()).unwrap();
        }
        directory
    }

    fn of(directories: &[&tempfile::TempDir]) -> Registry {
        Registry::read(&directories.iter().map(|one| one.path().to_owned()).collect::<Vec<_>>())
    }

    fn names(registry: &Registry) -> Vec<&str> {
        registry.devices().map(|(name, _)| name.as_str()).collect()
    }

    fn env(registry: &Registry, devices: &[&str]) -> Vec<String> {
        let devices: Vec<_> = devices.iter().map(|text| DeviceName::parse(text).unwrap()).collect();
        registry.edits(&devices).unwrap().iter().flat_map(|placed| placed.edits.env.clone()).collect()
    }

    #[test]
    fn a_later_directory_counts_before_an_earlier_one() {
        let one = directory(&[("a.json", "v.com/x", json!([{"name": "1"}, {"name": "2"}]))]);
        let two = directory(&[("b.json", "v.com/x", json!([{"name": "2"}]))]);

        let registry = of(&[&one, &two]);

        assert_eq!(names(&registry), ["v.com/x=1", "v.com/x=2"]);
        assert_eq!(env(&registry, &["v.com/x=1", "v.com/x=2"]), ["FILE=a.json", "FILE=b.json"]);
        assert!(registry.problems().is_empty());
    }

    #[test]
    fn a_device_of_two_files_of_one_directory_is_neithers() {
        let one = directory(&[("a.json", "v.com/x", json!([{"name": "1"}]))]);
        let two = directory(&[
            ("a.json", "v.com/x", json!([{"name": "1"}, {"name": "2"}])),
            ("b.json", "v.com/x", json!([{"name": "1"}])),
        ]);

        let registry = of(&[&one, &two]);

        assert_eq!(names(&registry), ["v.com/x=2"]);
        let problem = registry.problems()[0].to_string();
        assert!(problem.contains("a.json: device v.com/x=1 is in ") && problem.contains("b.json too"), "{problem}");
        // One that is overridden hurts nobody.
        assert!(names(&of(&[&two, &one])).contains(&"v.com/x=1"));
    }

    #[test]
    fn a_malformed_file_is_named_with_its_field_and_takes_no_other_with_it() {
        let one = directory(&[("a.json", "v.com/x", json!([{"name": "1"}])), ("b.json", "v.com/x", json!([]))]);
        fs::write(one.path().join("c.yaml"), "cdiVersion: [\n").unwrap();
        fs::write(one.path().join("d.txt"), "not a spec").unwrap();
        fs::create_dir(one.path().join("e.json")).unwrap();
        std::os::unix::fs::symlink("nowhere", one.path().join("f.json")).unwrap();

        let registry = of(&[&one]);

        assert_eq!(names(&registry), ["v.com/x=1"]);
        let problems: Vec<_> = registry.problems().iter().map(ToString::to_string).collect();
        assert_eq!(problems.len(), 3, "{problems:?}");
        assert!(problems[0].ends_with("b.json: devices: there must be one at least"), "{problems:?}");
        assert!(problems[1].contains("c.yaml: ") && problems[2].contains("f.json: cannot read it"), "{problems:?}");
        let error = registry.edits(&[DeviceName::parse("v.com/x=7").unwrap()]).unwrap_err().to_string();
        let begin = "no CDI spec file describes device v.com/x=7; there is v.com/x=1; ";
        assert!(error.starts_with(begin) && error.contains("b.json: devices: there must be"), "{error}");
    }

    #[test]
    fn a_device_that_nobody_knows_is_an_error_that_says_where_was_looked() {
        let empty = directory(&[]);
        let name = DeviceName::parse("v.com/x=1").unwrap();

        let error = of(&[&empty]).edits(std::slice::from_ref(&name)).unwrap_err().to_string();
        assert!(error.ends_with(&format!("there is none in {}", empty.path().display())), "{error}");
        let error = Registry::read(&["/nowhere/at/all".into()]).edits(&[name]).unwrap_err().to_string();
        assert!(error.ends_with("there is none in /nowhere/at/all"), "{error}");
    }

    #[test]
    fn edits_of_a_whole_file_come_once_and_first() {
        let one = directory(&[(
            "a.json",
            "v.com/x",
            json!([
                {"name": "1", "containerEdits": {"env": ["ONE=1"]}},
                {"name": "2", "containerEdits": {"env": ["TWO=2"]}},
            ]),
        )]);

        assert_eq!(env(&of(&[&one]), &["v.com/x=2", "v.com/x=1"]), ["FILE=a.json", "TWO=2", "ONE=1"]);
    }

    #[test]
    fn annotations_of_a_device_count_before_those_of_its_file() {
        let one = tempfile::tempdir().unwrap();
        let document = json!({
            "cdiVersion": "0.6.0",
            "kind": "v.com/x",
            "annotations": {AUTO_ALLOW: true, CLASS: "gpu"},
            "devices": [{"name": "1"}, {"name": "2", "annotations": {AUTO_ALLOW: "false", CLASS: "cpu"}}],
        });
        fs::write(one.path().join("a.json"), document.to_string()).unwrap();

        let registry = of(&[&one]);

        let said: Vec<_> =
            registry.devices().map(|(_, device)| (device.class().to_owned(), device.is_auto_allowed())).collect();
        assert_eq!(said, [("gpu".to_owned(), true), ("cpu".to_owned(), false)]);
    }
}
