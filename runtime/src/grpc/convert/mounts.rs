//! Mounts, wire to domain and back.

use std::collections::BTreeMap;

use strata_proto::runtime::v1 as wire;
use strata_types::{SnapshotKey, VolumeName};

use super::path;
use crate::{
    error::{Error, VolumeError},
    spec::{
        self, Bind, IdMap, Ids, ImageMount, Mount, Propagation, Recursion, Source, Tmpfs, VolumeMount, VolumesFrom,
    },
    volume::options::{Backing, LOCAL},
};

/// The most labels, and the most options, of a volume.
const MOST: usize = 1000;

/// Options of a tmpfs beyond size and mode: tmpfs(5), and attributes of mounts.
const TMPFS_OPTIONS: [&str; 23] = [
    "atime",
    "async",
    "defaults",
    "dev",
    "diratime",
    "exec",
    "gid",
    "huge",
    "mode",
    "mpol",
    "noatime",
    "nodev",
    "nodiratime",
    "noexec",
    "nosuid",
    "nr_blocks",
    "nr_inodes",
    "relatime",
    "ro",
    "rw",
    "size",
    "suid",
    "uid",
];

/// Parses the mounts of a spec.
pub fn mounts(mounts: Vec<wire::MountSpec>) -> Result<Vec<Mount>, Error> {
    let mut parsed: Vec<Mount> = Vec::with_capacity(mounts.len());
    for (index, mount) in mounts.into_iter().enumerate() {
        let field = format!("spec.mounts[{index}]");
        let mount = one(&field, mount)?;
        if parsed.iter().any(|other| other.target == mount.target) {
            return Err(Error::argument(format!("{field}.target"), format!("duplicate mount point {}", mount.target)));
        }
        parsed.push(mount);
    }
    Ok(parsed)
}

/// Parses a mount for a container that is there. Only builds have snapshots and bytes, and they make their containers.
pub fn added(mount: Option<wire::MountSpec>) -> Result<Mount, Error> {
    let mount = mount.ok_or_else(|| Error::argument("mount", "it is missing"))?;
    match &mount.source {
        Some(wire::mount_spec::Source::Bytes(_) | wire::mount_spec::Source::Snapshot(_)) => {
            Err(Error::argument("mount.source", "a container that is there gets binds, volumes, images and tmpfs"))
        }
        _ => one("mount", mount),
    }
}

/// Parses the containers whose mounts are wanted.
pub fn volumes_from(from: Vec<wire::VolumesFrom>) -> Result<Vec<VolumesFrom>, Error> {
    if from.iter().any(|one| one.container.is_empty()) {
        return Err(Error::argument("spec.volumes_from", "a container is needed"));
    }
    let one = |from: wire::VolumesFrom| VolumesFrom { container: from.container, is_read_only: from.is_read_only };
    Ok(from.into_iter().map(one).collect())
}

