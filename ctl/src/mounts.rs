//! What people ask to be mounted: `-v`, `--mount`, `--tmpfs` and `--volumes-from`, in Docker's forms. `volume` reads the short
//! form, `mount` the long one.

mod mount;
mod volume;

use std::path::{Component, Path, PathBuf};

use strata_proto::runtime::v1 as pb;
use strata_types::VolumeName;

use crate::args::MountFlags;
use crate::error::{Error, Result};

/// All that flags say, in the order in which Docker takes it.
pub fn mounts(args: &MountFlags) -> Result<Vec<pb::MountSpec>> {
    let driver = args.volume_driver.as_deref().unwrap_or_default();
    let mut all: Vec<pb::MountSpec> = Vec::new();
    let volumes = args.volume.iter().map(|text| volume::read(text, driver));
    let mounts = args.mount.iter().map(|text| mount::read(text));
    let memory = args.tmpfs.iter().map(|text| tmpfs(text));
    for mount in volumes.chain(mounts).chain(memory) {
        let mount = mount?;
        if all.iter().any(|other| clean(&other.target) == clean(&mount.target)) {
            let error = Error::usage(format!("duplicate mount point: {}", mount.target));
            return Err(error.hint("one target can have one of -v, --mount and --tmpfs"));
        }
        all.push(mount);
    }
    Ok(all)
}

/// "container[:ro|rw]" of each.
pub fn volumes_from(flags: &[String]) -> Result<Vec<pb::VolumesFrom>> {
    let one = |text: &String| {
        let (container, mode) = text.split_once(':').unwrap_or((text, "rw"));
        let is_read_only = match mode {
            "ro" => true,
            "rw" | "z" | "Z" => false,
            _ => return Err(wrong_from(text, &format!("{mode:?} is no mode: ro and rw are"))),
        };
        match container.is_empty() {
            true => Err(wrong_from(text, "CONTAINER[:ro] is expected")),
            false => Ok(pb::VolumesFrom { container: container.to_owned(), is_read_only }),
        }
    };
    flags.iter().map(one).collect()
}

fn wrong_from(text: &str, why: &str) -> Error {
    Error::usage(format!("invalid --volumes-from {text:?}: {why}"))
}

/// "target[:options]"
fn tmpfs(text: &str) -> Result<pb::MountSpec> {
    let (target, options) = text.split_once(':').unwrap_or((text, ""));
    let wrong = |why: &str| Error::usage(format!("invalid --tmpfs {text:?}: {why}"));
    check_target(target).map_err(|why| wrong(&why))?;
    let options = options.split(',').filter(|option| !option.is_empty()).map(str::to_owned).collect();
    let source = pb::TmpfsSource { options, is_like_covered: true, ..Default::default() };
    Ok(pb::MountSpec {
        target: target.to_owned(),
        source: Some(pb::mount_spec::Source::Tmpfs(source)),
        ..Default::default()
    })
}

/// Says what is wrong with a path in a container.
fn check_target(target: &str) -> Result<(), String> {
    if !target.starts_with('/') {
        return Err(format!("the path in the container must be absolute, and {target:?} is not"));
    }
    if clean(target) == Path::new("/") {
        return Err("the path in the container cannot be \"/\"".to_owned());
    }
    Ok(())
}

/// Says what is wrong with the name of a volume; what looks like a path gets the hint that it may be meant as one.
fn check_name(name: &str) -> Result<(), String> {
    match VolumeName::parse(name) {
        Ok(_) => Ok(()),
        Err(_) if name.contains('/') => Err(format!(
            "{name:?} is no name of a volume: if a directory of the host is meant, its path starts with \"/\" or \"./\""
        )),
        Err(invalid) => Err(invalid.to_string()),
    }
}

/// The propagations that there are.
const PROPAGATIONS: [(&str, pb::MountPropagation); 6] = [
    ("private", pb::MountPropagation::Private),
    ("rprivate", pb::MountPropagation::Rprivate),
    ("shared", pb::MountPropagation::Shared),
    ("rshared", pb::MountPropagation::Rshared),
    ("slave", pb::MountPropagation::Slave),
    ("rslave", pb::MountPropagation::Rslave),
];

/// A propagation by its name.
fn propagation(text: &str) -> Option<pb::MountPropagation> {
    PROPAGATIONS.iter().find(|(name, _)| *name == text).map(|(_, propagation)| *propagation)
}

/// The path of the host that is meant: relative to the current directory, without dots.
fn absolute(path: &str) -> Result<String> {
    let here = std::env::current_dir()
        .map_err(|error| Error::new(format!("cannot find the current directory for {path:?}: {error}")))?;
    let all = clean(here.join(path));
    all.into_os_string().into_string().map_err(|_| Error::usage(format!("the path of {path:?} is not UTF-8")))
}

fn clean(path: impl AsRef<Path>) -> PathBuf {
    let mut all = PathBuf::new();
    for part in path.as_ref().components() {
        match part {
            Component::ParentDir => drop(all.pop()),
            Component::CurDir => {}
            other => all.push(other),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command};

    fn of(line: &str) -> Result<Vec<pb::MountSpec>> {
        match Cli::try_parse_from(format!("ctl create {line} image").split(' ')).unwrap().command {
            Command::Create(args) => mounts(&args.mounts),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn all_three_flags_share_the_targets() {
        assert_eq!(of("-v a:/a --mount dst=/b --tmpfs /c:size=1m").unwrap().len(), 3);
        for line in ["-v a:/a -v b:/a/", "-v /a --tmpfs /a", "--mount dst=/a --tmpfs //a/.", "-v a:/a -v b:/b/../a"] {
            let said = of(line).unwrap_err().message;
            assert!(said.starts_with("duplicate mount point"), "{line}: {said}");
        }
    }

    #[test]
    fn a_tmpfs_has_docker_s_form() {
        let all = of("--tmpfs /run:rw,noexec,size=64k").unwrap();
        let Some(pb::mount_spec::Source::Tmpfs(source)) = &all[0].source else { panic!("{all:?}") };
        assert_eq!(source.options, ["rw", "noexec", "size=64k"]);
        assert!(source.is_like_covered && !source.may_execute);
        assert!(of("--tmpfs run").is_err() && of("--tmpfs /").is_err());
    }

    #[test]
    fn volumes_of_others_may_be_read_only() {
        let from =
            |text: &str| volumes_from(&[text.to_owned()]).map(|all| (all[0].container.clone(), all[0].is_read_only));
        assert_eq!(from("box").unwrap(), ("box".to_owned(), false));
        assert_eq!(from("box:ro").unwrap(), ("box".to_owned(), true));
        assert!(from("box:x").is_err() && from(":ro").is_err());
    }
}
