//! What a container uses at one moment.

use std::{fs, time::Duration};

use rustix::time::{ClockId, clock_gettime};
use strata_oci::cgroup::Stats;

/// Usage at one moment. What is not counted on this host is absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// When, on a clock that nobody sets: to be compared with another moment.
    pub taken_at: Duration,
    /// Processor time of all processes so far.
    pub cpu: Option<Duration>,
    /// Memory, without contents of files that nobody has used for a while.
    pub memory_bytes: Option<u64>,
    /// The most memory that it can have: its limit, or all of the host.
    pub memory_limit_bytes: u64,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// Bytes read from block devices so far.
    pub block_read_bytes: Option<u64>,
    /// Bytes written to block devices so far.
    pub block_written_bytes: Option<u64>,
    /// What came and went through its interfaces so far.
    pub traffic: Option<Traffic>,
}

/// Bytes through interfaces, the loopback device aside.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes that came.
    pub received_bytes: u64,
    /// Bytes that went.
    pub sent_bytes: u64,
}

impl Usage {
    /// Usage by the figures of a cgroup, now.
    pub fn now(stats: Stats, traffic: Option<Traffic>) -> Self {
        let now = clock_gettime(ClockId::Monotonic);
        let host = memory_of_host();
        Self {
            taken_at: Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32),
            cpu: stats.cpu_nanoseconds.map(Duration::from_nanos),
            memory_bytes: stats.memory_bytes.map(|all| all.saturating_sub(stats.memory_inactive_bytes.unwrap_or(0))),
            memory_limit_bytes: stats.memory_limit_bytes.filter(|limit| host == 0 || *limit < host).unwrap_or(host),
            pids: stats.pids,
            block_read_bytes: stats.block_read_bytes,
            block_written_bytes: stats.block_written_bytes,
            traffic,
        }
    }
}

impl Traffic {
    /// Traffic in the network namespace of a process.
    pub fn of(pid: u32) -> Option<Self> {
        fs::read_to_string(format!("/proc/{pid}/net/dev")).ok().map(|text| Self::parse(&text))
    }

    /// "  eth0:    1296      16    0    0    0     0          0         0     1296      16 ...": proc_pid_net(5).
    fn parse(text: &str) -> Self {
        let mut all = Self::default();
        for (name, figures) in text.lines().filter_map(|line| line.split_once(':')) {
            let number = |place| figures.split_ascii_whitespace().nth(place)?.parse::<u64>().ok();
            if let (Some(received), Some(sent)) = (number(0), number(8))
                && name.trim() != "lo"
            {
                all.received_bytes += received;
                all.sent_bytes += sent;
            }
        }
        all
    }
}

fn memory_of_host() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kibibytes =
        text.lines().find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse().ok());
    kibibytes.map_or(0, |kibibytes: u64| kibibytes << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traffic_is_that_of_all_interfaces_but_the_loopback_device() {
        let text = "Inter-|   Receive                        |  Transmit\n face |bytes    packets errs |bytes\n    \
                    lo:  500 5 0 0 0 0 0 0  500 5 0 0 0 0 0 0\n  eth0: 1296 16 0 0 0 0 0 0 42 1 0 0 0 0 0 0\n  \
                    eth1:4 1 0 0 0 0 0 0 8 1 0 0 0 0 0 0\n";
        assert_eq!(Traffic::parse(text), Traffic { received_bytes: 1300, sent_bytes: 50 });
    }

    #[test]
    fn memory_is_without_what_can_be_given_back_and_never_more_than_the_host_has() {
        let stats = Stats { memory_bytes: Some(100), memory_inactive_bytes: Some(30), ..Stats::default() };
        let limited = |limit| Usage::now(Stats { memory_limit_bytes: limit, ..stats }, None).memory_limit_bytes;

        assert_eq!(Usage::now(stats, None).memory_bytes, Some(70));
        assert_eq!(limited(Some(4096)), 4096);
        assert!(limited(None) > 1 << 20 && limited(Some(1 << 60)) == limited(None));
        assert_eq!(Usage::now(Stats::default(), None).memory_bytes, None);
    }
}
