//! `-v`: "[SOURCE:]TARGET[:OPTIONS]".

use strata_proto::runtime::v1 as pb;

use super::{absolute, check_name, check_target, propagation};
use crate::error::{Error, Result};

/// Taken, and of no effect: there is no SELinux here to label for, nor a second host to be consistent with.
const INERT: [&str; 6] = ["z", "Z", "cached", "consistent", "default", "delegated"];

/// What the options of a volume say.
#[derive(Debug, Default)]
struct Options {
    is_read_only: Option<bool>,
    label: Option<String>,
    propagation: Option<pb::MountPropagation>,
    no_copy: bool,
}

/// Reads a volume; volumes with names are made by this driver.
pub fn read(text: &str, driver: &str) -> Result<pb::MountSpec> {
    let wrong = |why: String| Error::usage(format!("invalid volume {text:?}: {why}"));
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, mode) = match parts.as_slice() {
        [target] => ("", *target, ""),
        [target, mode] if !mode.starts_with('/') && is_mode(mode) => ("", *target, *mode),
        [source, target] => (*source, *target, ""),
        [source, target, mode] => (*source, *target, *mode),
        _ => return Err(wrong("it has too many colons; `--mount` takes paths with any letters".to_owned())),
    };
    if source.is_empty() && parts.len() > 1 && parts[0].is_empty() {
        return Err(wrong("what is to be mounted is missing before the colon".to_owned()));
    }
    check_target(target).map_err(wrong)?;
    let options = Options::read(mode).map_err(wrong)?;
    let is_path = source.starts_with(['/', '.']);
    let source = match is_path {
        true if options.no_copy => {
            return Err(wrong("nocopy is for volumes, and a path of the host is none".to_owned()));
        }
        true => {
            let propagation = options.propagation.unwrap_or(pb::MountPropagation::Rprivate);
            let bind = pb::BindSource {
                path: absolute(source)?,
                create: true,
                propagation: propagation.into(),
                ..Default::default()
            };
            pb::mount_spec::Source::Bind(bind)
        }
        false if options.propagation.is_some() => {
            return Err(wrong("mounts travel below paths of the host alone, not below volumes".to_owned()));
        }
        false => {
            if !source.is_empty() {
                check_name(source).map_err(wrong)?;
            }
            pb::mount_spec::Source::Volume(pb::VolumeSource {
                name: source.to_owned(),
                no_copy: options.no_copy,
                driver: driver.to_owned(),
                ..Default::default()
            })
        }
    };
    // What Docker shows for a volume with a name and without options.
    let mode = if mode.is_empty() && !is_path && parts.len() > 1 { "z" } else { mode };
    Ok(pb::MountSpec {
        target: target.to_owned(),
        is_read_only: options.is_read_only.unwrap_or(false),
        source: Some(source),
        mode: mode.to_owned(),
    })
}

/// Says whether all words are options, so that "/path:ro" is a volume without a name.
fn is_mode(text: &str) -> bool {
    Options::read(text).is_ok()
}

impl Options {
    fn read(text: &str) -> Result<Self, String> {
        let mut options = Self::default();
        for word in text.split(',').filter(|word| !word.is_empty()) {
            let is_first = match word {
                "ro" | "rw" => options.is_read_only.replace(word == "ro").is_none(),
                "nocopy" => !std::mem::replace(&mut options.no_copy, true),
                "z" | "Z" => options.label.replace(word.to_owned()).is_none(),
                _ if INERT.contains(&word) => true,
                _ => match propagation(word) {
                    Some(propagation) => options.propagation.replace(propagation).is_none(),
                    None => {
                        return Err(format!(
                            "the option {word:?} is not known: ro, rw, z, Z, nocopy and [r]private, [r]shared, \
                             [r]slave are"
                        ));
                    }
                },
            };
            if !is_first {
                return Err(format!("its options contradict each other at {word:?}"));
            }
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use pb::mount_spec::Source;

    fn volume(text: &str) -> (String, pb::MountSpec) {
        let mount = read(text, "").unwrap_or_else(|error| panic!("{text}: {}", error.message));
        let Some(Source::Volume(volume)) = &mount.source else { panic!("{mount:?}") };
        (volume.name.clone(), mount)
    }

    fn bind(text: &str) -> (pb::BindSource, bool) {
        let mount = read(text, "").unwrap_or_else(|error| panic!("{text}: {}", error.message));
        let Some(Source::Bind(bind)) = mount.source else { panic!("{mount:?}") };
        (bind, mount.is_read_only)
    }

    #[test]
    fn names_paths_and_targets_alone_are_told_apart() {
        assert_eq!(volume("data:/b").0, "data");
        assert_eq!(volume("data:/b").1.mode, "z");
        assert_eq!(volume("/b").0, "");
        assert_eq!(volume("/b").1.mode, "");
        let (name, mount) = volume("/b:ro");
        assert!(name.is_empty() && mount.is_read_only && mount.target == "/b");
        assert_eq!(bind("/a:/b").0.path, "/a");
        assert_eq!(Path::new(&bind("./x/../y:/b").0.path), std::env::current_dir().unwrap().join("y"));
        assert_eq!(Path::new(&bind(".:/b").0.path), std::env::current_dir().unwrap());
        assert_eq!(Path::new(&bind(".hidden:/b").0.path), std::env::current_dir().unwrap().join(".hidden"));
        assert!(bind("/a:/b").0.create);
    }

    #[test]
    fn options_are_docker_s() {
        assert!(bind("/a:/b:ro").1 && !bind("/a:/b:rw").1 && !bind("/a:/b").1);
        assert_eq!(bind("/a:/b").0.propagation(), pb::MountPropagation::Rprivate);
        assert_eq!(bind("/a:/b:ro,rslave,z").0.propagation(), pb::MountPropagation::Rslave);
        assert_eq!(bind("/a:/b:Z,shared").0.propagation(), pb::MountPropagation::Shared);
        assert!(bind("/a:/b:cached").0.create);
        let (_, mount) = volume("data:/b:nocopy,ro");
        assert_eq!(mount.mode, "nocopy,ro");
        assert!(matches!(mount.source, Some(Source::Volume(volume)) if volume.no_copy));
    }

    #[test]
    fn mistakes_say_what_is_wrong_and_what_is_allowed() {
        for (text, words) in [
            ("data", "must be absolute"),
            ("a:b", "must be absolute"),
            ("/a:/", "cannot be \"/\""),
            ("/a:/b/..", "cannot be \"/\""),
            (":/b", "is missing"),
            ("/a:/b:zz", "\"zz\" is not known: ro, rw"),
            ("/a:/b:ro:x", "too many colons"),
            ("/a:/b:ro,rw", "contradict"),
            ("/a:/b:z,Z", "contradict"),
            ("/a:/b:shared,slave", "contradict"),
            ("/a:/b:nocopy", "nocopy is for volumes"),
            ("data:/b:rshared", "not below volumes"),
            ("a/b:/c", "starts with \"/\" or \"./\""),
            ("-x:/c", "must be a letter or digit"),
            ("a b:/c", "must be a letter or digit"),
        ] {
            let said = read(text, "").unwrap_err();
            assert!(said.message.contains(words), "{text}: {}", said.message);
            assert_eq!(said.code, crate::error::STRATA_FAILED);
        }
    }
}
