//! Versions of what this service keeps on disk. Records of an older one are brought up to date when they are read, and a copy
//! of each stays beside it; where a later one has written anything, the service does not start and nothing is changed.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

use super::{Durability, Record};
use crate::{disk, error::Error, secret, volume};

/// The latest version of container records that this program knows and writes.
pub const VERSION: u32 = 3;

/// The version of a record that says nothing of what came later, and what older ones are brought up to.
const BASE: u32 = 2;

/// The version that came with secrets.
const SECRETS: u32 = 3;

/// What makes each version up to [`BASE`] of the one before.
const STEPS: [fn(&mut Value); BASE as usize - 1] = [second];

/// The version that a record is written with: the first that knows all that it says. A runtime of that version can take it
/// over; one that would drop a part of it, and start the container without its secrets, is kept out by the number.
pub fn needed(record: &Record) -> u32 {
    if record.spec.secrets.is_empty() { BASE } else { SECRETS }
}

/// Whether a record of this version, brought up to date, is one that this program reads.
pub fn is_known(version: u32) -> bool {
    (BASE..=VERSION).contains(&version)
}

/// Restart policies, health checks, isolation and the order of starts came with it. Who has none of them behaves as before;
/// a runtime that knows none of them would drop them, which is why the number is another one.
fn second(_record: &mut Value) {}

/// Of running containers whose record does not say: monitors spoke it before it had a number.
pub fn first_conversation() -> u32 {
    1
}

/// What a record was before it was brought up to date.
pub struct Older {
    version: u64,
    bytes: Vec<u8>,
}

impl Older {
    /// Keeps it beside the record, on disk before this returns. It goes with the container.
    pub fn keep(&self, directory: &Path) -> Result<(), Error> {
        let path = directory.join(format!("record.json.v{}", self.version));
        disk::replace(&path, &path.with_extension("new"), &self.bytes, Durability::Synced)
    }
}

/// The record as this version has it; with it comes what it was, if it was another.
pub fn up_to_date(bytes: Vec<u8>) -> serde_json::Result<(Value, Option<Older>)> {
    let mut value: Value = serde_json::from_slice(&bytes)?;
    let found = value["version"].as_u64().unwrap_or(0);
    let done = usize::try_from(found).ok().and_then(|version| version.checked_sub(1));
    let Some(steps) = done.and_then(|done| STEPS.get(done..)).filter(|steps| !steps.is_empty()) else {
        return Ok((value, None));
    };
    steps.iter().for_each(|step| step(&mut value));
    value["version"] = BASE.into();
    Ok((value, Some(Older { version: found, bytes })))
}

