//! On this host's own cgroups, as root: whose directories are touched.

use std::process::{Child, Command, Stdio};

use super::*;
use crate::cgroup::{Existing, Options};

/// A name that nobody has, and what must be gone after the test.
struct Name(String);

impl Name {
    fn new(what: &str) -> Self {
        Self(format!("/strata-record-{what}-{}", std::process::id()))
    }

    fn places(&self) -> Vec<PathBuf> {
        layout().places(self.0.trim_matches('/'))
    }

    fn count(&self) -> usize {
        self.places().iter().filter(|path| path.exists()).count()
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        self.places().iter().for_each(|path| drop(fs::remove_dir(path)));
    }
}

/// A process of somebody else in a cgroup.
struct Other(Child, PathBuf);

impl Other {
    fn new(directory: &Path) -> Self {
        let child = Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().unwrap();
        fs::write(directory.join("cgroup.procs"), child.id().to_string()).unwrap();
        Self(child, directory.to_owned())
    }

    fn is_alive(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
        for _ in 0..1000 {
            match fs::remove_dir(&self.1) {
                Err(error) if error.kind() == ErrorKind::ResourceBusy => std::thread::sleep(Duration::from_millis(1)),
                _ => return,
            }
        }
    }
}

fn layout() -> Layout {
    Layout::detect().unwrap()
}

fn create(name: &Name) -> Cgroup {
    let options = Options { existing: Existing::Adopt, ..Options::default() };
    Cgroup::create_with(&layout(), &name.0, &LinuxResources::default(), &options).unwrap()
}

#[test]
fn what_is_held_is_removed_with_its_processes() {
    let name = Name::new("held");
    let mut record = Record::claim(&layout(), &name.0, None).unwrap();
    let cgroup = create(&name);
    record.hold(&cgroup);
    let mut own = Other::new(cgroup.directories().next().unwrap());
    assert_eq!(record.open().unwrap().pids().unwrap(), [own.0.id() as i32]);
    // Reaped as the monitor or the subreaper does: a zombie counts as a process on v1.
    let waiter = std::thread::spawn(move || own.0.wait().map(|_| own));

    record.remove().unwrap();

    waiter.join().unwrap().unwrap();
    assert_eq!(name.count(), 0);
}

#[test]
fn an_empty_cgroup_goes_at_once_and_one_with_a_process_keeps_what_freezes_it() {
    let name = Name::new("empty");
    let cgroup = create(&name);
    let made = name.count();
    let other = Other::new(cgroup.directories().next().unwrap());
    assert!(!cgroup.remove_empty());
    assert!(name.count() == made && !cgroup.is_frozen().unwrap());

    drop(other);

    assert!(create(&name).remove_empty());
    assert_eq!(name.count(), 0);
    assert!(cgroup.remove_empty(), "what is gone is no error");
}

#[test]
fn a_cgroup_of_the_name_that_came_later_is_left_with_its_processes() {
    let name = Name::new("later");
    let mut record = Record::claim(&layout(), &name.0, None).unwrap();
    let cgroup = create(&name);
    record.hold(&cgroup);
    cgroup.remove().unwrap();
    let mut other = Other::new(create(&name).directories().next().unwrap());

    record.remove().unwrap();

    assert!(record.open().unwrap().pids().unwrap().is_empty());
    assert!(other.is_alive() && name.count() > 0);
}

#[test]
fn directories_of_the_name_in_hierarchies_that_were_not_joined_are_left() {
    let name = Name::new("elsewhere");
    let mut record = Record::claim(&layout(), &name.0, None).unwrap();
    let cgroup = create(&name);
    record.hold(&cgroup);
    let joined: Vec<PathBuf> = cgroup.directories().map(Path::to_owned).collect();
    let free = name.places().into_iter().find(|path| !joined.contains(path));
    // With v2 alone there is no other hierarchy.
    let mut other = free.map(|path| {
        fs::create_dir(&path).unwrap();
        Other::new(&path)
    });

    record.remove().unwrap();

    assert!(other.as_mut().is_none_or(Other::is_alive));
    assert_eq!(name.count(), usize::from(other.is_some()));
}

#[test]
fn a_claim_alone_removes_what_is_new_and_empty_and_kills_nobody() {
    let name = Name::new("claim");
    let record = Record::claim(&layout(), &name.0, None).unwrap();
    create(&name);
    record.remove().unwrap();
    assert_eq!(name.count(), 0);

    let mut other = Other::new(create(&name).directories().next().unwrap());
    record.remove().unwrap();
    assert!(other.is_alive() && name.count() > 0);
    drop(other);
    name.places().iter().for_each(|path| drop(fs::remove_dir(path)));

    // Somebody made it before.
    create(&name);
    let there = name.count();
    let record = Record::claim(&layout(), &name.0, None).unwrap();
    record.remove().unwrap();
    assert_eq!(name.count(), there);
}

#[test]
fn a_record_survives_the_disk() {
    let record = Record {
        name: "/a".to_owned(),
        before: vec!["/x".into()],
        held: Some(vec![Held { path: "/y".into(), inode: 5 }]),
        unit: Some(Unit { name: "a.scope".to_owned(), owner: Owner::User }),
    };

    let text = serde_json::to_string(&record).unwrap();

    assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), record);
    assert!(!Record::default().is_some());
}
