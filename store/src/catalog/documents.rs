//! Rows of documents (manifests and indexes) and what they refer to. A document's bytes are a blob; everything below a
//! document that something needs is needed. `garbage.rs` says what documents are needed.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{OptionalExtension, Row, Transaction, params};
use strata_image::{Document, Entry, Kind};
use strata_types::{Descriptor, Digest, LeaseId, Platform, media_type};

use super::{Catalog, Durability, Held, PROJECT, blobs, leases, now};
use crate::{Error, Result};

/// What a document is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DocumentKind {
    /// A list of further documents.
    Index,
    /// One image, artifact or attestation.
    Manifest,
}

/// A stored document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentRow {
    /// Digest of its bytes.
    pub digest: Digest,
    /// Its media type, as it was announced.
    pub media_type: String,
    /// Size in bytes.
    pub size: u64,
    /// What it is.
    pub kind: DocumentKind,
    /// What kind of artifact it is; of an image without one, the media type of its config.
    pub artifact_type: String,
    /// The document that it is about.
    pub subject: Option<Digest>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// It was made by this store, and nobody else knows it by its digest: it may leave in another form.
    pub is_made_here: bool,
}

impl NewDocument {
    /// A document that this store made.
    pub fn made_here(document: &Document) -> Self {
        let mut new = Self::from(document);
        new.row.is_made_here = true;
        new
    }
}

impl DocumentRow {
    /// Media type, digest and size.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::new(&*self.media_type, self.digest, self.size)
    }
}

/// What a document refers to as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChildKind {
    /// The config of a manifest.
    Config,
    /// An index in an index.
    Index,
    /// A layer, or content of an artifact.
    Layer,
    /// A manifest in an index.
    Manifest,
    /// Something else in an index.
    Other,
}

impl ChildKind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Index => "index",
            Self::Layer => "layer",
            Self::Manifest => "manifest",
            Self::Other => "other",
        }
    }

    fn parse(text: &str) -> Self {
        match text {
            "config" => Self::Config,
            "index" => Self::Index,
            "layer" => Self::Layer,
            "manifest" => Self::Manifest,
            _ => Self::Other,
        }
    }
}

/// Something that a document refers to; it need not be here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Child {
    /// As what.
    pub kind: ChildKind,
    /// Media type, digest and size, without annotations.
    pub descriptor: Descriptor,
    /// The platform that an index gives it.
    pub platform: Option<Platform>,
}

/// A document to store; its blob is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewDocument {
    /// The document.
    pub row: DocumentRow,
    /// What it refers to, in order: of a manifest the config first.
    pub children: Vec<Child>,
}

impl From<&Document> for NewDocument {
    fn from(document: &Document) -> Self {
        let child = |kind, entry: &Entry| {
            let Descriptor { media_type, digest, size, .. } = &entry.descriptor;
            Child { kind, descriptor: Descriptor::new(&**media_type, *digest, *size), platform: entry.platform.clone() }
        };
        let Descriptor { media_type, digest, size, .. } = document.descriptor.clone();
        let (kind, artifact_type, subject, annotations, children) = match &document.kind {
            Kind::Manifest(manifest) => {
                // distribution-spec, "Listing Referrers": without an artifact type the config's media type counts.
                let own = manifest.artifact_type.clone();
                let artifact_type = own.unwrap_or_else(|| manifest.config.descriptor.media_type.clone());
                let layers = manifest.layers.iter().map(|layer| child(ChildKind::Layer, layer));
                let children = std::iter::once(child(ChildKind::Config, &manifest.config)).chain(layers).collect();
                (DocumentKind::Manifest, artifact_type, &manifest.subject, &manifest.annotations, children)
            }
            Kind::Index(index) => {
                let children = index.manifests.iter().map(|entry| child(kind_of(entry), entry)).collect();
                let artifact_type = index.artifact_type.clone().unwrap_or_default();
                (DocumentKind::Index, artifact_type, &index.subject, &index.annotations, children)
            }
        };
        let subject = subject.as_ref().map(|subject| subject.descriptor.digest);
        let annotations = annotations.clone();
        let is_made_here = false;
        let row = DocumentRow { digest, media_type, size, kind, artifact_type, subject, annotations, is_made_here };
        Self { row, children }
    }
}

fn kind_of(entry: &Entry) -> ChildKind {
    match entry.descriptor.media_type.as_str() {
        text if media_type::is_index(text) => ChildKind::Index,
        text if media_type::is_manifest(text) => ChildKind::Manifest,
        _ => ChildKind::Other,
    }
}

const COLUMNS: &str = "digest, media_type, size, kind, artifact_type, subject, annotations, made_here";

