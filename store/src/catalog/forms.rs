//! Compressed forms of layers: what is known of them, and whether their blobs are here.

use rusqlite::params;
use strata_types::{Descriptor, Digest};

use super::{Catalog, PROJECT, blobs};
use crate::Result;

/// A compressed form of a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Form {
    /// Media type, digest and size of the compressed bytes.
    pub descriptor: Descriptor,
    /// What it inflates to.
    pub diff_id: Digest,
    /// The blob is in this store.
    pub is_here: bool,
    /// The repository that it came from or went to; empty: none.
    pub source: String,
}

const COLUMNS: &str = "l.media_type, l.digest, l.size, l.diff_id, l.source, b.digest IS NOT NULL
    FROM layer_blobs l LEFT JOIN blobs b ON b.project = l.project AND b.digest = l.digest";

fn form(row: &rusqlite::Row<'_>) -> Result<Form> {
    Ok(Form {
        descriptor: Descriptor::new(row.get::<_, String>(0)?, blobs::digest(row.get(1)?)?, row.get(2)?),
        diff_id: blobs::digest(row.get(3)?)?,
        source: row.get(4)?,
        is_here: row.get(5)?,
    })
}

impl Catalog {
    /// What is known of a compressed layer.
    pub async fn form(&self, digest: &Digest) -> Result<Option<Form>> {
        let digest = digest.to_string();
        self.read("find a compressed layer", move |transaction| {
            let mut statement =
                transaction.prepare_cached(&format!("SELECT {COLUMNS} WHERE l.project = ? AND l.digest = ?"))?;
            let mut rows = statement.query(params![PROJECT, digest])?;
            rows.next()?.map(form).transpose()
        })
        .await
    }

    /// The compressed forms of a layer, those that are here first, then by age.
    pub async fn forms(&self, diff_id: &Digest) -> Result<Vec<Form>> {
        let diff_id = diff_id.to_string();
        self.read("find compressed layers", move |transaction| {
            let mut statement = transaction.prepare_cached(&format!(
                "SELECT {COLUMNS} WHERE l.project = ? AND l.diff_id = ?
                 ORDER BY b.digest IS NULL, l.created, l.digest"
            ))?;
            let rows = statement.query_and_then(params![PROJECT, diff_id], form)?;
            rows.collect()
        })
        .await
    }
}
