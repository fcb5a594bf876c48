use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Mutex, MutexGuard},
};

use futures_util::future::BoxFuture;
use strata_types::{ContainerConfig, LayerId};

use super::*;
use crate::{
    config,
    engine::{Counts, Lifetime, WithVolumes},
    record::{Durability, Identity, tests::record},
    spec::{ExitKind, MountPoint},
    store::{Acquired, Prepared, Writing},
};

/// So many containers, of which none runs.
fn stopped(number: usize) -> Counts {
    Counts { stopped: number, ..Counts::default() }
}

/// A store in memory, stricter than the real one.
#[derive(Default)]
struct Fake {
    snapshots: Mutex<BTreeMap<String, String>>,
    is_away: Mutex<bool>,
}

impl Fake {
    fn with(snapshots: &[(&str, &str)]) -> Arc<Self> {
        let snapshots = snapshots.iter().map(|(key, holder)| (key.to_string(), holder.to_string())).collect();
        Arc::new(Self { snapshots: Mutex::new(snapshots), is_away: Mutex::new(false) })
    }

    fn open(&self) -> Result<MutexGuard<'_, BTreeMap<String, String>>, Error> {
        if *self.is_away.lock().unwrap() {
            return Err(Error::StoreUnavailable { endpoint: "fake".into(), problem: "away".into() });
        }
        Ok(self.snapshots.lock().unwrap())
    }

    fn keys(&self) -> Vec<(String, String)> {
        self.snapshots.lock().unwrap().clone().into_iter().collect()
    }

    fn refused(reason: &str) -> Error {
        Error::StoreRefused { attempt: "fake", reason: reason.into(), message: String::new() }
    }
}

impl Store for Fake {
    fn prepare<'a>(
        &'a self,
        key: &'a SnapshotKey,
        image: &'a str,
        _platform: Option<&'a strata_types::Platform>,
        _writing: Writing,
    ) -> BoxFuture<'a, Result<Prepared, Error>> {
        Box::pin(async move {
            if image == "missing" {
                return Err(Error::ImageNotFound { image: image.into() });
            }
            if self.open()?.insert(key.to_string(), String::new()).is_some() {
                return Err(Self::refused("FAULT_SNAPSHOT_EXISTS"));
            }
            let cmd = (image != "bare").then(|| vec!["sh".to_owned()]);
            Ok(Prepared { image_id: "sha256:1".into(), config: ContainerConfig { cmd, ..Default::default() } })
        })
    }

    fn acquire<'a>(
        &'a self,
        _key: &'a SnapshotKey,
        _holder: &'a str,
        _writing: Writing,
    ) -> BoxFuture<'a, Result<Acquired, Error>> {
        Box::pin(async { Err(Self::refused("FAULT_SNAPSHOT_NOT_FOUND")) })
    }

    fn release<'a>(&'a self, key: &'a SnapshotKey, holder: &'a str) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            if let Some(held) = self.open()?.get_mut(key.as_str())
                && held == holder
            {
                held.clear();
            }
            Ok(())
        })
    }

    fn remove<'a>(&'a self, key: &'a SnapshotKey, holder: &'a str) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            let mut snapshots = self.open()?;
            if snapshots.get(key.as_str()).is_some_and(|held| !held.is_empty() && held != holder) {
                return Err(Self::refused("FAULT_SNAPSHOT_HELD"));
            }
            snapshots.remove(key.as_str());
            Ok(())
        })
    }

    fn export<'a>(
        &'a self,
        _key: &'a SnapshotKey,
        _path: &'a str,
    ) -> BoxFuture<'a, Result<Option<Box<dyn std::io::Read + Send>>, Error>> {
        Box::pin(async { Ok(None) })
    }

    fn copy<'a>(
        &'a self,
        _key: &'a SnapshotKey,
        _lease: &'a str,
        _points: &'a [MountPoint],
    ) -> BoxFuture<'a, Result<String, Error>> {
        Box::pin(async { Ok("layer".to_owned()) })
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<Listed>, Error>> {
        Box::pin(async {
            let snapshots = self.open()?;
            Ok(snapshots.iter().map(|(key, holder)| Listed { key: key.clone(), holder: holder.clone() }).collect())
        })
    }

    fn read_file<'a>(
        &'a self,
        _layers: &'a [LayerId],
        _path: &'a str,
    ) -> BoxFuture<'a, Result<Option<Vec<u8>>, Error>> {
        Box::pin(async { Ok(None) })
    }
}

