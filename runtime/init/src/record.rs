//! The exit record, and times. The record is whole or absent: temp, rename; and an fsync between, if it is to survive
//! a crash of the host as well.
//!
//! `{"pid":42,"code":137,"signal":9,"oom_killed":false,"started_at":"...","exited_at":"...","failure":null}`

use crate::log::push_json;
use crate::wire::ExitStatus;
use std::fs::{File, rename};
use std::io::{self, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// What the exit record says.
pub(crate) struct Record<'a> {
    pub(crate) pid: u32,
    pub(crate) status: &'a ExitStatus,
    pub(crate) started_at_nanos: Option<u64>,
    pub(crate) failure: Option<String>,
}

impl Record<'_> {
    pub(crate) fn write(&self, path: &Path, is_durable: bool) -> io::Result<()> {
        let mut name = path.as_os_str().to_owned();
        name.push(".tmp");
        let mut file = File::create(&name)?;
        file.write_all(self.to_json().as_bytes())?;
        if is_durable {
            file.sync_data()?;
        }
        rename(name, path)
    }

    fn to_json(&self) -> String {
        let ExitStatus { code, signal, oom_killed, exited_at_nanos } = self.status;
        let quote = |text: &str| {
            let mut quoted = String::from("\"");
            push_json(&mut quoted, text);
            quoted + "\""
        };
        let or_null = |text: Option<String>| text.map_or("null".into(), |text| quote(&text));
        format!(
            "{{\"pid\":{},\"code\":{code},\"signal\":{signal},\"oom_killed\":{oom_killed},\
             \"started_at\":{},\"exited_at\":{},\"failure\":{}}}\n",
            self.pid,
            or_null(self.started_at_nanos.map(rfc3339)),
            quote(&rfc3339(*exited_at_nanos)),
            or_null(self.failure.clone()),
        )
    }
}

/// Returns the time in nanoseconds since 1970.
pub fn now_nanos() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

/// Formats a time as RFC 3339 in UTC with nanoseconds.
pub fn rfc3339(nanos: u64) -> String {
    let (seconds, fraction) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    // Days to civil date with years that begin in March: howardhinnant.github.io/date_algorithms.html
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let of_era = shifted % 146_097;
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{fraction:09}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc3339_across_leap_days_and_years() {
        let case = |seconds: u64, text: &str| assert_eq!(rfc3339(seconds * 1_000_000_000), text);

        case(0, "1970-01-01T00:00:00.000000000Z");
        case(951_782_400, "2000-02-29T00:00:00.000000000Z");
        case(1_709_251_199, "2024-02-29T23:59:59.000000000Z");
        case(1_735_689_600, "2025-01-01T00:00:00.000000000Z");
        case(4_107_542_400, "2100-03-01T00:00:00.000000000Z");
    }
}
