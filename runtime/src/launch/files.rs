//! Files of a container that come from this service: hostname, hosts, resolv.conf.

use std::{
    fs::{File, Permissions},
    io::{Read, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FileType, Mode, OFlags, ResolveFlags, fstat, openat2},
    io::Errno,
};

use super::{Prepared, Users, resolution};
use crate::{error::Error, record::Record};

/// The files, by their names in /etc and in the directory of a container.
const NAMES: [&str; 3] = ["hostname", "hosts", "resolv.conf"];

/// A file of this service that a container gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Own {
    /// Path on the host.
    pub source: PathBuf,
    /// Path in the container.
    pub target: String,
}

/// Makes the files of a container, or takes those of the one whose network it shares; a mount of its own is in place of one.
pub fn prepare(job: &Prepared) -> Result<Vec<Own>, Error> {
    let dir = match &job.shared {
        Some(shared) => &shared.dir,
        None => make(job).map(|()| &job.dir)?,
    };
    let own = NAMES.map(|name| Own { source: dir.join(name), target: format!("/etc/{name}") });
    let has_mount = |own: &Own| job.record.spec.mounts.iter().any(|mount| mount.target == own.target);
    Ok(own.into_iter().filter(|own| !has_mount(own)).collect())
}

fn make(job: &Prepared) -> Result<(), Error> {
    let files = [
        format!("{}\n", job.hostname),
        resolution::hosts(&job.hostname, &job.record),
        resolution::resolv_conf(&job.record),
    ];
    files.iter().zip(NAMES).try_for_each(|(content, name)| write(&job.dir.join(name), content.as_bytes(), 0o644))
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Error> {
    let failed = |e| Error::io("write", path, e);
    // The same inode as before: a restart must not leave an old mount on an old file.
    let opened = File::options().create(true).truncate(true).write(true).mode(mode).open(path);
    let mut file = opened.map_err(failed)?;
    file.write_all(bytes).map_err(failed)?;
    // Whatever the mask of this process is.
    file.set_permissions(Permissions::from_mode(mode)).map_err(failed)
}

/// Writes the files of a running container anew whose networks have changed. A resolv.conf that somebody changed is left.
pub fn refresh(dir: &Path, hostname: &str, before: &Record, after: &Record) -> Result<(), Error> {
    write(&dir.join("hosts"), resolution::hosts(hostname, after).as_bytes(), 0o644)?;
    let path = dir.join("resolv.conf");
    let (old, new) = (resolution::resolv_conf(before), resolution::resolv_conf(after));
    match std::fs::read_to_string(&path) {
        Ok(text) if text == old && old != new => write(&path, new.as_bytes(), 0o644),
        Ok(_) => Ok(()),
        // It is no text any more.
        Err(error) if error.kind() == std::io::ErrorKind::InvalidData => Ok(()),
        Err(error) => Err(Error::io("read", path, error)),
    }
}

/// Whether a container was told to ask the server in its own network namespace.
pub fn has_own_server(dir: &Path) -> bool {
    std::fs::read_to_string(dir.join("resolv.conf")).is_ok_and(|text| resolution::names_own_server(&text))
}

/// Reads passwd and group as the processes of a running container see them.
pub fn users_of(pid: u32) -> Result<Users, Error> {
    let path = format!("/proc/{pid}/root");
    let root = rustix::fs::open(&path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let root = root.map_err(|e| Error::io("open", &path, e))?;
    let file = |name: &str| -> Result<Vec<u8>, Error> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        // NONBLOCK: a container that made a FIFO of it must not hang this service.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let opened = match openat2(&root, name, flags, Mode::empty(), resolve) {
            Ok(opened) => opened,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(Vec::new()),
            Err(errno) => return Err(Error::io("open", format!("{path}/{name}"), errno)),
        };
        let failed = |e: std::io::Error| Error::io("read", format!("{path}/{name}"), e);
        let kind = fstat(&opened).map_err(|e| failed(e.into()))?.st_mode;
        if FileType::from_raw_mode(kind) != FileType::RegularFile {
            return Ok(Vec::new());
        }
        let mut bytes = Vec::new();
        let limit = strata_oci::user::MAX_FILE_BYTES as u64 + 1;
        File::from(opened).take(limit).read_to_end(&mut bytes).map_err(failed)?;
        Ok(bytes)
    };
    Ok(Users { passwd: file("etc/passwd")?, group: file("etc/group")? })
}
