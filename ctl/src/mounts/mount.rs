//! `--mount`: "type=TYPE,KEY=VALUE,…", fields between commas, in quotes where one has a comma.

use strata_proto::runtime::v1 as pb;

use super::{PROPAGATIONS, absolute, check_name, check_target, propagation};
use crate::args::fields;
use crate::error::{Error, Result};
use crate::input;

/// Keys that mean true without a value.
const FLAGS: [&str; 6] = ["bind-create-src", "bind-nonrecursive", "idmap", "readonly", "ro", "volume-nocopy"];

/// What a mount is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Bind,
    Volume,
    Tmpfs,
    Image,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Bind => "bind",
            Self::Volume => "volume",
            Self::Tmpfs => "tmpfs",
            Self::Image => "image",
        }
    }

    fn read(text: &str) -> Result<Self, String> {
        match text.to_lowercase().as_str() {
            "bind" => Ok(Self::Bind),
            "volume" => Ok(Self::Volume),
            "tmpfs" => Ok(Self::Tmpfs),
            "image" => Ok(Self::Image),
            "npipe" | "cluster" => Err(format!("type={text} is not available: bind, volume, tmpfs and image are")),
            _ => Err(format!("type={text}: bind, volume, tmpfs or image is expected")),
        }
    }

    /// The type that a key is for; none: any.
    fn of_key(key: &str) -> Option<Self> {
        match key {
            "as" | "idmap" => Some(Self::Bind),
            _ => [Self::Bind, Self::Volume, Self::Tmpfs, Self::Image]
                .into_iter()
                .find(|kind| key.strip_prefix(kind.as_str()).is_some_and(|rest| rest.starts_with('-'))),
        }
    }
}

/// Fields as they were read.
#[derive(Debug, Default)]
struct Fields {
    kind: Option<Kind>,
    source: Option<String>,
    target: Option<String>,
    is_read_only: bool,
    bind: pb::BindSource,
    volume: pb::VolumeSource,
    tmpfs: pb::TmpfsSource,
    image: pb::ImageSource,
    /// A key for each type that keys are for.
    used: Vec<(Kind, String)>,
}

/// Reads a mount.
pub fn read(text: &str) -> Result<pb::MountSpec> {
    let wrong = |why: String| Error::usage(format!("invalid mount {text:?}: {why}"));
    let mut read = Fields::default();
    for field in fields(text) {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key.trim().to_lowercase(), Some(value)),
            None => (field.trim().to_lowercase(), None),
        };
        match value {
            None if !FLAGS.contains(&key.as_str()) => {
                return Err(wrong(format!("{key:?} is no field: KEY=VALUE is expected")));
            }
            value => read.take(&key, value).map_err(wrong)?,
        }
    }
    read.finish().map_err(wrong)
}

