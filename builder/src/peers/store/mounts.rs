//! Cache mounts of the store.

use strata_proto::store::v1 as pb;

use super::Store;
use crate::error::Error;

/// The cache mount that a step wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheMount {
    /// Its id.
    pub id: String,
    /// Digest of what it begins with. Empty: with nothing, mode 755 and root's.
    pub base: String,
    /// Layers whose content it begins with, bottom first.
    pub layers: Vec<String>,
    /// Path in them.
    pub path: String,
    /// Permission bits of its root. `None`: the source's, else 755.
    pub mode: Option<u32>,
    /// Owner of its root.
    pub uid: Option<u32>,
    /// Group of its root.
    pub gid: Option<u32>,
    /// Who else may have it.
    pub sharing: Sharing,
}

/// Who else may have a cache mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// Whoever shares it, too.
    Shared,
    /// Each has one for itself.
    Private,
    /// One after the other.
    Locked,
}

/// A cache mount in our hands; dropped, it is free.
#[derive(Debug)]
pub struct HeldMount {
    /// Its directory.
    pub path: String,
    _stream: tonic::Streaming<pb::HoldCacheMountResponse>,
}

impl Store {
    /// Takes a cache mount, and waits for it where it is locked.
    pub async fn hold_cache_mount(&self, wanted: &CacheMount) -> Result<HeldMount, Error> {
        let sharing = match wanted.sharing {
            Sharing::Shared => pb::CacheSharing::Shared,
            Sharing::Private => pb::CacheSharing::Private,
            Sharing::Locked => pb::CacheSharing::Locked,
        };
        let seed = (!wanted.base.is_empty()).then(|| pb::CacheSeed {
            base: wanted.base.clone(),
            layer_ids: wanted.layers.clone(),
            path: wanted.path.clone(),
            mode: wanted.mode,
            uid: wanted.uid,
            gid: wanted.gid,
        });
        let request = pb::HoldCacheMountRequest { id: wanted.id.clone(), sharing: sharing.into(), seed };
        let refused = |status| Error::peer("store", "give a cache mount", status);
        let mut client = pb::cache_mount_service_client::CacheMountServiceClient::new(self.channel.clone());
        let mut stream = client.hold_cache_mount(request).await.map_err(refused)?.into_inner();
        let first = stream.message().await.map_err(refused)?;
        let first = first.ok_or(Error::Answer { peer: "store", what: "a cache mount" })?;
        Ok(HeldMount { path: first.path, _stream: stream })
    }
}
