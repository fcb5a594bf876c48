//! What a directory may take of its disk: a quota of the file system for a project of the directory's own, which all that is
//! made below it belongs to. ext4 and XFS have such quotas, where they are mounted so.
//!
//! The file system is the record: a directory says which project it is, and a number that has neither files nor a limit is
//! nobody's. So a crash loses no number, and others who give numbers to directories of the same disk are seen.

use crate::sys::{self, FileAttributes, ProjectQuota};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::thread;

/// FS_XFLAG_PROJINHERIT: what is made in the directory belongs to its project. linux/fs.h
const INHERITED: u32 = 0x200;
/// The first of our numbers: administrators and other engines count from 1 on.
const FIRST: u32 = 0x4000_0000;
/// How many numbers there are, each as good as the next.
const NUMBERS: u32 = 0x4000_0000;
/// Numbers that are tried.
const ATTEMPTS: usize = 32;

/// Why a directory cannot be limited.
#[derive(Debug)]
pub struct Refusal {
    /// The directory.
    pub path: PathBuf,
    /// Why.
    pub reason: Reason,
}

/// Why, and where.
#[derive(Debug)]
pub enum Reason {
    /// Its file system has no project quotas, or is not mounted with them.
    NotInForce(Mounted),
    /// The directory above it is of a project already, that of somebody else.
    Nested {
        /// The number.
        project: u32,
    },
    /// Only root of the host gives numbers and limits.
    Restricted,
    /// The kernel cannot be asked: it is older than 5.14.
    OldKernel,
    /// It failed.
    Failed {
        /// At what.
        attempt: &'static str,
        /// Why.
        source: io::Error,
    },
}

/// A file system, as the table of mounts has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mounted {
    /// "ext4".
    pub kind: String,
    /// Where it is mounted.
    pub point: String,
    /// "/dev/vda1".
    pub device: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match &self.reason {
            Reason::NotInForce(mounted) => write!(formatter, "{path}: {mounted}"),
            Reason::Nested { project } => {
                write!(formatter, "{path}: the directory above it is of project {project} of its file system already")
            }
            Reason::Restricted => {
                write!(formatter, "{path}: project quotas are root's: an ordinary user can limit nothing by them")
            }
            Reason::OldKernel => write!(formatter, "{path}: project quotas need Linux 5.14 here"),
            Reason::Failed { attempt, .. } => write!(formatter, "{path}: cannot {attempt}"),
        }
    }
}

impl fmt::Display for Mounted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, point, device } = self;
        write!(formatter, "{kind} at {point} has no project quotas in force: ")?;
        match kind.as_str() {
            "xfs" => write!(formatter, "mount {device} with the option prjquota (rootflags= where it is /)"),
            "ext4" => write!(
                formatter,
                "unmount {device}, run `tune2fs -O project,quota {device}`, and mount it with the option prjquota"
            ),
            _ => write!(formatter, "they need ext4 or XFS, mounted with the option prjquota"),
        }
    }
}

impl std::error::Error for Refusal {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.reason {
            Reason::Failed { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// Limits what is in a directory, which should be empty, to so many bytes. One that is limited gets the new limit.
pub fn limit(directory: &Path, bytes: u64) -> Result<(), Refusal> {
    limit_now(directory, bytes).map_err(|reason| Refusal { path: directory.to_owned(), reason })
}

fn limit_now(directory: &Path, bytes: u64) -> Result<(), Reason> {
    let opened = open_directory(directory).map_err(failed("open it"))?;
    if is_in_user_namespace() {
        return Err(Reason::Restricted);
    }
    let not_in_force = |found: Option<Errno>| match found {
        Some(Errno::NOSYS) if !is_new_enough() => Reason::OldKernel,
        _ => Reason::NotInForce(mounted_at(directory)),
    };
    let own = sys::file_attributes(opened.as_fd()).map_err(|errno| not_in_force(Some(errno)))?;
    match sys::has_project_limits(opened.as_fd()) {
        Ok(true) => {}
        Ok(false) => return Err(not_in_force(None)),
        Err(errno) => return Err(not_in_force(Some(errno))),
    }
    let project = match own_project(directory, &own)? {
        Some(project) => project,
        None => {
            let project = free_number(&opened)?;
            let attributes = FileAttributes { flags: own.flags | INHERITED, project, ..own };
            sys::set_file_attributes(opened.as_fd(), &attributes).map_err(refused("make it a project"))?;
            project
        }
    };
    sys::set_quota(opened.as_fd(), project, bytes).map_err(refused("set its quota"))
}

/// Lifts the limit of a directory that is about to go; its number is free when its files are gone. One without is let be.
pub fn lift(directory: &Path) -> Result<(), Refusal> {
    lift_now(directory).map_err(|reason| Refusal { path: directory.to_owned(), reason })
}

fn lift_now(directory: &Path) -> Result<(), Reason> {
    // What is no directory, or on a file system without projects, was never limited.
    let Ok(opened) = open_directory(directory) else { return Ok(()) };
    let Ok(own) = sys::file_attributes(opened.as_fd()) else { return Ok(()) };
    if own.flags & INHERITED == 0 || !is_ours(own.project) {
        return Ok(());
    }
    match own_project(directory, &own) {
        Ok(Some(project)) => sys::set_quota(opened.as_fd(), project, 0).map_err(refused("lift its quota")),
        Ok(None) | Err(_) => Ok(()),
    }
}

/// Works on a thread that no more than others may write beyond a limit: root may otherwise, on ext4.
pub fn within_limits<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let body = || {
            let held = capabilities(None)?;
            let effective = held.effective - CapabilitySet::SYS_RESOURCE;
            set_capabilities(None, CapabilitySets { effective, ..held })?;
            Ok(work())
        };
        let worker = thread::Builder::new().name("limited".to_owned()).spawn_scoped(scope, body)?;
        worker.join().map_err(|_| io::Error::other("a thread within limits panicked"))?
    })
}

