//! The file of `--log`: one line per entry with time, level and msg, which conmon and containerd's shim read back.

use std::{fs, io::Write};

use serde_json::json;
use strata_init::{now_nanos, rfc3339};

use crate::Global;

/// Appends an error; failing to is not worth a second error.
pub fn error(global: &Global, message: &str) {
    append(global, "error", message);
}

/// Says what of a spec was dropped; to standard error if there is no file.
pub fn note(global: &Global, message: &str) {
    match global.log {
        Some(_) => append(global, "warning", message),
        None => drop(writeln!(std::io::stderr(), "strata-oci: note: {message}")),
    }
}

/// Appends what is done, with `--debug`; to standard error if there is no file.
pub fn debug(global: &Global, message: impl FnOnce() -> String) {
    match (&global.log, global.debug) {
        (_, false) => {}
        (Some(_), true) => append(global, "debug", &message()),
        (None, true) => drop(writeln!(std::io::stderr(), "strata-oci: {}", message())),
    }
}

fn append(global: &Global, level: &str, message: &str) {
    let Some(path) = &global.log else { return };
    let line = entry(&global.log_format, level, message, &rfc3339(now_nanos()));
    let file = fs::OpenOptions::new().append(true).create(true).open(path);
    let _ = file.and_then(|mut file| file.write_all(line.as_bytes()));
}

fn entry(format: &str, level: &str, message: &str, time: &str) -> String {
    match format {
        "json" => format!("{}\n", json!({"level": level, "msg": message, "time": time})),
        _ => format!("time={time:?} level={level} msg={message:?}\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_one_line_in_either_form() {
        let text = entry("text", "error", "a \"b\"\nc", "T");
        let json = entry("json", "error", "a \"b\"\nc", "T");

        assert_eq!(text, "time=\"T\" level=error msg=\"a \\\"b\\\"\\nc\"\n");
        assert_eq!(json, "{\"level\":\"error\",\"msg\":\"a \\\"b\\\"\\nc\",\"time\":\"T\"}\n");
    }
}