async fn engine(root: &Path, store: Arc<Fake>) -> Result<Arc<Engine>, Error> {
    let init = root.join("strata-init");
    std::fs::write(&init, b"not executed here").unwrap();
    let file = config::File { init: Some(init), ..Default::default() };
    let config = Config {
        root: root.to_owned(),
        run: root.join("run"),
        file,
        waker: None,
        program: "/nonexistent".into(),
        log: String::new(),
    };
    let presence = Presence::new(|| Box::new(()), |_| {});
    Engine::open(config.clone(), store, Launcher::open(config)?, presence).await
}

/// Waits until the sweep has done what the test expects.
async fn eventually(what: &str, is_done: impl Fn() -> bool) {
    for _ in 0..500 {
        if is_done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what} did not happen");
}

fn write(root: &Path, records: &[Record]) {
    let opened = Records::open(root).unwrap();
    records.iter().for_each(|record| opened.write(record, Durability::Unsynced).unwrap());
}

fn with_state(byte: u8, name: &str, state: State) -> Record {
    Record { state, ..record(byte, name) }
}

fn gone(pid: u32) -> Identity {
    Identity { pid, started: 1, boot_id: "an earlier boot".into() }
}

#[tokio::test]
async fn half_made_and_half_removed_containers_disappear_with_their_snapshots() {
    let root = tempfile::tempdir().unwrap();
    let half = [with_state(1, "making", State::Creating), with_state(2, "removing", State::Removing)];
    let kept = with_state(3, "kept", State::Created);
    write(root.path(), &[half[0].clone(), half[1].clone(), kept.clone()]);
    let [first, second] = [0, 1].map(|index: usize| half[index].id.to_string());
    // The second is still held: an earlier release did not reach the store.
    let store = Fake::with(&[(&first, ""), (&second, &second), (kept.id.as_str(), "")]);

    let engine = engine(root.path(), store.clone()).await.unwrap();

    eventually("the removal", || engine.count() == stopped(1)).await;
    eventually("the sweep", || store.keys() == [(kept.id.to_string(), String::new())]).await;
    assert!(engine.find("kept").is_ok() && engine.find("making").is_err());
    assert!(!engine.records.dir(&half[0].id).exists());
}

#[tokio::test]
async fn snapshots_without_a_record_are_given_back_and_those_of_others_left_alone() {
    let root = tempfile::tempdir().unwrap();
    let (stray, holder) = ("a".repeat(64), "b".repeat(64));
    let store =
        Fake::with(&[(&stray, &stray), ("build-step", &holder), ("build-free", ""), ("of-somebody", "builder")]);

    let _engine = engine(root.path(), store.clone()).await.unwrap();

    let expected = [("build-free", ""), ("build-step", ""), ("of-somebody", "builder")];
    let expected = expected.map(|(key, holder)| (key.to_owned(), holder.to_owned()));
    eventually("the sweep", || store.keys() == expected).await;
}

#[tokio::test]
async fn a_damaged_record_keeps_its_snapshot() {
    let root = tempfile::tempdir().unwrap();
    let damaged = record(1, "damaged");
    write(root.path(), std::slice::from_ref(&damaged));
    std::fs::write(root.path().join("containers").join(damaged.id.as_str()).join("record.json"), "{").unwrap();
    let stray = "a".repeat(64);
    let store = Fake::with(&[(damaged.id.as_str(), ""), (&stray, "")]);

    let _engine = engine(root.path(), store.clone()).await.unwrap();

    eventually("the sweep", || store.keys() == [(damaged.id.to_string(), String::new())]).await;
}

