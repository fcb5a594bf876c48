//! `ctl builder du` and `ctl builder prune`

use jiff::Timestamp;
use serde_json::json;
use strata_proto::store::v1 as pb;

use super::prune::agrees;
use crate::args::{CacheDu, CachePrune, Format};
use crate::error::Result;
use crate::filter::wrong;
use crate::input;
use crate::platform::Platform;
use crate::render::{self, list, size, table, time};

/// Lists the build cache and says how much it is.
pub async fn du(platform: &Platform, args: &CacheDu) -> Result<u8> {
    let filter = Filter::of(&args.filter)?;
    let records = list(platform, &filter, Timestamp::now()).await?;
    match (&args.format, args.verbose) {
        (Format::Json, _) => return records.iter().try_for_each(|one| render::line(json(one))).map(|()| 0),
        (Format::Template(template) | Format::Columns(template), _) => {
            return records.iter().try_for_each(|one| render::line(list::fill(template, &json(one))?)).map(|()| 0);
        }
        (Format::Table, true) => records.iter().try_for_each(|one| render::line(details(one)))?,
        (Format::Table, false) if records.is_empty() => {}
        (Format::Table, false) => print(&records)?,
    }
    // Parts of the cache say nothing of the whole.
    if args.filter.is_empty() {
        render::text(&summary(&records))?;
    }
    Ok(0)
}

/// Removes build cache, after asking, and says what went.
pub async fn prune(platform: &Platform, args: &CachePrune) -> Result<u8> {
    let filter = Filter::of(&args.filter)?;
    let question = match args.all {
        true => "WARNING! This will remove all build cache. Are you sure you want to continue? [y/N] ",
        false => "WARNING! This will remove all dangling build cache. Are you sure you want to continue? [y/N] ",
    };
    if !args.force && !agrees(question).await? {
        return Ok(0);
    }
    let request = pb::PruneCacheRecordsRequest {
        all: args.all,
        filter: Some(filter.message),
        keep_duration: filter.until.map(|seconds| prost_types::Duration { seconds, nanos: 0 }),
        reserved_bytes: room("--reserved-space", args.reserved_space.as_deref())?,
        max_used_bytes: room("--max-used-space", args.max_used_space.as_deref())?,
        min_free_bytes: room("--min-free-space", args.min_free_space.as_deref())?,
    };
    let mut replies = platform.cache().await?.prune_cache_records(request).await?.into_inner();
    let mut records = Vec::new();
    while let Some(reply) = replies.message().await? {
        records.extend(reply.records);
    }
    match args.verbose {
        true => records.iter().try_for_each(|one| render::line(details(one)))?,
        false if records.is_empty() => {}
        false => print(&records)?,
    }
    // What images share stays.
    let total = records.iter().filter(|record| !record.is_shared).map(|record| record.size_bytes).sum();
    render::line(format!("Total:\t{}", size::human(total)))?;
    Ok(0)
}

/// Bytes that a flag says. 0: it says nothing.
fn room(flag: &str, text: Option<&str>) -> Result<u64> {
    text.map_or(Ok(0), |text| input::bytes(flag, text))
}

/// All of the build cache.
pub async fn records(platform: &Platform) -> Result<Vec<pb::CacheUsage>> {
    list(platform, &Filter::default(), Timestamp::now()).await
}

async fn list(platform: &Platform, filter: &Filter, now: Timestamp) -> Result<Vec<pb::CacheUsage>> {
    let mut client = platform.cache().await?;
    let (mut records, mut page_token) = (Vec::new(), String::new());
    loop {
        let filter = Some(filter.message.clone());
        let request = pb::ListCacheRecordsRequest { page_size: 1000, page_token, filter };
        let page = client.list_cache_records(request).await?.into_inner();
        records.extend(page.records);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    if let Some(seconds) = filter.until {
        records.retain(|record| last_used(record).is_none_or(|at| now.as_second() - at.as_second() >= seconds));
    }
    // What was used last comes last, as in a history.
    records.sort_by_key(last_used);
    Ok(records)
}

/// When a record was used last, or made.
fn last_used(record: &pb::CacheUsage) -> Option<Timestamp> {
    record.last_used_at.as_ref().or(record.created_at.as_ref()).and_then(time::timestamp)
}

fn print(records: &[pb::CacheUsage]) -> Result<()> {
    let now = Timestamp::now();
    let mut rows = vec![["ID", "RECLAIMABLE", "SIZE", "LAST ACCESSED"].map(str::to_owned).to_vec()];
    rows.extend(records.iter().map(|record| {
        let shared = if record.is_shared { "*" } else { "" };
        let used = record.last_used_at.as_ref().and_then(time::timestamp);
        vec![
            short(record).to_owned(),
            (!record.is_in_use).to_string(),
            format!("{}{shared}", size::human(record.size_bytes)),
            used.map_or(String::new(), |at| time::ago(Some(at), now)),
        ]
    }));
    table::print(&rows)
}

/// As many digits of a key as buildx shows of an id.
fn short(record: &pb::CacheUsage) -> &str {
    record.key.get(..25).unwrap_or(&record.key)
}

fn details(record: &pb::CacheUsage) -> String {
    let now = Timestamp::now();
    let mut lines = vec![format!("ID:           {}", record.key)];
    let mut line = |name: &str, value: String| lines.push(format!("{:14}{value}", format!("{name}:")));
    line("Created at", record.created_at.as_ref().and_then(time::timestamp).map_or(String::new(), |at| at.to_string()));
    line("Mutable", is_mount(record).to_string());
    line("Reclaimable", (!record.is_in_use).to_string());
    line("Shared", record.is_shared.to_string());
    line("Size", size::human(record.size_bytes));
    line("Description", crate::explore::text::line(&record.description));
    line("Usage count", record.usage_count.to_string());
    if let Some(at) = record.last_used_at.as_ref().and_then(time::timestamp) {
        line("Last used", time::ago(Some(at), now));
    }
    line("Type", kind(record).to_owned());
    lines.join("\n") + "\n"
}

fn json(record: &pb::CacheUsage) -> serde_json::Value {
    let at = |at: Option<&prost_types::Timestamp>| at.and_then(time::timestamp).map(|at| at.to_string());
    json!({
        "ID": record.key,
        "Type": kind(record),
        "Description": record.description,
        "CreatedAt": at(record.created_at.as_ref()),
        "LastUsedAt": at(record.last_used_at.as_ref()),
        "UsageCount": record.usage_count,
        "Mutable": is_mount(record),
        "Reclaimable": !record.is_in_use,
        "Shared": record.is_shared,
        "Size": size::human(record.size_bytes),
        "SizeBytes": record.size_bytes,
    })
}

/// BuildKit's type of what a step made.
const REGULAR: &str = "regular";
/// BuildKit's type of a cache mount.
const MOUNT: &str = "exec.cachemount";

fn is_mount(record: &pb::CacheUsage) -> bool {
    record.kind() == pb::CacheKind::Mount
}

/// BuildKit's word for what a record is.
pub fn kind(record: &pb::CacheUsage) -> &'static str {
    if is_mount(record) { MOUNT } else { REGULAR }
}