impl Fields {
    fn take(&mut self, key: &str, given: Option<&str>) -> Result<(), String> {
        let value = given.unwrap_or("true");
        let is_true = || truth(key, value);
        if let Some(kind) = Kind::of_key(key) {
            self.used.push((kind, key.to_owned()));
        }
        match key {
            "type" => self.kind = Some(Kind::read(value)?),
            "source" | "src" => self.source = Some(value.to_owned()),
            "target" | "dst" | "destination" => self.target = Some(value.to_owned()),
            "readonly" | "ro" => self.is_read_only = is_true()?,
            "rw" => self.is_read_only = !is_true()?,
            "consistency" => one_of(key, value, &["consistent", "cached", "delegated", "default"])?,
            "bind-propagation" => {
                let names: Vec<&str> = PROPAGATIONS.iter().map(|(name, _)| *name).collect();
                one_of(key, value, &names)?;
                self.bind.propagation = propagation(value).unwrap_or_default().into();
            }
            "bind-recursive" => self.bind.recursion = recursion(value)?.into(),
            "bind-nonrecursive" => {
                if is_true()? {
                    self.bind.recursion = pb::BindRecursion::Disabled.into();
                }
            }
            "bind-create-src" => self.bind.create = is_true()?,
            "as" => self.bind.r#as = Some(owner(value)?),
            "idmap" => (self.bind.uid_map, self.bind.gid_map) = id_maps(given)?,
            "volume-subpath" => self.volume.sub_path = value.to_owned(),
            "volume-nocopy" => self.volume.no_copy = is_true()?,
            "volume-driver" => self.volume.driver = value.to_owned(),
            "volume-label" => {
                let (name, label) = value.split_once('=').unwrap_or((value, ""));
                self.volume.labels.insert(name.to_owned(), label.to_owned());
            }
            "volume-opt" => {
                let (name, option) = value.split_once('=').unwrap_or((value, ""));
                self.volume.options.push(pb::VolumeOption { name: name.to_owned(), value: option.to_owned() });
            }
            "image-subpath" => self.image.path = value.to_owned(),
            "tmpfs-size" => {
                self.tmpfs.size_bytes = input::bytes(key, value).map_err(|error| error.message)?;
            }
            "tmpfs-mode" => {
                let mode = u32::from_str_radix(value, 8).ok().filter(|mode| *mode <= 0o7777);
                self.tmpfs.mode =
                    mode.ok_or_else(|| format!("{key}={value}: octal digits such as 1770 are expected"))?;
            }
            _ => return Err(unknown(key)),
        }
        Ok(())
    }

    fn finish(mut self) -> Result<pb::MountSpec, String> {
        let kind = self.kind.unwrap_or(Kind::Volume);
        if let Some((other, key)) = self.used.iter().find(|(other, _)| *other != kind) {
            return Err(format!("{key} is for type={}, and this is type={}", other.as_str(), kind.as_str()));
        }
        let target = self.target.clone().ok_or("target=PATH is missing: where it is to be in the container")?;
        check_target(&target)?;
        let source = self.source.take().unwrap_or_default();
        let source = match kind {
            Kind::Bind => pb::mount_spec::Source::Bind(self.bind(&source)?),
            Kind::Volume => {
                if !source.is_empty() {
                    check_name(&source)?;
                }
                pb::mount_spec::Source::Volume(pb::VolumeSource { name: source, ..self.volume })
            }
            Kind::Tmpfs if !source.is_empty() => return Err("type=tmpfs has no source".to_owned()),
            Kind::Tmpfs => {
                self.tmpfs.is_like_covered = self.tmpfs.mode == 0;
                pb::mount_spec::Source::Tmpfs(self.tmpfs)
            }
            Kind::Image if source.is_empty() => return Err("source=IMAGE is missing".to_owned()),
            Kind::Image => pb::mount_spec::Source::Image(pb::ImageSource { image: source, ..self.image }),
        };
        let is_read_only = self.is_read_only || kind == Kind::Image;
        Ok(pb::MountSpec { target, is_read_only, source: Some(source), mode: String::new() })
    }

    fn bind(&self, source: &str) -> Result<pb::BindSource, String> {
        let path = match source {
            "" => return Err("source=PATH is missing".to_owned()),
            _ if source.starts_with(['/', '.']) => absolute(source).map_err(|error| error.message)?,
            _ => return Err(format!("source={source}: a path of the host starts with \"/\" or \"./\"")),
        };
        let mut bind = pb::BindSource { path, ..self.bind.clone() };
        let is_private = matches!(
            bind.propagation(),
            pb::MountPropagation::Unspecified | pb::MountPropagation::Rprivate | pb::MountPropagation::Private
        );
        if bind.recursion() == pb::BindRecursion::ReadOnly && !self.is_read_only {
            return Err("bind-recursive=readonly needs readonly too".to_owned());
        }
        if bind.recursion() == pb::BindRecursion::ReadOnly && !is_private {
            return Err("bind-recursive=readonly needs bind-propagation=rprivate".to_owned());
        }
        if bind.recursion() == pb::BindRecursion::Writable && !self.is_read_only {
            return Err("bind-recursive=writable needs readonly too: otherwise all of it is writable".to_owned());
        }
        if bind.propagation() == pb::MountPropagation::Unspecified {
            bind.propagation = pb::MountPropagation::Rprivate.into();
        }
        if bind.r#as.is_some() && !bind.uid_map.is_empty() {
            return Err("idmap and as are two ways to say whose the files are: one of them is enough".to_owned());
        }
        Ok(bind)
    }
}

