//! `--output`: where the result of a build goes, in the form that buildx has.

use std::path::PathBuf;
use std::str::FromStr;

use crate::args::{ArchiveCompression, ArchiveFormat};

/// One place for the result of a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// What is written there.
    pub kind: OutputKind,
    /// The place. `None`: standard output, where that can be.
    pub dest: Option<PathBuf>,
    /// How layers are compressed, where there are any. `None`: as suits the form.
    pub compression: Option<ArchiveCompression>,
    /// Compress layers that are compressed otherwise too.
    pub force_compression: bool,
    /// Further names of the image.
    pub names: Vec<String>,
}

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputKind {
    /// The image, in the store.
    Image,
    /// The image, at its registry.
    Registry,
    /// The files of the image, in a directory.
    Local,
    /// The files of the image, as a tar.
    Tar,
    /// The image, as an archive or as a directory.
    Archive(ArchiveFormat),
    /// Nothing: only the cache is filled.
    CacheOnly,
}

impl FromStr for Output {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let plain = |kind, dest| Self { kind, dest, compression: None, force_compression: false, names: Vec::new() };
        if text == "-" {
            return Ok(plain(OutputKind::Tar, None));
        }
        if !text.contains('=') {
            return Ok(plain(OutputKind::Local, Some(text.into())));
        }
        let mut read = Reading::default();
        for field in fields(text) {
            let (key, value) = field.split_once('=').ok_or_else(|| format!("KEY=VALUE is expected, not {field:?}"))?;
            read.take(key.trim().to_lowercase().as_str(), value)?;
        }
        read.finish()
    }
}

/// Fields between commas; in quotes a comma is a letter.
pub fn fields(text: &str) -> Vec<String> {
    let (mut all, mut is_quoted) = (vec![String::new()], false);
    for letter in text.chars() {
        match letter {
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => all.push(String::new()),
            letter => all.last_mut().expect("there is one from the start").push(letter),
        }
    }
    all
}

#[derive(Debug, Default)]
struct Reading {
    kind: String,
    dest: Option<PathBuf>,
    compression: Option<ArchiveCompression>,
    force_compression: bool,
    names: Vec<String>,
    pushes: bool,
    is_directory: bool,
}

fn boolean(key: &str, value: &str) -> Result<bool, String> {
    match value.to_lowercase().as_str() {
        "true" | "1" | "t" => Ok(true),
        "false" | "0" | "f" => Ok(false),
        _ => Err(format!("{key}={value}: true or false is expected")),
    }
}

impl Reading {
    fn take(&mut self, key: &str, value: &str) -> Result<(), String> {
        match key {
            "type" => value.clone_into(&mut self.kind),
            "dest" | "destination" if value == "-" => self.dest = None,
            "dest" | "destination" => self.dest = Some(value.into()),
            "name" => self.names.extend(value.split(',').map(|name| name.trim().to_owned())),
            "push" => self.pushes = boolean(key, value)?,
            "tar" => self.is_directory = !boolean(key, value)?,
            "compression" => {
                self.compression = Some(match value {
                    "gzip" => ArchiveCompression::Gzip,
                    "zstd" => ArchiveCompression::Zstd,
                    "uncompressed" => ArchiveCompression::None,
                    _ => return Err(format!("compression={value} is not available: gzip, zstd or uncompressed")),
                });
            }
            "force-compression" => self.force_compression = boolean(key, value)?,
            // What happens anyway may be asked for.
            "oci-mediatypes" | "unpack" | "store" if boolean(key, value)? => {}
            "platform-split" if !boolean(key, value)? => {}
            "mode" if value == "copy" => {}
            _ => return Err(format!("{key}={value} is not available")),
        }
        Ok(())
    }

