//! Sources of ADD that are elsewhere: files of web servers, trees of git repositories.

use std::sync::Arc;

use strata_dockerfile::Span;
use strata_dockerfile::ignore::IgnoreFile;
use strata_dockerfile::remote::{self, Checksum, Git, GitFlags, Http, MTime, Remote};

use super::filter::Filter;
use super::find::{Bytes, Found, Named, Sources};
use super::transfer::{Transfer, names_directory, word};
use crate::error::Error;
use crate::progress::Running;
use crate::solve::{Build, StageWork};

/// Permission bits of a file that comes from a web server.
const FILE_MODE: u32 = 0o600;

/// A source, and what the instruction says of it.
pub(super) struct Asked<'a> {
    /// The instruction.
    pub transfer: &'a Transfer<'a>,
    /// The URL.
    pub source: &'a str,
    /// Where it stands.
    pub span: Span,
    /// `--checksum`, expanded.
    pub checksum: Option<String>,
    /// What is left out.
    pub exclude: &'a IgnoreFile,
}

impl Build {
    /// A remote source as it is written.
    pub fn remote(&self, source: &str, span: Span) -> Result<Option<Remote>, Error> {
        remote::parse(source).map_err(|problem| {
            let diagnostic = self.file.diagnostic(span, problem.to_string());
            Error::Dockerfile(Box::new(match problem.advice() {
                Some(advice) => diagnostic.with_suggestion(advice),
                None => diagnostic,
            }))
        })
    }
}

/// Refuses a checksum of what has none.
pub(super) fn checksum(
    build: &Build,
    work: &StageWork,
    transfer: &Transfer<'_>,
    words: &[(String, Span)],
) -> Result<Option<String>, Error> {
    let Some(flag) = transfer.checksum else { return Ok(None) };
    let is_one_remote = words.len() == 1 && transfer.heredocs.is_empty() && remote::is_remote(&words[0].0);
    if !is_one_remote {
        let message = "--checksum is for a single source, a URL or a git repository";
        return Err(build.mistake(flag.span, message));
    }
    work.scope.expand(&build.file, &word(flag)).map(Some)
}

/// Adds what a source is to the sources.
pub(super) async fn find(
    build: &Build,
    asked: Asked<'_>,
    destination: &str,
    sources: &mut Sources,
    running: &Running,
) -> Result<(), Error> {
    if !asked.transfer.is_add {
        return Err(build.mistake(asked.span, "COPY takes no URL; ADD does"));
    }
    match build.remote(asked.source, asked.span)? {
        Some(Remote::Http(http)) => file(build, asked, &http, destination, sources, running).await,
        Some(Remote::Git(git)) => tree(build, asked, git, sources, running).await,
        None => Ok(()),
    }
}

/// Brings what web servers have to the store.
pub(super) async fn deliver(build: &Build, sources: &Sources, running: &Running) -> Result<(), Error> {
    for (found, _) in &sources.found {
        let Found::Content(Named { bytes: Bytes::Remote { file, url, span }, .. }) = found else { continue };
        let delivered = build.remotes.deliver(file, running).await;
        delivered.map_err(|failure| build.unfetched(url, *span, failure))?;
    }
    Ok(())
}

async fn file(
    build: &Build,
    asked: Asked<'_>,
    http: &Http,
    destination: &str,
    sources: &mut Sources,
    running: &Running,
) -> Result<(), Error> {
    let Asked { transfer, source, span, checksum, exclude } = asked;
    let unpacks = transfer.unpack == Some(true);
    if http.file_name.is_none() && names_directory(destination) && !unpacks {
        let message = "this URL names no file, and so there is no name for it in a directory";
        let diagnostic = build.file.diagnostic(span, message).with_suggestion("end the destination with a name");
        return Err(Error::Dockerfile(Box::new(diagnostic)));
    }
    let checksum = checksum.map(|text| {
        let at = transfer.checksum.map_or(span, |flag| flag.value_span);
        Checksum::parse(&text).map_err(|problem| build.mistake(at, problem.to_string()))
    });
    let checksum = checksum.transpose()?;
    let name = http.file_name.clone().unwrap_or_default();
    let filter = Filter { include: None, exclude: exclude.clone() };
    if !unpacks && !filter.takes(name.as_bytes()) {
        return Ok(());
    }
    let file = build.remotes.file(http, checksum.as_ref(), running).await;
    let file = file.map_err(|failure| build.unfetched(source, span, failure))?;
    let modified = file.modified.and_then(|at| at.as_nanosecond().try_into().ok());
    let digest = file.blake3;
    let bytes = Bytes::Remote { file, url: source.to_owned(), span };
    sources.push_content(Named { name, bytes, mode: FILE_MODE, modified, unpacks }, digest);
    Ok(())
}

async fn tree(
    build: &Build,
    asked: Asked<'_>,
    git: Git,
    sources: &mut Sources,
    running: &Running,
) -> Result<(), Error> {
    let Asked { transfer, source, span, checksum, exclude } = asked;
    let flags = GitFlags { keep_git_dir: transfer.keep_git_dir, checksum: checksum.as_deref() };
    let git = git.with_flags(flags).map_err(|problem| {
        let at = transfer.checksum.map_or(span, |flag| flag.value_span);
        build.mistake(at, problem.to_string())
    })?;
    let found = build.remotes.tree(&git, running).await;
    let found = found.map_err(|failure| build.unfetched(source, span, failure))?;
    let layers: Arc<[String]> = [found.layer.clone()].into();
    let filter = Filter { include: None, exclude: exclude.clone() };
    sources.push_tree(build, &layers, "/", &filter).await?;
    if let (MTime::Commit, Some(time)) = (git.mtime, found.time) {
        sources.push_time(time);
    }
    Ok(())
}
