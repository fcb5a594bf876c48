//! Names of images and what they point at: a document each. Repositories are the names without their tags; a
//! repository may hold documents that no name leads to.

use rusqlite::{OptionalExtension, Transaction, params};
use strata_types::{Digest, Reference};

use super::{Catalog, Durability, PROJECT, blobs, documents, documents::DocumentRow, now};
use crate::{Error, Result};

/// A name with its target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameRow {
    /// In full form with a tag: "docker.io/library/debian:bookworm".
    pub name: String,
    /// Digest of the document that it points at.
    pub target: Digest,
}

// CROSS JOIN keeps the order of the tables: SQLite knows nothing of their sizes, and would read all children for each
// document above.
pub(super) const OF_IMAGE: &str = "WITH RECURSIVE above(digest) AS (
         SELECT document FROM document_children WHERE project = ?1 AND child = ?2 AND kind = 'config'
         UNION
         SELECT c.document FROM above a CROSS JOIN document_children c ON c.child = a.digest
         WHERE c.project = ?1 AND c.kind IN ('index', 'manifest'))
     SELECT n.name FROM above a CROSS JOIN names n ON n.target = a.digest WHERE n.project = ?1 ORDER BY n.name";
pub(super) const IN_REPOSITORY: &str = "WITH RECURSIVE above(digest) AS (
         SELECT ?3
         UNION
         SELECT c.document FROM above a CROSS JOIN document_children c ON c.child = a.digest
         WHERE c.project = ?1)
     SELECT 1 FROM above a WHERE
         EXISTS (SELECT 1 FROM repository_documents r
                 WHERE r.project = ?1 AND r.repository = ?2 AND r.digest = a.digest)
         OR EXISTS (SELECT 1 FROM names n
                    WHERE n.project = ?1 AND n.target = a.digest AND n.repository = ?2) LIMIT 1";

/// The repository of a full name, which has a tag.
pub(super) fn repository(name: &str) -> &str {
    name.rsplit_once(':').map_or(name, |(repository, _)| repository)
}

pub(super) fn target(transaction: &Transaction<'_>, name: &str) -> Result<Option<Digest>> {
    let found: Option<String> = transaction
        .prepare_cached("SELECT target FROM names WHERE project = ? AND name = ?")?
        .query_row(params![PROJECT, name], |row| row.get(0))
        .optional()?;
    found.map(blobs::digest).transpose()
}

/// Points a name at a document that is stored and on disk; returns what it pointed at.
pub(super) fn set(transaction: &Transaction<'_>, name: &str, digest: &Digest) -> Result<Option<Digest>> {
    let previous = target(transaction, name)?;
    let row = documents::find(transaction, digest)?;
    let row = row.ok_or(Error::DocumentNotFound { reference: digest.to_string() })?;
    let blob = blobs::find(transaction, &row.digest)?.ok_or(Error::BlobNotFound { digest: *digest })?;
    if !blob.is_durable {
        return Err(Error::BlobDamaged { digest: *digest, problem: "it is not known to be on disk".to_owned() });
    }
    transaction
        .prepare_cached(
            "INSERT OR REPLACE INTO names (project, name, repository, target, changed) VALUES (?, ?, ?, ?, ?)",
        )?
        .execute(params![PROJECT, name, repository(name), digest.to_string(), now()])?;
    Ok(previous)
}

pub(super) fn remove(transaction: &Transaction<'_>, name: &str) -> Result<bool> {
    let removed = transaction
        .prepare_cached("DELETE FROM names WHERE project = ? AND name = ?")?
        .execute(params![PROJECT, name])?;
    Ok(removed > 0)
}

