//! The processes of a container as the host sees them: which they are, and a table of them, as `ps` makes it.

use std::{
    collections::{BTreeSet, HashMap},
    fs,
    process::Command,
};

use jiff::{Timestamp, tz::TimeZone};

use crate::{error::Error, record::Identity};

/// Heads of columns, and a row for each process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Heads.
    pub titles: Vec<String>,
    /// As many cells in each.
    pub rows: Vec<Vec<String>>,
}

/// The columns of `ps -ef`.
const TITLES: [&str; 8] = ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"];

/// In a second of the times in /proc: USER_HZ, the same on every machine that Linux runs containers on.
const TICKS: u64 = 100;

/// A table in the form of `ps -ef`, for which ps is not needed. Who ends meanwhile is not in it.
pub fn table(pids: &BTreeSet<u32>) -> Table {
    let names = names_of_users(&fs::read_to_string("/etc/passwd").unwrap_or_default());
    let clock = Clock::read();
    let rows = pids.iter().filter_map(|pid| row(*pid, &names, &clock)).collect();
    Table { titles: TITLES.map(str::to_owned).into(), rows }
}

/// A table by the program ps of this host, with options of its own.
pub fn by_ps(args: &[String], pids: &BTreeSet<u32>) -> Result<Table, Error> {
    let output =
        Command::new("ps").args(args).env("COLUMNS", "32767").output().map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Error::NoPs,
            _ => Error::io("execute", "ps", error),
        })?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        let complaint = complaint.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("it failed");
        return Err(Error::argument("ps_args", format!("ps says: {complaint}")));
    }
    select(&text, pids)
}

/// The rows of these processes in what ps printed, which must have a column PID.
fn select(text: &str, pids: &BTreeSet<u32>) -> Result<Table, Error> {
    let wrong = |problem: &str| Error::argument("ps_args", problem);
    let mut lines = text.lines();
    let titles: Vec<String> = lines.next().unwrap_or_default().split_ascii_whitespace().map(str::to_owned).collect();
    let place = titles.iter().position(|title| title == "PID");
    let place = place.ok_or_else(|| wrong("there is no column PID, by which processes are chosen: add \"-o pid\""))?;
    let mut rows = Vec::new();
    // A row without a number belongs to the process before it: threads, as of "m".
    let mut is_chosen = false;
    for line in lines {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let Some(pid) = words.get(place) else { continue };
        if *pid != "-" {
            let pid = pid.parse().map_err(|_| wrong("what is in the column PID is no number"))?;
            is_chosen = pids.contains(&pid);
        }
        if is_chosen {
            rows.push(cells(&words, titles.len()));
        }
    }
    Ok(Table { titles, rows })
}

/// As many cells as there are columns: the last takes all that is left.
fn cells(words: &[&str], columns: usize) -> Vec<String> {
    let (first, rest) = words.split_at(words.len().min(columns - 1));
    first.iter().map(|&word| word.to_owned()).chain([rest.join(" ")]).collect()
}

/// The processes that share the pid namespace of one: what is known where there is no cgroup.
pub fn beside(init: &Identity) -> BTreeSet<u32> {
    let namespace = |pid: u32| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let Some(own) = namespace(init.pid) else { return BTreeSet::new() };
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| namespace(*pid).as_ref() == Some(&own)).collect()
}

/// What times of processes are counted by.
struct Clock {
    /// Seconds since 1970 at the boot.
    boot: i64,
    now: Timestamp,
    zone: TimeZone,
    ticks: u64,
}

impl Clock {
    fn read() -> Self {
        let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
        let boot = stat.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok()).unwrap_or(0);
        Self { boot, now: Timestamp::now(), zone: TimeZone::system(), ticks: TICKS }
    }

    /// When something began: the time, if that was today, the day, if it was this year, else the year.
    fn begun(&self, ticks: u64) -> String {
        let second = self.boot + (ticks / self.ticks) as i64;
        let Ok(begun) = Timestamp::from_second(second) else { return "?".to_owned() };
        let (begun, now) = (begun.to_zoned(self.zone.clone()), self.now.to_zoned(self.zone.clone()));
        let form = match (begun.year() == now.year(), begun.date() == now.date()) {
            (_, true) => "%H:%M",
            (true, false) => "%b%d",
            (false, false) => "%Y",
        };
        begun.strftime(form).to_string()
    }

    /// The share of a processor in percent since it began.
    fn share(&self, used: u64, begun: u64) -> u64 {
        let uptime = (self.now.as_second() - self.boot).max(0) as u64 * self.ticks;
        (used * 100).checked_div(uptime.saturating_sub(begun)).unwrap_or(0)
    }

    /// "00:00:03", "2-00:00:00".
    fn time(&self, used: u64) -> String {
        let seconds = used / self.ticks;
        let (days, rest) = (seconds / 86_400, seconds % 86_400);
        let text = format!("{:02}:{:02}:{:02}", rest / 3600, rest / 60 % 60, rest % 60);
        if days > 0 { format!("{days}-{text}") } else { text }
    }
}

