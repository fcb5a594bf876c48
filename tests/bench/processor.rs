//! Time of processors that processes use.

use std::{collections::BTreeSet, fs, thread, time::Duration};

/// In a second of the times in /proc: USER_HZ, the same on every machine that Linux runs containers on.
const TICKS: f64 = 100.0;

/// What processes use of one core while so much time goes by, in per cent. One that ends meanwhile counts nothing.
pub(crate) fn share(pids: &BTreeSet<i32>, window: Duration) -> f64 {
    let before: Vec<(i32, Option<f64>)> = pids.iter().map(|pid| (*pid, ticks(*pid))).collect();
    thread::sleep(window);
    let used = before.into_iter().filter_map(|(pid, before)| Some(ticks(pid)? - before?));
    used.sum::<f64>() / TICKS / window.as_secs_f64() * 100.0
}

/// In user mode and in the kernel: fields 14 and 15 of proc_pid_stat(5). Its second may have spaces in it.
fn ticks(pid: i32) -> Option<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    Some(fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?)
}