fn document(row: &Row<'_>) -> Result<DocumentRow> {
    let (kind, annotations): (String, String) = (row.get(3)?, row.get(6)?);
    let kind = if kind == "index" { DocumentKind::Index } else { DocumentKind::Manifest };
    let corrupt = |_| Error::CatalogCorrupt { noun: "list of annotations", text: annotations.clone() };
    Ok(DocumentRow {
        digest: blobs::digest(row.get(0)?)?,
        media_type: row.get(1)?,
        size: row.get(2)?,
        kind,
        artifact_type: row.get(4)?,
        subject: row.get::<_, Option<String>>(5)?.map(blobs::digest).transpose()?,
        annotations: serde_json::from_str(&annotations).map_err(corrupt)?,
        is_made_here: row.get(7)?,
    })
}

pub(super) fn find(transaction: &Transaction<'_>, digest: &Digest) -> Result<Option<DocumentRow>> {
    let mut statement =
        transaction.prepare_cached(&format!("SELECT {COLUMNS} FROM documents WHERE project = ? AND digest = ?"))?;
    let mut rows = statement.query(params![PROJECT, digest.to_string()])?;
    rows.next()?.map(document).transpose()
}

pub(super) fn children(transaction: &Transaction<'_>, digest: &Digest) -> Result<Vec<Child>> {
    let mut statement = transaction.prepare_cached(
        "SELECT kind, media_type, child, size, platform FROM document_children
         WHERE project = ? AND document = ? ORDER BY position",
    )?;
    let rows = statement.query_and_then(params![PROJECT, digest.to_string()], |row| {
        let platform: Option<String> = row.get(4)?;
        let descriptor = Descriptor::new(row.get::<_, String>(1)?, blobs::digest(row.get(2)?)?, row.get(3)?);
        Ok(Child {
            kind: ChildKind::parse(row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?),
            descriptor,
            platform: platform.and_then(|text| Platform::parse(&text).ok()),
        })
    })?;
    rows.collect()
}

