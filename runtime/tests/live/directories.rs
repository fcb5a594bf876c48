//! A store of plain directories.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use futures_util::future::BoxFuture;
use strata_runtime::{
    error::Error,
    spec::MountPoint,
    store::{Acquired, Listed, Prepared, Store, Volatile, Writing},
};
use strata_types::{ContainerConfig, LayerId, Mount, SnapshotKey};

/// A store of one image and its snapshots, in directories.
pub struct Directories {
    root: PathBuf,
    base: PathBuf,
    held: Mutex<BTreeMap<String, String>>,
    works: AtomicU64,
}

impl Directories {
    /// One whose image "base" is a directory, and whose snapshots are below `root`.
    pub fn new(root: PathBuf, base: PathBuf) -> Self {
        Self { root, base, held: Mutex::default(), works: AtomicU64::new(0) }
    }

    /// Whether no snapshot is left.
    pub fn is_empty(&self) -> bool {
        self.held.lock().unwrap().is_empty()
    }
}

impl Store for Directories {
    fn prepare<'a>(
        &'a self,
        key: &'a SnapshotKey,
        image: &'a str,
        _platform: Option<&'a strata_types::Platform>,
        _writing: Writing,
    ) -> BoxFuture<'a, Result<Prepared, Error>> {
        Box::pin(async move {
            if image != "base" {
                return Err(Error::ImageNotFound { image: image.into() });
            }
            std::fs::create_dir_all(self.root.join(key.as_str()).join("upper")).unwrap();
            let taken = self.held.lock().unwrap().insert(key.to_string(), String::new());
            assert!(taken.is_none(), "{key} was prepared twice");
            Ok(Prepared { image_id: "sha256:base".into(), config: ContainerConfig::default() })
        })
    }

    fn acquire<'a>(
        &'a self,
        key: &'a SnapshotKey,
        holder: &'a str,
        writing: Writing,
    ) -> BoxFuture<'a, Result<Acquired, Error>> {
        Box::pin(async move {
            let mut held = self.held.lock().unwrap();
            let held = held.get_mut(key.as_str()).expect("acquired before it was prepared");
            assert!(held.is_empty(), "{key} is held by {held}");
            *held = holder.to_owned();
            let dir = self.root.join(key.as_str());
            let work = dir.join(format!("work{}", self.works.fetch_add(1, Ordering::Relaxed)));
            std::fs::create_dir_all(&work).unwrap();
            let mut mount = Mount::overlay(vec![self.base.clone()], Some((dir.join("upper"), work)));
            mount.options = ["index=off", "redirect_dir=nofollow", "metacopy=off"].map(str::to_owned).into();
            if writing.volatile == Volatile::Yes {
                mount.options.push("volatile".into());
            }
            Ok(Acquired { mount, layers: Vec::new() })
        })
    }

    fn release<'a>(&'a self, key: &'a SnapshotKey, holder: &'a str) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            if let Some(held) = self.held.lock().unwrap().get_mut(key.as_str())
                && held == holder
            {
                held.clear();
            }
            Ok(())
        })
    }

    fn remove<'a>(&'a self, key: &'a SnapshotKey, holder: &'a str) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            if let Some(held) = self.held.lock().unwrap().remove(key.as_str()) {
                assert!(held.is_empty() || held == holder, "{key} is removed while {held} holds it");
                std::fs::remove_dir_all(self.root.join(key.as_str())).unwrap();
            }
            Ok(())
        })
    }

    fn export<'a>(
        &'a self,
        _key: &'a SnapshotKey,
        path: &'a str,
    ) -> BoxFuture<'a, Result<Option<Box<dyn std::io::Read + Send>>, Error>> {
        Box::pin(async move { panic!("{path} is wanted for a volume") })
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
            let held = self.held.lock().unwrap();
            Ok(held.iter().map(|(key, holder)| Listed { key: key.clone(), holder: holder.clone() }).collect())
        })
    }

    fn read_file<'a>(&'a self, _layers: &'a [LayerId], path: &'a str) -> BoxFuture<'a, Result<Option<Vec<u8>>, Error>> {
        Box::pin(async move { panic!("{path} could be looked up without the store") })
    }
}
