//! Space put aside for the catalog: on a full disk what removes things must still be able to say so.
//! It is part of the write-ahead log, where no other writer of the disk can take it.

use std::fs::File;
use std::path::Path;

use rusqlite::{Connection, config::DbConfig};
use rustix::fs::{FallocateFlags, fallocate};

use crate::Result;

/// Bytes of the log that are there from the start. SQLite reuses it from the front after each 1000 pages (4 MiB);
/// the rest is for the time in which a full disk does not let the database itself grow.
pub const SIZE: u64 = 6 << 20;

/// Keeps the log of a connection when it is closed, with the space that it has.
pub fn keep(connection: &Connection) -> Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    Ok(())
}

/// Gives the log of a database its space. Best effort: not every file system can, and on a full disk it is too late.
pub fn take(database: &Path) {
    let mut log = database.as_os_str().to_owned();
    log.push("-wal");
    if let Ok(log) = File::options().write(true).open(log) {
        let _ = fallocate(&log, FallocateFlags::KEEP_SIZE, 0, SIZE);
    }
}
