//! Logs on the wire: what a container's output becomes, what is to be read of it, and what was read.

use std::collections::{BTreeMap, btree_map::Entry};

use strata_proto::runtime::v1 as wire;

use super::convert;
use crate::{
    error::Error,
    logs::{Line, Wish},
    spec::{Driver, Log},
};

/// The most text of options.
const MAX_TEXT: usize = 64 << 10;

/// Parses driver and options. Whether the driver has them is seen when they are settled.
pub fn log(log: Option<wire::LogSpec>) -> Result<Log, Error> {
    let log = log.unwrap_or_default();
    let driver = match log.driver.as_str() {
        "" => None,
        name => Some(Driver::parse(name).map_err(|problem| Error::argument("spec.log.driver", problem))?),
    };
    let wrong = |problem: String| Err(Error::argument("spec.log.options", problem));
    if log.options.iter().map(|option| option.name.len() + option.value.len()).sum::<usize>() > MAX_TEXT {
        return wrong("they are too long".to_owned());
    }
    let mut options = BTreeMap::new();
    for wire::LogOption { name, value } in log.options {
        match options.entry(name) {
            Entry::Vacant(place) => place.insert(value),
            Entry::Occupied(place) => return wrong(format!("{:?} is there twice", place.key())),
        };
    }
    Ok(Log { driver, options })
}

/// Driver and options as the wire shows them.
pub fn wire_log(log: Log) -> wire::LogSpec {
    let driver = log.driver().as_str().to_owned();
    let options = log.options.into_iter().map(|(name, value)| wire::LogOption { name, value }).collect();
    wire::LogSpec { driver, options }
}

/// Parses what is to be read.
pub fn wish(request: &wire::ReadLogsRequest) -> Result<Wish, Error> {
    Ok(Wish {
        tail: request.tail,
        since: convert::moment("since", request.since)?,
        until: convert::moment("until", request.until)?,
        // Each line has its own.
        joins_lines: request.joins_lines && !request.with_attributes,
    })
}

/// A line as the wire has it.
pub fn wire_line(line: Line, with_attributes: bool) -> wire::ReadLogsResponse {
    let attributes = line.attributes.into_iter().filter(|_| with_attributes);
    wire::ReadLogsResponse {
        is_stderr: line.is_stderr,
        written_at: line.written_at.map(convert::timestamp),
        chunk: line.bytes.into(),
        attributes: attributes.map(|(name, value)| wire::LogAttribute { name, value }).collect(),
    }
}
