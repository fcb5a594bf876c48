//! From one version of the catalog to the next. An older catalog is brought up to date, after a copy of it was made beside it;
//! a later one is refused, and stays as it is.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use crate::{Error, Result};

/// Version of the schema, kept in `user_version`.
const VERSION: i64 = 7;
/// What makes each version of the one before, the first from nothing.
const STEPS: [&str; VERSION as usize] = [
    include_str!("schema.sql"),
    include_str!("schema2.sql"),
    include_str!("schema3.sql"),
    include_str!("schema4.sql"),
    include_str!("schema5.sql"),
    include_str!("schema6.sql"),
    include_str!("schema7.sql"),
];

/// Refuses a catalog of a later version. It is looked at through a connection that writes nothing.
pub(super) fn check(path: &Path) -> Result<()> {
    if !path.exists() {
        return Ok(());
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    done(&Connection::open_with_flags(path, flags)?, path).map(drop)
}

/// Makes a catalog what this version needs: from nothing, or from what an older one left.
pub(super) fn migrate(connection: &Connection, path: &Path) -> Result<()> {
    let done = done(connection, path)?;
    if done == STEPS.len() {
        return Ok(());
    }
    if done > 0 {
        back_up(connection, path, done)?;
    }
    // All steps or none: a crash between them leaves what was.
    let steps = STEPS[done..].join("\n");
    connection.execute_batch(&format!("BEGIN IMMEDIATE;\n{steps}\nPRAGMA user_version = {VERSION};\nCOMMIT;"))?;
    Ok(())
}

/// How many of the steps were done.
fn done(connection: &Connection, path: &Path) -> Result<usize> {
    let found: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    usize::try_from(found).ok().filter(|done| *done <= STEPS.len()).ok_or_else(|| Error::CatalogVersion {
        path: path.to_path_buf(),
        found,
        known: VERSION,
        advice: strata_rpc::version::advice(path.parent().unwrap_or(path)),
    })
}

/// Where the copy of a version is.
fn backup(path: &Path, version: usize) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".v{version}"));
    name.into()
}

/// Copies the catalog, its log included, as one file: whole or not at all. It is there until somebody removes it.
fn back_up(connection: &Connection, path: &Path, version: usize) -> Result<()> {
    let backup = backup(path, version);
    let mut new = backup.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(Error::io("remove", &new, error)),
        _ => {}
    }
    // SQLite wants a name in UTF-8; the path of a catalog that it has open is one.
    connection.execute("VACUUM INTO ?1", [new.to_string_lossy()])?;
    File::open(&new).and_then(|copy| copy.sync_all()).map_err(|source| Error::io("sync", &new, source))?;
    fs::rename(&new, &backup).map_err(|source| Error::io("rename", &new, source))?;
    let directory = backup.parent().unwrap_or(Path::new("."));
    File::open(directory).and_then(|dir| dir.sync_all()).map_err(|source| Error::io("sync", directory, source))?;
    tracing::info!("the catalog is of version {version} and becomes one of {VERSION}; a copy is {}", backup.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Catalog;

    fn version(path: &Path) -> i64 {
        Connection::open(path).unwrap().query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap()
    }

    /// A catalog of the version before ours, with a lease that only its log has.
    fn previous(path: &Path) {
        let old = Connection::open(path).unwrap();
        old.pragma_update(None, "journal_mode", "WAL").unwrap();
        old.execute_batch(&STEPS[..STEPS.len() - 1].join("\n")).unwrap();
        old.pragma_update(None, "user_version", VERSION - 1).unwrap();
    }

    #[test]
    fn the_version_before_is_copied_and_then_brought_up_to_date() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("catalog.db");
        previous(&path);

        drop(Catalog::open(&path, "boot-1").unwrap());

        assert_eq!(version(&path), VERSION);
        let copy = backup(&path, STEPS.len() - 1);
        assert_eq!(version(&copy), VERSION - 1);
        let tables = "SELECT count(*) FROM sqlite_schema WHERE name = 'images'";
        let found: i64 = Connection::open(&copy).unwrap().query_row(tables, [], |row| row.get(0)).unwrap();
        assert_eq!(found, 1, "the copy is whole");
        // Once is enough.
        fs::remove_file(&copy).unwrap();
        drop(Catalog::open(&path, "boot-1").unwrap());
        assert!(!copy.exists());
    }

    #[test]
    fn without_room_for_a_copy_nothing_is_changed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("catalog.db");
        previous(&path);
        // What cannot be replaced by a copy.
        fs::create_dir_all(directory.path().join("catalog.db.v6.new/x")).unwrap();

        let refused = Catalog::open(&path, "boot-1");

        assert!(refused.is_err());
        assert_eq!(version(&path), VERSION - 1);
    }

    #[test]
    fn a_later_version_is_refused_with_its_writer_and_stays_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("catalog.db");
        Connection::open(&path).unwrap().execute_batch("CREATE TABLE x (y); PRAGMA user_version = 99").unwrap();
        fs::write(directory.path().join("version"), "99.0.0\n").unwrap();
        let before = fs::read(&path).unwrap();

        let refused = Catalog::open(&path, "boot-1").unwrap_err();

        assert!(matches!(refused, Error::CatalogVersion { found: 99, known: VERSION, .. }), "{refused:?}");
        let text = refused.to_string();
        assert!(text.contains("strata 99.0.0 wrote it") && text.contains("ctl system reset"), "{text}");
        assert_eq!(fs::read(&path).unwrap(), before);
        assert!(!directory.path().join("catalog.db.v99").exists());
    }
}