/// The project that the directory is, and not the one above it.
fn own_project(directory: &Path, own: &FileAttributes) -> Result<Option<u32>, Reason> {
    let parent = directory.parent().unwrap_or(directory);
    let opened = open_directory(parent).map_err(failed("open the directory above it"))?;
    let above = sys::file_attributes(opened.as_fd()).map_err(failed("look at the directory above it"))?;
    if above.flags & INHERITED != 0 {
        // Nothing that is another project could be renamed in there: rename(2), EXDEV.
        return Err(Reason::Nested { project: above.project });
    }
    Ok((own.flags & INHERITED != 0 && own.project != 0).then_some(own.project))
}

fn is_ours(project: u32) -> bool {
    (FIRST..FIRST + NUMBERS).contains(&project)
}

/// A number that has neither files nor a limit. Two who look at once meet as seldom as 30 bits do.
fn free_number(opened: &OwnedFd) -> Result<u32, Reason> {
    for _ in 0..ATTEMPTS {
        let mut bytes = [0; 4];
        getrandom(&mut bytes, GetRandomFlags::empty()).map_err(failed("choose a project"))?;
        let number = FIRST + u32::from_ne_bytes(bytes) % NUMBERS;
        match sys::quota_of(opened.as_fd(), number) {
            // XFS knows nothing of it.
            Err(Errno::NOENT) => return Ok(number),
            Ok(found) if found == ProjectQuota::default() => return Ok(number),
            Ok(_) => {}
            Err(errno) => return Err(refused("look for a free project")(errno)),
        }
    }
    Err(failed("find a free project")(Errno::BUSY))
}

fn failed<E: Into<io::Error>>(attempt: &'static str) -> impl Fn(E) -> Reason {
    move |error| Reason::Failed { attempt, source: error.into() }
}

fn refused(attempt: &'static str) -> impl Fn(Errno) -> Reason {
    move |errno| match errno {
        Errno::PERM | Errno::ACCESS => Reason::Restricted,
        errno => failed(attempt)(errno),
    }
}

/// Projects are the host's root's to give: fileattr_set_prepare() in fs/ioctl.c. The map of the host is all ids to
/// themselves: user_namespaces(7).
fn is_in_user_namespace() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.split_whitespace().ne(["0", "0", "4294967295"])
}

