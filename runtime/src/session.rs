//! Ends a process with all that it has begun: what descends from it, and what is in its session. One that left both (a
//! daemon that forked twice and made a session of its own) is not found.

use std::{collections::HashMap, fs, thread, time::Duration};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::record::Identity;

/// Looks at all processes so often at most; who forks while it is looked at is found by the next look.
const ROUNDS: u32 = 100;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(10);

/// What /proc says of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    parent: u32,
    session: u32,
    started: u64,
    has_ended: bool,
}

/// Kills a process that leads a session, and all of its kin, until none is left. Blocks.
pub fn end(leader: &Identity) {
    let mut known = HashMap::from([(leader.pid, leader.started)]);
    for _ in 0..ROUNDS {
        let all = look();
        let kin = kin(&all, leader, &known);
        known.extend(kin.iter().map(|(pid, seen)| (*pid, seen.started)));
        let living: Vec<_> = kin.into_iter().filter(|(_, seen)| !seen.has_ended).collect();
        if living.is_empty() {
            return;
        }
        living.iter().for_each(|(pid, seen)| kill(*pid, seen.started));
        thread::sleep(PAUSE);
    }
}

/// The kin of a leader among all processes: those known before, those in its session, and their children.
fn kin(all: &HashMap<u32, Seen>, leader: &Identity, known: &HashMap<u32, u64>) -> HashMap<u32, Seen> {
    let is_first = |pid: &u32, seen: &Seen| known.get(pid) == Some(&seen.started) || seen.session == leader.pid;
    let mut kin: HashMap<u32, Seen> =
        all.iter().filter(|(pid, seen)| is_first(pid, seen)).map(|(pid, seen)| (*pid, *seen)).collect();
    loop {
        let children = all.iter().filter(|(pid, seen)| !kin.contains_key(pid) && kin.contains_key(&seen.parent));
        let children: Vec<(u32, Seen)> = children.map(|(pid, seen)| (*pid, *seen)).collect();
        if children.is_empty() {
            return kin;
        }
        kin.extend(children);
    }
}

fn kill(pid: u32, started: u64) {
    let Some(number) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return };
    let Ok(process) = pidfd_open(number, PidfdFlags::empty()) else { return };
    // Read after it was opened: then both are of one process, and not of a later one with its number.
    if read(pid).is_some_and(|seen| seen.started == started) {
        let _ended_already = pidfd_send_signal(process, Signal::KILL);
    }
}

fn look() -> HashMap<u32, Seen> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid| Some((pid, read(pid)?))).collect()
}

fn read(pid: u32) -> Option<Seen> {
    parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Fields 3, 4, 6 and 22 of /proc/pid/stat: proc(5). The name in field 2 may hold spaces and parentheses.
fn parse(stat: &str) -> Option<Seen> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = fields.split(' ').collect();
    Some(Seen {
        has_ended: matches!(*fields.first()?, "Z" | "X"),
        parent: fields.get(1)?.parse().ok()?,
        session: fields.get(3)?.parse().ok()?,
        started: fields.get(19)?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn kin_are_children_of_children_and_who_is_in_the_session() {
        let seen = |parent, session| Seen { parent, session, started: 1, has_ended: false };
        let all = HashMap::from([
            (1, seen(0, 1)),
            (10, seen(1, 10)),
            (11, seen(10, 10)),
            (12, seen(11, 12)),
            (13, seen(1, 10)),
            (14, seen(1, 14)),
        ]);
        let leader = Identity { pid: 10, started: 1, boot_id: String::new() };
        let mut found: Vec<u32> = kin(&all, &leader, &HashMap::new()).into_keys().collect();
        found.sort_unstable();
        assert_eq!(found, [10, 11, 12, 13]);
        let later = Identity { started: 2, ..leader };
        assert!(!kin(&HashMap::from([(10, seen(1, 9))]), &later, &HashMap::from([(10, 2)])).contains_key(&10));
    }

    #[test]
    fn a_session_ends_with_what_it_has_begun() {
        let script = "setsid sleep 300 & sleep 300 & sleep 300";
        let mut child =
            Command::new("setsid").args(["sh", "-c", script]).stdout(Stdio::null()).spawn().expect("setsid is there");
        let pid = child.id();
        let leader = || Some(Identity { pid, started: read(pid)?.started, boot_id: String::new() });
        let of_it = || {
            let all = look();
            leader().map_or(0, |leader| kin(&all, &leader, &HashMap::from([(pid, leader.started)])).len())
        };
        for _ in 0..1000 {
            if of_it() >= 4 {
                break;
            }
            thread::sleep(PAUSE);
        }
        let members = kin(&look(), &leader().unwrap(), &HashMap::from([(pid, leader().unwrap().started)]));
        assert!(members.len() >= 4, "{members:?}");

        end(&leader().unwrap());
        child.wait().unwrap();

        for (pid, seen) in members {
            let now = read(pid).filter(|now| now.started == seen.started && !now.has_ended);
            assert_eq!(now, None, "{pid} lives");
        }
    }
}
