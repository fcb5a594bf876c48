//! `--build-context NAME=…`: contexts beside the build context.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use strata_dockerfile::ignore::IgnoreFile;
use strata_dockerfile::remote;
use strata_proto::builder::v1 as pb;
use strata_proto::types::v1::Platform as PlatformMessage;
use strata_types::Reference;

use super::context::Context;
use super::layout;
use super::place::Archive;
use super::{ignore_file, unreadable};
use crate::error::{Error, Result};
use crate::platform::Platform;

/// The build context and those that have names.
#[derive(Default)]
pub struct Contexts {
    /// The build context.
    pub main: Context,
    /// What is built from instead.
    pub archive: Option<Archive>,
    /// Others, by name.
    pub named: Vec<(String, Context)>,
}

impl Contexts {
    /// The context with this name; without a name, the build context.
    pub fn find(&self, name: &str) -> Option<&Context> {
        match name {
            "" => Some(&self.main),
            name => self.named.iter().find(|(other, _)| other == name).map(|(_, context)| context),
        }
    }

    /// A directory of any of them, by digest.
    pub fn directory(&self, digest: &[u8]) -> Option<&pb::ContextDirectory> {
        self.all().find_map(|context| context.get(digest))
    }

    /// A file of any of them with this content.
    pub fn file(&self, blake3: &[u8]) -> Option<PathBuf> {
        let archive = self.archive.as_ref().filter(|archive| archive.blake3 == blake3).map(Archive::path);
        archive.or_else(|| self.all().find_map(|context| context.file(blake3)))
    }

    fn all(&self) -> impl Iterator<Item = &Context> {
        std::iter::once(&self.main).chain(self.named.iter().map(|(_, context)| context))
    }
}

/// A named context as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// In small letters, without ":latest"; a platform may follow "::".
    pub name: String,
    /// What it is.
    pub source: Source,
}

/// What a named context is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A directory.
    Directory(PathBuf),
    /// An image, by its name.
    Image(String),
    /// A git repository, or a file of a web server: the builder fetches it.
    Url(String),
    /// An image in an OCI layout: its directory, and the tag or digest of the image.
    Layout(PathBuf, Option<String>),
}

/// Reads the flags.
pub fn parse(flags: &[String]) -> Result<Vec<Asked>> {
    let mut all: Vec<Asked> = Vec::with_capacity(flags.len());
    for flag in flags {
        let wrong = |problem: &str| Error::usage(format!("invalid --build-context {flag:?}: {problem}"));
        let Some((name, value)) = flag.split_once('=').filter(|(name, value)| !name.is_empty() && !value.is_empty())
        else {
            return Err(wrong(
                "NAME=DIRECTORY, NAME=URL, NAME=docker-image://IMAGE or NAME=oci-layout://DIRECTORY is expected",
            ));
        };
        let name = canonical(name).ok_or_else(|| wrong("its name is not like that of an image"))?;
        if all.iter().any(|other| other.name == name) {
            return Err(wrong("there are two with this name"));
        }
        let source = if let Some(image) = value.strip_prefix("docker-image://") {
            Reference::parse(image).map_err(|problem| wrong(&problem.to_string()))?;
            Source::Image(image.to_owned())
        } else if let Some(layout) = value.strip_prefix("oci-layout://") {
            let (directory, image) = split_layout(layout);
            Source::Layout(directory.into(), image.map(str::to_owned))
        } else if Path::new(value).is_dir() {
            Source::Directory(value.into())
        } else {
            match remote::parse(value) {
                Ok(Some(_)) => Source::Url(value.to_owned()),
                Ok(None) => Source::Directory(value.into()),
                Err(problem) => {
                    let error = wrong(&problem.to_string());
                    return Err(error.hint("a directory, a URL, docker-image:// and oci-layout:// are there"));
                }
            }
        };
        all.push(Asked { name, source });
    }
    Ok(all)
}

/// The name as the builder compares it.
fn canonical(name: &str) -> Option<String> {
    let (image, platform) = match name.split_once("::") {
        Some((image, platform)) => (image, Some(strata_types::Platform::parse(platform).ok()?)),
        None => (name, None),
    };
    let familiar = Reference::parse(&image.to_lowercase()).ok()?.familiar();
    let short = familiar.strip_suffix(":latest").unwrap_or(&familiar);
    Some(platform.map_or_else(|| short.to_owned(), |platform| format!("{short}::{platform}")))
}

/// The directory of a layout, and what follows as tag or digest.
fn split_layout(text: &str) -> (&str, Option<&str>) {
    if let Some((directory, digest)) = text.split_once('@') {
        return (directory, Some(digest));
    }
    match text.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')) {
        Some((directory, tag)) => (directory, Some(tag)),
        None => (text, None),
    }
}

