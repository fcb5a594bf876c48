//! `ctl search`: repositories of a registry, as Docker shows them.

use serde_json::json;
use strata_proto::store::v1 as pb;
use strata_registry::Host;

use crate::args::{Format, Search};
use crate::error::{Error, Result};
use crate::explore::text::line;
use crate::filter::{Filters, wrong};
use crate::platform::Platform;
use crate::registries::{self, Registries};
use crate::render::list::{self, Row};
use crate::render::table;

/// Characters of a description that the table has, as in Docker.
const DESCRIPTION: usize = 45;

/// Asks and shows.
pub async fn run(platform: &Platform, args: &Search) -> Result<u8> {
    let wanted = Wanted::read(&args.filter)?;
    let (registry, term) = place(&args.term)?;
    if term.is_empty() && registry.is_hub() {
        return Err(Error::usage("Docker Hub does not list all that it has: say what to look for"));
    }
    let request = pb::SearchRepositoriesRequest {
        registry: registry.to_string(),
        term,
        limit: args.limit,
        credentials: Registries::load()?.credentials_for(&registry).await?,
    };
    let reply = platform.registry().await?.search_repositories(request).await?.into_inner();
    let found = reply.repositories.into_iter().filter(|repository| wanted.takes(repository));
    let rows = found.map(|repository| row(&repository, args)).collect();
    list::print(&args.format, &["NAME", "DESCRIPTION", "STARS", "OFFICIAL"], rows)?;
    Ok(0)
}

/// Where to look for what. A first part that can only be a host is one, as in references.
fn place(text: &str) -> Result<(Host, String)> {
    if text.contains("://") {
        return Err(Error::usage(format!(
            "{text:?} is a URL: a registry is named by its host, \"registry.example/term\""
        )));
    }
    let is_host = |part: &str| part == "localhost" || part.contains(['.', ':']);
    let (host, term) = match text.split_once('/') {
        Some((first, term)) if is_host(first) => (Some(first), term),
        _ => (None, text),
    };
    let registry = registries::registry(host)?;
    // Docker Hub calls its own by short names.
    let short = term.strip_prefix("library/").filter(|_| registry.is_hub());
    Ok((registry, short.unwrap_or(term).to_owned()))
}

/// What `--filter` leaves.
#[derive(Debug, Default)]
struct Wanted {
    official: Option<bool>,
    automated: Option<bool>,
    stars: u64,
}

impl Wanted {
    fn read(flags: &[String]) -> Result<Self> {
        let filters = Filters::read(flags, &["is-automated", "is-official", "stars"])?;
        let stars = filters.of("stars").map(|text| {
            let number = || wrong(&format!("stars={text}"), "a number is expected");
            text.parse::<u64>().map_err(|_| number())
        });
        Ok(Self {
            official: filters.truth("is-official")?,
            automated: filters.truth("is-automated")?,
            stars: stars.collect::<Result<Vec<_>>>()?.into_iter().max().unwrap_or(0),
        })
    }

    fn takes(&self, repository: &pb::FoundRepository) -> bool {
        self.official.is_none_or(|wanted| wanted == repository.is_official)
            && self.automated.is_none_or(|wanted| wanted == repository.is_automated)
            && self.stars <= repository.stars
    }
}

fn row(repository: &pb::FoundRepository, args: &Search) -> Row {
    // As it is pulled. A name that could not be pulled is the store's mistake, and shown all the same.
    let name = registries::reference(&repository.name);
    let name = name.map_or_else(|_| line(&repository.name), |reference| reference.familiar_name());
    let whole = line(&repository.description);
    let description = if args.no_trunc { whole } else { table::cut(&whole, DESCRIPTION) };
    // Docker's words, which differ.
    let said = |is: bool| match (is, args.format == Format::Json) {
        (is, true) => is.to_string(),
        (true, false) => "[OK]".to_owned(),
        (false, false) => String::new(),
    };
    let (stars, official) = (repository.stars.to_string(), said(repository.is_official));
    let fields = json!({
        "Name": name,
        "Description": description,
        "StarCount": stars,
        "IsOfficial": official,
        "IsAutomated": said(repository.is_automated),
    });
    Row { cells: vec![name, description, stars, official], fields }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_may_stand_before_what_is_looked_for() {
        for (text, host, term) in [
            ("debian", "docker.io", "debian"),
            ("library/debian", "docker.io", "debian"),
            ("team/app", "docker.io", "team/app"),
            ("docker.io/debian", "docker.io", "debian"),
            ("reg.example/team/app", "reg.example", "team/app"),
            ("reg.example/library/app", "reg.example", "library/app"),
            ("localhost:5000/", "localhost:5000", ""),
            ("localhost/app", "localhost", "app"),
            ("node.js", "docker.io", "node.js"),
        ] {
            let (found, rest) = place(text).unwrap();
            assert_eq!((found.as_str(), rest.as_str()), (host, term), "{text}");
        }
        for wrong in ["https://reg.example/app", "user@reg.example/app"] {
            assert!(place(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn filters_narrow_what_was_found() {
        let one = pb::FoundRepository { stars: 7, is_official: true, ..Default::default() };
        for (flags, expected) in [
            (&[][..], true),
            (&["is-official=true"], true),
            (&["is-official=false"], false),
            (&["is-automated=true"], false),
            (&["stars=7"], true),
            (&["stars=8"], false),
            (&["stars=8", "stars=1"], false),
        ] {
            let flags: Vec<String> = flags.iter().map(|&flag| flag.to_owned()).collect();
            assert_eq!(Wanted::read(&flags).unwrap().takes(&one), expected, "{flags:?}");
        }
        for wrong in ["stars=many", "stars=-1", "is-official=perhaps", "name=x"] {
            assert!(Wanted::read(&[wrong.to_owned()]).is_err(), "{wrong}");
        }
    }
}
