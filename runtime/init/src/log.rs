//! The container's log: Docker's json-file lines, rotated by size. Nothing here stops the copy loop:
//! what cannot be written is counted, and the count is written when writing works again.

use crate::plan;
use crate::record::rfc3339;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions, rename};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A longer line is cut into several entries, all but the last without its newline.
const MAX_LINE_BYTES: usize = 16 << 10;

/// Which stream a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

pub(crate) struct Log {
    settings: plan::Log,
    file: File,
    size: u64,
    partial: [Vec<u8>; 2],
    lost_bytes: usize,
}

impl Log {
    pub(crate) fn open(settings: &plan::Log) -> io::Result<Self> {
        let file = append_to(&settings.path)?;
        let size = file.metadata()?.len();
        Ok(Self { settings: settings.clone(), file, size, partial: [Vec::new(), Vec::new()], lost_bytes: 0 })
    }

    /// Takes output as it comes; whole lines are written at once.
    pub(crate) fn write(&mut self, stream: Stream, bytes: &[u8], now_nanos: u64) {
        let mut partial = std::mem::take(&mut self.partial[stream as usize]);
        let mut entries = String::with_capacity(bytes.len() + bytes.len() / 2 + 128);
        let time = rfc3339(now_nanos);
        let mut rest = bytes;
        while !rest.is_empty() {
            let room = MAX_LINE_BYTES - partial.len();
            let window = &rest[..rest.len().min(room)];
            let end = window.iter().position(|&byte| byte == b'\n').map_or(window.len(), |index| index + 1);
            let (line, tail) = rest.split_at(end);
            rest = tail;
            let is_complete = line.ends_with(b"\n") || partial.len() + line.len() == MAX_LINE_BYTES;
            if !is_complete {
                partial.extend_from_slice(line);
            } else if partial.is_empty() {
                push_entry(&mut entries, line, stream, &time);
            } else {
                partial.extend_from_slice(line);
                push_entry(&mut entries, &partial, stream, &time);
                partial.clear();
            }
        }
        self.partial[stream as usize] = partial;
        self.append(&entries);
    }

    /// Writes lines that never got their newline.
    pub(crate) fn finish(&mut self, now_nanos: u64) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let partial = std::mem::take(&mut self.partial[stream as usize]);
            if partial.is_empty() {
                continue;
            }
            let mut entry = String::new();
            push_entry(&mut entry, &partial, stream, &rfc3339(now_nanos));
            self.append(&entry);
        }
    }

    /// Appends whole entries, rotating between them.
    fn append(&mut self, entries: &str) {
        let mut rest = entries;
        while !rest.is_empty() {
            let room = match self.settings.max_size {
                0 => usize::MAX,
                max_size => usize::try_from(max_size.saturating_sub(self.size)).unwrap_or(usize::MAX),
            };
            let fitting = match rest.len() <= room {
                true => rest.len(),
                false => rest.as_bytes()[..room].iter().rposition(|&byte| byte == b'\n').map_or(0, |index| index + 1),
            };
            if fitting == 0 && self.size > 0 && self.rotate().is_ok() {
                continue;
            }
            // A single entry over the limit, or a directory that cannot be renamed in, still gets its line.
            let count = match fitting {
                0 => rest.find('\n').map_or(rest.len(), |index| index + 1),
                fitting => fitting,
            };
            self.append_whole(&rest[..count]);
            rest = &rest[count..];
        }
    }

    fn append_whole(&mut self, entries: &str) {
        let mut bytes = entries.as_bytes();
        let with_loss;
        if self.lost_bytes > 0 {
            with_loss = format!(
                "{{\"log\":\"[strata: {} bytes of log were lost]\\n\",\"stream\":\"stderr\",\"time\":\"{}\"}}\n{entries}",
                self.lost_bytes,
                rfc3339(crate::record::now_nanos()),
            );
            bytes = with_loss.as_bytes();
        }
        if self.file.write_all(bytes).is_ok() {
            self.lost_bytes = 0;
            self.size += bytes.len() as u64;
        } else {
            self.lost_bytes += entries.len();
            // No half entry stays behind.
            let _ = self.file.set_len(self.size);
        }
    }

    fn rotate(&mut self) -> io::Result<()> {
        let path = &self.settings.path;
        if self.settings.max_files <= 1 {
            self.file.set_len(0)?;
            self.size = 0;
            return Ok(());
        }
        for number in (1..self.settings.max_files - 1).rev() {
            let _ = rename(numbered(path, number), numbered(path, number + 1));
        }
        rename(path, numbered(path, 1))?;
        self.file = append_to(path)?;
        self.size = 0;
        Ok(())
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

fn push_entry(out: &mut String, line: &[u8], stream: Stream, time: &str) {
    out.push_str("{\"log\":\"");
    push_json(out, &String::from_utf8_lossy(line));
    let stream = if stream == Stream::Stdout { "stdout" } else { "stderr" };
    let _ = writeln!(out, "\",\"stream\":\"{stream}\",\"time\":\"{time}\"}}");
}

/// Appends text as the inside of a JSON string.
pub(crate) fn push_json(out: &mut String, text: &str) {
    let mut plain = 0;
    for (index, byte) in text.bytes().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.push_str(&text[plain..index]);
        plain = index + 1;
        match byte {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            _ => {
                let _ = write!(out, "\\u{byte:04x}");
            }
        }
    }
    out.push_str(&text[plain..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(directory: &Path, max_size: u64, max_files: u32) -> Log {
        Log::open(&plan::Log { path: directory.join("log"), max_size, max_files }).unwrap()
    }

    #[test]
    fn a_line_that_comes_in_pieces_is_one_entry() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = log(directory.path(), 0, 1);

        log.write(Stream::Stdout, b"one \"li", 0);
        log.write(Stream::Stderr, b"other\n", 0);
        log.write(Stream::Stdout, b"ne\"\ntail", 0);
        log.finish(1_500_000_000);

        let text = std::fs::read_to_string(directory.path().join("log")).unwrap();
        assert_eq!(
            text,
            "{\"log\":\"other\\n\",\"stream\":\"stderr\",\"time\":\"1970-01-01T00:00:00.000000000Z\"}\n\
             {\"log\":\"one \\\"line\\\"\\n\",\"stream\":\"stdout\",\"time\":\"1970-01-01T00:00:00.000000000Z\"}\n\
             {\"log\":\"tail\",\"stream\":\"stdout\",\"time\":\"1970-01-01T00:00:01.500000000Z\"}\n"
        );
    }

    #[test]
    fn a_line_over_16_kib_is_cut_and_no_byte_is_lost() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = log(directory.path(), 0, 1);

        log.write(Stream::Stdout, &[b'x'; 40_000], 0);
        log.write(Stream::Stdout, b"\n", 0);

        let text = std::fs::read_to_string(directory.path().join("log")).unwrap();
        assert_eq!(text.lines().count(), 3);
        assert_eq!(text.bytes().filter(|&byte| byte == b'x').count(), 40_000);
    }

    #[test]
    fn rotation_bounds_size_and_number_of_files_and_keeps_the_newest() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = log(directory.path(), 1000, 3);

        for number in 0..200 {
            log.write(Stream::Stdout, format!("line {number}\n").as_bytes(), 0);
        }

        let mut names: Vec<_> = std::fs::read_dir(directory.path())
            .unwrap()
            .map(|entry| entry.unwrap())
            .inspect(|entry| assert!(entry.metadata().unwrap().len() <= 1000))
            .map(|entry| entry.file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["log", "log.1", "log.2"]);
        assert!(std::fs::read_to_string(directory.path().join("log")).unwrap().contains("line 199"));
    }
}
