//! Limits as properties of a unit: made from what is written to the files, so that both always say the same. Pure.

use crate::{
    cgroup::settings::{Otherwise, Setting},
    systemd::{Property, Value},
};

/// systemd's word for no limit.
const INFINITY: u64 = u64::MAX;

/// Returns the properties that say what `settings` write; `period` is the one that a quota is of if none is written.
pub(in crate::cgroup) fn properties(settings: &[Setting], period: u64) -> Vec<Property> {
    let mut list: Vec<Property> = settings.iter().filter_map(property).collect();
    list.extend(quota(settings, period));
    list.extend(devices(settings));
    list
}

fn property(setting: &Setting) -> Option<Property> {
    let name = match setting.file.as_str() {
        "memory.max" => "MemoryMax",
        "memory.high" => "MemoryHigh",
        "memory.low" => "MemoryLow",
        "memory.min" => "MemoryMin",
        "memory.swap.max" => "MemorySwapMax",
        "memory.limit_in_bytes" => "MemoryLimit",
        "pids.max" => "TasksMax",
        "cpu.weight" => "CPUWeight",
        "cpu.shares" => "CPUShares",
        "blkio.bfq.weight" | "blkio.weight" => "BlockIOWeight",
        "io.weight" => "IOWeight",
        "io.bfq.weight" => return weight_of_bfq(setting),
        "cpuset.cpus" => return set("AllowedCPUs", setting),
        "cpuset.mems" => return set("AllowedMemoryNodes", setting),
        _ => return None,
    };
    // "default 100" is a form of io.weight.
    let value = setting.value.trim().strip_prefix("default ").unwrap_or(setting.value.trim());
    Some(Property::optional(name, Value::U64(limit(value)?)))
}

fn limit(text: &str) -> Option<u64> {
    match text {
        "max" | "-1" => Some(INFINITY),
        number => number.parse().ok(),
    }
}

/// Where the kernel has no BFQ another weight is written, which is the one that systemd counts in.
fn weight_of_bfq(setting: &Setting) -> Option<Property> {
    match &setting.otherwise {
        Otherwise::Write { value, .. } => {
            value.parse().ok().map(|weight| Property::optional("IOWeight", Value::U64(weight)))
        }
        _ => None,
    }
}

/// On v1 systemd takes them and does nothing.
fn set(name: &str, setting: &Setting) -> Option<Property> {
    let bytes = mask(&setting.value)?;
    Some(Property::optional(name, Value::List("y".to_owned(), bytes.into_iter().map(Value::Byte).collect())))
}

/// Returns `0-2,8` as bits, the lowest first.
fn mask(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    for range in text.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (usize, usize) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        // CONFIG_NR_CPUS is at most 8192.
        if first > last || last >= 8192 {
            return None;
        }
        bytes.resize(bytes.len().max(last / 8 + 1), 0);
        (first..=last).for_each(|bit| bytes[bit / 8] |= 1 << (bit % 8));
    }
    Some(bytes)
}

/// systemd has the time per second, which it rounds up to whole percents, and the period.
fn quota(settings: &[Setting], in_force: u64) -> Vec<Property> {
    let value = |file: &str| settings.iter().find(|one| one.file == file).map(|one| one.value.as_str());
    let mut words = value("cpu.max").into_iter().flat_map(str::split_whitespace);
    let quota = words.next().or(value("cpu.cfs_quota_us"));
    let period = words.next().or(value("cpu.cfs_period_us")).and_then(|text| text.parse().ok());
    let mut list = Vec::new();
    if let Some(period) = period {
        list.push(Property::optional("CPUQuotaPeriodUSec", Value::U64(period)));
    }
    let per_second = |quota: u64| {
        let time = u128::from(quota) * 1_000_000 / u128::from(period.unwrap_or(in_force).max(1));
        u64::try_from(time.next_multiple_of(10_000)).unwrap_or(INFINITY)
    };
    if let Some(quota) = quota.and_then(limit) {
        let time = if quota == INFINITY { INFINITY } else { per_second(quota) };
        list.push(Property::optional("CPUQuotaPerSecUSec", Value::U64(time)));
    }
    list
}

/// v1: systemd writes the device cgroup too. On v2 our own program is in force, and systemd's would be a second one.
fn devices(settings: &[Setting]) -> Vec<Property> {
    let mut allowed: Option<Vec<(String, String)>> = None;
    for setting in settings.iter().filter(|setting| setting.controller == "devices") {
        match (setting.file.as_str(), &mut allowed) {
            (_, allowed) if setting.value == "a" => *allowed = (setting.file == "devices.deny").then(Vec::new),
            ("devices.allow", Some(list)) => list.extend(node(&setting.value)),
            ("devices.deny", Some(list)) => {
                let denied = node(&setting.value);
                list.retain(|one| Some(one) != denied.as_ref());
            }
            _ => {}
        }
    }
    let Some(allowed) = allowed else { return Vec::new() };
    let pair = |(node, access)| Value::Tuple(vec![Value::Text(node), Value::Text(access)]);
    let allowed = allowed.into_iter().map(pair).collect();
    vec![
        Property::optional("DevicePolicy", Value::Text("strict".to_owned())),
        Property::optional("DeviceAllow", Value::List("(ss)".to_owned(), allowed)),
    ]
}

/// Returns `c 1:3 rwm` as a node and its access; of some numbers systemd has no way to speak.
fn node(rule: &str) -> Option<(String, String)> {
    let mut words = rule.split(' ');
    let kind = if words.next()? == "b" { "block" } else { "char" };
    let (major, minor) = words.next()?.split_once(':')?;
    let node = match (major, minor) {
        ("*", "*") => format!("{kind}-*"),
        ("*", _) => return None,
        (major, "*") => format!("{kind}-{major}"),
        (major, minor) => format!("/dev/{kind}/{major}:{minor}"),
    };
    Some((node, words.next()?.to_owned()))
}
