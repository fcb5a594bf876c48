//! Records of networks: one JSON file each below `networks/`, written temp, fsync, rename, fsync of the directory.
//! The record is there before the interface, and goes after it.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use strata_types::NetworkId;

use crate::{error::Error, network::Network};

/// The version that this program writes.
pub const VERSION: u32 = 1;

/// The directory of all records. One service has it: the runtime holds the lock of its root.
#[derive(Debug)]
pub struct Records {
    dir: PathBuf,
}

impl Records {
    /// The directory below a root. It is made with the first record.
    pub fn below(root: &Path) -> Self {
        Self { dir: root.join("networks") }
    }

    fn path(&self, id: &NetworkId) -> PathBuf {
        self.dir.join(format!("{id}.json"))
    }

    /// Writes a record, in place of the one before.
    pub fn write(&self, network: &Network) -> Result<(), Error> {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.dir);
        made.map_err(|e| Error::io("create", &self.dir, e))?;
        let path = self.path(&network.id);
        let temp = path.with_extension("new");
        let opened = File::options().create(true).truncate(true).write(true).mode(0o600).open(&temp);
        let mut file = opened.map_err(|e| Error::io("open", &temp, e))?;
        let bytes = serde_json::to_vec(network).expect("every key of a record is a string");
        let written = file.write_all(&bytes).and_then(|()| file.sync_data());
        if let Err(error) = written {
            // Half of a record would only take space.
            let _ = fs::remove_file(&temp);
            return Err(Error::io("write", &temp, error));
        }
        fs::rename(&temp, &path).map_err(|e| Error::io("rename", &temp, e))?;
        self.sync()
    }

    /// Removes a record; one that is gone is no error.
    pub fn remove(&self, id: &NetworkId) -> Result<(), Error> {
        let path = self.path(id);
        match fs::remove_file(&path) {
            Ok(()) => self.sync(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(Error::io("remove", path, error)),
        }
    }

    fn sync(&self) -> Result<(), Error> {
        File::open(&self.dir).and_then(|dir| dir.sync_all()).map_err(|e| Error::io("sync", &self.dir, e))
    }

    /// Reads every record; what is damaged is returned beside, and left where it is.
    pub fn load(&self) -> Result<(Vec<Network>, Vec<Error>), Error> {
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), Vec::new())),
            Err(error) => return Err(Error::io("read", &self.dir, error)),
        };
        let (mut networks, mut damaged) = (Vec::new(), Vec::new());
        for entry in entries {
            let path = entry.map_err(|e| Error::io("read", &self.dir, e))?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                // The crash came before the rename.
                let _ = fs::remove_file(&path);
                continue;
            }
            match read(&path) {
                Ok(network) => networks.push(network),
                Err(error) => damaged.push(error),
            }
        }
        networks.sort_by(|one: &Network, other| one.id.cmp(&other.id));
        Ok((networks, damaged))
    }
}

fn read(path: &Path) -> Result<Network, Error> {
    let bytes = fs::read(path).map_err(|e| Error::io("read", path, e))?;
    let wrong = |source| Error::Record { path: path.to_owned(), source };
    let network: Network = serde_json::from_slice(&bytes).map_err(wrong)?;
    if network.version != VERSION || path.file_stem().is_none_or(|stem| stem != network.id.as_str()) {
        let problem = format!("version {} of network {}", network.version, network.id);
        return Err(wrong(serde::de::Error::custom(problem)));
    }
    Ok(network)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::network;

    #[test]
    fn a_record_is_read_back_and_a_damaged_one_is_told() {
        let root = tempfile::tempdir().unwrap();
        let records = Records::below(root.path());
        assert!(records.load().unwrap().0.is_empty());
        let network = network("10.1.0.0/16");
        records.write(&network).unwrap();
        records.write(&network).unwrap();
        fs::write(root.path().join("networks/half.new"), b"{").unwrap();
        fs::write(root.path().join("networks/other.json"), b"{").unwrap();

        let (read, damaged) = records.load().unwrap();

        assert_eq!(read, std::slice::from_ref(&network));
        assert_eq!(damaged.len(), 1);
        assert!(!root.path().join("networks/half.new").exists());
        records.remove(&network.id).unwrap();
        records.remove(&network.id).unwrap();
        assert!(records.load().unwrap().0.is_empty());
    }
}
