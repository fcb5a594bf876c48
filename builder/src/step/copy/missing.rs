//! A source that is not there: what the ignore file says of it, and the nearest thing that is.

use strata_dockerfile::{Span, nearest};

use super::find::Place;
use super::transfer::absolute;
use crate::context::{Node, select};
use crate::error::Error;
use crate::solve::Build;

/// The error for a source that names nothing.
pub(super) async fn missing(build: &Build, place: &Place, has_from: bool, (source, span): (&str, Span)) -> Error {
    let path = absolute("/", source);
    let ignored = match place {
        Place::Context(local) => local.ignore.matching_pattern(path.trim_start_matches('/')).map(|p| (local, p)),
        Place::Layers(_) => None,
    };
    let message = match (&ignored, place) {
        (Some((local, pattern)), _) => {
            let title = local.title();
            format!("{source:?} is excluded from {title} by {:?} in {}", pattern.text, local.ignore_name)
        }
        (None, Place::Context(local)) => format!("{source:?} is not in {}", local.title()),
        (None, Place::Layers(_)) => match (&build.contexts.fetched, has_from) {
            (Some(fetched), false) => format!("{source:?} is not in {}", fetched.title),
            _ => format!("{source:?} is not in what --from names"),
        },
    };
    let mut diagnostic = build.file.diagnostic(span, message);
    if ignored.is_none()
        && let Some(near) = near(build, place, &path).await
    {
        diagnostic = diagnostic.with_suggestion(format!("did you mean {near:?}?"));
    }
    let ignored_by = ignored.map(|(_, pattern)| pattern.text.clone());
    Error::Source { path: source.to_owned(), ignored_by, diagnostic: Box::new(diagnostic) }
}

/// The path that is nearest to one that leads nowhere: the first of its names that is not there is another one.
async fn near(build: &Build, place: &Place, path: &str) -> Option<String> {
    let names: Vec<&str> = path.split('/').filter(|name| !name.is_empty()).collect();
    let mut parent = String::new();
    for (at, name) in names.iter().enumerate() {
        // A hint is worth no second error.
        let there = names_in(build, place, &parent).await?;
        if !there.iter().any(|one| one == name) {
            let near = nearest(name, there.iter().map(String::as_str))?;
            let rest: String = names[at + 1..].iter().map(|name| format!("/{name}")).collect();
            return Some(format!("{}{near}{rest}", parent.trim_start_matches('/')));
        }
        parent.push_str(name);
        parent.push('/');
    }
    None
}

/// The names in a directory. `None`: there is no such directory.
async fn names_in(build: &Build, place: &Place, directory: &str) -> Option<Vec<String>> {
    match place {
        Place::Context(local) => {
            let root = build.session.root(local).await.ok()?;
            let found = select(&root, directory, &build.session).await.ok()?;
            let Node::Directory(digest) = found.first()?.node else { return None };
            let directory = build.session.directories(&[digest]).await.ok()?.swap_remove(0);
            let names = directory.entries.iter().filter_map(|entry| String::from_utf8(entry.name.clone()).ok());
            Some(names.collect())
        }
        Place::Layers(layers) => {
            let listed = build.store.list_tree(layers, &format!("/{directory}*"), false).await.ok()?;
            let name = |path: &[u8]| path.rsplit(|byte| *byte == b'/').next().map(<[u8]>::to_vec);
            Some(listed.iter().filter_map(|one| String::from_utf8(name(&one.path)?).ok()).collect())
        }
    }
}
