//! `ctl logs`, and how logs are kept: as flags say it, and as `ctl inspect` shows it.

use std::collections::BTreeMap;
use std::io::{BufWriter, Stdout, Write};

use serde_json::{Value, json};
use strata_proto::runtime::v1 as pb;

use crate::args::{LogFlags, Logs};
use crate::error::{Error, Result};
use crate::moment;
use crate::platform::Platform;
use crate::render::{self, time};
use crate::template::url_query;

/// Prints a container's log, each stream to its own; or empties it.
pub async fn run(platform: &Platform, args: &Logs) -> Result<u8> {
    let mut containers = platform.containers().await?.all;
    if args.clear {
        containers.clear_logs(pb::ClearLogsRequest { container: args.container.clone() }).await?;
        return Ok(0);
    }
    let request = pb::ReadLogsRequest {
        container: args.container.clone(),
        follow: args.follow,
        tail: tail(&args.tail)?,
        since: args.since.as_deref().map(|text| at("--since", text)).transpose()?,
        until: args.until.as_deref().map(|text| at("--until", text)).transpose()?,
        with_attributes: args.details,
        joins_lines: !args.details && !args.timestamps,
    };
    let mut entries = containers.read_logs(request).await?.into_inner();
    let mut printer = Printer::new(args);
    while let Some(entry) = entries.message().await? {
        printer.print(&entry).map_err(render::unwritable)?;
    }
    printer.out.flush().map_err(render::unwritable)?;
    Ok(0)
}

fn tail(text: &str) -> Result<Option<u64>> {
    match text {
        "all" => Ok(None),
        // Docker takes any negative number for all.
        text if text.starts_with('-') && text[1..].parse::<u64>().is_ok() => Ok(None),
        text => {
            let wrong = |_| Error::usage(format!("invalid --tail {text:?}: a number, or \"all\""));
            text.parse().map(Some).map_err(wrong)
        }
    }
}

fn at(flag: &str, text: &str) -> Result<prost_types::Timestamp> {
    let wrong = || Error::usage(format!("invalid {flag} {text:?}: a time as 2026-01-02T13:23:37Z, or an age as 42m"));
    moment::parse(text).map(moment::to_wire).ok_or_else(wrong)
}

/// Lines on their way to the two streams.
struct Printer<'a> {
    args: &'a Logs,
    out: BufWriter<Stdout>,
    /// Whether the next chunk of standard output and of standard error begins a line.
    begins: [bool; 2],
}

impl<'a> Printer<'a> {
    fn new(args: &'a Logs) -> Self {
        Self { args, out: BufWriter::with_capacity(64 << 10, std::io::stdout()), begins: [true, true] }
    }

    fn print(&mut self, entry: &pb::ReadLogsResponse) -> std::io::Result<()> {
        let begins_line = &mut self.begins[usize::from(entry.is_stderr)];
        let prefix = if *begins_line { prefix(self.args, entry) } else { String::new() };
        *begins_line = entry.chunk.ends_with(b"\n");
        if entry.is_stderr {
            // What was written before is seen before.
            self.out.flush()?;
            let mut stderr = std::io::stderr().lock();
            return stderr.write_all(prefix.as_bytes()).and_then(|()| stderr.write_all(&entry.chunk));
        }
        self.out.write_all(prefix.as_bytes())?;
        self.out.write_all(&entry.chunk)?;
        if self.args.follow { self.out.flush() } else { Ok(()) }
    }
}

/// What stands before a line, as in Docker: its time, then what is said of it.
fn prefix(args: &Logs, entry: &pb::ReadLogsResponse) -> String {
    let mut prefix = String::new();
    if args.timestamps {
        let at = entry.written_at.as_ref().and_then(time::timestamp);
        prefix = at.map_or_else(String::new, |at| format!("{at:.9} "));
    }
    if args.details {
        let one =
            |attribute: &pb::LogAttribute| format!("{}={}", url_query(&attribute.name), url_query(&attribute.value));
        prefix.push_str(&entry.attributes.iter().map(one).collect::<Vec<_>>().join(","));
        prefix.push(' ');
    }
    prefix
}

/// Puts into a spec what the flags say.
pub fn of_container(flags: &LogFlags, spec: &mut pb::ContainerSpec) -> Result<()> {
    let mut options = BTreeMap::new();
    for text in &flags.log_opt {
        let wrong = || Error::usage(format!("invalid --log-opt {text:?}: NAME=VALUE is expected, max-size=10m"));
        let (name, value) = text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or_else(wrong)?;
        // The last one counts.
        options.insert(name.to_owned(), value.to_owned());
    }
    let options = options.into_iter().map(|(name, value)| pb::LogOption { name, value }).collect();
    spec.log = Some(pb::LogSpec { driver: flags.log_driver.clone().unwrap_or_default(), options });
    Ok(())
}

/// `HostConfig.LogConfig`.
pub fn inspected(spec: &pb::ContainerSpec) -> Value {
    if spec.has_no_log {
        return json!({ "Type": "none", "Config": {} });
    }
    let log = spec.log.clone().unwrap_or_default();
    let driver = if log.driver.is_empty() { "json-file".to_owned() } else { log.driver };
    let options: BTreeMap<String, String> = log.options.into_iter().map(|option| (option.name, option.value)).collect();
    json!({ "Type": driver, "Config": options })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command};

    fn args(words: &[&str]) -> Logs {
        match Cli::parse_from([&["ctl", "logs"][..], words, &["web"]].concat()).command {
            Command::Logs(args) => args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn lines_begin_with_their_time_and_what_is_said_of_them() {
        let attribute = |name: &str, value: &str| pb::LogAttribute { name: name.into(), value: value.into() };
        let entry = pb::ReadLogsResponse {
            written_at: Some(prost_types::Timestamp { seconds: 7, nanos: 5 }),
            attributes: vec![attribute("a b", "1,2"), attribute("tag", "web/é")],
            ..Default::default()
        };
        let time = "1970-01-01T00:00:07.000000005Z ";
        let details = "a+b=1%2C2,tag=web%2F%C3%A9 ";

        assert_eq!(prefix(&args(&[]), &entry), "");
        assert_eq!(prefix(&args(&["-t"]), &entry), time);
        assert_eq!(prefix(&args(&["--details", "-t"]), &entry), format!("{time}{details}"));
        // As Docker does.
        assert_eq!(prefix(&args(&["--details"]), &pb::ReadLogsResponse::default()), " ");
    }

    #[test]
    fn tails_and_options_are_checked() {
        for (text, expected) in [("all", None), ("-1", None), ("0", Some(0)), ("12", Some(12))] {
            assert_eq!(tail(&args(&["--tail", text]).tail).map_err(drop), Ok(expected), "{text}");
        }
        assert!(tail("some").is_err() && at("--since", "soon").is_err() && at("--until", "5m").is_ok());
        let mut spec = pb::ContainerSpec::default();
        let flags = |options: &[&str]| LogFlags {
            log_driver: Some("local".to_owned()),
            log_opt: options.iter().map(|option| (*option).to_owned()).collect(),
        };
        of_container(&flags(&["tag={{.Name}}=x", "max-size=1m", "max-size=2m"]), &mut spec).unwrap();
        assert_eq!(inspected(&spec), json!({"Type": "local", "Config": {"max-size": "2m", "tag": "{{.Name}}=x"}}));
        assert!(of_container(&flags(&["max-size"]), &mut spec).is_err());
    }
}