/// Looks at a named context, and says what the builder is told of it.
pub async fn prepare(
    platform: &Platform,
    asked: Asked,
    of: Option<PlatformMessage>,
    all: &mut Contexts,
) -> Result<pb::NamedContext> {
    let Asked { name, source } = asked;
    let source = match source {
        Source::Image(image) => pb::named_context::Source::Image(image),
        Source::Url(url) => pb::named_context::Source::Url(url),
        Source::Layout(directory, image) => {
            pb::named_context::Source::Image(layout::send(platform, &directory, image.as_deref(), of).await?)
        }
        Source::Directory(directory) => {
            let (local, context) = local(&name, &directory).await?;
            all.named.push((name.clone(), context));
            pb::named_context::Source::Local(local)
        }
    };
    Ok(pb::NamedContext { name, source: Some(source) })
}

/// Refuses a Dockerfile or ignore file of a context that is a link out of it: whoever made the context would have a file of
/// the user's read and shown. A file that is not there is somebody else's to name.
pub fn stays_inside(context: &Path, file: &Path) -> Result<()> {
    let resolved = |path: &Path| path.canonicalize().ok();
    let (Some(top), Some(target)) = (resolved(context), resolved(file)) else { return Ok(()) };
    let place = file.parent().map(|parent| if parent.as_os_str().is_empty() { Path::new(".") } else { parent });
    let is_of_context = place.and_then(resolved).is_some_and(|place| place.starts_with(&top));
    if !is_of_context || target.starts_with(&top) {
        return Ok(());
    }
    let hint = "a copy in the place of the link does, or `-f` with the path that it leads to";
    Err(Error::new(format!("{} is a link out of the context, to {}", file.display(), target.display())).hint(hint))
}

async fn local(name: &str, directory: &Path) -> Result<(pb::LocalContext, Context)> {
    let shown = directory.display();
    let failed = |error| Error::new(format!("cannot open the context {name} at {shown}: {error}"));
    let top = directory.canonicalize().map_err(failed)?;
    if !top.is_dir() {
        return Err(Error::new(format!("the context {name} at {shown} is not a directory")));
    }
    // The ignore file of a Dockerfile is for the build context only.
    let (ignore_file_name, text) = ignore_file(&top, None)?;
    let ignore = IgnoreFile::parse(&text)
        .map_err(|error| Error::new(format!("{ignore_file_name} of the context {name}: {error}")))?;
    let scan = tokio::task::spawn_blocking(move || Context::scan(&top, &ignore));
    let context = scan.await.map_err(|error| Error::of(&error))?.map_err(unreadable)?;
    let root = Bytes::copy_from_slice(&context.root);
    Ok((pb::LocalContext { root, ignore_file: text.into(), ignore_file_name }, context))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_are_directories_images_and_layouts() {
        for (flag, name, source) in [
            ("a=dir", "a", Source::Directory("dir".into())),
            ("A:latest=../x", "a", Source::Directory("../x".into())),
            ("a:1=/x", "a:1", Source::Directory("/x".into())),
            ("docker.io/library/a=.", "a", Source::Directory(".".into())),
            ("a::linux/arm64=.", "a::linux/arm64", Source::Directory(".".into())),
            ("a=docker-image://debian:12", "a", Source::Image("debian:12".to_owned())),
            ("a=https://h/x.git#v1", "a", Source::Url("https://h/x.git#v1".to_owned())),
            ("a=git@h:x", "a", Source::Url("git@h:x".to_owned())),
            ("a=oci-layout:///x", "a", Source::Layout("/x".into(), None)),
            ("a=oci-layout://x:tag", "a", Source::Layout("x".into(), Some("tag".to_owned()))),
            ("a=oci-layout://x:y/z", "a", Source::Layout("x:y/z".into(), None)),
            ("a=oci-layout://x@sha256:0", "a", Source::Layout("x".into(), Some("sha256:0".to_owned()))),
        ] {
            let parsed = parse(&[flag.to_owned()]).unwrap_or_else(|error| panic!("{flag}: {}", error.message));
            assert_eq!(parsed, [Asked { name: name.to_owned(), source }], "{flag}");
        }
    }

    #[test]
    fn what_names_no_context_is_refused() {
        for flag in ["", "a", "a=", "=x", "a b=x", "a=docker-image://A B", "a=ftp://x", "a::nowhere/x/y/z=."] {
            assert!(parse(&[flag.to_owned()]).is_err(), "{flag}");
        }
        assert!(parse(&["a=x".to_owned(), "A:latest=y".to_owned()]).is_err());
    }
}
