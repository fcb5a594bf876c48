//! What the tests of this crate share: a store in a temporary directory, leases, archives.

use std::io::Cursor;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use strata_rpc::{Drain, Idle};
use strata_types::{LayerId, LeaseId, Reference};

use crate::catalog::Durability;
use crate::image::{self, Image, Import, Parts};
use crate::{Config, Result, Store};

/// Opens the store below `root` in a boot of that name.
pub async fn open_in(root: &Path, boot_id: &str) -> Result<Arc<Store>> {
    Store::open_in_boot(root, Config::default(), Idle::default(), Drain::default(), boot_id).await
}

/// A store in a fresh directory, which goes with the guard.
pub async fn store() -> (tempfile::TempDir, Arc<Store>) {
    let root = tempfile::tempdir_in("/var/tmp").expect("/var/tmp can be written");
    let store = open_in(&root.path().join("store"), "boot-1").await.expect("an empty root opens");
    (root, store)
}

/// A lease that never ends by itself.
pub async fn lease(store: &Arc<Store>, id: &str) -> LeaseId {
    let id = LeaseId::parse(id).expect("a valid id");
    store.catalog.create_lease(&id, "test", None).await.expect("a new lease");
    id
}

/// An archive with one file of this name and content.
pub fn archive(name: &str, content: &str) -> Vec<u8> {
    let tree = tempfile::tempdir().expect("a temporary directory");
    std::fs::write(tree.path().join(name), content).expect("a file");
    let made = Command::new("tar").arg("-C").arg(tree.path()).args(["-c", name]).output().expect("tar runs");
    assert!(made.status.success());
    made.stdout
}

/// Imports an image of one file.
pub async fn import(store: &Arc<Store>, name: &str, content: &str) -> Result<Image> {
    let name = Some(Reference::parse(name).expect("a valid name"));
    image::import(store, Import { name, ..Import::default() }, Cursor::new(archive("file", content))).await
}

/// A layer of one file, held by the lease.
pub async fn layer(store: &Arc<Store>, lease: &LeaseId, content: &str) -> LayerId {
    crate::layer::ingest(store, Cursor::new(archive("file", content)), lease).await.expect("a layer").id
}

/// An image over layers.
pub async fn create(store: &Arc<Store>, lease: &LeaseId, layers: &[LayerId], names: &[&str]) -> Result<Image> {
    let names = names.iter().map(|name| Reference::parse(name).expect("a valid name")).collect();
    let config_json =
        br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]},"x":1}"#.to_vec();
    image::create(store, Parts { config_json, layers: layers.to_vec(), names, lease: lease.clone() }).await
}

/// A stored blob, held by the lease.
pub async fn blob(store: &Arc<Store>, lease: &LeaseId, content: &str) -> strata_types::Digest {
    crate::blob::put(store, content.as_bytes().to_vec(), lease, Durability::Full).await.expect("a blob")
}
