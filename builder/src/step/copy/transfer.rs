//! What COPY and ADD have in common: sources, a destination and flags.

use strata_dockerfile::ignore::IgnoreFile;
use strata_dockerfile::remote::redact;
use strata_dockerfile::{Add, Copy, Flag, Heredoc, Span, Word, meta};

use crate::error::Error;
use crate::peers::Made;
use crate::progress::Running;
use crate::solve::{Build, StageWork};
use crate::step::owner;

/// A COPY or ADD as written.
#[derive(Debug)]
pub struct Transfer<'a> {
    /// "COPY" or "ADD".
    pub name: &'static str,
    /// Unexpanded.
    pub sources: &'a [Word],
    /// Files whose contents are in the Dockerfile.
    pub heredocs: &'a [Heredoc],
    /// Unexpanded.
    pub destination: &'a Word,
    /// `--from`
    pub from: Option<&'a Flag<String>>,
    /// `--link`
    pub is_linked: bool,
    /// `--parents`
    pub has_parents: bool,
    /// `--unpack`
    pub unpack: Option<bool>,
    /// It is an ADD.
    pub is_add: bool,
    /// `--checksum`
    pub checksum: Option<&'a Flag<String>>,
    /// `--keep-git-dir`
    pub keep_git_dir: Option<bool>,
    chown: Option<&'a Flag<String>>,
    chmod: Option<&'a Flag<String>>,
    exclude: &'a [Flag<String>],
}

fn is_set(flag: &Option<Flag<bool>>) -> bool {
    flag.as_ref().is_some_and(|flag| flag.value)
}

impl<'a> From<&'a Copy> for Transfer<'a> {
    fn from(copy: &'a Copy) -> Self {
        Self {
            name: "COPY",
            sources: &copy.sources,
            heredocs: &copy.heredocs,
            destination: &copy.destination,
            from: copy.from.as_ref(),
            is_linked: is_set(&copy.link),
            has_parents: is_set(&copy.parents),
            unpack: None,
            is_add: false,
            checksum: None,
            keep_git_dir: None,
            chown: copy.chown.as_ref(),
            chmod: copy.chmod.as_ref(),
            exclude: &copy.exclude,
        }
    }
}

impl<'a> From<&'a Add> for Transfer<'a> {
    fn from(add: &'a Add) -> Self {
        Self {
            name: "ADD",
            sources: &add.sources,
            heredocs: &add.heredocs,
            destination: &add.destination,
            from: None,
            is_linked: is_set(&add.link),
            has_parents: false,
            unpack: add.unpack.as_ref().map(|flag| flag.value),
            is_add: true,
            checksum: add.checksum.as_ref(),
            keep_git_dir: add.keep_git_dir.as_ref().map(|flag| flag.value),
            chown: add.chown.as_ref(),
            chmod: add.chmod.as_ref(),
            exclude: &add.exclude,
        }
    }
}

/// Where things go, and as whose.
#[derive(Debug, Clone)]
pub struct Target {
    /// Absolute, without "/" at its end.
    pub path: String,
    /// The destination can only be a directory.
    pub is_directory: bool,
    /// `--chown`
    pub owner: Option<(u32, u32)>,
    /// `--chmod`
    pub mode: Option<meta::Mode>,
}

impl Target {
    /// Permission bits of something that has `bits` in its source.
    pub fn bits(&self, bits: u32, is_directory: bool) -> u32 {
        self.mode.as_ref().map_or(bits, |mode| mode.apply(bits, is_directory))
    }

    /// The destination as the store takes it.
    pub fn destination(&self) -> Vec<u8> {
        let slash = if self.is_directory && self.path != "/" { "/" } else { "" };
        format!("{}{slash}", self.path).into_bytes()
    }

    /// What directories become that are made on the way.
    pub fn made(&self) -> Made {
        let mode = match &self.mode {
            Some(meta::Mode::Octal(mode)) => mode & 0o777,
            Some(meta::Mode::Symbolic(_)) | None => 0o755,
        };
        Made { mode, owner: self.owner.unwrap_or_default() }
    }
}