/// Refuses a root in which a later version has written: a record, or one of a container whose monitor speaks what this version
/// does not know. What cannot be read is not looked at here.
pub fn check(root: &Path) -> Result<(), Error> {
    let later = |path: PathBuf, found: u64, known: u32| Error::Later {
        path,
        found,
        known: known.into(),
        advice: strata_rpc::version::advice(root),
    };
    let kinds = [
        ("containers", VERSION),
        ("networks", strata_net::RECORD_VERSION),
        ("secrets", secret::VERSION),
        ("volumes", volume::VERSION),
    ];
    for (directory, known) in kinds {
        for entry in fs::read_dir(root.join(directory)).into_iter().flatten().flatten() {
            let path = entry.path();
            let path = if path.is_dir() { path.join("record.json") } else { path };
            let Ok(bytes) = fs::read(&path) else { continue };
            // Behind the record of a secret is its value.
            let first = serde_json::Deserializer::from_slice(&bytes).into_iter::<Value>().next();
            let Some(Ok(value)) = first else { continue };
            if let Some(found) = value["version"].as_u64().filter(|found| *found > known.into()) {
                return Err(later(path, found, known));
            }
            let conversation = value["state"]["running"]["conversation"].as_u64();
            let known = strata_init::wire::VERSION;
            if let Some(found) = conversation.filter(|found| *found > known.into()) {
                return Err(later(path, found, known));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::{
        record::{Durability, Identity, Records, Running, State, tests::record},
        restart::Policy,
        spec::{SecretForm, SecretUse},
    };

    /// As the runtime of the version before wrote it.
    const FIRST: &[u8] = include_bytes!("version1.json");

    const ID: &str = "0101010101010101010101010101010101010101010101010101010101010101";

    fn root_with(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("containers").join(ID);
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("record.json"), bytes).unwrap();
        (root, directory)
    }

    #[test]
    fn a_record_of_the_version_before_is_brought_up_to_date_and_kept_as_it_was() {
        let (root, directory) = root_with(FIRST);

        let loaded = Records::open(root.path()).unwrap().load().unwrap();

        assert_eq!(loaded.damaged, Vec::<String>::new());
        let [record] = &loaded.records[..] else { panic!("{:?}", loaded.records) };
        assert_eq!((record.version, record.name.as_str()), (BASE, "web"));
        let State::Running(running) = &record.state else { panic!("{:?}", record.state) };
        assert_eq!((running.init.pid, running.conversation), (42, 1));
        assert_eq!(record.spec.network.attachments()[0].network, "inner");
        assert_eq!(record.spec.limits.memory_bytes, Some(64 << 20));
        assert_eq!(record.spec.restart, Policy::No);
        let copy = directory.join("record.json.v1");
        assert_eq!(fs::read(&copy).unwrap(), FIRST);
        assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
        let written: Value = serde_json::from_slice(&fs::read(directory.join("record.json")).unwrap()).unwrap();
        assert_eq!(written["version"], BASE);
        // The next start finds nothing to do.
        fs::remove_file(&copy).unwrap();
        drop(loaded);
        assert_eq!(Records::open(root.path()).unwrap().load().unwrap().records.len(), 1);
        assert!(!copy.exists());
    }

    #[test]
    fn what_a_later_version_wrote_is_refused_and_stays_as_it_is() {
        let mut later: Value = serde_json::from_slice(FIRST).unwrap();
        later["version"] = 99.into();
        later["new"] = "what nobody here knows".into();
        let bytes = serde_json::to_vec(&later).unwrap();
        let (root, directory) = root_with(&bytes);
        fs::write(root.path().join("version"), "99.0.0\n").unwrap();
        // One that would be brought up to date, were it alone.
        let other = root.path().join("containers").join(ID.replace('1', "0"));
        fs::create_dir(&other).unwrap();
        fs::write(other.join("record.json"), FIRST).unwrap();

        let refused = Records::open(root.path()).unwrap().load().unwrap_err();

        assert!(matches!(refused, Error::Later { found: 99, known: 3, .. }), "{refused:?}");
        let text = refused.to_string();
        assert!(text.contains("record.json") && text.contains("strata 99.0.0 wrote it"), "{text}");
        assert_eq!(fs::read(directory.join("record.json")).unwrap(), bytes);
        assert_eq!(fs::read(other.join("record.json")).unwrap(), FIRST);
        assert_eq!(fs::read_dir(root.path().join("quarantine")).unwrap().count(), 0);
    }

    #[test]
    fn so_are_later_networks_volumes_and_monitors() {
        let place = |file: &str, bytes: &[u8]| {
            let root = tempfile::tempdir().unwrap();
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
            root
        };
        let mut monitored = record(1, "one");
        let identity = Identity { pid: 2, started: 3, boot_id: "b".into() };
        monitored.state =
            State::Running(Running { conversation: 99, ..Running::new(identity.clone(), identity.clone()) });
        let monitored = serde_json::to_vec(&monitored).unwrap();
        for (file, bytes) in [
            ("networks/x.json", &b"{\"version\":99}"[..]),
            ("volumes/x/record.json", b"{\"version\":99}"),
            ("containers/x/record.json", &monitored),
            ("secrets/x", b"{\"version\":99}\nvalue"),
        ] {
            let root = place(file, bytes);
            assert!(matches!(check(root.path()), Err(Error::Later { found: 99, .. })), "{file}");
        }
        check(place("volumes/x/record.json", b"{\"version\":1}").path()).unwrap();
        check(place("networks/x.json", b"{").path()).unwrap();
        check(Path::new("/nonexistent")).unwrap();
    }

    #[test]
    fn a_record_has_the_first_version_that_knows_all_of_it_and_no_copy() {
        let root = tempfile::tempdir().unwrap();
        let records = Records::open(root.path()).unwrap();
        let plain = record(1, "one");
        let mut secretive = record(2, "two");
        let form = SecretForm::Variable("PASSWORD".into());
        secretive.spec.secrets.push(SecretUse { secret: "db".into(), form });
        for (record, version) in [(&plain, 2), (&secretive, 3)] {
            records.write(record, Durability::Unsynced).unwrap();

            let bytes = fs::read(records.dir(&record.id).join("record.json")).unwrap();
            assert_eq!(serde_json::from_slice::<Value>(&bytes).unwrap()["version"], version);
        }

        let mut loaded = records.load().unwrap().records;

        loaded.sort_by_key(|record| record.id.to_string());
        let versions: Vec<u32> = loaded.iter().map(|record| record.version).collect();
        assert_eq!(versions, [2, 3]);
        assert_eq!(loaded[1].spec.secrets, secretive.spec.secrets);
        for record in [&plain, &secretive] {
            assert_eq!(fs::read_dir(records.dir(&record.id)).unwrap().count(), 1);
        }
    }
}
