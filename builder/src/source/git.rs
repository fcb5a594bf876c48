//! Trees of git repositories. A commit is found by what the repository says its references are, fetched alone where the
//! server allows it, checked out in a directory that goes away, and kept as a layer of the store, by commit.

mod answer;
mod program;

use std::path::PathBuf;

use jiff::Timestamp;
use strata_dockerfile::remote::{Git, is_commit};

use super::tree::Tree;
use super::{Failure, Sources};
use answer::Resolved;
use program::Program;

/// A tree, and as whom it is asked for.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The URL.
    pub git: Git,
    /// The header of the credentials for its host.
    pub authorization: Option<String>,
    /// Socket of an agent with the keys for ssh.
    pub agent: Option<PathBuf>,
}

/// A commit that was found.
#[derive(Debug, Clone)]
pub struct Found {
    resolved: Resolved,
}

/// A commit that was checked out.
#[derive(Debug)]
pub struct Checkout {
    /// Its files.
    pub tree: Tree,
    /// When it was committed.
    pub time: Timestamp,
    /// Holds the files.
    _place: tempfile::TempDir,
}

impl Wanted {
    /// `.git` is part of the tree: of a directory inside it never is.
    pub fn keeps_git_dir(&self) -> bool {
        self.git.keep_git_dir == Some(true) && self.git.directory.is_empty()
    }
}

impl Found {
    /// The commit.
    pub fn commit(&self) -> &str {
        self.resolved.commit.as_deref().unwrap_or(&self.resolved.object)
    }

    /// What the tree depends on besides the URL's directory and switches.
    pub fn identity(&self, wanted: &Wanted) -> Vec<String> {
        match wanted.keeps_git_dir() {
            false => vec![self.commit().to_owned()],
            true => vec![
                self.resolved.object.clone(),
                self.resolved.reference.clone().unwrap_or_default(),
                wanted.git.remote.clone(),
            ],
        }
    }
}

impl Sources {
    /// Finds the commit that a git URL names now.
    pub async fn find(&self, wanted: &Wanted) -> Result<Found, Failure> {
        let git = &wanted.git;
        if let Some(commit) = git.commit() {
            let reference = git.reference.as_deref().filter(|name| !is_commit(name));
            let reference = reference.map(|name| match name.starts_with("refs/") {
                true => name.to_owned(),
                false => format!("refs/heads/{name}"),
            });
            let resolved = Resolved { object: commit.to_owned(), commit: Some(commit.to_owned()), reference };
            return Ok(Found { resolved });
        }
        let program = Program::new(self, wanted)?;
        let mut names = vec!["HEAD".to_owned()];
        if let Some(name) = &git.reference {
            names = vec![name.clone(), format!("{name}^{{}}")];
        }
        let mut arguments = vec!["ls-remote", "--quiet", "--symref", "--", &git.remote];
        arguments.extend(names.iter().map(String::as_str));
        let said = program.run("ask the repository for its references", &arguments).await?;
        let mut resolved = answer::resolve(&said, git.reference.as_deref())?;
        // HEAD leads to a branch, whose name is all that is needed.
        if git.reference.is_none() {
            resolved.commit = Some(resolved.object.clone());
        }
        answer::check(&resolved, git.checksum.as_deref())?;
        Ok(Found { resolved })
    }

    /// When a commit was made, if that is known from earlier.
    pub fn commit_time(&self, found: &Found) -> Option<Timestamp> {
        Timestamp::from_second(self.memory.recall("commit", found.commit())?).ok()
    }

