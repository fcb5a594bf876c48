//! Mounts of a container that an OCI spec has words for: files of this service, binds, volumes, memory. `insert` has the rest.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use oci_spec::runtime::{LinuxIdMapping, LinuxIdMappingBuilder, Mount as OciMount, MountBuilder};

use super::{files::Own, propagation};
use crate::{
    error::{Error, VolumeError},
    spec::{Bind, IdMap, Ids, Mount, Recursion, Source, Tmpfs, VolumeMount},
};

/// The mounts of a container whose volumes were found, and of these files, parents before children.
pub fn mounts(wanted: &[Mount], own: Vec<Own>) -> Result<Vec<OciMount>, Error> {
    let mut mounts = Vec::with_capacity(wanted.len() + own.len());
    for file in own {
        mounts.push(build(&file.target, "bind", &file.source, words(&["rbind", "rprivate"]), Vec::new())?);
    }
    for mount in wanted {
        match &mount.source {
            Source::Bind(bind) => mounts.push(of_bind(mount, bind)?),
            Source::Volume(volume) if volume.sub_path.as_os_str().is_empty() => mounts.push(of_volume(mount, volume)?),
            Source::Tmpfs(tmpfs) => mounts.push(of_tmpfs(mount, tmpfs)?),
            Source::Volume(_) | Source::Bytes { .. } | Source::Snapshot { .. } | Source::Image(_) => {}
        }
    }
    mounts.sort_by_key(|mount| mount.destination().components().count());
    Ok(mounts)
}

/// What of this host a volume is, and whether it may be written to.
pub fn place_of(mount: &Mount, volume: &VolumeMount) -> Result<(PathBuf, bool), Error> {
    let name = volume.name.as_ref().map(ToString::to_string).unwrap_or_default();
    let place = volume.place.as_ref().ok_or(VolumeError::NotFound { name })?;
    let path = place.device.as_ref().unwrap_or(&place.directory);
    match path.exists() {
        true => Ok((path.clone(), mount.is_read_only || place.is_read_only)),
        false => Err(Error::SourceNotFound { path: path.clone() }),
    }
}

fn of_volume(mount: &Mount, volume: &VolumeMount) -> Result<OciMount, Error> {
    let (path, is_read_only) = place_of(mount, volume)?;
    let mut options = words(&["rbind", "rprivate"]);
    options.extend(is_read_only.then(|| "rro".to_owned()));
    build(&mount.target, "bind", &path, options, Vec::new())
}

fn of_bind(mount: &Mount, bind: &Bind) -> Result<OciMount, Error> {
    let path = source(&bind.path, bind.create)?;
    propagation::check(&path, bind.propagation)?;
    let kind = if bind.recursion == Recursion::Disabled { "bind" } else { "rbind" };
    let mut options = words(&[kind, bind.propagation.as_str()]);
    if mount.is_read_only {
        let whole = matches!(bind.recursion, Recursion::Enabled | Recursion::ReadOnly);
        options.push(if whole { "rro" } else { "ro" }.to_owned());
    }
    let maps = match &bind.ids {
        Ids::Same => Vec::new(),
        Ids::Mapped(users, groups) => vec![users.clone(), groups.clone()],
        Ids::As(uid, gid) => {
            let found = fs::metadata(&path).map_err(|e| Error::io("look at", &path, e))?;
            let one = |disk, container| vec![IdMap { disk, container, count: 1 }];
            vec![one(found.uid(), *uid), one(found.gid(), *gid)]
        }
    };
    options.extend((!maps.is_empty()).then(|| "idmap".to_owned()));
    build(&mount.target, "bind", &path, options, maps)
}

/// A path of the host, made if it may be and is not there.
fn source(path: &Path, create: bool) -> Result<PathBuf, Error> {
    if !path.exists() {
        if !create {
            return Err(Error::SourceNotFound { path: path.to_owned() });
        }
        fs::create_dir_all(path).map_err(|e| Error::io("create", path, e))?;
    }
    Ok(path.to_owned())
}

fn of_tmpfs(mount: &Mount, tmpfs: &Tmpfs) -> Result<OciMount, Error> {
    let mut options = words(&["nosuid"]);
    if !tmpfs.may_execute {
        options.extend(words(&["nodev", "noexec"]));
    }
    match (tmpfs.mode, tmpfs.is_like_covered) {
        (0, true) => {}
        (0, false) => options.push("mode=1777".to_owned()),
        (mode, _) => options.push(format!("mode={mode:o}")),
    }
    if tmpfs.size_bytes != 0 {
        options.push(format!("size={}", tmpfs.size_bytes));
    }
    options.extend(tmpfs.options.iter().cloned());
    if mount.is_read_only {
        options.push("ro".to_owned());
    }
    build(&mount.target, "tmpfs", Path::new("tmpfs"), options, Vec::new())
}

/// A mount with these options, and with maps of users and groups if there are any.
fn build(
    target: &str,
    kind: &str,
    source: &Path,
    options: Vec<String>,
    maps: Vec<Vec<IdMap>>,
) -> Result<OciMount, Error> {
    let problem = |error: oci_spec::OciSpecError| Error::Host { source: Box::new(error) };
    let mount = MountBuilder::default().destination(target).typ(kind).source(source).options(options);
    let mut mount = mount.build().map_err(problem)?;
    if let [users, groups] = maps.as_slice() {
        mount.set_uid_mappings(Some(of_maps(users).map_err(problem)?));
        mount.set_gid_mappings(Some(of_maps(groups).map_err(problem)?));
    }
    Ok(mount)
}

/// config.md, "Mounts": from ids in the source (container ID) to those that are seen (host ID).
fn of_maps(maps: &[IdMap]) -> Result<Vec<LinuxIdMapping>, oci_spec::OciSpecError> {
    let one = |map: &IdMap| {
        LinuxIdMappingBuilder::default().container_id(map.disk).host_id(map.container).size(map.count).build()
    };
    maps.iter().map(one).collect()
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

#[cfg(test)]
mod tests;
