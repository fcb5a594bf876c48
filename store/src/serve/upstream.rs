//! Pull-through: for a registry that the configuration lists with `pull_through`, ours answers too. What is asked for is
//! fetched once, checked, and kept as if it had been pushed, so that it goes when nobody has asked for long. Tags are
//! asked for each time; while the registry cannot be reached, the last answer counts.
//!
//! Only registries that are listed by name are asked: a caller must not choose where this machine connects to. They are
//! asked without credentials, or with those that the configuration points at (`logins`): whoever may pull here sees what
//! these see there. Blobs are read by clients while they come (`transfers`).

mod logins;
mod transfers;

use std::sync::Arc;

use strata_registry::{Host, Kind, Target};
use strata_types::{Digest, Reference as ImageName};

use super::name::{Repository, Tag};
use super::{Fault, Registry};
use crate::catalog::{DocumentRow, Durability, HeldBlob};
use crate::lease::{GRACE, Session};
use crate::{Error, Store, document};
pub(super) use logins::Logins;
use transfers::Wanted;
pub(super) use transfers::{Coming, Transfers};

/// The repository of another registry for which ours answers.
pub(super) struct Upstream<'a> {
    registry: &'a Registry,
    store: &'a Arc<Store>,
    within: &'a str,
    there: strata_registry::Repository,
}

impl<'a> Upstream<'a> {
    /// The upstream of a repository, if it has one.
    pub fn of(registry: &'a Registry, repository: &'a Repository) -> Result<Option<Self>, Fault> {
        let (store, within) = (&registry.store, repository.store_name());
        let name = format!("{within}:latest");
        let reference = ImageName::parse(&name).map_err(|_| Fault::NameInvalid { name })?;
        let listed = store.remotes.settings().host.get(&Host::of(&reference));
        if !listed.is_some_and(|settings| settings.pull_through) {
            return Ok(None);
        }
        let there = registry.logins.client(store)?.repository(&reference).map_err(Error::from)?;
        Ok(Some(Self { registry, store, within, there }))
    }

    /// What a tag points at there; none if there is no such tag.
    pub async fn tag(&self, tag: &Tag) -> Result<Option<DocumentRow>, Fault> {
        let found = async {
            match self.there.resolve(tag.as_str()).await? {
                Some(resolved) => match self.here(&resolved.digest).await? {
                    Some(row) => Ok(row),
                    None => self.fetch(Target::Digest(resolved.digest)).await,
                },
                None => self.fetch(Target::Tag(tag.as_str().to_owned())).await,
            }
        };
        match found.await {
            Ok(row) => {
                self.store.catalog.remember_tag(self.within, tag.as_str(), &row.digest).await?;
                Ok(Some(row))
            }
            Err(Error::Registry(error)) if error.kind() == Kind::NotFound => Ok(None),
            Err(Error::Registry(error)) => {
                let known = self.store.catalog.remembered_tag(self.within, tag.as_str()).await?;
                let known = match known {
                    Some(digest) => self.here(&digest).await?,
                    None => None,
                };
                // The last answer is better than none.
                known.map(Some).ok_or_else(|| self.refused(error.into()))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// A manifest or index by its digest; none if it is not there.
    pub async fn digest(&self, digest: &Digest) -> Result<Option<DocumentRow>, Fault> {
        match self.fetch(Target::Digest(*digest)).await {
            Ok(row) => Ok(Some(row)),
            Err(Error::Registry(error)) if error.kind() == Kind::NotFound => Ok(None),
            Err(error) => Err(self.refused(error)),
        }
    }

    /// A document that the repository has already.
    async fn here(&self, digest: &Digest) -> Result<Option<DocumentRow>, Error> {
        if !self.store.catalog.is_in_repository(self.within, digest).await? {
            return Ok(None);
        }
        match self.store.catalog.document(digest).await {
            Ok(row) => Ok(Some(row)),
            Err(Error::DocumentNotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn fetch(&self, target: Target) -> Result<DocumentRow, Error> {
        let found = self.there.manifest(&target).await?;
        let session = Session::begin(self.store, "a pull through the registry", GRACE).await?;
        let lease = &session.lease().id;
        let kept = async {
            let (bytes, media_type) = (found.bytes.to_vec(), found.media_type.as_str());
            let row = document::put(self.store, bytes, media_type, lease, Durability::Full).await?;
            self.store.catalog.keep_in_repository(self.within, &row.digest).await?;
            Ok(row)
        }
        .await;
        session.end().await?;
        kept
    }

    /// What is known of a blob that a document of the repository needs, though it is not here.
    pub async fn known_blob(&self, digest: &Digest) -> Result<Option<HeldBlob>, Fault> {
        if !self.store.catalog.is_in_repository(self.within, digest).await? {
            return Ok(None);
        }
        let found = self.store.catalog.described_child(digest).await?;
        Ok(found.map(|descriptor| HeldBlob { digest: *digest, size: descriptor.size }))
    }

    /// Begins to fetch such a blob.
    pub async fn blob(&self, digest: &Digest) -> Result<Option<Coming>, Fault> {
        let Some(blob) = self.store.catalog.described_child(digest).await? else { return Ok(None) };
        let (store, there, name) = (Arc::clone(self.store), self.there.clone(), self.within.to_owned());
        Ok(Some(self.registry.transfers.join(Wanted { store, there, name, blob })))
    }

    /// Why there is no answer. Credentials that were refused are read again for the next request.
    fn refused(&self, error: Error) -> Fault {
        if matches!(&error, Error::Registry(refusal) if refusal.kind() == Kind::Unauthorized) {
            self.registry.logins.renew();
        }
        refused(error)
    }
}

/// Why there is no answer.
pub(super) fn refused(error: Error) -> Fault {
    match error {
        Error::BlobGone { source, .. } => refused(*source),
        Error::Registry(_) => Fault::Upstream(Arc::new(error)),
        error => error.into(),
    }
}