    /// Fetches a commit and reads its tree.
    pub async fn check_out(&self, wanted: &Wanted, found: &Found) -> Result<Checkout, Failure> {
        let program = Program::new(self, wanted)?;
        let format = if found.resolved.object.len() == 64 { "--object-format=sha256" } else { "--object-format=sha1" };
        program.run("make a repository", &["init", "--quiet", "--template=", format]).await?;
        program.run("make a repository", &["remote", "add", "--", "origin", &wanted.git.remote]).await?;
        fetch(&program, wanted, found).await?;
        let object = &found.resolved.object;
        let peeled =
            program.run("find the commit", &["rev-parse", "--verify", &format!("{object}^{{commit}}")]).await?;
        let commit = answer::object(peeled.trim())?;
        if let Some(checksum) = wanted.git.checksum.as_deref() {
            let resolved = Resolved { commit: Some(commit.clone()), ..found.resolved.clone() };
            answer::check(&resolved, Some(checksum))?;
        }
        if let Some(reference) = found.resolved.reference.as_deref().filter(|_| wanted.keeps_git_dir()) {
            program.run("name the commit", &["update-ref", "--no-deref", reference, object]).await?;
        }
        program.run("check out the commit", &["checkout", "--quiet", "--force", "--detach", &commit]).await?;
        if wanted.git.submodules && program.place().join(".gitmodules").symlink_metadata().is_ok() {
            submodules(&program).await?;
        }
        let seconds = program.run("read the commit", &["show", "--no-patch", "--format=%ct", &commit, "--"]).await?;
        let nonsense = || Failure::Nonsense { what: "a time", found: seconds.trim().chars().take(40).collect() };
        let time = seconds.trim().parse().ok().and_then(|at| Timestamp::from_second(at).ok()).ok_or_else(nonsense)?;
        self.memory.note("commit", found.commit(), &time.as_second());
        let tree = Tree::read(program.place(), &wanted.git.directory, wanted.keeps_git_dir()).await?;
        Ok(Checkout { tree, time, _place: program.end() })
    }
}

/// Brings the commit: alone where the server can do that.
async fn fetch(program: &Program, wanted: &Wanted, found: &Found) -> Result<(), Failure> {
    let Resolved { object, reference, .. } = &found.resolved;
    let named = reference.as_ref().filter(|_| wanted.git.commit().is_none());
    let action = "fetch from the repository";
    let alone = ["fetch", "--quiet", "--no-tags", "--depth=1", "--no-recurse-submodules", "--", "origin"];
    let shallow = async |what: &str| program.run(action, &[&alone[..], &[what]].concat()).await;
    let has =
        async || program.run("find the commit", &["cat-file", "-e", &format!("{object}^{{commit}}")]).await.is_ok();
    if let Some(name) = named {
        match shallow(name).await {
            // The reference may have moved since it was asked for.
            Ok(_) if has().await => return Ok(()),
            Ok(_) => {}
            Err(failure) if wants_more(&failure) => {}
            Err(failure) => return Err(failure),
        }
    }
    match shallow(object).await {
        Ok(_) if has().await => return Ok(()),
        Ok(_) => {}
        Err(failure) if wants_more(&failure) => {}
        Err(failure) => return Err(failure),
    }
    let everything = ["+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*"];
    let whole = ["fetch", "--quiet", "--no-recurse-submodules", "--", "origin"];
    // A server that cannot fetch a single commit has sent none: what is there is no part of a history.
    program.run(action, &[&whole[..], &everything[..]].concat()).await?;
    match has().await {
        true => Ok(()),
        false => Err(Failure::NoReference { name: object.clone() }),
    }
}

/// The server cannot send a commit alone, or not one that no reference names.
fn wants_more(failure: &Failure) -> bool {
    let Failure::Git { said, .. } = failure else { return false };
    ["shallow", "--depth", "not our ref", "unadvertised object", "couldn't find remote ref", "no such remote ref"]
        .iter()
        .any(|part| said.to_lowercase().contains(part))
}

async fn submodules(program: &Program) -> Result<(), Failure> {
    let action = "fetch the submodules of the repository";
    let update = ["submodule", "--quiet", "update", "--init", "--recursive", "--force"];
    match program.run(action, &[&update[..], &["--depth=1"]].concat()).await {
        Err(failure) if wants_more(&failure) => program.run(action, &update).await.map(|_| ()),
        other => other.map(|_| ()),
    }
}

/// Credentials go to the repository, and on a host of many repositories to its submodules as well.
fn scope(git: &Git) -> &str {
    let shared = ["https://github.com/", "https://www.github.com/"];
    shared.into_iter().find(|host| git.remote.starts_with(host)).unwrap_or(&git.remote)
}