/// The names that lead to an image, whatever lies between, ordered.
pub(super) fn of_image(transaction: &Transaction<'_>, id: &Digest) -> Result<Vec<String>> {
    let mut statement = transaction.prepare_cached(OF_IMAGE)?;
    let rows = statement.query_map(params![PROJECT, id.to_string()], |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

impl Catalog {
    /// What a name points at.
    pub async fn target(&self, name: &Reference) -> Result<Option<DocumentRow>> {
        let name = name.to_string();
        self.read("find a name", move |transaction| match target(transaction, &name)? {
            Some(digest) => documents::find(transaction, &digest),
            None => Ok(None),
        })
        .await
    }

    /// Names of a repository ("docker.io/library/debian"; empty: of all), by name after `after`.
    pub async fn names(&self, repository: &str, after: &str, limit: usize) -> Result<Vec<NameRow>> {
        let (repository, after) = (repository.to_owned(), after.to_owned());
        self.read("list names", move |transaction| {
            let mut statement = transaction.prepare_cached(if repository.is_empty() {
                "SELECT name, target FROM names WHERE project = ?1 AND ?2 = '' AND name > ?3 ORDER BY name LIMIT ?4"
            } else {
                "SELECT name, target FROM names WHERE project = ?1 AND repository = ?2 AND name > ?3 ORDER BY name LIMIT ?4"
            })?;
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let rows = statement.query_and_then(params![PROJECT, repository, after, limit], |row| {
                Ok(NameRow { name: row.get(0)?, target: blobs::digest(row.get(1)?)? })
            })?;
            rows.collect()
        })
        .await
    }

    /// Repositories that have a name or hold a document, in order after `after`.
    pub async fn repositories(&self, after: &str, limit: usize) -> Result<Vec<String>> {
        let after = after.to_owned();
        self.read("list repositories", move |transaction| {
            let mut statement = transaction.prepare_cached(
                "SELECT repository FROM names WHERE project = ?1 AND repository > ?2
                 UNION SELECT repository FROM repository_documents WHERE project = ?1 AND repository > ?2
                 ORDER BY repository LIMIT ?3",
            )?;
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let rows = statement.query_map(params![PROJECT, after, limit], |row| row.get(0))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// Points a name, which has a tag, at a document; returns what it pointed at. The document must be on disk: stored
    /// with `Durability::Full`, or synced.
    pub async fn set_name(&self, name: &Reference, digest: &Digest) -> Result<Option<Digest>> {
        let (name, digest) = (name.to_string(), *digest);
        self.write("set a name", Durability::Full, move |transaction| set(transaction, &name, &digest)).await
    }

    /// As [`Self::set_name`], if the name points at what is expected, or at nothing where nothing is; without an
    /// expectation in any case.
    pub async fn replace_name(
        &self,
        name: &Reference,
        expected: Option<Option<Digest>>,
        digest: &Digest,
    ) -> Result<Option<Digest>> {
        let (reference, digest) = (name.clone(), *digest);
        self.write("set a name", Durability::Full, move |transaction| {
            let name = reference.to_string();
            let found = target(transaction, &name)?;
            if expected.is_some_and(|expected| expected != found) {
                return Err(Error::NameMoved { name: reference.familiar(), found });
            }
            set(transaction, &name, &digest)
        })
        .await
    }

    /// Names of indexes that were made here, by name after `after`.
    pub async fn own_indexes(&self, after: &str, limit: usize) -> Result<Vec<(String, DocumentRow)>> {
        let after = after.to_owned();
        self.read("list indexes", move |transaction| {
            let mut statement = transaction.prepare_cached(
                "SELECT n.name, n.target FROM documents d JOIN names n ON n.project = d.project AND n.target = d.digest
                 WHERE d.project = ?1 AND d.kind = 'index' AND d.made_here AND n.name > ?2 ORDER BY n.name LIMIT ?3",
            )?;
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let rows = statement.query_map(params![PROJECT, after, limit], |row| Ok((row.get(0)?, row.get(1)?)))?;
            let rows: Vec<(String, String)> = rows.collect::<Result<_, _>>()?;
            let found = rows.into_iter().map(|(name, target)| {
                let digest = blobs::digest(target)?;
                let row = documents::find(transaction, &digest)?;
                Ok((name, row.ok_or(Error::DocumentNotFound { reference: digest.to_string() })?))
            });
            found.collect()
        })
        .await
    }

    /// Takes a name away; says whether there was one. What it pointed at stays while something else needs it.
    pub async fn remove_name(&self, name: &Reference) -> Result<bool> {
        let name = name.to_string();
        self.write("remove a name", Durability::Full, move |transaction| remove(transaction, &name)).await
    }

    /// A repository holds a document from now on, whether or not a name leads to it.
    pub async fn add_to_repository(&self, repository: &str, digest: &Digest) -> Result<()> {
        let (repository, digest) = (repository.to_owned(), *digest);
        self.write("add to a repository", Durability::Full, move |transaction| {
            if documents::find(transaction, &digest)?.is_none() {
                return Err(Error::DocumentNotFound { reference: digest.to_string() });
            }
            transaction
                .prepare_cached(
                    "INSERT OR IGNORE INTO repository_documents (project, repository, digest, created) VALUES (?, ?, ?, ?)",
                )?
                .execute(params![PROJECT, repository, digest.to_string(), now()])?;
            Ok(())
        })
        .await
    }

    /// A repository holds a document no longer: its names that point there go with it. Says whether it held it.
    pub async fn remove_from_repository(&self, repository: &str, digest: &Digest) -> Result<bool> {
        let (repository, digest) = (repository.to_owned(), digest.to_string());
        self.write("remove from a repository", Durability::Full, move |transaction| {
            let held = transaction
                .prepare_cached("DELETE FROM repository_documents WHERE project = ? AND repository = ? AND digest = ?")?
                .execute(params![PROJECT, repository, digest])?;
            let named = transaction
                .prepare_cached("DELETE FROM names WHERE project = ? AND repository = ? AND target = ?")?
                .execute(params![PROJECT, repository, digest])?;
            Ok(held + named > 0)
        })
        .await
    }

    /// Says whether a repository holds a document or blob: itself, or below a document that it holds or names.
    pub async fn is_in_repository(&self, repository: &str, digest: &Digest) -> Result<bool> {
        let (repository, digest) = (repository.to_owned(), digest.to_string());
        self.read("look into a repository", move |transaction| {
            let mut statement = transaction.prepare_cached(IN_REPOSITORY)?;
            Ok(statement.exists(params![PROJECT, repository, digest])?)
        })
        .await
    }
}