fn row(pid: u32, names: &HashMap<u32, String>, clock: &Clock) -> Option<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    // Real, effective, saved, of the file system: ps shows the second.
    let uid: u32 =
        status.lines().find_map(|line| line.strip_prefix("Uid:")?.split_ascii_whitespace().nth(1)?.parse().ok())?;
    let words = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let command = String::from_utf8_lossy(words.strip_suffix(&[0]).unwrap_or(&words)).replace(char::is_control, " ");
    let (name, fields) = stat_of(&stat)?;
    let command = if command.is_empty() { format!("[{name}]") } else { command };
    // proc_pid_stat(5), counted from the state, field 3.
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    let (used, begun) = (number(14)? + number(15)?, number(22)?);
    Some(vec![
        names.get(&uid).cloned().unwrap_or_else(|| uid.to_string()),
        pid.to_string(),
        number(4)?.to_string(),
        clock.share(used, begun).to_string(),
        clock.begun(begun),
        terminal(number(7)?),
        clock.time(used),
        command,
    ])
}

/// Name and fields from the state on; the name may hold spaces and parentheses.
fn stat_of(stat: &str) -> Option<(&str, Vec<&str>)> {
    let (head, fields) = stat.rsplit_once(") ")?;
    let (_, name) = head.split_once(" (")?;
    Some((name, fields.split_ascii_whitespace().collect()))
}

/// The name of a terminal by its device number, as proc_pid_stat(5) has it.
fn terminal(number: u64) -> String {
    let (major, minor) = ((number >> 8) & 0xfff, (number & 0xff) | ((number >> 12) & 0xfff00));
    match major {
        4 if minor < 64 => format!("tty{minor}"),
        4 => format!("ttyS{}", minor - 64),
        136..=143 => format!("pts/{}", (major - 136) * 256 + minor),
        _ => "?".to_owned(),
    }
}

/// Names of users by their ids. ps cuts them to its column.
fn names_of_users(passwd: &str) -> HashMap<u32, String> {
    let entry = |line: &str| {
        let mut fields = line.split(':');
        let (name, uid) = (fields.next()?, fields.nth(1)?.parse().ok()?);
        let name = if name.chars().count() > 8 { name.chars().take(7).chain(['+']).collect() } else { name.to_owned() };
        Some((uid, name))
    };
    // The first of several is the one that is found.
    passwd.lines().rev().filter_map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_chosen_by_their_pid_and_the_last_column_takes_the_rest() {
        let text = "  PID TTY      STAT   TIME COMMAND\n    1 ?        Ss     0:01 /sbin/init splash\n   20 ?        -  \
                    0:00 sh -c  sleep 5\n    - -        Ss     0:00 -\n   30 ?        Ss     0:00 other\n    - - Ss 0:00 -\n";

        let table = select(text, &[20].into()).unwrap();

        assert_eq!(table.titles, ["PID", "TTY", "STAT", "TIME", "COMMAND"]);
        assert_eq!(table.rows, [["20", "?", "-", "0:00", "sh -c sleep 5"], ["-", "-", "Ss", "0:00", "-"]]);
        assert!(select("COMMAND\nsh\n", &[20].into()).is_err());
        assert!(select("PID\nsh\n", &[20].into()).is_err(), "a head that was renamed chooses nobody else");
    }

    #[test]
    fn names_hold_what_they_like_and_terminals_have_names() {
        assert_eq!(stat_of("7 (a (b) c) S 1 2").unwrap(), ("a (b) c", vec!["S", "1", "2"]));
        assert_eq!(terminal(0), "?");
        assert_eq!(terminal(0x8803), "pts/3");
        assert_eq!(terminal(0x0401), "tty1");
        assert_eq!(terminal(0x0440), "ttyS0");
    }

    #[test]
    fn users_have_their_first_name_cut_to_the_column() {
        let names = names_of_users("root:x:0:0::/:/bin/sh\ntoor:x:0:0::/:/bin/sh\nsystemd-network:x:7:7::/:/x\nbad\n");
        assert_eq!((names[&0].as_str(), names[&7].as_str(), names.len()), ("root", "systemd+", 2));
    }

    #[test]
    fn times_are_those_of_ps() {
        let now: Timestamp = "2026-11-30T12:00:00Z".parse().unwrap();
        let boot = now.as_second() - 400 * 86_400;
        let clock = Clock { boot, now, zone: TimeZone::UTC, ticks: 100 };
        let at = |text: &str| (text.parse::<Timestamp>().unwrap().as_second() - boot) as u64 * 100;
        for (begun, expected) in
            [("2026-11-30T09:05:00Z", "09:05"), ("2026-11-29T23:59:00Z", "Nov29"), ("2025-11-30T12:00:00Z", "2025")]
        {
            assert_eq!(clock.begun(at(begun)), expected);
        }
        assert_eq!((clock.time(359_999), clock.time(100 * 90_061)), ("00:59:59".into(), "1-01:01:01".into()));
        assert_eq!(clock.share(1800 * 100, at("2026-11-30T11:00:00Z")), 50);
        assert_eq!(clock.share(5, at("2026-11-30T12:00:00Z")), 0);
    }

    #[test]
    fn this_process_is_in_the_table_of_itself() {
        let own = std::process::id();

        let Table { rows, titles } = table(&[own, u32::MAX].into());

        assert_eq!((rows.len(), titles.len()), (1, rows[0].len()));
        assert_eq!(rows[0][1], own.to_string());
        assert!(rows[0][7].contains("strata_runtime"), "{rows:?}");
    }
}