    fn finish(self) -> Result<Output, String> {
        let kind = match (self.kind.as_str(), self.pushes) {
            ("image", true) | ("registry", _) => OutputKind::Registry,
            ("image", false) => OutputKind::Image,
            ("docker", _) if self.dest.is_none() => OutputKind::Image,
            ("docker", _) if self.is_directory => return Err("type=docker,tar=false is not available".to_owned()),
            ("docker", _) => OutputKind::Archive(ArchiveFormat::DockerArchive),
            ("oci", _) if self.is_directory => OutputKind::Archive(ArchiveFormat::OciDir),
            ("oci", _) => OutputKind::Archive(ArchiveFormat::Oci),
            ("tar", _) => OutputKind::Tar,
            ("local", _) => OutputKind::Local,
            ("cacheonly", _) => OutputKind::CacheOnly,
            ("", _) => return Err("type=image, registry, local, tar, oci, docker or cacheonly is missing".to_owned()),
            (kind, _) => {
                return Err(format!("type={kind} is unknown: image, registry, local, tar, oci, docker or cacheonly"));
            }
        };
        let needs_dest = matches!(kind, OutputKind::Local | OutputKind::Archive(ArchiveFormat::OciDir));
        if needs_dest && self.dest.is_none() {
            return Err(format!("type={} needs dest=PATH", self.kind));
        }
        let Self { dest, compression, force_compression, names, .. } = self;
        Ok(Output { kind, dest, compression, force_compression, names })
    }
}

impl Output {
    /// It is made from the image in the store.
    pub fn needs_image(&self) -> bool {
        matches!(self.kind, OutputKind::Image | OutputKind::Registry | OutputKind::Archive(_))
    }

    /// It is made from the files alone.
    pub fn needs_tree(&self) -> bool {
        matches!(self.kind, OutputKind::Local | OutputKind::Tar)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Output {
        text.parse().unwrap_or_else(|problem| panic!("{text}: {problem}"))
    }

    #[test]
    fn outputs_are_read_as_buildx_reads_them() {
        for (text, kind, dest) in [
            ("out", OutputKind::Local, Some("out")),
            ("-", OutputKind::Tar, None),
            ("type=local,dest=out", OutputKind::Local, Some("out")),
            ("type=tar,dest=-", OutputKind::Tar, None),
            ("type=tar,dest=a.tar", OutputKind::Tar, Some("a.tar")),
            ("type=oci,dest=a.tar", OutputKind::Archive(ArchiveFormat::Oci), Some("a.tar")),
            ("type=oci,tar=false,dest=dir", OutputKind::Archive(ArchiveFormat::OciDir), Some("dir")),
            ("type=docker", OutputKind::Image, None),
            ("type=docker,dest=a.tar", OutputKind::Archive(ArchiveFormat::DockerArchive), Some("a.tar")),
            ("type=image,push=true", OutputKind::Registry, None),
            ("type=registry", OutputKind::Registry, None),
            ("type=image", OutputKind::Image, None),
            ("type=cacheonly", OutputKind::CacheOnly, None),
            ("type=local,\"dest=a,b\"", OutputKind::Local, Some("a,b")),
        ] {
            let output = read(text);
            assert_eq!((output.kind, output.dest), (kind, dest.map(PathBuf::from)), "{text}");
        }
        let named = read("type=image,\"name=a:1,b\",compression=zstd,force-compression=true");
        assert_eq!(named.names, ["a:1", "b"]);
        assert_eq!((named.compression, named.force_compression), (Some(ArchiveCompression::Zstd), true));
    }

    #[test]
    fn what_cannot_be_done_is_named() {
        for (text, problem) in [
            ("type=local", "dest=PATH"),
            ("type=oci,tar=false", "dest=PATH"),
            ("type=docker,tar=false,dest=x", "not available"),
            ("type=what", "unknown"),
            ("dest=x", "is missing"),
            ("type=image,compression=estargz", "compression=estargz"),
            ("type=image,compression-level=3", "compression-level=3"),
            ("type=image,annotation.a=b", "annotation.a=b"),
            ("type=tar,push=perhaps", "push=perhaps"),
            ("type=tar,x", "\"x\""),
        ] {
            let told = Output::from_str(text).expect_err(text);
            assert!(told.contains(problem), "{text}: {told}");
        }
    }
}