fn one(field: &str, mount: wire::MountSpec) -> Result<Mount, Error> {
    let at = |name: &str| format!("{field}.{name}");
    let target = path(&at("target"), &mount.target)?;
    if target == "/" {
        return Err(Error::argument(at("target"), "the root itself cannot be mounted over"));
    }
    let source = match mount.source {
        Some(wire::mount_spec::Source::Bind(source)) => Source::Bind(bind(&at("bind"), source, mount.is_read_only)?),
        Some(wire::mount_spec::Source::Tmpfs(source)) => Source::Tmpfs(tmpfs(&at("tmpfs"), source)?),
        Some(wire::mount_spec::Source::Bytes(bytes)) => {
            if bytes.data.len() > spec::MAX_BYTES_MOUNT {
                return Err(Error::argument(at("bytes.data"), "it holds more than 1 MiB"));
            }
            let mode = mode(&at("bytes.mode"), bytes.mode)?;
            Source::Bytes { mode, data: bytes.data.to_vec(), owner: (bytes.uid, bytes.gid) }
        }
        Some(wire::mount_spec::Source::Snapshot(snapshot)) => {
            let key = SnapshotKey::parse(snapshot.key);
            let key = key.map_err(|invalid| Error::argument(at("snapshot.key"), invalid.to_string()))?;
            Source::Snapshot { key, path: path(&at("snapshot.path"), &format!("/{}", snapshot.path))?.into() }
        }
        Some(wire::mount_spec::Source::Volume(source)) => Source::Volume(volume(&at("volume"), source)?),
        Some(wire::mount_spec::Source::Image(image)) => {
            if image.image.is_empty() {
                return Err(Error::argument(at("image.image"), "an image is needed"));
            }
            let path = path(&at("image.path"), &format!("/{}", image.path))?.into();
            Source::Image(ImageMount { image: image.image, path, image_id: String::new(), key: None })
        }
        None => return Err(Error::argument(at("source"), "it is missing")),
    };
    // Which files of proc a bind may be for, the plan knows.
    if !matches!(source, Source::Bind(_)) && (target == "/proc" || target.starts_with("/proc/")) {
        return Err(Error::argument(at("target"), format!("{target}: nothing but a bind may be mounted in /proc")));
    }
    let is_read_only = mount.is_read_only || matches!(source, Source::Image(_));
    super::one_text(&at("mode"), &mount.mode)?;
    Ok(Mount { target, is_read_only, mode: mount.mode, source })
}

fn bind(field: &str, bind: wire::BindSource, is_read_only: bool) -> Result<Bind, Error> {
    let at = |name: &str| format!("{field}.{name}");
    use wire::MountPropagation as Wire;
    let propagation = match Wire::try_from(bind.propagation) {
        Ok(Wire::Private) => Propagation::Private,
        Ok(Wire::Unspecified | Wire::Rprivate) => Propagation::Rprivate,
        Ok(Wire::Slave) => Propagation::Slave,
        Ok(Wire::Rslave) => Propagation::Rslave,
        Ok(Wire::Shared) => Propagation::Shared,
        Ok(Wire::Rshared) => Propagation::Rshared,
        Err(_) => return Err(Error::argument(at("propagation"), format!("there is none {}", bind.propagation))),
    };
    let recursion = match wire::BindRecursion::try_from(bind.recursion) {
        Ok(wire::BindRecursion::Unspecified) => Recursion::Enabled,
        Ok(wire::BindRecursion::Disabled) => Recursion::Disabled,
        Ok(wire::BindRecursion::Writable) => Recursion::Writable,
        Ok(wire::BindRecursion::ReadOnly) => Recursion::ReadOnly,
        Err(_) => return Err(Error::argument(at("recursion"), format!("there is none {}", bind.recursion))),
    };
    let is_private = matches!(propagation, Propagation::Private | Propagation::Rprivate);
    if recursion == Recursion::ReadOnly && !(is_read_only && is_private) {
        return Err(Error::argument(at("recursion"), "READ_ONLY is for a bind that is read-only and private"));
    }
    let ids = match (bind.r#as, bind.uid_map.is_empty() && bind.gid_map.is_empty()) {
        (None, true) => Ids::Same,
        (Some(owner), true) => Ids::As(owner.uid, owner.gid),
        (None, false) => Ids::Mapped(maps(&at("uid_map"), bind.uid_map)?, maps(&at("gid_map"), bind.gid_map)?),
        (Some(_), false) => return Err(Error::argument(at("as"), "there are maps too")),
    };
    Ok(Bind { path: path(&at("path"), &bind.path)?.into(), create: bind.create, propagation, recursion, ids })
}