#[tokio::test]
async fn a_run_whose_monitor_is_gone_ends_as_its_exit_record_says_or_unknown() {
    let root = tempfile::tempdir().unwrap();
    let running = || State::Running(Running::new(gone(4_000_001), gone(4_000_002)));
    let (told, untold) = (with_state(1, "told", running()), with_state(2, "untold", running()));
    write(root.path(), &[told.clone(), untold.clone()]);
    let exit = r#"{"code":137,"signal":9,"oom_killed":true,"exited_at_nanos":1}"#;
    std::fs::write(root.path().join("containers").join(told.id.as_str()).join("exit.json"), exit).unwrap();
    let store = Fake::with(&[(told.id.as_str(), told.id.as_str()), (untold.id.as_str(), "")]);

    let engine = engine(root.path(), store.clone()).await.unwrap();
    let told = engine.find("told").unwrap().ended().await.unwrap();
    let untold = engine.find("untold").unwrap().ended().await.unwrap();

    assert_eq!(told, Exit { kind: ExitKind::Signal(9), is_oom_killed: true });
    assert!(matches!(untold.kind, ExitKind::Unknown(_)));
    eventually("the release", || store.keys().iter().all(|(_, holder)| holder.is_empty())).await;
    assert_eq!(engine.count(), stopped(2));
}

#[tokio::test]
async fn a_store_that_is_away_does_not_keep_the_service_from_starting() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), &[with_state(1, "making", State::Creating), with_state(2, "kept", State::Created)]);
    let store = Fake::with(&[]);
    *store.is_away.lock().unwrap() = true;

    let engine = engine(root.path(), store.clone()).await.unwrap();
    assert!(engine.find("kept").is_ok());
    *store.is_away.lock().unwrap() = false;

    for _ in 0..100 {
        if engine.count() == stopped(1) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the sweep was not tried again");
}

#[tokio::test]
async fn a_removal_that_the_store_was_away_for_is_finished_later() {
    let root = tempfile::tempdir().unwrap();
    let store = Fake::with(&[]);
    let engine = engine(root.path(), store.clone()).await.unwrap();
    let container = engine.create(None, None, record(1, "x1").spec, Lifetime::Kept).await.unwrap();

    *store.is_away.lock().unwrap() = true;
    assert!(matches!(engine.delete(container, false, WithVolumes::No).await, Err(Error::StoreUnavailable { .. })));
    *store.is_away.lock().unwrap() = false;

    for _ in 0..200 {
        if engine.count() == stopped(0) {
            return assert!(store.keys().is_empty());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the removal was not tried again");
}

#[tokio::test]
async fn a_create_that_fails_leaves_nothing() {
    let root = tempfile::tempdir().unwrap();
    let store = Fake::with(&[]);
    let engine = engine(root.path(), store.clone()).await.unwrap();
    let image = |name: &str| crate::spec::Spec { root: Root::Image(name.into()), ..record(1, "x1").spec };

    let missing = engine.create(None, None, image("missing"), Lifetime::Kept).await;
    let bare = engine.create(None, None, image("bare"), Lifetime::Kept).await;

    assert!(matches!(missing, Err(Error::ImageNotFound { .. })));
    assert!(matches!(bare, Err(Error::NoCommand)));
    assert_eq!((engine.count(), store.keys().len()), (stopped(0), 0));
    assert_eq!(std::fs::read_dir(root.path().join("containers")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_start_that_fails_keeps_the_container_and_tells_the_code() {
    let root = tempfile::tempdir().unwrap();
    let engine = engine(root.path(), Fake::with(&[])).await.unwrap();
    let container = engine.create(None, None, record(1, "x1").spec, Lifetime::Kept).await.unwrap();

    let started = engine.start(&container, Default::default(), None).await;

    assert!(matches!(started, Err(Error::StoreRefused { .. })));
    let record = container.record();
    assert_eq!((record.state, record.exit), (State::Created, Some(Exit::code(128))));
    engine.delete(container, false, WithVolumes::No).await.unwrap();
    assert_eq!(engine.count(), stopped(0));
}

use crate::spec::Root;
