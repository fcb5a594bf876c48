//! SOURCE_DATE_EPOCH in words: "context", a named context, or a stage that is nothing but one remote ADD. The time is that of the
//! commit, of the last change of the file, or of the newest file of an archive.

use jiff::Timestamp;
use strata_dockerfile::remote::{self, Checksum, GitFlags, Remote};
use strata_dockerfile::{Add, Dockerfile, Flag, Kind, Span, Stage, Word};

use crate::contexts::{Contexts, Named};
use crate::error::Error;
use crate::progress::Running;
use crate::remotes::Remotes;
use crate::scope::{Globals, Scope};

/// What an epoch can be found in.
#[derive(Debug, Clone, Copy)]
pub struct Places<'a> {
    /// The Dockerfile.
    pub file: &'a Dockerfile,
    /// The contexts.
    pub contexts: &'a Contexts,
    /// What is fetched.
    pub remotes: &'a Remotes,
}

impl Places<'_> {
    /// Finds the time that a word names. The outer `None`: it names nothing; the inner one: it names what has no time, as files
    /// of the client.
    pub async fn find(
        &self,
        text: &str,
        globals: &Globals,
        running: &Running,
    ) -> Result<Option<Option<Timestamp>>, Error> {
        if text == "context" {
            return Ok(Some(self.contexts.fetched.as_ref().and_then(|fetched| fetched.tree.time)));
        }
        if let Some(context) = self.contexts.find(text) {
            let Named::Remote { remote, .. } = context else { return Ok(Some(None)) };
            let tree = self.remotes.context(remote, true, running).await;
            return tree.map(|tree| Some(tree.time)).map_err(|failure| Error::unfetched(remote.url(), failure));
        }
        match self.file.stage_named(text, self.file.stages.len()) {
            Some(stage) => self.stage(stage, globals, running).await.map(Some),
            None => Ok(None),
        }
    }

    async fn stage(&self, stage: &Stage, globals: &Globals, running: &Running) -> Result<Option<Timestamp>, Error> {
        let (add, source, checksum) = self.only_add(stage, globals)?;
        let word = &add.sources[0];
        let wrong = |span: Span, problem: String| Error::Dockerfile(Box::new(self.file.diagnostic(span, problem)));
        let found = remote::parse(&source).map_err(|problem| wrong(word.span, problem.to_string()))?;
        let flag_span = add.checksum.as_ref().map_or(word.span, |flag| flag.value_span);
        let failed = |failure| Error::unfetched(&source, failure).at(self.file, word.span);
        match found {
            Some(Remote::Http(http)) => {
                let checksum = checksum.map(|text| Checksum::parse(&text)).transpose();
                let checksum = checksum.map_err(|problem| wrong(flag_span, problem.to_string()))?;
                let file = self.remotes.file(&http, checksum.as_ref(), running).await.map_err(failed)?;
                match file.modified {
                    Some(time) => Ok(Some(time)),
                    None => self.remotes.newest_of(&file, running).await.map_err(failed),
                }
            }
            Some(Remote::Git(git)) => {
                let keep_git_dir = add.keep_git_dir.as_ref().map(|flag| flag.value);
                let git = git.with_flags(GitFlags { keep_git_dir, checksum: checksum.as_deref() });
                let git = git.map_err(|problem| wrong(flag_span, problem.to_string()))?;
                Ok(self.remotes.tree(&git, running).await.map_err(failed)?.time)
            }
            None => Err(wrong(word.span, format!("{ONLY}: this one is in the build context"))),
        }
    }

    /// The ADD that a stage consists of, its source and its checksum, expanded.
    fn only_add<'s>(&self, stage: &'s Stage, globals: &Globals) -> Result<(&'s Add, String, Option<String>), Error> {
        let wrong = |span: Span| Error::Dockerfile(Box::new(self.file.diagnostic(span, ONLY)));
        if globals.expand(self.file, &stage.base)? != "scratch" {
            return Err(wrong(stage.base.span));
        }
        let mut scope = Scope::new(globals);
        let mut found = None;
        for instruction in &stage.instructions {
            match &instruction.kind {
                Kind::Arg(declarations) => {
                    for declaration in declarations {
                        scope.declare(self.file, globals, declaration)?;
                    }
                }
                Kind::Add(add) if found.is_none() && add.sources.len() == 1 && add.heredocs.is_empty() => {
                    let word = |flag: &Flag<String>| Word::new(flag.value.clone(), flag.value_span);
                    let source = scope.expand(self.file, &add.sources[0])?;
                    let checksum = add.checksum.as_ref().map(|flag| scope.expand(self.file, &word(flag)));
                    found = Some((add, source, checksum.transpose()?));
                }
                _ => return Err(wrong(instruction.span)),
            }
        }
        found.ok_or_else(|| wrong(stage.span))
    }
}

/// What a stage must be that names a time.
const ONLY: &str = "a stage that SOURCE_DATE_EPOCH names is FROM scratch and a single ADD of one remote source";