/// user_namespaces(7): a map has 1 to 340 lines, whose ids are below 2^32 - 1.
fn maps(field: &str, maps: Vec<wire::MountIdMap>) -> Result<Vec<IdMap>, Error> {
    let goes_beyond = |first: u32, count: u32| first.checked_add(count).is_none();
    let is_wrong = |map: &wire::MountIdMap| {
        map.count == 0 || goes_beyond(map.disk_id, map.count) || goes_beyond(map.container_id, map.count)
    };
    if maps.is_empty() || maps.len() > 340 || maps.iter().any(is_wrong) {
        return Err(Error::argument(field, "1 to 340 maps of at least one id are expected, of users and of groups"));
    }
    let one = |map: wire::MountIdMap| IdMap { disk: map.disk_id, container: map.container_id, count: map.count };
    Ok(maps.into_iter().map(one).collect())
}

fn tmpfs(field: &str, tmpfs: wire::TmpfsSource) -> Result<Tmpfs, Error> {
    for option in &tmpfs.options {
        let name = option.split('=').next().unwrap_or_default();
        let is_plain = option.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',');
        if !TMPFS_OPTIONS.contains(&name) || !is_plain {
            let problem = format!("invalid tmpfs option {option:?}: {} are known", TMPFS_OPTIONS.join(", "));
            return Err(Error::argument(format!("{field}.options"), problem));
        }
    }
    Ok(Tmpfs {
        size_bytes: tmpfs.size_bytes,
        mode: mode(&format!("{field}.mode"), tmpfs.mode)?,
        may_execute: tmpfs.may_execute,
        options: tmpfs.options,
        is_like_covered: tmpfs.is_like_covered,
    })
}

fn volume(field: &str, volume: wire::VolumeSource) -> Result<VolumeMount, Error> {
    let at = |name: &str| format!("{field}.{name}");
    let name = volume_name(&at("name"), volume.name)?;
    let sub_path = match volume.sub_path.as_str() {
        "" => String::new(),
        text => path(&at("sub_path"), &format!("/{text}"))?,
    };
    if name.is_none() && !sub_path.is_empty() {
        return Err(Error::argument(at("sub_path"), "a volume that is made for the container has nothing in it yet"));
    }
    driver(&volume.driver)?;
    Ok(VolumeMount {
        is_anonymous: name.is_none(),
        name,
        no_copy: volume.no_copy,
        sub_path: sub_path.into(),
        options: options(&at("options"), volume.options)?,
        labels: labels(&at("labels"), volume.labels)?,
        place: None,
    })
}

/// Parses the name of a volume; empty is none.
pub fn volume_name(field: &str, text: String) -> Result<Option<VolumeName>, Error> {
    if text.is_empty() {
        return Ok(None);
    }
    VolumeName::parse(text).map(Some).map_err(|invalid| Error::argument(field, invalid.to_string()))
}

/// Checks the driver of a volume.
pub fn driver(name: &str) -> Result<(), Error> {
    match name {
        "" | LOCAL => Ok(()),
        other => Err(VolumeError::Driver { driver: other.to_owned() }.into()),
    }
}

/// Parses the options of a volume, and refuses what has no meaning.
pub fn options(field: &str, options: Vec<wire::VolumeOption>) -> Result<BTreeMap<String, String>, Error> {
    if options.len() > MOST {
        return Err(Error::argument(field, format!("more than {MOST}")));
    }
    let options = options.into_iter().map(|option| (option.name, option.value)).collect();
    match Backing::parse(&options) {
        Ok(_) => Ok(options),
        Err(Error::Argument { problem, .. }) => Err(Error::argument(field, problem)),
        Err(error) => Err(error),
    }
}

/// Parses the labels of a volume.
pub fn labels(
    field: &str,
    labels: std::collections::HashMap<String, String>,
) -> Result<BTreeMap<String, String>, Error> {
    let length: usize = labels.iter().map(|(key, value)| key.len() + value.len()).sum();
    match labels.len() > MOST || length > super::MAX_TEXT {
        true => Err(Error::argument(field, "it holds too much")),
        false => Ok(labels.into_iter().collect()),
    }
}

fn mode(field: &str, mode: u32) -> Result<u32, Error> {
    if mode > 0o7777 { Err(Error::argument(field, format!("{mode:o} are not permission bits"))) } else { Ok(mode) }
}

