//! Looking for repositories in a registry.
//!
//! Docker Hub answers searches itself, and so do a few others (`/v1/search`, older than any specification). The rest list
//! all that they have (`/v2/_catalog`), and those are taken of it whose names have the term in them.

use reqwest::Method;
use serde::Deserialize;
use serde_json::Value;
use strata_types::Reference;

use crate::{
    Client, Host,
    auth::Scopes,
    endpoint::Endpoint,
    error::{Cause, Error, Item, Kind, Result, Subject},
    list::next_page,
    manifest::LARGEST_MANIFEST,
    session::{Call, protocol},
};

/// The most pages of a list: a hostile registry has no end of them.
const MOST_PAGES: usize = 1000;
/// The most characters of a description that are kept.
const LONGEST: usize = 1000;

/// A repository that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its name in full, "docker.io/library/debian".
    pub name: String,
    /// What its registry says of it, as it came; empty where that says nothing.
    pub description: String,
    /// How many people like it.
    pub stars: u64,
    /// It is one of those that the registry itself looks after.
    pub is_official: bool,
    /// It was built by the registry.
    pub is_automated: bool,
}

/// What is looked for.
#[derive(Clone, Copy, Debug)]
struct Wish<'a> {
    registry: &'a Host,
    term: &'a str,
    most: usize,
}

#[derive(Deserialize)]
struct Answer {
    results: Vec<Value>,
}

#[derive(Deserialize)]
struct Entry {
    name: String,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    star_count: i64,
    #[serde(default)]
    is_official: bool,
    #[serde(default)]
    is_automated: bool,
}

#[derive(Deserialize)]
struct Catalog {
    #[serde(default)]
    repositories: Option<Vec<String>>,
}

impl Client {
    /// Looks for repositories, at most so many. Without a term, all are meant, which a registry must list for that.
    ///
    /// Its mirrors are asked in place of a registry that cannot be asked, or may not be (`mirrors_only`): what they list is
    /// no more than what they have.
    pub async fn search(&self, registry: &Host, term: &str, most: usize) -> Result<Vec<Found>> {
        let subject = || Subject { registry: registry.clone(), repository: String::new(), item: Item::Registry };
        let endpoints = Endpoint::searched(self.registries(), registry);
        let endpoints = endpoints.map_err(|cause| Error::request("search", subject(), cause))?;
        let wish = Wish { registry, term, most };
        let mut failures = Vec::new();
        for endpoint in &endpoints {
            match self.search_at(endpoint, wish).await {
                Ok(found) => return Ok(found),
                Err(cause @ Cause::Credentials { .. }) => return Err(Error::request("search", subject(), cause)),
                Err(cause) => failures.push((endpoint.host.clone(), cause)),
            }
        }
        Err(Error::sources("search", subject(), failures))
    }

    async fn search_at(&self, endpoint: &Endpoint, wish: Wish<'_>) -> Result<Vec<Found>, Cause> {
        // A mirror that has the registry below a prefix knows nothing of that when it searches.
        if !wish.term.is_empty() && endpoint.repository.is_empty() {
            match self.ask(endpoint, wish).await {
                Ok(found) => return Ok(found),
                Err(cause) if endpoint.host.is_hub() || !is_no(&cause) => return Err(cause),
                Err(_) => {}
            }
        }
        self.choose(endpoint, wish).await.map_err(|cause| match cause {
            Cause::NotFound { host, codes } => Cause::Unsearchable { host, codes },
            Cause::Status { host, status, codes, .. } if status.is_client_error() => {
                Cause::Unsearchable { host, codes }
            }
            cause => cause,
        })
    }

