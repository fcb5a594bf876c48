//! Git repositories: what of them is wanted, from the fragment `#ref:directory` or the query of a URL.

use super::RemoteError;
use super::url::{Scheme, Url, UserInfo};
use crate::mount::parse_bool;

/// Keys of the query.
pub(super) const KEYS: [&str; 10] =
    ["ref", "tag", "branch", "subdir", "checksum", "commit", "keep-git-dir", "submodules", "mtime", "fetch-by-commit"];

/// Times of files that are checked out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MTime {
    /// When they are checked out.
    #[default]
    Checkout,
    /// That of the commit.
    Commit,
}

/// A tree of a git repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Git {
    /// What git fetches from: no credentials of a web server, no query, no fragment.
    pub remote: String,
    /// How it is reached.
    pub scheme: Scheme,
    /// The host, with its port where the URL has one.
    pub host: String,
    /// Name and password that the URL of a web server holds.
    pub user: Option<UserInfo>,
    /// A branch, a tag or a commit. `None`: what the repository's HEAD names.
    pub reference: Option<String>,
    /// A directory inside, cleaned: no leading slash, no "..". Empty: the whole.
    pub directory: String,
    /// The commit that it must be, or how that begins; in lower case.
    pub checksum: Option<String>,
    /// Keep `.git`.
    pub keep_git_dir: Option<bool>,
    /// Fetch submodules, as without this key.
    pub submodules: bool,
    /// Times of the files.
    pub mtime: MTime,
    /// `checksum` is the commit: it is fetched without asking what the reference names.
    pub fetch_by_commit: bool,
}

/// Flags of ADD that are about a git source.
#[derive(Debug, Clone, Copy, Default)]
pub struct GitFlags<'a> {
    /// `--keep-git-dir`
    pub keep_git_dir: Option<bool>,
    /// `--checksum`
    pub checksum: Option<&'a str>,
}

impl Git {
    pub(super) fn new(url: Url) -> Result<Self, RemoteError> {
        let (reference, directory) = match url.fragment.as_deref() {
            Some(fragment) => fragment.split_once(':').unwrap_or((fragment, "")),
            None => ("", ""),
        };
        let mut git = Self {
            remote: url.plain(false),
            scheme: url.scheme,
            host: url.host.clone(),
            user: url.user.clone().filter(|_| url.is_web()),
            reference: Some(reference.to_owned()).filter(|name| !name.is_empty()),
            directory: clean(directory),
            checksum: None,
            keep_git_dir: None,
            submodules: true,
            mtime: MTime::default(),
            fetch_by_commit: false,
        };
        git.read_query(&url)?;
        if let Some(name) = &git.reference {
            check_reference(name)?;
        }
        git.check_commit()?;
        Ok(git)
    }

    fn read_query(&mut self, url: &Url) -> Result<(), RemoteError> {
        let shown = || url.plain(true);
        let pairs = url.pairs();
        let (mut tag, mut branch) = (None, None);
        for (at, (key, value)) in pairs.iter().enumerate() {
            if !KEYS.contains(&key.as_str()) {
                return Err(RemoteError::UnknownKey { key: key.clone(), url: shown() });
            }
            if pairs[..at].iter().any(|(earlier, _)| earlier == key) {
                return Err(RemoteError::Repeated { key: key.clone(), url: shown() });
            }
            let text = || value.clone().ok_or_else(|| RemoteError::NoValue { key: key.clone(), url: shown() });
            let switch = || switch(key, value.as_deref());
            match key.as_str() {
                "ref" => set("references", &mut self.reference, text()?)?,
                "tag" => tag = Some(qualified("refs/tags/", &text()?)),
                "branch" => branch = Some(qualified("refs/heads/", &text()?)),
                "subdir" => {
                    let mut directory = Some(std::mem::take(&mut self.directory)).filter(|text| !text.is_empty());
                    set("directories", &mut directory, clean(&text()?))?;
                    self.directory = directory.unwrap_or_default();
                }
                "checksum" | "commit" => {
                    let commit = commit_prefix(key, &text()?)?;
                    set("checksums", &mut self.checksum, commit)?;
                }
                "keep-git-dir" => self.keep_git_dir = Some(switch()?),
                "submodules" => self.submodules = switch()?,
                "fetch-by-commit" => self.fetch_by_commit = switch()?,
                _ => self.mtime = mtime(&text()?)?,
            }
        }
        for name in tag.into_iter().chain(branch) {
            set("references", &mut self.reference, name)?;
        }
        Ok(())
    }

