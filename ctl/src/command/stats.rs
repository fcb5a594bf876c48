//! `ctl stats`: what containers use, drawn again and again.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::json;
use strata_proto::runtime::v1 as pb;

use crate::args::Stats;
use crate::error::{Error, Result};
use crate::platform::Platform;
use crate::render::list::{self, Row};
use crate::render::{self, size, table};
use crate::terminal;

const HEAD: [&str; 8] = ["CONTAINER ID", "NAME", "CPU %", "MEM USAGE / LIMIT", "MEM %", "NET I/O", "BLOCK I/O", "PIDS"];

/// Shows what containers use until it is interrupted, or once.
pub async fn run(platform: &Platform, args: &Stats) -> Result<u8> {
    let request = pb::WatchStatsRequest { containers: args.containers.clone(), all: args.all, interval: None };
    let mut looks = platform.containers().await?.all.watch_stats(request).await?.into_inner();
    // Shares of processors are of the time between two looks.
    let mut before: HashMap<String, pb::ContainerUsage> = HashMap::new();
    let is_live = !args.no_stream && terminal::is_output() && terminal::shows_escapes(true);
    let mut is_first = true;
    while let Some(look) = looks.message().await? {
        let mut containers = look.containers;
        if args.containers.is_empty() {
            containers.sort_by(|one, other| one.name.cmp(&other.name));
        }
        let rows = containers.iter().enumerate().map(|(place, one)| {
            let name = args.containers.get(place).map_or(one.id.as_str(), String::as_str);
            row(args, name, one, before.get(&one.id))
        });
        let text = list::text(&args.format, &HEAD, rows.collect())?;
        before = containers.into_iter().filter_map(|one| Some((one.id, one.usage?))).collect();
        match (args.no_stream, is_first) {
            (true, true) => is_first = false,
            (true, false) => {
                render::text(&text)?;
                return Ok(0);
            }
            (false, _) => render::text(&if is_live { redrawn(&text) } else { text })?,
        }
    }
    Err(Error::new("the runtime ended the stream").hint("`ctl stats` begins another"))
}

/// The text in place of what is on the terminal, without a moment in which nothing is there.
fn redrawn(text: &str) -> String {
    format!("\x1b[H{}\x1b[J", text.replace('\n', "\x1b[K\n"))
}

/// What a container uses, as Docker shows it; "--" for what is not known.
fn row(args: &Stats, asked: &str, container: &pb::ContainerStats, before: Option<&pb::ContainerUsage>) -> Row {
    let usage = container.usage.unwrap_or_default();
    let is_up = container.usage.is_some();
    let limit = is_up.then_some(usage.memory_limit_bytes);
    let share = |part: Option<f64>| part.map_or_else(|| "--".to_owned(), |part| format!("{:.2}%", part * 100.0));
    let pair = |one: Option<u64>, other: Option<u64>, text: fn(u64) -> String| {
        let [one, other] = [one, other].map(|number| number.map_or_else(|| "--".to_owned(), text));
        format!("{one} / {other}")
    };
    let id = if args.no_trunc { container.id.as_str() } else { table::short_id(&container.id) };
    let of_limit = usage.memory_bytes.map(|used| match usage.memory_limit_bytes {
        0 => 0.0,
        limit => used as f64 / limit as f64,
    });
    let cells = [
        id.to_owned(),
        container.name.clone(),
        share(before.and_then(|before| processors(before, &usage))),
        pair(usage.memory_bytes, limit, size::binary),
        share(of_limit),
        pair(usage.received_bytes, usage.sent_bytes, size::human),
        pair(usage.block_read_bytes, usage.block_written_bytes, size::human),
        usage.pids.map_or_else(|| "--".to_owned(), |pids| pids.to_string()),
    ];
    let [id, name, cpu, memory, of_limit, network, block, pids] = &cells;
    let fields = json!({
        "BlockIO": block, "CPUPerc": cpu, "Container": asked, "ID": id, "MemPerc": of_limit, "MemUsage": memory,
        "Name": name, "NetIO": network, "PIDs": pids,
    });
    Row { cells: cells.to_vec(), fields }
}

/// How many processors were busy between two looks.
pub fn processors(before: &pb::ContainerUsage, now: &pb::ContainerUsage) -> Option<f64> {
    let passed = |from: Option<prost_types::Duration>, to: Option<prost_types::Duration>| {
        let (from, to) = (Duration::try_from(from?).ok()?, Duration::try_from(to?).ok()?);
        to.checked_sub(from)
    };
    let wall = passed(before.taken_at, now.taken_at).filter(|wall| !wall.is_zero())?;
    // Less than before: the container was started anew.
    Some(passed(before.cpu_time, now.cpu_time)?.as_secs_f64() / wall.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Format;

    fn usage(at: i64, cpu_millis: i64) -> pb::ContainerUsage {
        let cpu = prost_types::Duration { seconds: cpu_millis / 1000, nanos: (cpu_millis % 1000) as i32 * 1_000_000 };
        pb::ContainerUsage {
            taken_at: Some(prost_types::Duration { seconds: at, nanos: 0 }),
            cpu_time: Some(cpu),
            memory_bytes: Some(7_536_640),
            memory_limit_bytes: 64 << 20,
            pids: Some(2),
            block_read_bytes: Some(0),
            block_written_bytes: Some(1_250_000),
            received_bytes: Some(788),
            sent_bytes: Some(1_300),
        }
    }

    fn shown(before: Option<pb::ContainerUsage>, now: Option<pb::ContainerUsage>) -> Row {
        let args = Stats { all: false, no_stream: true, no_trunc: false, format: Format::Table, containers: vec![] };
        let container = pb::ContainerStats { id: "ab".repeat(32), name: "web".into(), usage: now };
        row(&args, "web", &container, before.as_ref())
    }

    #[test]
    fn figures_are_written_as_docker_writes_them() {
        let row = shown(Some(usage(10, 1_000)), Some(usage(12, 4_014)));

        let expected =
            ["abababababab", "web", "150.70%", "7.188MiB / 64MiB", "11.23%", "788B / 1.3kB", "0B / 1.25MB", "2"];
        assert_eq!(row.cells, expected);
        assert_eq!(row.fields["CPUPerc"], "150.70%");
        assert_eq!(row.fields["Container"], "web");
    }

    #[test]
    fn what_is_not_known_is_two_dashes() {
        let nothing = ["abababababab", "web", "--", "-- / --", "--", "-- / --", "-- / --", "--"];
        assert_eq!(shown(Some(usage(10, 1_000)), None).cells, nothing);
        assert_eq!(shown(None, Some(usage(10, 1_000))).cells[2], "--", "one look has no share");
        assert_eq!(shown(Some(usage(9, 2_000)), Some(usage(10, 1_000))).cells[2], "--", "it was started anew");
        let uncounted = pb::ContainerUsage { cpu_time: None, memory_bytes: None, ..usage(10, 0) };
        let row = shown(Some(usage(9, 0)), Some(uncounted));
        assert_eq!(row.cells[2..5], ["--", "-- / 64MiB", "--"]);
    }

    #[test]
    fn a_table_is_drawn_over_the_one_before() {
        assert_eq!(redrawn("A\nb\n"), "\x1b[HA\x1b[K\nb\x1b[K\n\x1b[J");
    }
}
