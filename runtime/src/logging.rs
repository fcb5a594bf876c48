//! What a log driver and its options mean: files and their bounds, who else is sent each line, what is said of it.
//! `settle` completes and checks them when a container is made; what a monitor is told of it is in `plan`.

use std::{collections::BTreeMap, path::PathBuf};

use crate::{
    config,
    error::Error,
    spec::{Driver, Log},
};

mod attributes;
mod options;
mod plan;
mod syslog;
mod tag;

pub use attributes::Facts;
pub use plan::{file, receiver};

use attributes::Selection;
use options::Options;
use syslog::Syslog;
use tag::Tag;

/// Files of the drivers that keep them for this runtime alone, as in Docker: five of 20 MB.
const OWN_FILES: Files = Files { max_bytes: 20_000_000, max_files: 5, is_compressed: true };

/// Bytes that wait for a receiver, if nobody says otherwise.
const QUEUED_BYTES: u64 = 1 << 20;
/// The most that may wait: it is memory of the monitor.
const MOST_QUEUED_BYTES: u64 = 256 << 20;

/// What driver and options come to.
#[derive(Debug)]
pub struct Rules {
    /// Files, if there are any.
    pub files: Option<Files>,
    /// What is said of each line.
    selection: Selection,
    /// The name by which receivers know the container.
    tag: Option<Tag>,
    /// Who else is sent each line.
    sending: Option<Sending>,
}

/// Bounds of files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Files {
    /// Size at which a file is rotated; 0: never.
    pub max_bytes: u64,
    /// Files that are kept.
    pub max_files: u32,
    /// Older files are compressed.
    pub is_compressed: bool,
}

/// Who else is sent each line.
#[derive(Debug)]
struct Sending {
    to: To,
    max_queued_bytes: u64,
    waits: bool,
}

#[derive(Debug)]
enum To {
    Journald,
    Syslog(Syslog),
}

/// The place of the host that a receiver is at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// A socket of its file system.
    Socket(PathBuf),
    /// Its network.
    Network(String),
}

impl Rules {
    /// Reads driver and options; otherwise says what is wrong with them.
    pub fn of(log: &Log, usual: Files) -> Result<Self, String> {
        let driver = log.driver();
        let options = Options::new(driver, &log.options)?;
        let files = match driver {
            Driver::None => None,
            Driver::JsonFile => Some(files(&options, "", usual)?),
            Driver::Local => Some(files(&options, "", OWN_FILES)?),
            Driver::Journald | Driver::Syslog => match options.flag("cache-disabled")? {
                Some(true) => None,
                _ => Some(files(&options, "cache-", OWN_FILES)?),
            },
        };
        let to = match driver {
            Driver::Journald => Some(To::Journald),
            Driver::Syslog => Some(To::Syslog(Syslog::of(&options)?)),
            Driver::JsonFile | Driver::Local | Driver::None => None,
        };
        let (waits, max_queued_bytes) = queue(&options)?;
        Ok(Self {
            files,
            selection: Selection::of(&options)?,
            tag: options.get("tag").map(Tag::parse).transpose()?,
            sending: to.map(|to| Sending { to, max_queued_bytes, waits }),
        })
    }

    /// Why there is nothing to read, where there is not.
    pub fn why_unreadable(&self, log: &Log) -> Option<String> {
        if self.files.is_some() {
            return None;
        }
        Some(match log.driver() {
            Driver::None => "its log driver is \"none\"".to_owned(),
            driver => format!("all of it goes to {driver} alone (cache-disabled)"),
        })
    }
}

/// "blocking" is Docker's word for a container that waits for its log.
fn queue(options: &Options<'_>) -> Result<(bool, u64), String> {
    let waits = match options.get("mode") {
        None | Some("non-blocking") => false,
        Some("blocking") => true,
        Some(other) => return Err(format!("mode={other:?} is neither \"blocking\" nor \"non-blocking\"")),
    };
    let Some(text) = options.get("max-buffer-size") else { return Ok((waits, QUEUED_BYTES)) };
    if waits {
        return Err("max-buffer-size is for mode=non-blocking".to_owned());
    }
    let size = strata_types::ByteSize::parse(text).map_err(|error| format!("max-buffer-size: {error}"))?;
    match size.bytes() {
        bytes @ 1..=MOST_QUEUED_BYTES => Ok((waits, bytes)),
        _ => Err(format!("max-buffer-size={text:?} is not between 1 byte and 256 MiB")),
    }
}

fn files(options: &Options<'_>, prefix: &str, usual: Files) -> Result<Files, String> {
    let name = |name: &str| format!("{prefix}{name}");
    let max_bytes = options.size(&name("max-size"))?.unwrap_or(usual.max_bytes);
    let max_files = options.count(&name("max-file"))?.unwrap_or(usual.max_files).max(1);
    let wished = options.flag(&name("compress"))?;
    let is_possible = max_bytes > 0 && max_files > 1;
    if wished == Some(true) && !is_possible {
        return Err(format!("{} is for files that rotate: max-size, and max-file of 2 or more", name("compress")));
    }
    Ok(Files { max_bytes, max_files, is_compressed: wished.unwrap_or(usual.is_compressed) && is_possible })
}

/// Bounds of files of the driver `json-file`, as this service is configured.
pub fn usual(file: &config::File) -> Files {
    Files { max_bytes: file.log_max_bytes, max_files: file.log_max_files.max(1), is_compressed: false }
}

/// Completes what was asked for with what this service is configured for, and checks it.
pub fn settle(log: Log, file: &config::File) -> Result<Log, Error> {
    let usual_driver = file.logs.driver;
    let mut log = Log { driver: Some(log.driver.unwrap_or(usual_driver)), ..log };
    if log.driver == Some(usual_driver) {
        for (name, value) in &file.logs.options {
            log.options.entry(name.clone()).or_insert_with(|| value.clone());
        }
    }
    rules(&log, file)?;
    Ok(log)
}

/// What a settled choice comes to.
pub fn rules(log: &Log, file: &config::File) -> Result<Rules, Error> {
    Rules::of(log, usual(file)).map_err(|problem| Error::argument("spec.log", problem))
}

/// The place of the host that a choice of options leads to, beyond what this service is configured for.
pub fn reach(log: &Log, file: &config::File) -> Option<Reach> {
    let address = log.options.get(syslog::ADDRESS)?;
    if file.logs.options.get(syslog::ADDRESS) == Some(address) {
        return None;
    }
    syslog::Address::parse(address).ok()?.reach()
}

/// Refuses a configuration that no container could have.
pub fn check(driver: Driver, options: &BTreeMap<String, String>) -> Result<(), String> {
    let log = Log { driver: Some(driver), options: options.clone() };
    Rules::of(&log, usual(&config::File::default())).map(drop)
}

#[cfg(test)]
mod tests;
