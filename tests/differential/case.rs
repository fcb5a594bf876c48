//! Cases: texts in `cases/`, each a Dockerfile with its context, who judges it, and what must come of it.
//!
//! A line that starts with `@@ ` opens a part: `case NAME JUDGE…`, `Dockerfile`, `file PATH MODE`, `dir PATH MODE`,
//! `link PATH TARGET`, `flags WORD…`, and what is expected: `tree`, `config`, `history` (whole, in the order of the
//! description), or `fails` with words of the error, one a line.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
};

/// Modification time of everything in a context.
pub const MTIME: i64 = 1_500_000_000;

/// One Dockerfile.
#[derive(Debug, Clone, Default)]
pub struct Case {
    pub name: String,
    /// `docker`, `buildah`.
    pub judges: Vec<String>,
    pub flags: Vec<String>,
    /// Expected lines by aspect.
    pub golden: BTreeMap<String, Vec<String>>,
    /// Words of the error of a build that must fail.
    pub fails: Option<Vec<String>>,
    parts: Vec<(String, String)>,
}

/// Every case, in the order of the files' names.
pub fn all() -> Vec<Case> {
    let directory = strata_tests::repository().join("tests/differential/cases");
    let mut files: Vec<_> = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let cases = files.iter().flat_map(|file| parse(&fs::read_to_string(file).unwrap()));
    // Those that wait for an instruction or flag that is not there yet.
    cases.filter(|case| !case.judges.iter().any(|judge| judge == "pending")).collect()
}

fn parse(text: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = vec![];
    let mut open: Option<(String, String)> = None;
    for line in text.split_inclusive('\n') {
        match line.strip_prefix("@@ ") {
            Some(head) => {
                if let (Some(part), Some(case)) = (open.take(), cases.last_mut()) {
                    case.take(part);
                }
                match head.trim_end().strip_prefix("case ") {
                    Some(words) => {
                        let mut words = words.split_whitespace().map(str::to_owned);
                        let name = words.next().expect("a case has a name");
                        cases.push(Case { name, judges: words.collect(), ..Case::default() });
                    }
                    None => open = Some((head.trim_end().to_owned(), String::new())),
                }
            }
            None => {
                if let Some((_, content)) = &mut open {
                    content.push_str(line);
                }
            }
        }
    }
    if let (Some(part), Some(case)) = (open, cases.last_mut()) {
        case.take(part);
    }
    cases
}

impl Case {
    fn take(&mut self, (head, content): (String, String)) {
        let lines = || content.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect::<Vec<_>>();
        match head.split_whitespace().next().unwrap_or_default() {
            "flags" => self.flags.extend(head.split_whitespace().skip(1).map(str::to_owned)),
            aspect @ ("tree" | "config" | "history") => drop(self.golden.insert(aspect.to_owned(), lines())),
            "fails" => self.fails = Some(lines()),
            _ => self.parts.push((head, content)),
        }
    }

    /// Whether something is expected of it that others need not show.
    pub fn is_described(&self) -> bool {
        !self.golden.is_empty() || self.fails.is_some()
    }

    /// Writes the context.
    pub fn write(&self, directory: &Path) {
        fs::create_dir_all(directory).unwrap();
        for (head, content) in &self.parts {
            let words: Vec<&str> = head.split_whitespace().collect();
            let content = content.strip_suffix("\n\n").map_or(content.clone(), |text| format!("{text}\n"));
            let mode = |text: &str| fs::Permissions::from_mode(u32::from_str_radix(text, 8).expect("an octal mode"));
            let path = |name: &str| {
                let path = directory.join(name);
                fs::create_dir_all(path.parent().expect("it is in the context")).unwrap();
                path
            };
            match words[..] {
                ["Dockerfile"] => fs::write(path("Dockerfile"), content).unwrap(),
                ["file", name, bits] => {
                    fs::write(path(name), content).unwrap();
                    fs::set_permissions(path(name), mode(bits)).unwrap();
                }
                ["dir", name, bits] => {
                    fs::create_dir_all(path(name)).unwrap();
                    fs::set_permissions(path(name), mode(bits)).unwrap();
                }
                ["link", name, target] => symlink(target, path(name)).unwrap(),
                ["hard", name, target] => fs::hard_link(path(target), path(name)).unwrap(),
                ["empty", name] => fs::write(path(name), "").unwrap(),
                _ => panic!("{}: what is {head:?}?", self.name),
            }
        }
        stamp(directory);
    }
}

/// Gives everything below the same time, so that it is known what is kept.
fn stamp(path: &Path) {
    let metadata = fs::symlink_metadata(path).unwrap();
    if metadata.is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| stamp(&entry.unwrap().path()));
    }
    let time = nix::sys::time::TimeSpec::new(MTIME, 0);
    let flags = nix::sys::stat::UtimensatFlags::NoFollowSymlink;
    nix::sys::stat::utimensat(nix::fcntl::AT_FDCWD, path, &time, &time, flags).unwrap();
}
