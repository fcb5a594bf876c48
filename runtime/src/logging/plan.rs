//! What a monitor is told of a log.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use jiff::{Timestamp, tz::TimeZone};
use strata_init::plan::{Log, LogReceiver, MessageForm, ReceiverAddress};

use super::{Facts, Rules, Sending, To};
use crate::error::Error;

/// The files of a log, the current one at a path; None: there are none.
pub fn file(rules: &Rules, facts: &Facts<'_>, path: PathBuf) -> Option<Log> {
    let files = rules.files?;
    let attributes = rules.attributes(facts);
    // An object of texts is always JSON.
    let text = if attributes.is_empty() { None } else { serde_json::to_string(&attributes).ok() };
    Some(Log {
        path,
        max_size: files.max_bytes,
        max_files: files.max_files,
        attributes: text.unwrap_or_default(),
        is_compressed: files.is_compressed,
    })
}

/// Who else is sent each line, if there is somebody.
pub fn receiver(rules: &Rules, facts: &Facts<'_>, journal: &Path) -> Result<Option<LogReceiver>, Error> {
    let Some(Sending { to, max_queued_bytes, waits }) = &rules.sending else { return Ok(None) };
    let (name, address, form) = match to {
        To::Journald => {
            let address = ReceiverAddress::Datagrams { path: journal.to_owned() };
            ("journald", address, MessageForm::Journal { fields: journal_fields(rules, facts) })
        }
        To::Syslog(syslog) => {
            let resolved = syslog.address.resolve();
            let address = resolved.map_err(|source| Error::Receiver { address: syslog.address.to_string(), source })?;
            let form = MessageForm::Syslog {
                facility: syslog.facility,
                layout: syslog.layout.clone(),
                host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
                tag: rules.tag(facts),
                offset_seconds: utc_offset(),
            };
            ("syslog", address, form)
        }
    };
    let (name, max_queued_bytes, waits) = (name.to_owned(), *max_queued_bytes, *waits);
    Ok(Some(LogReceiver { name, address, form, max_queued_bytes, waits }))
}

/// How far the host's clock is ahead of UTC now.
fn utc_offset() -> i32 {
    let zone = fs::read("/etc/localtime").ok().and_then(|bytes| TimeZone::tzif("", &bytes).ok());
    zone.map_or(0, |zone| zone.to_offset(Timestamp::now()).seconds())
}

/// Docker's fields of the journal.
fn journal_fields(rules: &Rules, facts: &Facts<'_>) -> Vec<u8> {
    let tag = rules.tag(facts);
    let own = [
        ("CONTAINER_ID", facts.short_id()),
        ("CONTAINER_ID_FULL", facts.record.id.as_str()),
        ("CONTAINER_NAME", facts.record.name.as_str()),
        ("CONTAINER_TAG", &tag),
        ("IMAGE_NAME", facts.image_name()),
        ("SYSLOG_IDENTIFIER", &tag),
    ];
    let mut out = Vec::new();
    own.iter().for_each(|(name, value)| push_field(&mut out, name, value));
    for (name, value) in rules.named(facts) {
        let name = field_name(&name);
        if !name.is_empty() && own.iter().all(|(taken, _)| *taken != name) {
            push_field(&mut out, &name, &value);
        }
    }
    out
}

/// A name as the journal takes it, by Docker's rule: large letters, digits and "_", which it does not begin with.
fn field_name(text: &str) -> String {
    let letter = |letter: char| if letter.is_ascii_alphanumeric() { letter.to_ascii_uppercase() } else { '_' };
    let name: String = text.chars().map(letter).collect();
    let name = name.trim_start_matches(|letter: char| letter == '_' || letter.is_ascii_digit());
    // systemd takes no longer ones.
    name.chars().take(64).collect()
}

/// One field of systemd's protocol: its long form, where the value has a line break.
fn push_field(out: &mut Vec<u8>, name: &str, value: &str) {
    if value.contains('\n') {
        out.extend_from_slice(name.as_bytes());
        out.push(b'\n');
        out.extend_from_slice(&(value.len() as u64).to_le_bytes());
        out.extend_from_slice(value.as_bytes());
        out.push(b'\n');
    } else {
        // Writing to memory does not fail.
        let _ = writeln!(out, "{name}={value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_the_journal_have_names_and_values_that_it_takes() {
        for (name, expected) in [("com.example/team", "COM_EXAMPLE_TEAM"), ("_1x", "X"), ("__", ""), ("Ünit", "NIT")] {
            assert_eq!(field_name(name), expected, "{name}");
        }
        let mut out = Vec::new();
        push_field(&mut out, "A", "one");
        push_field(&mut out, "B", "x\ny");
        assert_eq!(out, b"A=one\nB\n\x03\0\0\0\0\0\0\0x\ny\n");
    }
}
