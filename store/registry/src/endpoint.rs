//! One place that a repository may be fetched from: the registry itself, or a mirror of it.

use reqwest::Url;
use strata_types::Reference;

use crate::{
    Host, Registries,
    config::{Location, Scheme},
    error::Cause,
};

/// A repository at a registry.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    /// Whose settings and credentials apply.
    pub(crate) host: Host,
    /// The repository there: a mirror may have it below a prefix.
    pub(crate) repository: String,
    base: Url,
    /// The registry that a mirror stands for; sent along as containerd does, so that one mirror can serve many.
    stands_for: Option<Host>,
}

impl Endpoint {
    /// The registry itself.
    pub(crate) fn own(registries: &Registries, reference: &Reference) -> Result<Self, Cause> {
        let host = Host::of(reference);
        let base = base(&host, host.authority(), registries.scheme(&host))?;
        Ok(Self { host, repository: reference.path().to_owned(), base, stands_for: None })
    }

    /// A registry without a repository.
    pub(crate) fn of_host(registries: &Registries, host: &Host) -> Result<Self, Cause> {
        let base = base(host, host.authority(), registries.scheme(host))?;
        Ok(Self { host: host.clone(), repository: String::new(), base, stands_for: None })
    }

    /// Where to fetch from, in order.
    pub(crate) fn sources(registries: &Registries, reference: &Reference) -> Result<Vec<Self>, Cause> {
        let settings = registries.settings(&Host::of(reference));
        let mirror = |location: &Location| {
            let slash = if location.prefix.is_empty() { "" } else { "/" };
            let repository = format!("{}{slash}{}", location.prefix, reference.path());
            Self::mirror(registries, Host::of(reference), location, repository)
        };
        let mut sources = settings.mirrors.iter().map(mirror).collect::<Result<Vec<_>, _>>()?;
        if !settings.mirrors_only || sources.is_empty() {
            sources.push(Self::own(registries, reference)?);
        }
        Ok(sources)
    }

    /// Where to look for repositories, in order: at the registry itself, if it may be asked, then at its mirrors. Of a mirror,
    /// the repository is the prefix below which it has those of the registry.
    pub(crate) fn searched(registries: &Registries, host: &Host) -> Result<Vec<Self>, Cause> {
        let settings = registries.settings(host);
        let mut searched = Vec::new();
        if !settings.mirrors_only || settings.mirrors.is_empty() {
            let base = base(host, host.index_authority(), registries.scheme(host))?;
            searched.push(Self { host: host.clone(), repository: String::new(), base, stands_for: None });
        }
        for location in &settings.mirrors {
            searched.push(Self::mirror(registries, host.clone(), location, location.prefix.clone())?);
        }
        Ok(searched)
    }

    fn mirror(registries: &Registries, of: Host, location: &Location, repository: String) -> Result<Self, Cause> {
        let host = location.host.clone();
        let base = base(&host, host.authority(), location.scheme.unwrap_or_else(|| registries.scheme(&host)))?;
        Ok(Self { host, repository, base, stands_for: Some(of) })
    }

    /// A URL below the repository: "manifests/latest".
    pub(crate) fn url(&self, tail: &str) -> Url {
        self.at(&format!("/v2/{}/{tail}", self.repository))
    }

    /// A URL of the server: "/v2/_catalog".
    pub(crate) fn at(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(path);
        if let Some(registry) = &self.stands_for {
            url.query_pairs_mut().append_pair("ns", registry.as_str());
        }
        url
    }

    /// The URL that answers whether this is a registry, and whether we may speak to it.
    pub(crate) fn root(&self) -> Url {
        let mut url = self.base.clone();
        url.set_path("/v2/");
        url
    }

    /// What a repository of the server is called below the repository of this: what a mirror has below its prefix.
    pub(crate) fn below<'a>(&self, name: &'a str) -> Option<&'a str> {
        match self.repository.as_str() {
            "" => Some(name),
            prefix => name.strip_prefix(prefix)?.strip_prefix('/'),
        }
    }

    /// Is it spoken to in the clear?
    pub(crate) fn is_http(&self) -> bool {
        self.base.scheme() == Scheme::Http.as_str()
    }

    /// Does the URL lead to this very server? Only then it may see credentials.
    pub(crate) fn owns(&self, url: &Url) -> bool {
        url.origin() == self.base.origin()
    }

    /// Where a Location leads that `from` answered with: never from https to http, never to http at a host for which
    /// that is not allowed, never with a user in it.
    pub(crate) fn locate(&self, registries: &Registries, from: &Url, location: &str) -> Result<Url, Cause> {
        let host = Host::of_url(from).unwrap_or_else(|| self.host.clone());
        let refuse = |target: &str, problem| Cause::Redirect { host: host.clone(), target: target.to_owned(), problem };
        let mut url = from.join(location).map_err(|_| refuse("an unreadable address", "it is no URL"))?;
        let Some(target) = Host::of_url(&url) else { return Err(refuse("no host", "it names no host")) };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(refuse(target.as_str(), "it has a user in it"));
        }
        let is_same_name = url.host_str() == from.host_str() && url.port() == from.port();
        match url.scheme() {
            "https" => Ok(url),
            // A registry behind a proxy that ends TLS does not know how it is spoken to.
            "http" if is_same_name && from.scheme() == "https" => {
                url.set_scheme("https").map_err(|()| refuse(target.as_str(), "it cannot be reached with https"))?;
                Ok(url)
            }
            "http" if from.scheme() == "https" => Err(refuse(target.as_str(), "it leads from https to http")),
            "http" if self.owns(&url) || registries.scheme(&target) == Scheme::Http => Ok(url),
            "http" => Err(refuse(target.as_str(), "plain http is not allowed for that host (plain_http)")),
            _ => Err(refuse(target.as_str(), "it is neither http nor https")),
        }
    }
}