fn open_directory(path: &Path) -> Result<OwnedFd, Errno> {
    open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

/// Whether the kernel has `quotactl_fd`.
fn is_new_enough() -> bool {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (5, 14)
}

/// The file system that a path is on. proc(5), /proc/pid/mountinfo
fn mounted_at(path: &Path) -> Mounted {
    let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let unknown = || Mounted { kind: "the file system".into(), point: "/".into(), device: "it".into() };
    find_mount(&table, &real).unwrap_or_else(unknown)
}

fn find_mount(table: &str, path: &Path) -> Option<Mounted> {
    let mounts = table.lines().filter_map(|line| {
        let (place, what) = line.split_once(" - ")?;
        let mut what = what.split(' ');
        let point = place.split(' ').nth(4)?.to_owned();
        Some(Mounted { point, kind: what.next()?.to_owned(), device: what.next()?.to_owned() })
    });
    // Of those at the same place the last one is on top.
    mounts.filter(|mounted| path.starts_with(&mounted.point)).max_by_key(|mounted| mounted.point.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "22 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n\
                         31 22 0:41 / /srv rw - xfs /dev/sdb rw\n\
                         32 31 0:42 / /srv rw shared:9 - tmpfs tmpfs rw\n";

    #[test]
    fn a_refusal_names_the_path_the_file_system_and_what_to_do() {
        let said = |path: &str| {
            let reason = Reason::NotInForce(find_mount(TABLE, Path::new(path)).unwrap());
            Refusal { path: path.into(), reason }.to_string()
        };
        let ext4 = said("/srv2/x");
        assert!(ext4.starts_with("/srv2/x: ext4 at / has no project quotas in force: unmount /dev/sda1"), "{ext4}");
        assert!(said("/srv/x").contains("tmpfs at /srv has no project quotas in force: they need ext4 or XFS"));
    }

    #[test]
    fn what_cannot_be_limited_says_so_and_what_was_never_limited_is_lifted_at_once() {
        // procfs and its like have no projects, on any kernel.
        let refusal = limit(Path::new("/proc"), 1 << 20).unwrap_err();
        assert!(matches!(&refusal.reason, Reason::NotInForce(mounted) if mounted.kind == "proc"), "{refusal}");
        lift(Path::new("/proc")).unwrap();
        lift(Path::new("/nonexistent")).unwrap();
    }

    /// On file systems in files of this test's.
    #[test]
    #[ignore = "needs a kernel with project quotas: make test-v2"]
    fn a_number_is_taken_with_a_limit_and_free_when_its_files_are_gone() {
        for (kind, words) in [("ext4", &["-q", "-O", "quota,project"][..]), ("xfs", &["-q"])] {
            let place = tempfile::tempdir_in("/var/tmp").unwrap();
            let (image, point) = (place.path().join("image"), place.path().join("point"));
            std::fs::File::create(&image).unwrap().set_len(512 << 20).unwrap();
            std::fs::create_dir(&point).unwrap();
            let run = |program: &str, words: &[&str], paths: &[&Path]| {
                let status = std::process::Command::new(program).args(words).args(paths).status().unwrap();
                assert!(status.success(), "{program}: {status}");
            };
            run(&format!("mkfs.{kind}"), words, &[&image]);
            run("mount", &["-o", "loop,prjquota"], &[&image, &point]);
            let check = std::panic::AssertUnwindSafe(|| give_and_take(&point));
            let checked = std::panic::catch_unwind(check);
            run("umount", &[], &[&point]);
            checked.unwrap();
        }
    }

    fn give_and_take(point: &Path) {
        let top = open_directory(point).unwrap();
        let (one, two) = (point.join("one"), point.join("two"));
        let project = |path: &Path| sys::file_attributes(open_directory(path).unwrap().as_fd()).unwrap().project;
        for path in [&one, &two] {
            std::fs::create_dir(path).unwrap();
            limit(path, 1 << 20).unwrap();
        }
        let number = project(&one);
        assert!(is_ours(number) && number != project(&two));
        assert_eq!(sys::quota_of(top.as_fd(), number).unwrap().limit, 1 << 20);
        limit(&one, 2 << 20).unwrap();
        assert_eq!((project(&one), sys::quota_of(top.as_fd(), number).unwrap().limit), (number, 2 << 20));

        let below = one.join("sub/deep");
        std::fs::create_dir_all(&below).unwrap();
        assert!(
            matches!(limit(&one.join("sub"), 1).unwrap_err().reason, Reason::Nested { project } if project == number)
        );
        let write = |bytes: usize| within_limits(|| std::fs::write(below.join("file"), vec![7; bytes])).unwrap();
        write(1 << 20).unwrap();
        let full = write(4 << 20).unwrap_err();
        assert!([libc::EDQUOT, libc::ENOSPC].contains(&full.raw_os_error().unwrap()), "{full}");

        lift(&one).unwrap();
        assert_eq!(sys::quota_of(top.as_fd(), number).unwrap().limit, 0);
        std::fs::remove_dir_all(&one).unwrap();
        // XFS takes files away behind: until then the number is nobody else's.
        let is_free = || {
            thread::sleep(std::time::Duration::from_millis(10));
            let left = sys::quota_of(top.as_fd(), number);
            matches!(left, Err(Errno::NOENT)) || left == Ok(ProjectQuota::default())
        };
        assert!((0..1000).any(|_| is_free()), "{:?}", sys::quota_of(top.as_fd(), number));
        assert_eq!(sys::quota_of(top.as_fd(), project(&two)).unwrap().limit, 1 << 20);
    }

    #[test]
    fn who_works_within_limits_is_root_without_the_reserves() {
        let before = capabilities(None).unwrap().effective;
        let within = within_limits(|| capabilities(None).unwrap().effective).unwrap();
        assert_eq!(within, before - CapabilitySet::SYS_RESOURCE);
        assert_eq!(capabilities(None).unwrap().effective, before);
    }
}