impl Transfer<'_> {
    /// The destination and the flags, expanded and looked up.
    pub async fn target(
        &self,
        build: &Build,
        work: &StageWork,
        destination: &str,
        running: &Running,
    ) -> Result<Target, Error> {
        let mode = match self.chmod {
            None => None,
            Some(flag) => {
                let text = work.scope.expand(&build.file, &word(flag))?;
                let mode = meta::parse_chmod(&text);
                Some(mode.map_err(|problem| build.mistake(flag.value_span, problem.to_string()))?)
            }
        };
        let owner = match self.chown {
            None => None,
            Some(flag) => {
                let text = work.scope.expand(&build.file, &word(flag))?;
                Some(owner::resolve(build, work, &text, flag.value_span, running).await?)
            }
        };
        let path = absolute(&work.draft.working_directory(), destination);
        Ok(Target { path, is_directory: names_directory(destination), owner, mode })
    }

    /// The patterns of `--exclude`.
    pub fn exclude_patterns(&self) -> impl Iterator<Item = &str> {
        self.exclude.iter().map(|flag| flag.value.as_str())
    }

    /// The patterns of `--exclude`.
    pub fn excludes(&self, build: &Build) -> Result<IgnoreFile, Error> {
        IgnoreFile::from_patterns(self.exclude_patterns()).map_err(|problem| {
            let span = self.exclude.first().map_or(self.destination.span, |flag| flag.value_span);
            build.mistake(span, format!("the patterns of --exclude cannot be read: {problem}"))
        })
    }

    /// The history entry.
    pub fn history(
        &self,
        build: &Build,
        work: &StageWork,
        sources: &[(String, Span)],
        destination: &str,
    ) -> Result<String, Error> {
        let mut text = self.name.to_owned();
        if self.has_parents {
            text.push_str(" --parents");
        }
        for (name, flag) in [("chown", self.chown), ("chmod", self.chmod)] {
            if let Some(flag) = flag {
                text.push_str(&format!(" --{name}={}", work.scope.expand(&build.file, &word(flag))?));
            }
        }
        for (source, _) in sources {
            // An image is given to others.
            text.push_str(&format!(" {}", redact(source)));
        }
        for heredoc in self.heredocs {
            text.push_str(&format!(" <<{}", heredoc.name));
        }
        text.push_str(&format!(" {destination} # buildkit"));
        Ok(text)
    }
}

/// The value of a flag, to be expanded.
pub fn word(flag: &Flag<String>) -> Word {
    Word::new(flag.value.clone(), flag.value_span)
}

/// A destination that can only be a directory.
pub fn names_directory(destination: &str) -> bool {
    destination.ends_with('/')
        || matches!(destination, "" | "." | "..")
        || destination.ends_with("/.")
        || destination.ends_with("/..")
}

/// Joins and cleans a path; ".." stops at the root.
pub fn absolute(working_directory: &str, path: &str) -> String {
    let joined = if path.starts_with('/') { path.to_owned() } else { format!("{working_directory}/{path}") };
    let mut components: Vec<&str> = Vec::new();
    for component in joined.split('/') {
        match component {
            "" | "." => {}
            ".." => {
                components.pop();
            }
            name => components.push(name),
        }
    }
    format!("/{}", components.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_are_cleaned_below_the_root() {
        for (cwd, path, expected) in [
            ("/", "app", "/app"),
            ("/app", ".", "/app"),
            ("/app", "", "/app"),
            ("/app", "./x/../y/", "/app/y"),
            ("/app", "/z", "/z"),
            ("/", "../../etc", "/etc"),
        ] {
            assert_eq!(absolute(cwd, path), expected, "{cwd} {path}");
        }
    }

    #[test]
    fn directories_on_the_way_have_the_mode_of_an_octal_chmod() {
        let made = |chmod: Option<&str>| {
            let mode = chmod.map(|text| meta::parse_chmod(text).expect("a mode"));
            Target { path: "/x".to_owned(), is_directory: false, owner: Some((5, 6)), mode }.made()
        };

        for (chmod, mode) in [(None, 0o755), (Some("4750"), 0o750), (Some("u=rwx,go="), 0o755)] {
            assert_eq!(made(chmod), Made { mode, owner: (5, 6) }, "{chmod:?}");
        }
    }
}