fn base(host: &Host, authority: &str, scheme: Scheme) -> Result<Url, Cause> {
    Url::parse(&format!("{}://{authority}/", scheme.as_str()))
        .map_err(|_| Cause::Protocol { host: host.clone(), problem: "its name is no host of a URL".into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registries(text: &str) -> Registries {
        let mut registries: Registries = toml::from_str(text).unwrap();
        registries.certificates.clear();
        registries
    }

    fn urls(registries: &Registries, reference: &str) -> Vec<String> {
        let sources = Endpoint::sources(registries, &Reference::parse(reference).unwrap()).unwrap();
        sources.iter().map(|source| source.url("tags/list").to_string()).collect()
    }

    #[test]
    fn a_registry_is_asked_where_it_is() {
        let registries = registries("[host.\"open.example:81\"]\nplain_http = true");
        for (reference, url) in [
            ("debian", "https://registry-1.docker.io/v2/library/debian/tags/list"),
            ("reg.example/a/b", "https://reg.example/v2/a/b/tags/list"),
            ("localhost:5000/a", "http://localhost:5000/v2/a/tags/list"),
            ("[::1]:5000/a", "http://[::1]:5000/v2/a/tags/list"),
            ("open.example:81/a", "http://open.example:81/v2/a/tags/list"),
        ] {
            assert_eq!(urls(&registries, reference), [url]);
        }
    }

    #[test]
    fn mirrors_come_first_and_may_be_all() {
        let two = registries("[host.\"docker.io\"]\nmirrors = [\"http://m.example/hub\", \"n.example\"]");
        assert_eq!(
            urls(&two, "debian"),
            [
                "http://m.example/v2/hub/library/debian/tags/list?ns=docker.io",
                "https://n.example/v2/library/debian/tags/list?ns=docker.io",
                "https://registry-1.docker.io/v2/library/debian/tags/list",
            ]
        );
        let only = registries("[any]\nmirrors = [\"localhost:5000\"]\nmirrors_only = true");
        assert_eq!(urls(&only, "quay.io/a/b"), ["http://localhost:5000/v2/a/b/tags/list?ns=quay.io"]);
    }

    #[test]
    fn a_registry_is_searched_before_its_mirrors_and_not_at_all_where_they_are_all() {
        let searched = |text: &str, host: &str| -> Vec<String> {
            let searched = Endpoint::searched(&registries(text), &Host::parse(host).unwrap()).unwrap();
            searched.iter().map(|endpoint| endpoint.at("/v2/_catalog").to_string()).collect()
        };
        let mirrors = "[any]\nmirrors = [\"localhost:1/hub\", \"n.example\"]\n";

        assert_eq!(searched("", "docker.io"), ["https://index.docker.io/v2/_catalog"]);
        let of_mirrors = ["http://localhost:1/v2/_catalog?ns=quay.io", "https://n.example/v2/_catalog?ns=quay.io"];
        assert_eq!(searched(mirrors, "quay.io")[0], "https://quay.io/v2/_catalog");
        assert_eq!(searched(mirrors, "quay.io")[1..], of_mirrors);
        assert_eq!(searched(&format!("{mirrors}mirrors_only = true"), "quay.io"), of_mirrors);
        let of = |text: &str| Endpoint::searched(&registries(text), &Host::parse("quay.io").unwrap()).unwrap();
        let below = |name| of(mirrors)[1].below(name).map(str::to_owned);
        assert_eq!((below("hub/a/b").as_deref(), below("hubs/a"), below("hub")), (Some("a/b"), None, None));
        assert_eq!(of(mirrors)[2].below("hub/a"), Some("hub/a"));
    }

    #[test]
    fn a_port_that_is_none_is_an_error() {
        let reference = Reference::parse("reg.example:99999/a").unwrap();
        assert!(Endpoint::own(&registries(""), &reference).is_err());
    }

    #[test]
    fn a_location_cannot_lead_into_the_clear() {
        let registries = registries("[host.\"open.example\"]\nplain_http = true");
        let of = |reference: &str| Endpoint::own(&registries, &Reference::parse(reference).unwrap()).unwrap();
        let secure = of("reg.example/a");
        let open = of("open.example/a");
        for (endpoint, location, expected) in [
            (&secure, "/v2/x", Some("https://reg.example/v2/x")),
            (&secure, "https://cdn.example/x?sig=1", Some("https://cdn.example/x?sig=1")),
            (&secure, "http://reg.example/x", Some("https://reg.example/x")),
            (&secure, "http://cdn.example/x", None),
            (&secure, "http://localhost:1/x", None),
            (&secure, "http://open.example/x", None),
            (&secure, "https://user:pass@cdn.example/x", None),
            (&secure, "file:///etc/passwd", None),
            (&secure, "https://", None),
            (&open, "http://open.example/x", Some("http://open.example/x")),
            (&open, "http://other.example/x", None),
            (&open, "http://localhost.evil.test/x", None),
            (&open, "//other.example/x", None),
        ] {
            let found = endpoint.locate(&registries, &endpoint.root(), location).ok().map(|url| url.to_string());
            assert_eq!(found.as_deref(), expected, "{location}");
        }
    }
}