/// A mount as the wire shows it. Bytes mounts are secrets: they go in, never out.
pub fn wire_mount(mount: Mount) -> wire::MountSpec {
    let source = match mount.source {
        Source::Bind(bind) => wire::mount_spec::Source::Bind(wire_bind(bind)),
        Source::Tmpfs(Tmpfs { size_bytes, mode, may_execute, options, is_like_covered }) => {
            let tmpfs = wire::TmpfsSource { size_bytes, mode, may_execute, options, is_like_covered };
            wire::mount_spec::Source::Tmpfs(tmpfs)
        }
        Source::Bytes { mode, owner: (uid, gid), .. } => {
            wire::mount_spec::Source::Bytes(wire::BytesSource { data: Default::default(), mode, uid, gid })
        }
        Source::Snapshot { key, path } => wire::mount_spec::Source::Snapshot(wire::SnapshotSource {
            key: key.to_string(),
            path: path.to_string_lossy().into_owned(),
        }),
        Source::Volume(volume) => wire::mount_spec::Source::Volume(wire_volume(volume)),
        Source::Image(image) => wire::mount_spec::Source::Image(wire::ImageSource {
            image: image.image,
            path: image.path.to_string_lossy().trim_start_matches('/').to_owned(),
            image_id: image.image_id,
        }),
    };
    let (target, is_read_only, mode) = (mount.target, mount.is_read_only, mount.mode);
    wire::MountSpec { target, is_read_only, mode, source: Some(source) }
}

fn wire_bind(bind: Bind) -> wire::BindSource {
    let propagation = match bind.propagation {
        Propagation::Private => wire::MountPropagation::Private,
        Propagation::Rprivate => wire::MountPropagation::Rprivate,
        Propagation::Slave => wire::MountPropagation::Slave,
        Propagation::Rslave => wire::MountPropagation::Rslave,
        Propagation::Shared => wire::MountPropagation::Shared,
        Propagation::Rshared => wire::MountPropagation::Rshared,
    };
    let recursion = match bind.recursion {
        Recursion::Enabled => wire::BindRecursion::Unspecified,
        Recursion::Disabled => wire::BindRecursion::Disabled,
        Recursion::Writable => wire::BindRecursion::Writable,
        Recursion::ReadOnly => wire::BindRecursion::ReadOnly,
    };
    let one = |map: IdMap| wire::MountIdMap { disk_id: map.disk, container_id: map.container, count: map.count };
    let of = |maps: Vec<IdMap>| maps.into_iter().map(one).collect();
    let (owner, uid_map, gid_map) = match bind.ids {
        Ids::Same => (None, Vec::new(), Vec::new()),
        Ids::As(uid, gid) => (Some(wire::MountOwner { uid, gid }), Vec::new(), Vec::new()),
        Ids::Mapped(users, groups) => (None, of(users), of(groups)),
    };
    wire::BindSource {
        path: bind.path.to_string_lossy().into_owned(),
        create: bind.create,
        propagation: propagation.into(),
        recursion: recursion.into(),
        uid_map,
        gid_map,
        r#as: owner,
    }
}

fn wire_volume(volume: VolumeMount) -> wire::VolumeSource {
    let place = volume.place.map(|place| place.directory.to_string_lossy().into_owned());
    wire::VolumeSource {
        name: volume.name.map(String::from).unwrap_or_default(),
        is_anonymous: volume.is_anonymous,
        no_copy: volume.no_copy,
        sub_path: volume.sub_path.to_string_lossy().trim_start_matches('/').to_owned(),
        driver: LOCAL.to_owned(),
        options: wire_options(volume.options),
        labels: volume.labels.into_iter().collect(),
        host_path: place.unwrap_or_default(),
    }
}

/// Options of a volume as the wire shows them.
pub fn wire_options(options: BTreeMap<String, String>) -> Vec<wire::VolumeOption> {
    options.into_iter().map(|(name, value)| wire::VolumeOption { name, value }).collect()
}

#[cfg(test)]
mod tests;
