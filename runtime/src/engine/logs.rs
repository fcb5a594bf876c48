//! The log of a container: where it can be read, and how it is emptied.

use std::path::PathBuf;

use super::{Engine, blocking};
use crate::{container::Container, error::Error, logging, logs, record::Record, spec::Driver};

impl Engine {
    /// The current file of a container's log, if one is kept here that can be read.
    pub fn log_file(&self, container: &Container) -> Result<PathBuf, Error> {
        let record = container.record();
        let log = &record.spec.log;
        let none = |why: String| Err(Error::NoLog { name: record.name.to_string(), why });
        if record.spec.has_no_log {
            return none("it was made without one".to_owned());
        }
        match logging::rules(log, &self.config.file)?.why_unreadable(log) {
            Some(why) => none(why),
            None => Ok(self.log_path(&record)),
        }
    }

    /// The file of a log that others may read: that of Docker's driver for it.
    pub(super) fn shown_log_path(&self, record: &Record) -> String {
        let is_shown = !record.spec.has_no_log && record.spec.log.driver() == Driver::JsonFile;
        if is_shown { self.log_path(record).to_string_lossy().into_owned() } else { String::new() }
    }

    /// The file of a log, where it is to be compressed.
    pub(super) fn packed_log(&self, record: &Record) -> Option<PathBuf> {
        let rules = logging::rules(&record.spec.log, &self.config.file).ok()?;
        let is_packed = !record.spec.has_no_log && rules.files.is_some_and(|files| files.is_compressed);
        is_packed.then(|| self.log_path(record))
    }

    fn log_path(&self, record: &Record) -> PathBuf {
        self.records.dir(&record.id).join("log.json")
    }

    /// Empties a container's log. While it runs its monitor does it, which writes there.
    pub async fn clear_log(&self, container: &Container) -> Result<(), Error> {
        let path = self.log_file(container)?;
        let _guard = container.lifecycle.lock().await;
        if container.is_running() {
            let monitor = container.running_monitor()?;
            match monitor.clear_log().await {
                // It is about to end.
                Err(Error::NotRunning { .. }) => monitor.process.ended().await,
                cleared => return cleared,
            }
        }
        blocking("emptying a log", move || logs::clear(&path)).await
    }
}
