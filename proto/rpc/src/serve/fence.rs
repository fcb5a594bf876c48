//! The file that keeps a second service from a root.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    time::{Duration, Instant},
};

use super::Error;
use crate::socket;

/// Name of the file in a root that its service holds; the number of its process is in it.
pub(super) const FENCE: &str = "service.lock";

/// Makes the root and holds it against other services for as long as the file lives.
pub(super) async fn fence(root: &Path, patience: Duration) -> Result<File, Error> {
    socket::private_dir(root)?;
    let failed = |source| Error::Root { root: root.to_owned(), source };
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).read(true).write(true).mode(0o600);
    let mut file = options.open(root.join(FENCE)).map_err(failed)?;
    let begun = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => {
                // For whoever is refused. A number that is stale is never read: it is read only while the lock is held.
                file.set_len(0).and_then(|()| write!(file, "{}", std::process::id())).map_err(failed)?;
                return Ok(file);
            }
            Err(TryLockError::WouldBlock) if begun.elapsed() < patience => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                file.read_to_string(&mut holder).map_err(failed)?;
                let holder = if holder.is_empty() { "unknown".to_owned() } else { holder };
                return Err(Error::RootLocked { root: root.to_owned(), holder });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
    }
}
