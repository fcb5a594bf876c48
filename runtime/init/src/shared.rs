//! The role `userns`: a program of an ordinary user becomes root of a user namespace that all the user's services share.
//! The namespace, and a mount namespace with it, last as long as somebody is in them. A record names them; any
//! process that is in both, a service or a monitor, is the way in.

use crate::failure::{Attempt, Failure};
use crate::plan::IdMap;
use crate::{sys, userns};
use nix::sched::CloneFlags;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, getpid, pidfd_open};
use std::convert::Infallible;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

const KINDS: CloneFlags = CloneFlags::CLONE_NEWUSER.union(CloneFlags::CLONE_NEWNS);

/// Runs `userns <uid map> <gid map> <record> <program> [argument ...]`; a map is `inside:outside:count[,...]`.
pub(crate) fn run(args: &[OsString]) -> Result<Infallible, Failure> {
    let [uids, gids, record, program, rest @ ..] = args else {
        return Err(Failure::new("read the arguments", "userns takes two maps, a record and a program"));
    };
    // Before anything exists that would have to be undone.
    for map in [uids, gids] {
        parse(map)?;
    }
    sys::close_on_exec_all().attempt(|| "close inherited descriptors".into())?;
    let record = Path::new(record);
    let lock = lock(record)?;
    if !join(record)? {
        make(uids, gids)?;
        let names = names("self").attempt(|| "look at the new namespaces".into())?;
        fs::write(record, names).attempt(|| format!("write {}", record.display()))?;
    }
    // From here on this process is a way in itself.
    drop(lock);
    let error = Command::new(program).args(rest).exec();
    Err(Failure::execute(&program.to_string_lossy(), error))
}

/// Runs `userns-map <pid> <uid map> <gid map>`: writes the maps when a byte on standard input says so.
pub(crate) fn write_maps(args: &[OsString]) -> Result<(), Failure> {
    let wrong = || Failure::new("read the arguments", "userns-map takes a process and two maps");
    let [pid, uids, gids] = args else { return Err(wrong()) };
    let pid = pid.to_str().and_then(|pid| pid.parse().ok()).ok_or_else(wrong)?;
    match std::io::stdin().read(&mut [0]).attempt(|| "wait for the user namespace".into())? {
        // There is none.
        0 => Ok(()),
        _ => userns::write_or_own(pid, &parse(uids)?, &parse(gids)?),
    }
}

fn parse(map: &OsString) -> Result<Vec<IdMap>, Failure> {
    let line = |text: &str| {
        let mut numbers = text.split(':').map(|number| number.parse().ok());
        let line = IdMap { inside: numbers.next()??, outside: numbers.next()??, count: numbers.next()?? };
        numbers.next().is_none().then_some(line)
    };
    let lines = map.to_str().and_then(|map| map.split(',').map(line).collect());
    lines.ok_or_else(|| Failure::new("read the arguments", format!("{} is no id map", map.to_string_lossy())))
}

/// Whoever starts at the same time waits, and then joins.
fn lock(record: &Path) -> Result<File, Failure> {
    let path = record.with_extension("lock");
    let step = || format!("lock {}", path.display());
    let mut options = OpenOptions::new();
    let file = options.create(true).truncate(false).write(true).mode(0o600).open(&path).attempt(step)?;
    flock(&file, FlockOperation::LockExclusive).attempt(step)?;
    Ok(file)
}

/// The namespaces of a process, in words that are never those of others: numbers begin anew with each boot.
fn names(process: &str) -> std::io::Result<String> {
    let name = |kind: &str| fs::read_link(format!("/proc/{process}/ns/{kind}"));
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    Ok(format!("{} {} {}", boot.trim(), name("user")?.display(), name("mnt")?.display()))
}

/// Joins the recorded namespaces, if anybody is left in them.
fn join(record: &Path) -> Result<bool, Failure> {
    let wanted = match fs::read_to_string(record) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        text => text.attempt(|| format!("read {}", record.display()))?,
    };
    for entry in fs::read_dir("/proc").attempt(|| "list processes".into())?.flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())) else { continue };
        let is_in = || names(name).is_ok_and(|names| names == wanted);
        if !is_in() {
            continue;
        }
        let Some(process) = name.parse().ok().and_then(Pid::from_raw) else { continue };
        let Ok(process) = pidfd_open(process, PidfdFlags::empty()) else { continue };
        // Once more: now the number cannot become another's any more.
        if !is_in() {
            continue;
        }
        match nix::sched::setns(&process, KINDS) {
            Err(nix::errno::Errno::ESRCH) => {}
            joined => return joined.attempt(|| "join the user namespace of the services".into()).map(|()| true),
        }
    }
    Ok(false)
}

/// Makes namespaces, whose maps a process writes that stays outside: newuidmap(1) takes orders from there alone.
fn make(uids: &OsString, gids: &OsString) -> Result<(), Failure> {
    let step = || "write the maps of the user namespace".to_owned();
    let pid = getpid().as_raw_nonzero().to_string();
    let mut command = Command::new("/proc/self/exe");
    command.args(["userns-map", &pid]).args([uids, gids]).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut writer = command.spawn().attempt(step)?;
    let made = nix::sched::unshare(KINDS).map_err(|errno| Errno::from_raw_os_error(errno as i32));
    let told = made.and_then(|()| tell(&mut writer));
    // The end of its input: without a word before it, it writes nothing.
    drop(writer.stdin.take());
    let status = writer.wait().attempt(step)?;
    told.map_err(|errno| userns::explain("make a user namespace", errno))?;
    if status.success() { Ok(()) } else { Err(Failure::new(step(), "see above")) }
}

fn tell(writer: &mut Child) -> Result<(), Errno> {
    let mut stdin = writer.stdin.as_ref().ok_or(Errno::PIPE)?;
    stdin.write_all(&[1]).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_lines_of_three_numbers() {
        let read = |text: &str| parse(&text.into()).ok();
        let line = |inside, outside, count| IdMap { inside, outside, count };

        assert_eq!(read("0:1000:1"), Some(vec![line(0, 1000, 1)]));
        assert_eq!(read("0:1000:1,1:100000:65536"), Some(vec![line(0, 1000, 1), line(1, 100_000, 65_536)]));
        for wrong in ["", "0", "0:1", "0:1:2:3", "0:1:x", "0:1:1,", "-1:0:1"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_record_of_nobody_and_none_at_all_are_no_way_in() {
        let directory = tempfile::tempdir().unwrap();
        let record = directory.path().join("userns");

        assert_eq!(join(&record), Ok(false));
        fs::write(&record, "an earlier boot user:[1] mnt:[2]").unwrap();
        assert_eq!(join(&record), Ok(false));
    }
}
