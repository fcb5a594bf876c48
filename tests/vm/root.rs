//! The root file system of a guest: Debian from a tar, our binaries under the paths they have here, and its jobs.

use std::{
    io,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{archive::Archive, job::Job};

/// What tests call beside the installed binaries: files of cargo's, in the folder of a profile.
const CALLED: [&str; 2] = ["strata-init", "strata-oci"];

/// Programs of this host that Debian's least root file system has not.
const PROGRAMS: [&str; 3] = ["/usr/sbin/ip", "/usr/sbin/mkfs.xfs", "/usr/sbin/nft"];

/// A file below the target directory, of those that `make test-v2` and `make test-systemd` make.
pub fn made(name: &str) -> PathBuf {
    strata_tests::made(strata_tests::target().join(name), "make test-v2 test-systemd")
}

/// Writes the archive that a guest boots from.
pub fn pack(debian: &Path, jobs: &[Job], archive: &Path) -> io::Result<()> {
    let mut archive = Archive::create(archive)?;
    archive.tar(debian)?;
    archive.copy(&made("vm/busybox"), Path::new("/usr/bin/busybox"))?;
    archive.copy_all(&made("vm/modules/lib/modules"), Path::new("/usr/lib/modules"))?;
    work(&mut archive, jobs)?;

    for program in PROGRAMS.map(Path::new) {
        with_libraries(&mut archive, program)?;
    }
    let guest = strata_tests::guest();
    archive.copy(&guest, &guest)?;
    archive.copy_all(&strata_tests::binaries(), &strata_tests::binaries())?;
    for (source, target) in jobs.iter().flat_map(|job| &job.files) {
        archive.copy(source, Path::new(target))?;
    }
    let tests: Vec<&Path> = jobs.iter().filter_map(|job| job.binary.as_deref()).collect();
    for test in &tests {
        with_libraries(&mut archive, test)?;
    }
    // Test binaries lie in PROFILE/deps.
    let profile = tests.first().and_then(|test| test.parent()?.parent()).expect("there is a test in cargo's folder");
    for program in CALLED.map(|name| profile.join(name)) {
        archive.copy(&program, &program)?;
    }
    archive.finish()
}

/// The jobs, and those who see to them.
fn work(archive: &mut Archive, jobs: &[Job]) -> io::Result<()> {
    let lines: String = jobs.iter().map(|job| format!("{} {}\n", job.name, job.command)).collect();
    archive.file(Path::new("/vm/jobs"), 0o644, lines.as_bytes())?;
    archive.copy(&made("vm/wanted"), Path::new("/vm/wanted"))?;
    archive.file(Path::new("/vm/work.sh"), 0o755, include_bytes!("work.sh"))?;
    archive.file(Path::new("/vm/units.sh"), 0o755, include_bytes!("units.sh"))?;
    archive.file(Path::new("/init"), 0o755, include_bytes!("init.sh"))?;
    // Where systemd is installed, it starts them.
    let service = Path::new("/etc/systemd/system/work.service");
    archive.file(service, 0o644, include_bytes!("work.service"))?;
    archive.symlink(Path::new("/etc/systemd/system/multi-user.target.wants/work.service"), service)
}

/// Adds a program under its path here. This host's libraries may be newer than the image's, and serve its programs as well.
fn with_libraries(archive: &mut Archive, program: &Path) -> io::Result<()> {
    archive.copy(program, program)?;
    for library in libraries(program)? {
        // Its name is the one that it is looked for by; its directory may be a link, as /lib is.
        let (directory, name) = (library.parent().unwrap_or(&library), library.file_name().unwrap_or_default());
        archive.copy(&library, &directory.canonicalize()?.join(name))?;
    }
    Ok(())
}

/// The libraries that a program loads, its loader among them.
fn libraries(program: &Path) -> io::Result<Vec<PathBuf>> {
    let output = Command::new("ldd").arg(program).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect())
}
