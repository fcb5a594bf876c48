//! The chain: how a record is sealed, and whether what is on disk is what was written.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::{DIRECTORY, Record, log::CURRENT};

/// What stands before the hash, which seals all that is before it in its line.
const SEAL: &str = ",\"hash\":\"";

/// Longest line that is read: names and paths in it are those of a request.
const LONGEST: u64 = 1 << 20;

/// What is read back of a record.
#[derive(Debug, Deserialize)]
pub(super) struct Sealed {
    pub sequence: u64,
    pub previous: String,
    pub hash: String,
}

/// What a check found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Directory of the log.
    pub path: PathBuf,
    /// Records that follow from one another, from the first on.
    pub records: u64,
    /// Hash of the last of them.
    pub head: String,
    /// What is wrong.
    pub broken: Option<Break>,
}

/// The first place where a log is not what was written.
#[derive(Debug, PartialEq, Eq)]
pub struct Break {
    /// The file.
    pub file: String,
    /// The line, from 1; 0: the log as a whole.
    pub line: u64,
    /// What is wrong.
    pub reason: String,
}

/// The line of a record, and its hash.
pub(super) fn line(record: &Record<'_>) -> (String, String) {
    let mut text = serde_json::to_string(record).expect("a record is text and numbers");
    text.pop();
    let hash = hash(&text);
    text.push_str(SEAL);
    text.push_str(&hash);
    text.push_str("\"}\n");
    (text, hash)
}

/// The record of a line, if its hash is that of the line.
pub(super) fn parse(line: &str) -> Option<Sealed> {
    let line = line.trim_end_matches('\n');
    let (text, _) = line.rsplit_once(SEAL)?;
    let sealed: Sealed = serde_json::from_str(line).ok()?;
    (sealed.hash == hash(text)).then_some(sealed)
}

fn hash(text: &str) -> String {
    hex::encode(Sha256::digest(text.as_bytes()))
}

/// Names of the files of a log, the oldest first.
pub(super) fn files(directory: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(names),
        Err(error) => return Err(error),
    };
    for entry in entries {
        if let Ok(name) = entry?.file_name().into_string()
            && name.ends_with(CURRENT)
        {
            names.push(name);
        }
    }
    // Digits come before letters, so that the current one is last.
    names.sort();
    Ok(names)
}

/// Checks the log of a service with this root. `known_head`: a head of an earlier check, which must be in it.
pub fn verify(root: &Path, known_head: Option<&str>) -> io::Result<Findings> {
    let path = root.join(DIRECTORY);
    let mut chain = Chain { next: 1, head: String::new(), is_known: known_head.is_none() };
    let mut broken = None;
    for file in files(&path)? {
        if let Some((line, reason)) = chain.follow(&path.join(&file), known_head)? {
            broken = Some(Break { file, line, reason });
            break;
        }
    }
    if broken.is_none() && !chain.is_known {
        let reason = "the head that is known is not in it: it was cut off, or begun anew".to_owned();
        broken = Some(Break { file: CURRENT.to_owned(), line: 0, reason });
    }
    Ok(Findings { path, records: chain.next - 1, head: chain.head, broken })
}

struct Chain {
    next: u64,
    head: String,
    is_known: bool,
}

impl Chain {
    /// Follows the records of one file; the line that does not follow, and why.
    fn follow(&mut self, path: &Path, known_head: Option<&str>) -> io::Result<Option<(u64, String)>> {
        let mut reader = BufReader::new(File::open(path)?);
        for number in 1.. {
            let mut line = Vec::new();
            let read = io::Read::take(&mut reader, LONGEST).read_until(b'\n', &mut line)?;
            // The end, or a line that is being written, or that a crash cut.
            if read == 0 || (line.last() != Some(&b'\n') && read < LONGEST as usize) {
                break;
            }
            let Some(record) = std::str::from_utf8(&line).ok().and_then(parse) else {
                return Ok(Some((number, "it was changed: it is not what its hash seals".to_owned())));
            };
            if record.sequence != self.next {
                let reason = format!("record {} follows record {}", record.sequence, self.next - 1);
                return Ok(Some((number, reason)));
            }
            if record.previous != self.head {
                return Ok(Some((number, "it does not follow from the record before it".to_owned())));
            }
            self.next += 1;
            self.head = record.hash;
            self.is_known |= known_head == Some(self.head.as_str());
        }
        Ok(None)
    }
}