    /// The same with the flags of ADD.
    pub fn with_flags(mut self, flags: GitFlags<'_>) -> Result<Self, RemoteError> {
        match (flags.keep_git_dir, self.keep_git_dir) {
            (Some(flag), Some(key)) if flag != key => {
                return Err(RemoteError::KeepGitDir { url: self.remote });
            }
            (flag, key) => self.keep_git_dir = key.or(flag),
        }
        if let Some(text) = flags.checksum {
            let commit = commit_prefix("checksum", text)?;
            set("checksums", &mut self.checksum, commit)?;
        }
        self.check_commit()?;
        Ok(self)
    }

    /// The commit, where it is known without asking.
    pub fn commit(&self) -> Option<&str> {
        let reference = self.reference.as_deref().filter(|name| is_commit(name));
        reference.or(self.checksum.as_deref().filter(|_| self.fetch_by_commit))
    }

    /// A commit that is named must be the one that is wanted.
    fn check_commit(&self) -> Result<(), RemoteError> {
        if let (Some(name), Some(checksum)) = (self.reference.as_ref().filter(|name| is_commit(name)), &self.checksum)
            && !name.starts_with(checksum.as_str())
        {
            return Err(RemoteError::Conflict { what: "commits", one: name.clone(), other: checksum.clone() });
        }
        match self.fetch_by_commit && !self.commit().is_some_and(is_commit) {
            true => Err(RemoteError::NoCommit { url: self.remote.clone() }),
            false => Ok(()),
        }
    }

    /// Last component of the repository's path, without ".git".
    pub fn name(&self) -> &str {
        let last = self.remote.rsplit(['/', ':']).next().unwrap_or_default();
        last.strip_suffix(".git").unwrap_or(last)
    }
}

/// A whole commit: 40 hex digits, or 64 in a repository of SHA-256.
pub fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn set(what: &'static str, place: &mut Option<String>, value: String) -> Result<(), RemoteError> {
    match place {
        Some(one) if *one != value => Err(RemoteError::Conflict { what, one: one.clone(), other: value }),
        _ => {
            *place = Some(value);
            Ok(())
        }
    }
}

fn qualified(prefix: &str, name: &str) -> String {
    if name.starts_with(prefix) { name.to_owned() } else { format!("{prefix}{name}") }
}

fn switch(key: &str, value: Option<&str>) -> Result<bool, RemoteError> {
    let Some(value) = value else { return Ok(true) };
    parse_bool(value).ok_or_else(|| invalid(key, value, "true or false"))
}

fn mtime(value: &str) -> Result<MTime, RemoteError> {
    match value {
        "checkout" => Ok(MTime::Checkout),
        "commit" => Ok(MTime::Commit),
        other => Err(invalid("mtime", other, "checkout or commit")),
    }
}

fn commit_prefix(key: &str, value: &str) -> Result<String, RemoteError> {
    let is_hex = (1..=64).contains(&value.len()) && value.bytes().all(|byte| byte.is_ascii_hexdigit());
    match is_hex {
        true => Ok(value.to_ascii_lowercase()),
        false => Err(invalid(key, value, "a commit, or how one begins: 1 to 64 hex digits")),
    }
}

fn invalid(key: &str, value: &str, expected: &'static str) -> RemoteError {
    RemoteError::InvalidValue { key: key.to_owned(), value: value.to_owned(), expected }
}

/// What git takes for the name of a reference, and nothing that it takes for an option or an expression.
fn check_reference(name: &str) -> Result<(), RemoteError> {
    let is_part = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.ends_with(".lock");
    let is_name = !name.starts_with('-')
        && !name.ends_with('.')
        && name != "@"
        && !name.contains("..")
        && !name.contains("@{")
        && !name.contains(|c: char| c.is_ascii_control() || " ~^:?*[\\".contains(c))
        && name.split('/').all(is_part);
    if is_name { Ok(()) } else { Err(RemoteError::Reference { name: name.to_owned() }) }
}

/// Takes "." and ".." out of a path; ".." stops at the root.
fn clean(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            name => parts.push(name),
        }
    }
    parts.join("/")
}
