//! Blobs that repositories of the registry hold though no document of theirs needs them: pushed, and not yet named by
//! a manifest. And names other than SHA-256 by which a repository's content was pushed.

use rusqlite::{OptionalExtension, Transaction, params};
use strata_types::{Descriptor, Digest};

use super::{Catalog, Durability, PROJECT, blobs, now};
use crate::Result;

/// Content of a repository as the store has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldBlob {
    /// Digest of its bytes.
    pub digest: Digest,
    /// Size in bytes.
    pub size: u64,
}

fn held(transaction: &Transaction<'_>, repository: &str, name: &str) -> Result<Option<HeldBlob>> {
    let found: Option<(String, u64)> = transaction
        .prepare_cached(
            "SELECT b.digest, b.size FROM repository_blobs r JOIN blobs b ON b.project = r.project AND b.digest = r.digest
             WHERE r.project = ? AND r.repository = ? AND r.name = ?",
        )?
        .query_row(params![PROJECT, repository, name], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    found.map(|(digest, size)| Ok(HeldBlob { digest: blobs::digest(digest)?, size })).transpose()
}

fn add(transaction: &Transaction<'_>, repository: &str, name: &str, digest: &Digest) -> Result<()> {
    transaction
        .prepare_cached(
            "INSERT INTO repository_blobs (project, repository, name, digest, used) VALUES (?, ?, ?, ?, ?)
             ON CONFLICT DO UPDATE SET used = excluded.used",
        )?
        .execute(params![PROJECT, repository, name, digest.to_string(), now()])?;
    Ok(())
}

impl Catalog {
    /// Makes a blob visible whose file is in place and on disk, and gives it to a repository under this name, which
    /// is a digest of it.
    pub async fn put_repository_blob(&self, repository: &str, name: &str, digest: &Digest, size: u64) -> Result<()> {
        let (repository, name, digest) = (repository.to_owned(), name.to_owned(), *digest);
        self.write("store a blob of a repository", Durability::Full, move |transaction| {
            blobs::insert(transaction, &digest, size, None)?;
            add(transaction, &repository, &name, &digest)
        })
        .await
    }

    /// Finds a blob that a repository holds under this name.
    pub async fn repository_blob(&self, repository: &str, name: &str) -> Result<Option<HeldBlob>> {
        let (repository, name) = (repository.to_owned(), name.to_owned());
        self.read("find a blob of a repository", move |transaction| held(transaction, &repository, &name)).await
    }

    /// Says whether a repository holds a blob, under whatever name.
    pub async fn is_blob_of_repository(&self, repository: &str, digest: &Digest) -> Result<bool> {
        let (repository, digest) = (repository.to_owned(), digest.to_string());
        self.read("find a blob of a repository", move |transaction| {
            let mut statement = transaction.prepare_cached(
                "SELECT 1 FROM repository_blobs WHERE project = ? AND repository = ? AND digest = ? LIMIT 1",
            )?;
            Ok(statement.exists(params![PROJECT, repository, digest])?)
        })
        .await
    }

    /// A document that a repository holds or names, other than this one, above what has this digest.
    pub async fn needed_in_repository(&self, repository: &str, digest: &Digest) -> Result<Option<Digest>> {
        let (repository, digest) = (repository.to_owned(), digest.to_string());
        self.read("look into a repository", move |transaction| {
            let found: Option<String> = transaction
                .prepare_cached(
                    "WITH RECURSIVE above(digest) AS (
                         SELECT document FROM document_children WHERE project = ?1 AND child = ?3
                         UNION
                         SELECT c.document FROM above a CROSS JOIN document_children c ON c.child = a.digest
                         WHERE c.project = ?1)
                     SELECT a.digest FROM above a WHERE
                         EXISTS (SELECT 1 FROM repository_documents r
                                 WHERE r.project = ?1 AND r.repository = ?2 AND r.digest = a.digest)
                         OR EXISTS (SELECT 1 FROM names n
                                    WHERE n.project = ?1 AND n.target = a.digest AND n.repository = ?2) LIMIT 1",
                )?
                .query_row(params![PROJECT, repository, digest], |row| row.get(0))
                .optional()?;
            found.map(blobs::digest).transpose()
        })
        .await
    }

    /// Says whether a repository has a name or holds a document.
    pub async fn has_repository(&self, repository: &str) -> Result<bool> {
        let repository = repository.to_owned();
        self.read("find a repository", move |transaction| {
            let mut statement = transaction.prepare_cached(
                "SELECT 1 FROM names WHERE project = ?1 AND repository = ?2
                 UNION ALL SELECT 1 FROM repository_documents WHERE project = ?1 AND repository = ?2 LIMIT 1",
            )?;
            Ok(statement.exists(params![PROJECT, repository])?)
        })
        .await
    }

    /// Finds a blob under this name in any repository.
    pub async fn blob_of_any_repository(&self, name: &str) -> Result<Option<HeldBlob>> {
        let name = name.to_owned();
        self.read("find a blob of a repository", move |transaction| {
            let repository: Option<String> = transaction
                .prepare_cached("SELECT repository FROM repository_blobs WHERE project = ? AND name = ? LIMIT 1")?
                .query_row(params![PROJECT, name], |row| row.get(0))
                .optional()?;
            match repository {
                Some(repository) => held(transaction, &repository, &name),
                None => Ok(None),
            }
        })
        .await
    }

    /// Gives a blob that is stored to a repository, under this name; says whether it was there.
    pub async fn add_repository_blob(&self, repository: &str, name: &str, digest: &Digest) -> Result<bool> {
        let (repository, name, digest) = (repository.to_owned(), name.to_owned(), *digest);
        self.write("give a blob to a repository", Durability::Full, move |transaction| {
            if blobs::find(transaction, &digest)?.is_none() {
                return Ok(false);
            }
            add(transaction, &repository, &name, &digest)?;
            Ok(true)
        })
        .await
    }

    /// Takes a blob from a repository, by each of its names; says whether it was held.
    pub async fn remove_repository_blob(&self, repository: &str, digest: &Digest) -> Result<bool> {
        let (repository, digest) = (repository.to_owned(), digest.to_string());
        self.write("take a blob from a repository", Durability::Full, move |transaction| {
            let removed = transaction
                .prepare_cached("DELETE FROM repository_blobs WHERE project = ? AND repository = ? AND digest = ?")?
                .execute(params![PROJECT, repository, digest])?;
            Ok(removed > 0)
        })
        .await
    }

    /// Lets go of blobs that repositories were given more than `age` milliseconds ago. Those that a document needs stay
    /// by that; aliases of what is there stay too. Says how many went.
    pub async fn expire_repository_blobs(&self, age: i64) -> Result<usize> {
        let oldest = now().saturating_sub(age);
        self.write("expire blobs of repositories", Durability::Relaxed, move |transaction| {
            let removed = transaction
                .prepare_cached(
                    "DELETE FROM repository_blobs AS r WHERE r.used < ? AND (r.name = r.digest OR NOT EXISTS
                     (SELECT 1 FROM document_children c WHERE c.project = r.project AND c.child = r.digest)
                     AND NOT EXISTS (SELECT 1 FROM documents d WHERE d.project = r.project AND d.digest = r.digest))",
                )?
                .execute([oldest])?;
            Ok(removed)
        })
        .await
    }

    /// The form for others of a document that was made here, if the repository has it.
    pub async fn exported(&self, repository: &str, origin: &Digest) -> Result<Option<Digest>> {
        let (repository, origin) = (repository.to_owned(), origin.to_string());
        self.read("find the form of a document for others", move |transaction| {
            let found: Option<String> = transaction
                .prepare_cached(
                    "SELECT digest FROM repository_documents WHERE project = ? AND repository = ? AND made_from = ?",
                )?
                .query_row(params![PROJECT, repository, origin], |row| row.get(0))
                .optional()?;
            found.map(blobs::digest).transpose()
        })
        .await
    }

    /// A repository holds a document, which is on disk, as the form for others of one that was made here.
    pub async fn export_to_repository(&self, repository: &str, digest: &Digest, origin: &Digest) -> Result<()> {
        let (repository, digest, origin) = (repository.to_owned(), digest.to_string(), origin.to_string());
        self.write("add to a repository", Durability::Full, move |transaction| {
            // What was pushed stays pushed.
            transaction
                .prepare_cached(
                    "INSERT INTO repository_documents (project, repository, digest, created, made_from)
                     VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                )?
                .execute(params![PROJECT, repository, digest, now(), origin])?;
            Ok(())
        })
        .await
    }

    /// A repository holds a document because it was pushed, whatever it was before.
    pub async fn keep_in_repository(&self, repository: &str, digest: &Digest) -> Result<()> {
        self.add_to_repository(repository, digest).await?;
        let (repository, digest) = (repository.to_owned(), digest.to_string());
        self.write("keep in a repository", Durability::Full, move |transaction| {
            transaction
                .prepare_cached(
                    "UPDATE repository_documents SET made_from = NULL, created = ?
                     WHERE project = ? AND repository = ? AND digest = ?",
                )?
                .execute(params![now(), PROJECT, repository, digest])?;
            Ok(())
        })
        .await
    }

    /// Takes a document from a repository, with the names that lead to it or to what it was made from; says whether it
    /// was there.
    pub async fn delete_from_repository(&self, repository: &str, digest: &Digest) -> Result<bool> {
        let (within, text) = (repository.to_owned(), digest.to_string());
        let origin: Option<String> = self
            .read("look into a repository", move |transaction| {
                let mut statement = transaction.prepare_cached(
                    "SELECT made_from FROM repository_documents
                     WHERE project = ? AND repository = ? AND digest = ? AND made_from IS NOT NULL",
                )?;
                Ok(statement.query_row(params![PROJECT, within, text], |row| row.get(0)).optional()?)
            })
            .await?;
        let mut is_gone = self.remove_from_repository(repository, digest).await?;
        if let Some(origin) = origin {
            is_gone |= self.remove_from_repository(repository, &blobs::digest(origin)?).await?;
        }
        Ok(is_gone)
    }

    /// Lets go of forms for others that were made more than `age` milliseconds ago and that no name leads to now. Says
    /// how many went.
    pub async fn expire_exports(&self, age: i64) -> Result<usize> {
        let oldest = now().saturating_sub(age);
        self.write("expire forms of documents for others", Durability::Relaxed, move |transaction| {
            let removed = transaction
                .prepare_cached(
                    "DELETE FROM repository_documents AS r WHERE r.made_from IS NOT NULL AND r.created < ?
                     AND NOT EXISTS (SELECT 1 FROM names n WHERE n.project = r.project AND n.repository = r.repository
                                     AND n.target = r.made_from)",
                )?
                .execute([oldest])?;
            Ok(removed)
        })
        .await
    }

    /// Lets go of documents that were pushed and that for `age` milliseconds (give or take a thirtieth) no name of their
    /// repository has led to, directly, or through an index, or by being about something that is led to. Says how many
    /// went.
    pub async fn expire_untagged(&self, age: i64) -> Result<usize> {
        let (now, oldest, stale) = (now(), now().saturating_sub(age), now().saturating_sub(age / 30));
        let is_any = self
            .read("look for documents without a name", move |transaction| {
                let mut statement = transaction.prepare_cached(
                    "SELECT 1 FROM repository_documents WHERE made_from IS NULL AND created < ? LIMIT 1",
                )?;
                Ok(statement.exists([stale])?)
            })
            .await?;
        if !is_any {
            return Ok(0);
        }
        self.write("expire documents without a name", Durability::Relaxed, move |transaction| {
            // When it was pushed is, from here on, when it was last led to.
            transaction
                .prepare_cached(
                    "UPDATE repository_documents SET created = ?1
                     WHERE made_from IS NULL AND created < ?2 AND (repository, digest) IN (
                         WITH RECURSIVE live(repository, digest) AS (
                             SELECT repository, target FROM names WHERE project = ?3
                             UNION SELECT l.repository, c.child FROM live l
                                   CROSS JOIN document_children c ON c.project = ?3 AND c.document = l.digest
                                   AND c.kind IN ('index', 'manifest')
                             UNION SELECT r.repository, d.digest FROM live l
                                   CROSS JOIN documents d ON d.project = ?3 AND d.subject = l.digest
                                   CROSS JOIN repository_documents r
                                   ON r.project = ?3 AND r.repository = l.repository AND r.digest = d.digest)
                         SELECT repository, digest FROM live)",
                )?
                .execute(params![now, stale, PROJECT])?;
            let removed = transaction
                .prepare_cached("DELETE FROM repository_documents WHERE made_from IS NULL AND created < ?")?
                .execute([oldest])?;
            Ok(removed)
        })
        .await
    }

    /// Remembers what a tag of another registry points at.
    pub async fn remember_tag(&self, repository: &str, tag: &str, digest: &Digest) -> Result<()> {
        if self.remembered_tag(repository, tag).await? == Some(*digest) {
            return Ok(());
        }
        let (repository, tag, digest) = (repository.to_owned(), tag.to_owned(), digest.to_string());
        self.write("remember a tag", Durability::Relaxed, move |transaction| {
            transaction
                .prepare_cached(
                    "INSERT OR REPLACE INTO upstream_tags (project, repository, tag, digest) VALUES (?, ?, ?, ?)",
                )?
                .execute(params![PROJECT, repository, tag, digest])?;
            Ok(())
        })
        .await
    }

    /// What a tag of another registry pointed at when it was last asked for.
    pub async fn remembered_tag(&self, repository: &str, tag: &str) -> Result<Option<Digest>> {
        let (repository, tag) = (repository.to_owned(), tag.to_owned());
        self.read("find a tag", move |transaction| {
            let found: Option<String> = transaction
                .prepare_cached("SELECT digest FROM upstream_tags WHERE project = ? AND repository = ? AND tag = ?")?
                .query_row(params![PROJECT, repository, tag], |row| row.get(0))
                .optional()?;
            found.map(blobs::digest).transpose()
        })
        .await
    }

    /// What some document says of content with this digest.
    pub async fn described_child(&self, digest: &Digest) -> Result<Option<Descriptor>> {
        let child = *digest;
        self.read("find what a document says", move |transaction| {
            let found: Option<(String, u64)> = transaction
                .prepare_cached(
                    "SELECT media_type, size FROM document_children WHERE project = ? AND child = ? LIMIT 1",
                )?
                .query_row(params![PROJECT, child.to_string()], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()?;
            Ok(found.map(|(media_type, size)| Descriptor::new(media_type, child, size)))
        })
        .await
    }
}

#[cfg(test)]
mod tests;