fn truth(key: &str, value: &str) -> Result<bool, String> {
    match value.to_lowercase().as_str() {
        "true" | "1" | "t" => Ok(true),
        "false" | "0" | "f" => Ok(false),
        _ => Err(format!("{key}={value}: true or false is expected")),
    }
}

fn one_of(key: &str, value: &str, known: &[&str]) -> Result<(), String> {
    match known.contains(&value) {
        true => Ok(()),
        false => Err(format!("{key}={value}: it is one of {}", known.join(", "))),
    }
}

fn recursion(value: &str) -> Result<pb::BindRecursion, String> {
    match value {
        "enabled" => Ok(pb::BindRecursion::Unspecified),
        "disabled" => Ok(pb::BindRecursion::Disabled),
        "writable" => Ok(pb::BindRecursion::Writable),
        "readonly" => Ok(pb::BindRecursion::ReadOnly),
        _ => Err(format!("bind-recursive={value}: it is one of enabled, disabled, writable, readonly")),
    }
}

/// "uid[:gid]"
fn owner(value: &str) -> Result<pb::MountOwner, String> {
    let (uid, gid) = value.split_once(':').unwrap_or((value, value));
    match (uid.parse(), gid.parse()) {
        (Ok(uid), Ok(gid)) => Ok(pb::MountOwner { uid, gid }),
        _ => Err(format!("as={value}: UID:GID is expected, as=1000:1000")),
    }
}

/// Maps of users and of groups.
type IdMaps = (Vec<pb::MountIdMap>, Vec<pb::MountIdMap>);

/// "uids=DISK-CONTAINER-COUNT[#…];gids=…", or maps alone, for both.
fn id_maps(value: Option<&str>) -> Result<IdMaps, String> {
    let expected = "DISK-CONTAINER-COUNT is expected, idmap=0-1000-1, or idmap=uids=0-1000-1;gids=0-1000-1";
    let Some(value) = value else { return Err(format!("idmap has no map: {expected}")) };
    let wrong = || format!("idmap={value}: {expected}");
    let map = |text: &str| {
        let numbers: Option<Vec<u32>> = text.split('-').map(|number| number.parse().ok()).collect();
        match numbers.as_deref() {
            Some(&[disk_id, container_id, count]) => Ok(pb::MountIdMap { disk_id, container_id, count }),
            _ => Err(wrong()),
        }
    };
    let maps = |text: &str| text.split('#').map(map).collect::<Result<Vec<_>, _>>();
    if !value.contains('=') {
        return Ok((maps(value)?, maps(value)?));
    }
    let (mut users, mut groups) = (Vec::new(), Vec::new());
    for part in value.split(';') {
        match part.split_once('=') {
            Some(("uids", text)) => users = maps(text)?,
            Some(("gids", text)) => groups = maps(text)?,
            _ => return Err(wrong()),
        }
    }
    if users.is_empty() || groups.is_empty() { Err(wrong()) } else { Ok((users, groups)) }
}

fn unknown(key: &str) -> String {
    const KNOWN: [&str; 22] = [
        "as",
        "bind-create-src",
        "bind-nonrecursive",
        "bind-propagation",
        "bind-recursive",
        "consistency",
        "destination",
        "dst",
        "idmap",
        "image-subpath",
        "readonly",
        "ro",
        "source",
        "src",
        "target",
        "tmpfs-mode",
        "tmpfs-size",
        "type",
        "volume-driver",
        "volume-label",
        "volume-nocopy",
        "volume-opt",
    ];
    let near = strata_dockerfile::nearest(key, KNOWN.into_iter().chain(["volume-subpath"]));
    let hint = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
    format!("unknown key {key:?}{hint}")
}

#[cfg(test)]
mod tests;