fn summary(records: &[pb::CacheUsage]) -> String {
    let sum = |wanted: &dyn Fn(&pb::CacheUsage) -> bool| -> u64 {
        records.iter().filter(|record| wanted(record)).map(|record| record.size_bytes).sum()
    };
    let (total, shared) = (sum(&|_| true), sum(&|record| record.is_shared));
    let mut rows = Vec::new();
    if shared > 0 {
        rows.push(("Shared", shared));
        rows.push(("Private", total - shared));
    }
    rows.push(("Reclaimable", sum(&|record| !record.is_in_use)));
    rows.push(("Total", total));
    rows.into_iter().map(|(name, bytes)| format!("{:13}{}\n", format!("{name}:"), size::human(bytes))).collect()
}

/// What `--filter` says.
#[derive(Debug, Default, PartialEq)]
struct Filter {
    message: pb::CacheFilter,
    /// Seconds for which a record was not used.
    until: Option<i64>,
}

impl Filter {
    /// Reads the filters of docker and of buildx.
    fn of(flags: &[String]) -> Result<Self> {
        let mut filter = Self::default();
        for flag in flags {
            let (key, value) = flag.split_once('=').map_or((flag.as_str(), None), |(key, value)| (key, Some(value)));
            let is = || match value.map(str::to_lowercase).as_deref() {
                None | Some("true" | "1") => Ok(true),
                Some("false" | "0") => Ok(false),
                Some(_) => Err(wrong(flag, "true or false is expected")),
            };
            match (key, value) {
                ("until" | "unused-for", Some(text)) => {
                    let age = input::duration(text).ok_or_else(|| wrong(flag, "a time is expected, \"24h\""))?;
                    filter.until = i64::try_from(age.as_secs()).ok();
                }
                ("id" | "id~", Some(id)) => filter.message.keys.push(id.to_owned()),
                ("description" | "description~", Some(text)) => text.clone_into(&mut filter.message.description),
                ("type", Some(REGULAR)) => filter.message.set_kind(pb::CacheKind::Step),
                ("type", Some(MOUNT)) => filter.message.set_kind(pb::CacheKind::Mount),
                ("type", Some(_)) => return Err(wrong(flag, "\"regular\" and \"exec.cachemount\" are what there is")),
                ("inuse", _) => filter.message.is_in_use = Some(is()?),
                ("shared", _) => filter.message.is_shared = Some(is()?),
                ("private", _) => filter.message.is_shared = Some(!is()?),
                _ => return Err(wrong(flag, "until, id, description, type, inuse, shared and private are known")),
            }
        }
        Ok(filter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_those_of_docker_and_buildx() {
        let of = |flags: &[&str]| Filter::of(&flags.iter().map(|flag| (*flag).to_owned()).collect::<Vec<_>>());

        let filter = of(&["until=24h", "id=abc", "description~=apt-get", "inuse=false", "private"]).expect("filters");

        assert_eq!(filter.until, Some(24 * 3600));
        let message = pb::CacheFilter {
            keys: vec!["abc".into()],
            description: "apt-get".into(),
            is_in_use: Some(false),
            is_shared: Some(false),
            kind: pb::CacheKind::Unspecified.into(),
        };
        assert_eq!(filter.message, message);
        assert_eq!(of(&["type=regular", "shared"]).expect("filters").message.is_shared, Some(true));
        for bad in ["until=soon", "until", "type=source.local", "shared=perhaps", "colour=red"] {
            assert!(of(&[bad]).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_summary_tells_shared_from_private() {
        let record = |size_bytes, is_in_use, is_shared| pb::CacheUsage {
            size_bytes,
            is_in_use,
            is_shared,
            ..Default::default()
        };

        let text = summary(&[record(1000, false, false), record(500, true, false), record(30, false, true)]);

        assert_eq!(text, "Shared:      30B\nPrivate:     1.5kB\nReclaimable: 1.03kB\nTotal:       1.53kB\n");
        assert_eq!(summary(&[]), "Reclaimable: 0B\nTotal:       0B\n");
    }
}