    /// Lets the registry search.
    async fn ask(&self, endpoint: &Endpoint, wish: Wish<'_>) -> Result<Vec<Found>, Cause> {
        let mut url = endpoint.at("/v1/search");
        url.query_pairs_mut().append_pair("q", wish.term).append_pair("n", &wish.most.to_string());
        let call = Call::new(endpoint, Method::GET, url, Scopes::default());
        let answer = self.session.fetch(&call, &[200], LARGEST_MANIFEST).await?;
        let problem =
            |error: serde_json::Error| protocol(endpoint, format!("its answer to a search is none ({error})"));
        let answer: Answer = serde_json::from_slice(&answer.body).map_err(problem)?;
        let entries = answer.results.into_iter().filter_map(|entry| serde_json::from_value::<Entry>(entry).ok());
        Ok(entries.filter_map(|entry| entry.found(wish.registry)).take(wish.most).collect())
    }

    /// Chooses from all that the registry has.
    async fn choose(&self, endpoint: &Endpoint, wish: Wish<'_>) -> Result<Vec<Found>, Cause> {
        let term = wish.term.to_ascii_lowercase();
        let mut found: Vec<Found> = Vec::new();
        // Without a number: one that is more than a registry likes to give is refused by some.
        let mut next = Some(endpoint.at("/v2/_catalog"));
        let mut pages = 0;
        while let Some(url) = next {
            pages += 1;
            if pages > MOST_PAGES {
                return Err(protocol(endpoint, "its list of repositories has no end"));
            }
            let call = Call::new(endpoint, Method::GET, url.clone(), Scopes::default());
            let answer = self.session.fetch(&call, &[200], LARGEST_MANIFEST).await?;
            let problem =
                |error: serde_json::Error| protocol(endpoint, format!("its list of repositories is none ({error})"));
            let catalog: Catalog = serde_json::from_slice(&answer.body).map_err(problem)?;
            for name in catalog.repositories.unwrap_or_default() {
                let Some(name) = endpoint.below(&name).filter(|name| name.contains(&term)) else { continue };
                let Some(full) = full_name(wish.registry, name) else { continue };
                let one =
                    Found { name: full, description: String::new(), stars: 0, is_official: false, is_automated: false };
                // The very one that was asked for comes first.
                found.insert(if name == term { 0 } else { found.len() }, one);
                if found.len() >= wish.most {
                    return Ok(found);
                }
            }
            // A page that leads to itself would be the last page for ever.
            next = next_page(endpoint, &url, &answer.headers)?.filter(|next| *next != url);
        }
        Ok(found)
    }
}

impl Entry {
    fn found(self, registry: &Host) -> Option<Found> {
        Some(Found {
            name: full_name(registry, &self.name)?,
            description: self.description.unwrap_or_default().chars().take(LONGEST).collect(),
            stars: u64::try_from(self.star_count).unwrap_or(0),
            is_official: self.is_official,
            is_automated: self.is_automated,
        })
    }
}

/// The name of a repository in full; none where it is no name.
fn full_name(registry: &Host, name: &str) -> Option<String> {
    let reference = Reference::parse(&format!("{registry}/{name}")).ok()?;
    let path = reference.path();
    // A tag, a digest or another host in it would make it something else.
    let is_name = path == name || path.strip_prefix("library/") == Some(name);
    (is_name && Host::of(&reference) == *registry).then(|| reference.name())
}

/// Does this say that searches are not answered? What is down is down for the next question too.
fn is_no(cause: &Cause) -> bool {
    matches!(cause.kind(), Kind::NotFound | Kind::Unauthorized | Kind::Denied | Kind::Refused | Kind::Corrupt)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_name_of_a_repository_has_none() {
        let (hub, other) = (Host::parse("docker.io").unwrap(), Host::parse("reg.example:5000").unwrap());
        for (registry, name, expected) in [
            (&hub, "debian", Some("docker.io/library/debian")),
            (&hub, "team/app", Some("docker.io/team/app")),
            (&other, "team/app", Some("reg.example:5000/team/app")),
            (&other, "app", Some("reg.example:5000/app")),
            (&other, "app:1", None),
            (&other, "app@sha256:00", None),
            (&other, "App", None),
            (&other, "a\u{1b}[2J", None),
            (&other, "../x", None),
            (&other, "", None),
        ] {
            assert_eq!(full_name(registry, name).as_deref(), expected, "{name:?}");
        }
    }
}
