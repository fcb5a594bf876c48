//! `ctl logs`

use std::io::Write;

use strata_proto::runtime::v1 as pb;

use crate::args::Logs;
use crate::error::{Error, Result};
use crate::platform::Platform;
use crate::render::{self, time};

/// Prints a container's log, each stream to its own.
pub async fn run(platform: &Platform, args: &Logs) -> Result<u8> {
    let tail = match args.tail.as_str() {
        "all" => None,
        // Docker takes any negative number for all.
        text if text.starts_with('-') && text[1..].parse::<u64>().is_ok() => None,
        text => Some(text.parse().map_err(|_| Error::usage(format!("invalid --tail {text:?}: a number, or \"all\"")))?),
    };
    let request = pb::ReadLogsRequest { container: args.container.clone(), follow: args.follow, tail };
    let mut entries = platform.containers().await?.all.read_logs(request).await?.into_inner();
    // Whether the next chunk of standard output and of standard error begins a line.
    let mut begins = [true, true];
    let mut stdout = std::io::BufWriter::with_capacity(64 << 10, std::io::stdout());
    loop {
        let entry = match entries.message().await? {
            Some(entry) => entry,
            None => break,
        };
        let mut prefix = String::new();
        let begins_line = &mut begins[usize::from(entry.is_stderr)];
        if args.timestamps && *begins_line {
            let at = entry.written_at.as_ref().and_then(time::timestamp);
            prefix = at.map_or_else(String::new, |at| format!("{at:.9} "));
        }
        *begins_line = entry.chunk.ends_with(b"\n");
        if entry.is_stderr {
            stdout.flush().map_err(render::unwritable)?;
            let mut stderr = std::io::stderr().lock();
            stderr
                .write_all(prefix.as_bytes())
                .and_then(|()| stderr.write_all(&entry.chunk))
                .map_err(render::unwritable)?;
            continue;
        }
        stdout
            .write_all(prefix.as_bytes())
            .and_then(|()| stdout.write_all(&entry.chunk))
            .map_err(render::unwritable)?;
        if args.follow {
            stdout.flush().map_err(render::unwritable)?;
        }
    }
    stdout.flush().map_err(render::unwritable)?;
    Ok(0)
}