/// Writes a document down, whose blob must have its row. One that is there stays as it is; one that came from elsewhere
/// as well is no longer ours alone.
pub(super) fn insert(transaction: &Transaction<'_>, new: &NewDocument) -> Result<()> {
    let row = &new.row;
    let annotations = serde_json::to_string(&row.annotations)
        .map_err(|error| Error::CatalogCorrupt { noun: "list of annotations", text: error.to_string() })?;
    let inserted = transaction
        .prepare_cached(
            "INSERT OR IGNORE INTO documents
             (project, digest, media_type, size, kind, artifact_type, subject, annotations, made_here, created)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )?
        .execute(params![
            PROJECT,
            row.digest.to_string(),
            row.media_type,
            row.size,
            if row.kind == DocumentKind::Index { "index" } else { "manifest" },
            row.artifact_type,
            row.subject.as_ref().map(Digest::to_string),
            annotations,
            row.is_made_here,
            now()
        ])?;
    if inserted == 0 {
        if !row.is_made_here {
            transaction
                .prepare_cached("UPDATE documents SET made_here = 0 WHERE project = ? AND digest = ? AND made_here")?
                .execute(params![PROJECT, row.digest.to_string()])?;
        }
        return Ok(());
    }
    let mut statement = transaction.prepare_cached(
        "INSERT INTO document_children (project, document, position, kind, child, media_type, size, platform)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    )?;
    for (position, child) in (0_i64..).zip(&new.children) {
        let Descriptor { media_type, digest, size, .. } = &child.descriptor;
        let platform = child.platform.as_ref().map(Platform::to_string);
        let (document, child_digest) = (row.digest.to_string(), digest.to_string());
        statement.execute(params![
            PROJECT,
            document,
            position,
            child.kind.as_str(),
            child_digest,
            media_type,
            size,
            platform
        ])?;
    }
    Ok(())
}

/// A manifest that is reached from another document.
#[derive(Clone, Debug)]
pub(super) struct Reached {
    /// The manifest.
    pub manifest: DocumentRow,
    /// Its config.
    pub config: Digest,
    /// The platform that an index gives it.
    pub platform: Option<Platform>,
}

/// The manifests that are reached from a document, itself included, in the order of indexes.
pub(super) fn manifests(transaction: &Transaction<'_>, from: &Digest) -> Result<Vec<Reached>> {
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    // A stack, last first.
    let mut left = vec![(*from, None)];
    while let Some((digest, platform)) = left.pop() {
        if !seen.insert(digest) {
            continue;
        }
        let Some(row) = find(transaction, &digest)? else { continue };
        let children = children(transaction, &digest)?;
        match row.kind {
            DocumentKind::Manifest => {
                let config = children.iter().find(|child| child.kind == ChildKind::Config);
                let config = config.map(|config| config.descriptor.digest);
                found.extend(config.map(|config| Reached { manifest: row, config, platform }));
            }
            DocumentKind::Index => {
                left.extend(children.into_iter().rev().map(|child| (child.descriptor.digest, child.platform)));
            }
        }
    }
    Ok(found)
}

impl Catalog {
    /// Writes down a document whose blob is stored, with what it refers to, held by the lease. What is below it is
    /// held with it. Idempotent.
    pub async fn put_document(&self, new: NewDocument, lease: &LeaseId, durability: Durability) -> Result<()> {
        let lease = lease.clone();
        self.write("store a document", durability, move |transaction| {
            let digest = new.row.digest;
            blobs::find(transaction, &digest)?.ok_or(Error::BlobNotFound { digest })?;
            leases::hold(transaction, &lease, Held::Blob, &digest.to_string())?;
            insert(transaction, &new)
        })
        .await
    }

    /// Finds a document.
    pub async fn document(&self, digest: &Digest) -> Result<DocumentRow> {
        let digest = *digest;
        self.read("find a document", move |transaction| {
            find(transaction, &digest)?.ok_or(Error::DocumentNotFound { reference: digest.to_string() })
        })
        .await
    }

    /// Finds a document and holds it, with all below it, by the lease.
    pub async fn hold_document(&self, digest: &Digest, lease: &LeaseId) -> Result<Option<DocumentRow>> {
        let (digest, lease) = (*digest, lease.clone());
        self.write("hold a document", Durability::Relaxed, move |transaction| {
            leases::must_exist(transaction, &lease)?;
            let found = find(transaction, &digest)?;
            if found.is_some() {
                leases::add(transaction, &lease, Held::Blob, &digest.to_string())?;
            }
            Ok(found)
        })
        .await
    }

    /// What a document refers to, in order.
    pub async fn document_children(&self, digest: &Digest) -> Result<Vec<Child>> {
        let digest = *digest;
        self.read("read a document", move |transaction| children(transaction, &digest)).await
    }

    /// Documents about another one, by digest after `after`: of one type, and of one repository, if these are given.
    pub async fn referrers(
        &self,
        subject: &Digest,
        repository: Option<&str>,
        artifact_type: Option<&str>,
        after: &str,
        limit: usize,
    ) -> Result<Vec<DocumentRow>> {
        let (subject, after) = (subject.to_string(), after.to_owned());
        let (repository, artifact_type) = (repository.map(str::to_owned), artifact_type.map(str::to_owned));
        self.read("list referrers", move |transaction| {
            let mut statement = transaction.prepare_cached(&format!(
                "SELECT {COLUMNS} FROM documents d WHERE project = ?1 AND subject = ?2 AND digest > ?3
                 AND (?4 IS NULL OR artifact_type = ?4)
                 AND (?5 IS NULL OR EXISTS (SELECT 1 FROM repository_documents r
                      WHERE r.project = d.project AND r.repository = ?5 AND r.digest = d.digest))
                 ORDER BY digest LIMIT ?6"
            ))?;
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let rows = statement
                .query_and_then(params![PROJECT, subject, after, artifact_type, repository, limit], document)?;
            rows.collect()
        })
        .await
    }

    /// Writes down what a compressed layer inflates to. `source` is the repository it came from, or nothing.
    pub async fn put_layer_blob(&self, blob: &Descriptor, diff_id: &Digest, source: &str) -> Result<()> {
        const KNOWN: &str = "ON CONFLICT DO UPDATE SET
               source = CASE excluded.source WHEN '' THEN source ELSE excluded.source END,
               diff_id = CASE diff_id WHEN digest THEN excluded.diff_id ELSE diff_id END";
        self.insert_layer_blob("describe a compressed layer", blob, diff_id, source, KNOWN).await
    }

    /// Writes down where a compressed layer can be fetched, as another store says. What it inflates to was not checked
    /// here: until it is, its own digest stands there, which no archive has. What is known of it already stays.
    pub async fn note_layer_blob(&self, blob: &Descriptor, source: &str) -> Result<()> {
        self.insert_layer_blob("note a compressed layer", blob, &blob.digest, source, "ON CONFLICT DO NOTHING").await
    }

    /// Adds a row; `known` says what becomes of one that is there.
    async fn insert_layer_blob(
        &self,
        action: &'static str,
        blob: &Descriptor,
        diff_id: &Digest,
        source: &str,
        known: &'static str,
    ) -> Result<()> {
        let (blob, diff_id, source) = (blob.clone(), *diff_id, source.to_owned());
        self.write(action, Durability::Relaxed, move |transaction| {
            let digest = blob.digest.to_string();
            transaction
                .prepare_cached(&format!(
                    "INSERT INTO layer_blobs (project, digest, diff_id, media_type, size, source, created)
                     VALUES (?, ?, ?, ?, ?, ?, ?) {known}"
                ))?
                .execute(params![PROJECT, digest, diff_id.to_string(), blob.media_type, blob.size, source, now()])?;
            Ok(())
        })
        .await
    }

    /// What a compressed layer inflates to, if that was checked once.
    pub async fn diff_id_of_blob(&self, digest: &Digest) -> Result<Option<Digest>> {
        let digest = digest.to_string();
        self.read("find a compressed layer", move |transaction| {
            let found: Option<String> = transaction
                .prepare_cached("SELECT diff_id FROM layer_blobs WHERE project = ? AND digest = ?")?
                .query_row(params![PROJECT, digest], |row| row.get(0))
                .optional()?;
            found.map(blobs::digest).transpose()
        })
        .await
    }
}
